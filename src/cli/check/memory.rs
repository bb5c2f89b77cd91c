//! Judges what the server does when memory is short and after a power cut.

use super::finding::Finding;
use crate::cli::output::human_bytes;
use crate::redis::Survey;
use crate::redis::check::survey::{Info, Settings};

/// Share of `maxmemory` in use from which on a warning is given, in per cent.
const USED_WARNING: u64 = 80;

pub(super) fn judge(survey: &Survey) -> Vec<Finding> {
    let Some(info) = &survey.info else { return Vec::new() };
    let mut findings = vec![policy(info), limit(info)];
    if info.evicted > 0 {
        findings.push(
            Finding::warning(
                "memory.evicted",
                format!("{} keys have been evicted since it was started", info.evicted),
            )
            .why("each may have been a stream with all its frames, and its consumer group with it")
            .mend("raise maxmemory and set maxmemory-policy noeviction; compare the lengths below"),
        );
    }
    findings.extend(persistence(info, survey.settings.as_ref()));
    findings
}

fn policy(info: &Info) -> Finding {
    let code = "memory.policy";
    if info.policy == "noeviction" {
        return Finding::ok(code, "maxmemory-policy is noeviction");
    }
    Finding::warning(code, format!("maxmemory-policy is {}", info.policy))
        .why(
            "when memory is short Redis deletes whole keys, and a stream is one key: all its \
             frames, its consumer group and what is pending go at once, without an error. With \
             noeviction the producer is refused instead, and waits",
        )
        .mend("CONFIG SET maxmemory-policy noeviction, and in redis.conf")
}

fn limit(info: &Info) -> Finding {
    let code = "memory.limit";
    let (used, max) = (info.memory_bytes, info.memory_bytes_max);
    if max == 0 {
        return Finding::warning(
            code,
            format!("maxmemory is not set; {} in use", human_bytes(used)),
        )
        .why("a backlog of frames may take all memory, until the kernel kills Redis")
        .mend("CONFIG SET maxmemory to about 60 % of the memory that Redis has to itself");
    }
    let what = format!("{} of {} in use", human_bytes(used), human_bytes(max));
    if used >= max && info.policy == "noeviction" {
        return Finding::error(code, what)
            .why("writes are refused (OOM): no frame comes in and no result is stored")
            .mend(
                "make room: redis_queue.retention: delete or trim_acked, XTRIM the input stream, \
                 or raise maxmemory",
            );
    }
    // Both are below 2^57 on any real machine.
    if used.saturating_mul(100) >= max.saturating_mul(USED_WARNING) {
        return Finding::warning(code, what)
            .why(
                "at the limit Redis refuses writes of producers and of the engine until there is \
                 room",
            )
            .mend(
                "set redis_queue.retention: delete or trim_acked, shorten max_queue_length, or \
                 raise maxmemory",
            );
    }
    let above_machine = info.system_bytes > 0 && max > info.system_bytes;
    if above_machine {
        return Finding::warning(
            code,
            format!("maxmemory is {}, more than the machine has", human_bytes(max)),
        )
        .why("the kernel would kill Redis before Redis refuses a write")
        .mend(format!("CONFIG SET maxmemory below {}", human_bytes(info.system_bytes)));
    }
    Finding::ok(code, what)
}

fn persistence(info: &Info, settings: Option<&Settings>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let code = "persistence.mode";
    let snapshots = settings.is_some_and(|settings| !settings.save.is_empty());
    let fsync = settings.map(|settings| settings.appendfsync.as_str()).unwrap_or_default();
    let all_lost = "after a restart the frames not yet processed are lost, with the consumer group \
                    and its pending entries";
    findings.push(match (info.aof, snapshots) {
        (true, _) if fsync == "always" => Finding::note(
            code,
            "append-only file, written at each command",
        )
        .why("nothing acknowledged is ever lost, but every frame waits for the disk, twice")
        .mend("CONFIG SET appendfsync everysec, unless a second of frames is too much to lose"),
        (true, _) if fsync == "no" => {
            Finding::warning(code, "append-only file, written when the operating system decides")
                .why("a power cut may cost half a minute of frames and results")
                .mend("CONFIG SET appendfsync everysec")
        }
        (true, _) => {
            Finding::ok(code, "append-only file: a power cut costs at most about a second")
        }
        (false, true) => Finding::warning(code, "snapshots only, no append-only file")
            .why(format!("what came after the last snapshot is not saved: {all_lost}"))
            .mend("CONFIG SET appendonly yes, and appendfsync everysec"),
        (false, false) if settings.is_some() => Finding::warning(code, "nothing is saved to disk")
            .why(all_lost)
            .mend("CONFIG SET appendonly yes, and appendfsync everysec"),
        (false, false) => Finding::warning(code, "no append-only file")
            .why(all_lost)
            .mend("have the server's administrator set appendonly yes"),
    });
    if info.aof && !info.aof_write_ok {
        findings.push(
            Finding::error(
                "persistence.aof_write",
                "the last write to the append-only file failed",
            )
            .why("writes are refused (MISCONF) until one succeeds: nothing is stored")
            .mend(
                "check the disk of the server's dir for errors and free space; the server's log \
                 names the cause",
            ),
        );
    }
    if !info.snapshot_ok {
        let stops = settings.is_none_or(|settings| settings.stop_writes) && snapshots;
        let what = "the last snapshot failed";
        let remedy = "check the disk of the server's dir for free space, and whether fork lacks \
                      memory (vm.overcommit_memory = 1); then run BGSAVE";
        findings.push(if stops {
            Finding::error("persistence.snapshot", what)
                .why("with stop-writes-on-bgsave-error writes are refused (MISCONF) until one succeeds")
                .mend(remedy)
        } else {
            Finding::warning("persistence.snapshot", what)
                .why("rewriting the append-only file will fail for the same reason")
                .mend(remedy)
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Error, Note, Ok, Warning};
    use super::super::finding::tests::only;
    use super::super::tests::healthy;
    use super::*;

    fn findings(change: impl FnOnce(&mut Info, &mut Settings)) -> Vec<Finding> {
        let mut survey = healthy();
        let (info, settings) = (&mut survey.info, &mut survey.settings);
        change(info.as_mut().unwrap(), settings.as_mut().unwrap());
        judge(&survey)
    }

    #[test]
    fn every_policy_but_noeviction_can_cost_a_whole_stream() {
        only(&findings(|_, _| {}), "memory.policy", Ok);
        for policy in ["allkeys-lru", "volatile-lru", "allkeys-random", "volatile-ttl"] {
            let findings = findings(|info, _| info.policy = policy.into());
            let finding = only(&findings, "memory.policy", Warning);
            assert!(finding.why.contains("a stream is one key"), "{finding:?}");
        }
        only(&findings(|info, _| info.evicted = 3), "memory.evicted", Warning);
    }

    #[test]
    fn memory_is_limited_and_not_used_up() {
        only(&findings(|info, _| info.memory_bytes_max = 0), "memory.limit", Warning);
        only(&findings(|info, _| info.memory_bytes = 7 << 30), "memory.limit", Warning);
        only(&findings(|info, _| info.memory_bytes = 9 << 30), "memory.limit", Error);
        only(&findings(|info, _| info.memory_bytes_max = 64 << 30), "memory.limit", Warning);
        only(&findings(|_, _| {}), "memory.limit", Ok);
    }

    #[test]
    fn a_restart_should_not_lose_what_is_pending() {
        only(&findings(|_, _| {}), "persistence.mode", Ok);
        only(&findings(|_, s| s.appendfsync = "always".into()), "persistence.mode", Note);
        only(&findings(|_, s| s.appendfsync = "no".into()), "persistence.mode", Warning);
        let snapshots = findings(|info, _| info.aof = false);
        assert!(only(&snapshots, "persistence.mode", Warning).what.contains("snapshots"));
        let nothing = findings(|info, settings| {
            info.aof = false;
            settings.save.clear();
        });
        assert!(only(&nothing, "persistence.mode", Warning).what.contains("nothing is saved"));
    }

    #[test]
    fn a_disk_that_refuses_stops_the_engine() {
        only(&findings(|info, _| info.aof_write_ok = false), "persistence.aof_write", Error);
        let failing = findings(|info, _| info.snapshot_ok = false);
        only(&failing, "persistence.snapshot", Error);
        let going_on = findings(|info, settings| {
            info.snapshot_ok = false;
            settings.stop_writes = false;
        });
        only(&going_on, "persistence.snapshot", Warning);
    }
}
