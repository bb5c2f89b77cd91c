//! Judges the streams, their slots, the consumer group and its consumers.

use std::time::Duration;

use super::finding::Finding;
use crate::cli::output::human_bytes;
use crate::config::{Config, Delivery, OutputFull, Retention};
use crate::redis::check::survey::{GroupFacts, KeyState};
use crate::redis::{Streams, Survey, slot_of, tag_of};

/// A consumer idle for this long will not come back.
const GONE: Duration = Duration::from_secs(24 * 3_600);

/// A running engine asks at least every second, so one idle for this long is not running.
const ABSENT: Duration = Duration::from_secs(60);

/// Lag that no healthy engine has.
const LAG_WARNING: u64 = 10_000;

pub(super) fn judge(survey: &Survey, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ((names, group), holder) in survey.streams.iter().zip(&survey.groups).zip(&survey.holders) {
        findings.extend(names.all().into_iter().filter_map(kind));
        let Streams { input, output, dead_letters: dead } = names;
        if survey.info.as_ref().is_some_and(|info| info.cluster) {
            findings.push(slots(input, output, dead, config));
        }
        findings.extend(kept(input, group.as_ref(), config));
        findings.extend(holder.as_ref().map(|holder| lease(input, holder)));
        findings.extend(full(output, config));
        findings.extend(dead_letters(dead));
        match group {
            Some(facts) => {
                findings.push(lag(input, facts, config));
                findings.extend(pending(input, facts, config));
                findings.extend(consumers(input, facts, config));
            }
            None => findings.push(Finding::ok(
                "streams.group",
                format!(
                    "{}: the group {} will be created at its beginning",
                    input.name, config.redis_queue.consumer_group
                ),
            )),
        }
    }
    findings
}

/// Reports which engine holds the stream.
fn lease(input: &KeyState, holder: &str) -> Finding {
    let name = &input.name;
    Finding::ok(
        "streams.lease",
        match holder {
            "" => format!("{name}: no engine holds its lease"),
            holder => format!("{name}: held by {holder}"),
        },
    )
}

fn kind(key: &KeyState) -> Option<Finding> {
    let (code, name) = ("streams.key", &key.name);
    Some(match key.kind.as_deref()? {
        "stream" => Finding::ok(
            code,
            format!(
                "{name}: a stream of {} entries, {}",
                key.length,
                human_bytes(key.memory_bytes)
            ),
        ),
        "none" => Finding::ok(code, format!("{name}: will be created")),
        other => Finding::error(code, format!("{name}: a {other}, not a stream"))
            .why(
                "the engine refuses to start: Redis would answer every command on this key with \
                 WRONGTYPE",
            )
            .mend("choose another name in redis_queue, or another database"),
    })
}

/// One script ends an entry, on its input stream and on the stream of its result: in a Cluster both
/// must be in one slot.
fn slots(input: &KeyState, output: &KeyState, dead: &KeyState, config: &Config) -> Finding {
    let code = "streams.slots";
    let at = |key: &KeyState| format!("{} in slot {}", key.name, slot_of(&key.name));
    let own = slot_of(&input.name);
    let apart: Vec<&KeyState> =
        [output, dead].into_iter().filter(|key| slot_of(&key.name) != own).collect();
    if apart.is_empty() {
        return Finding::ok(code, format!("all keys of {} lie in slot {own}", input.name));
    }
    let others = apart.into_iter().map(at).collect::<Vec<_>>().join(" and ");
    let what = format!("{}, but {others}", at(input));
    if config.redis_queue.delivery == Delivery::AtLeastOnce {
        return Finding::note(code, what)
            .why("at_least_once stores and acknowledges in two steps: a crash between them doubles")
            .mend("give all of them one hash tag to make it one step");
    }
    let [input, output] = tagged(&config.redis_queue.input_queue, &config.redis_queue.output_queue);
    Finding::error(code, what)
        .why("exactly_once stores and acknowledges in one script, which cannot cross slots")
        .mend(format!(
            "names with one hash tag: input_queue: \"{input}\", output_queue: \"{output}\" (slot \
             {}; dead letters follow the input); or delivery: at_least_once",
            slot_of(&input)
        ))
}

/// Names similar to the configured ones that share a hash tag: the input's tag, if it has one.
fn tagged(input: &str, output: &str) -> [String; 2] {
    match tag_of(input) {
        Some(tag) => [input.to_owned(), format!("{{{tag}}}:{}", output.replace(['{', '}'], ""))],
        None => {
            let plain = |name: &str| name.replace(['{', '}'], "");
            [format!("{{frames}}:{}", plain(input)), format!("{{frames}}:{}", plain(output))]
        }
    }
}

/// Acknowledged entries that are kept occupy memory forever unless the producer limits the stream.
fn kept(input: &KeyState, group: Option<&GroupFacts>, config: &Config) -> Option<Finding> {
    if config.redis_queue.retention != Retention::Keep {
        return None;
    }
    let facts = group?;
    let done = input.length.saturating_sub(facts.pending + facts.lag?);
    (done > 0).then(|| {
        Finding::note(
            "streams.retention",
            format!("{}: {done} processed entries are kept", input.name),
        )
        .why("retention: keep never removes them; they take memory until the producer trims")
        .mend(
            "set redis_queue.retention: delete, or trim_acked if others also read the stream; or \
             add entries with XADD MAXLEN ~",
        )
    })
}

fn full(output: &KeyState, config: &Config) -> Option<Finding> {
    let queue = &config.redis_queue;
    let code = "streams.output_full";
    let (length, max) = (output.length, queue.max_queue_length);
    Some(match queue.output_full {
        OutputFull::Block if length >= max => {
            Finding::warning(code, format!("{}: full, {length} of {max} entries", output.name))
                .why("output_full is block, so the engine has stopped reading until there is room")
                .mend("check the consumer that trims it, or raise max_queue_length")
        }
        OutputFull::Block => Finding::ok(
            code,
            format!("{}: at {max} entries the engine waits for its consumers", output.name),
        ),
        OutputFull::TrimOldest => Finding::ok(
            code,
            format!("{}: above about {max} entries the oldest are removed", output.name),
        ),
    })
}

fn dead_letters(dead: &KeyState) -> Option<Finding> {
    (dead.length > 0).then(|| {
        Finding::note("streams.dead_letters", format!("{}: {} frames", dead.name, dead.length))
            .why("each was refused for a reason that is stored with it")
            .mend("framepress dlq list; framepress dlq replay puts them back")
    })
}

fn lag(input: &KeyState, facts: &GroupFacts, config: &Config) -> Finding {
    let code = "streams.group";
    let lag = facts.lag.map_or_else(|| "an unknown number".into(), |lag| lag.to_string());
    let what = format!(
        "{}: group {}, {lag} to be read, {} in work",
        input.name, config.redis_queue.consumer_group, facts.pending
    );
    let reads = facts.consumers.iter().any(|consumer| consumer.idle < ABSENT);
    match facts.lag {
        Some(lag) if lag > 0 && !reads => Finding::note(code, what)
            .why("no consumer of the group has asked for frames within the last minute")
            .mend("start an engine: framepress run"),
        Some(lag) if lag > LAG_WARNING => Finding::warning(code, what)
            .why("frames come faster than they are processed, or did for a while")
            .mend(
                "start more engines in the group, set max_frame_age_ms to shed old frames, or send \
                 fewer",
            ),
        _ => Finding::ok(code, what),
    }
}

fn pending(input: &KeyState, facts: &GroupFacts, config: &Config) -> Option<Finding> {
    let oldest = facts.oldest.as_ref()?;
    let queue = &config.redis_queue;
    let (idle, deliveries) = (oldest.idle.as_secs(), oldest.deliveries);
    let code = "streams.pending";
    let what = format!(
        "{}: the oldest frame in work is held by {}, delivered {deliveries} times, last {idle} s \
         ago",
        input.name,
        printable(&oldest.consumer)
    );
    let overdue = Duration::from_millis(2 * queue.claim_idle_ms);
    if oldest.idle > overdue {
        return Some(
            Finding::warning(code, what)
                .why(format!(
                    "a running engine takes it over after claim_idle_ms = {}: no engine is \
                     running, or it cannot take the frame over",
                    queue.claim_idle_ms
                ))
                .mend("start an engine, or read the log of the running one"),
        );
    }
    (deliveries > u64::from(queue.retry_attempts)).then(|| {
        Finding::note(code, what)
            .why(
                "each engine that had this frame died or was stopped before it finished; at the \
                 next delivery the frame becomes a dead letter",
            )
            .mend("framepress dlq list will name it")
    })
}

fn consumers(input: &KeyState, facts: &GroupFacts, config: &Config) -> Option<Finding> {
    let gone: Vec<_> = facts.consumers.iter().filter(|consumer| consumer.idle > GONE).collect();
    let first = gone.iter().find(|consumer| consumer.pending == 0)?;
    let names: Vec<_> = gone.iter().take(3).map(|consumer| printable(&consumer.name)).collect();
    Some(
        Finding::note(
            "streams.consumers",
            format!(
                "{}: {} of {} consumers have asked for no entries for a day: {}{}",
                input.name,
                gone.len(),
                facts.consumers.len(),
                names.join(", "),
                if gone.len() > names.len() { ", ..." } else { "" }
            ),
        )
        .why(
            "the group keeps the consumer names of ended engines, if consumer_name changes at each \
             start",
        )
        .mend(format!(
            "set a stable redis_queue.consumer_name; remove old names, as in XGROUP DELCONSUMER {} \
             {} {} (it has nothing pending)",
            input.name,
            config.redis_queue.consumer_group,
            printable(&first.name)
        )),
    )
}

/// A foreign name, cleaned and shortened.
fn printable(name: &str) -> String {
    crate::cli::output::terminal::clip(name, 60)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Error, Note, Ok, Warning};
    use super::super::finding::tests::only;
    use super::super::tests::{config, healthy};
    use super::*;
    use crate::redis::check::survey::{ConsumerFacts, OldestPending};

    fn findings(flags: &[(&str, &str)], change: impl FnOnce(&mut Survey)) -> Vec<Finding> {
        let mut survey = healthy();
        change(&mut survey);
        judge(&survey, &config(flags))
    }

    fn group(change: impl FnOnce(&mut GroupFacts)) -> Vec<Finding> {
        findings(&[], |survey| change(survey.groups[0].as_mut().unwrap()))
    }

    #[test]
    fn keys_of_another_type_stop_the_engine() {
        let findings = findings(&[], |survey| survey.streams[0].output.kind = Some("hash".into()));
        let wrong = findings.iter().find(|finding| finding.severity == Error).unwrap();
        assert!(wrong.what.contains("processed_frames: a hash, not a stream"), "{wrong:?}");
    }

    #[test]
    fn exactly_once_across_slots_is_an_error_that_names_keys_which_work() {
        let clustered = |survey: &mut Survey| survey.info.as_mut().unwrap().cluster = true;
        assert!(findings(&[], |_| {}).iter().all(|finding| finding.code != "streams.slots"));
        let apart = findings(&[], clustered);
        let finding = only(&apart, "streams.slots", Error);
        for part in [
            format!("camera_frames in slot {}", slot_of("camera_frames")),
            format!("processed_frames in slot {}", slot_of("processed_frames")),
        ] {
            assert!(finding.what.contains(&part), "{finding:?}");
        }
        let names = ["{frames}:camera_frames", "{frames}:processed_frames"];
        assert!(names.iter().all(|name| finding.remedy.contains(name)), "{finding:?}");
        let mended =
            [("redis_queue.input_queue", names[0]), ("redis_queue.output_queue", names[1])];
        let mended = findings(&mended, |survey| {
            clustered(survey);
            let named = Streams::new(names[0], names[1]);
            for (key, name) in survey.streams[0].all_mut().into_iter().zip(named.all()) {
                key.name.clone_from(name);
            }
        });
        only(&mended, "streams.slots", Ok);
        let twice = findings(&[("redis_queue.delivery", "at_least_once")], clustered);
        only(&twice, "streams.slots", Note);
    }

    #[test]
    fn a_tag_that_is_there_is_kept() {
        assert_eq!(tagged("{a}in", "out"), ["{a}in", "{a}:out"]);
        assert_eq!(tagged("in", "{b}out"), ["{frames}:in", "{frames}:bout"]);
    }

    #[test]
    fn unneeded_entries_are_worth_a_word() {
        let done = |survey: &mut Survey| survey.streams[0].input.length = 500;
        only(&findings(&[], done), "streams.retention", Note);
        let deleted = findings(&[("redis_queue.retention", "delete")], done);
        assert!(deleted.iter().all(|finding| finding.code != "streams.retention"));
    }

    #[test]
    fn a_full_output_stream_is_a_warning_only_where_the_engine_waits() {
        let long = |survey: &mut Survey| survey.streams[0].output.length = 10_000;
        only(
            &findings(&[("redis_queue.output_full", "block")], long),
            "streams.output_full",
            Warning,
        );
        only(&findings(&[], long), "streams.output_full", Ok);
    }

    #[test]
    fn dead_letters_are_mentioned() {
        let letters = findings(&[], |survey| survey.streams[0].dead_letters.length = 3);
        only(&letters, "streams.dead_letters", Note);
    }

    #[test]
    fn a_backlog_is_judged_by_whether_it_is_read() {
        only(&group(|_| {}), "streams.group", Ok);
        only(&group(|g| (g.lag, g.consumers) = (Some(5), Vec::new())), "streams.group", Note);
        only(&group(|g| g.lag = Some(50_000)), "streams.group", Warning);
        only(&findings(&[], |survey| survey.groups[0] = None), "streams.group", Ok);
    }

    #[test]
    fn frames_that_are_not_taken_over_are_a_warning() {
        let oldest = |seconds, deliveries| OldestPending {
            consumer: "gone-0".into(),
            idle: Duration::from_secs(seconds),
            deliveries,
        };
        only(&group(|g| g.oldest = Some(oldest(90, 1))), "streams.pending", Warning);
        only(&group(|g| g.oldest = Some(oldest(5, 9))), "streams.pending", Note);
        let fresh = group(|g| g.oldest = Some(oldest(5, 1)));
        assert!(fresh.iter().all(|finding| finding.code != "streams.pending"));
    }

    #[test]
    fn consumers_that_are_gone_are_named_with_the_command_that_removes_them() {
        let gone = |pending| ConsumerFacts {
            name: "old\u{1b}host-0".into(),
            pending,
            idle: Duration::from_secs(90_000),
        };
        let findings = group(|g| g.consumers.push(gone(0)));
        let finding = only(&findings, "streams.consumers", Note);
        assert!(finding.remedy.contains("DELCONSUMER") && !finding.what.contains('\u{1b}'));
        let holding = group(|g| g.consumers.push(gone(2)));
        assert!(holding.iter().all(|finding| finding.code != "streams.consumers"));
    }
}
