//! Judges the server: version, role, clock, connections, buffers, replicas.

use super::finding::Finding;
use crate::base::limits;
use crate::cli::output::human_bytes;
use crate::config::{CompressionFormat, Config, Scheme};
use crate::redis::Survey;
use crate::redis::check::survey::{Info, Settings};

/// Clock differences above these give a note or a warning.
const CLOCK_NOTE_SECONDS: f64 = 0.1;
const CLOCK_WARNING_SECONDS: f64 = 1.0;

/// A replica that is away for a second or two should not need a full copy.
const BACKLOG_BYTES_MIN: u64 = 64 << 20;

/// A generous bound for the rest of a reply beside its frames: ids, names, side fields, and what
/// Redis itself counts for each part of the queue.
const REPLY_BESIDES_BYTES: u64 = 1 << 20;

/// Connections that are idle during a quiet night should stay open.
const IDLE_SECONDS_MIN: u64 = 3_600;

pub(super) fn judge(survey: &Survey, config: &Config, endpoint: &str) -> Vec<Finding> {
    let mut findings = vec![version(survey, endpoint)];
    if let Some(info) = &survey.info {
        findings.push(role(info, endpoint));
        findings.extend(topology(info, config));
        findings.extend(replication(info, survey.settings.as_ref()));
    }
    findings.extend(survey.clock_ahead_seconds.map(clock));
    if let Some(settings) = &survey.settings {
        findings.push(idle(settings));
        findings.extend(keepalive(settings));
        findings.push(output_buffer(settings, config));
        findings.push(request_size(settings, config));
    }
    findings
}

fn version(survey: &Survey, endpoint: &str) -> Finding {
    let greeting = &survey.greeting;
    let code = "server.version";
    if let Some(why) = greeting.too_old() {
        return Finding::error(code, format!("{greeting} at {endpoint} {why}"))
            .why("the engine refuses to start on it")
            .mend("install Redis 6.2 or newer, better 7.0 or newer");
    }
    let answers = format!("{greeting} answers at {endpoint}");
    match greeting.lacks() {
        Some(lacks) => Finding::note(code, format!("{answers}; {lacks}"))
            .why("the statistics and autoscalers cannot see how far the engine is behind")
            .mend("upgrade to Redis 7.0 or newer when convenient"),
        None => Finding::ok(code, answers),
    }
}

fn role(info: &Info, endpoint: &str) -> Finding {
    let code = "server.role";
    if info.loading {
        return Finding::warning(code, "the server is still loading its data from disk")
            .why("until then it answers LOADING, and the engine waits")
            .mend("run check again later; INFO persistence shows loading_eta_seconds");
    }
    if info.role == "slave" {
        let primary = info.primary.as_deref().unwrap_or("its primary");
        return Finding::error(code, format!("{endpoint} is a replica of {primary}"))
            .why("a replica cannot be written to: no frame could be acknowledged or stored")
            .mend(format!("name the primary, {primary}, in redis_queue.url, or use Sentinel"));
    }
    Finding::ok(code, "the server is a primary")
}

fn topology(info: &Info, config: &Config) -> Option<Finding> {
    let asked_for_cluster = config.redis_queue.url.scheme() == Scheme::Cluster;
    match (info.cluster, asked_for_cluster) {
        (true, false) => Some(
            Finding::warning(
                "server.cluster",
                "the server is a Cluster node, but the URL names a single server",
            )
            .why("the server answers MOVED for keys that are on another node or move to one")
            .mend("name the cluster: redis_queue.url: redis-cluster://host:port,host:port"),
        ),
        (false, true) => Some(
            Finding::error("server.cluster", "the server is not a Cluster node")
                .why("the URL asks for the slots of a Cluster, and this server has none")
                .mend("name it as redis://host:port, or set cluster-enabled yes"),
        ),
        _ => None,
    }
}

fn replication(info: &Info, settings: Option<&Settings>) -> Vec<Finding> {
    if info.replicas == 0 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let size = human_bytes(info.backlog_bytes);
    let replicas = info.replicas;
    if info.backlog_bytes < BACKLOG_BYTES_MIN {
        findings.push(
            Finding::warning(
                "server.replication_backlog",
                format!("the replication backlog is {size}, with {replicas} replicas"),
            )
            .why(
                "frames fill it within moments: a replica that falls behind copies all data again, \
                 and cannot take over in a failover until it has finished",
            )
            .mend("CONFIG SET repl-backlog-size 256mb"),
        );
    } else {
        let what = format!("the replication backlog is {size}, for {replicas} replicas");
        findings.push(Finding::ok("server.replication_backlog", what));
    }
    let limit = settings.map(|settings| settings.replica_buffer).unwrap_or_default();
    let lowest = [limit.hard, limit.soft].into_iter().filter(|bytes| *bytes > 0).min();
    if let Some(lowest) = lowest.filter(|lowest| *lowest < 2 * BACKLOG_BYTES_MIN) {
        findings.push(
            Finding::warning(
                "server.replica_buffer",
                format!(
                    "the server disconnects a replica with {} waiting to be sent",
                    human_bytes(lowest)
                ),
            )
            .why(
                "frames keep arriving during a full copy; a replica that is disconnected starts \
                 the copy again, and may never finish it",
            )
            .mend("CONFIG SET client-output-buffer-limit \"replica 1gb 512mb 120\""),
        );
    }
    findings
}

fn clock(ahead: f64) -> Finding {
    let code = "server.clock";
    if ahead.abs() < 0.001 {
        return Finding::ok(code, "the server's clock agrees with this machine's");
    }
    let direction = if ahead >= 0.0 { "ahead of" } else { "behind" };
    let what = format!("the server's clock is {:.3} s {direction} this machine's", ahead.abs());
    let why = "the engine measures the age of frames by the server's clock, but timestamps of \
               cameras and in results come from other machines";
    let remedy = "synchronise both machines: chrony or systemd-timesyncd";
    match ahead.abs() {
        off if off > CLOCK_WARNING_SECONDS => Finding::warning(code, what).why(why).mend(remedy),
        off if off > CLOCK_NOTE_SECONDS => Finding::note(code, what).why(why).mend(remedy),
        _ => Finding::ok(code, what),
    }
}

fn idle(settings: &Settings) -> Finding {
    let code = "server.idle_timeout";
    match settings.idle_seconds_max {
        0 => Finding::ok(code, "idle connections are kept (timeout 0)"),
        seconds if seconds < IDLE_SECONDS_MIN => Finding::warning(
            code,
            format!("connections idle for {seconds} s are closed"),
        )
        .why(
            "committers are idle while no frame arrives; the first frame afterwards waits for a \
             new connection, and the statistics count a lost connection. A blocked read is not \
             idle",
        )
        .mend("CONFIG SET timeout 0; tcp-keepalive finds peers that are gone"),
        seconds => Finding::ok(code, format!("connections idle for {seconds} s are closed")),
    }
}

fn keepalive(settings: &Settings) -> Option<Finding> {
    let code = "server.keepalive";
    match settings.keepalive_seconds {
        0 => Some(
            Finding::warning(code, "tcp-keepalive is off")
                .why(
                    "the server keeps the connection and the buffer of a client that has lost its \
                     network",
                )
                .mend("CONFIG SET tcp-keepalive 60"),
        ),
        seconds => Some(Finding::ok(code, format!("peers are probed every {seconds} s"))),
    }
}

/// Redis queues a whole reply before it sends any of it. Above the hard limit it disconnects the
/// client, however fast the client reads. Above the soft limit it disconnects if the rest of the
/// reply takes longer than the allowed seconds, for example while the engine waits for room in the
/// middle of a reply.
fn output_buffer(settings: &Settings, config: &Config) -> Finding {
    let code = "server.output_buffer";
    let limit = settings.output_buffer;
    if limit.hard == 0 && limit.soft == 0 {
        return Finding::ok(code, "replies to ordinary clients are not limited");
    }
    let payload = config.limits.max_payload_bytes as u64;
    let reply = payload.max(limits::REPLY_BYTES_MAX);
    let needed = reply + REPLY_BESIDES_BYTES;
    let why = format!(
        "Redis queues a whole reply first; the engine bounds a reply to {} or one frame, and \
         limits.max_payload_bytes allows frames of {}",
        human_bytes(limits::REPLY_BYTES_MAX),
        human_bytes(payload)
    );
    let remedy = format!(
        "CONFIG SET client-output-buffer-limit \"normal 0 0 0\", or limits of at least {needed}{}",
        if payload == reply { ", or lower limits.max_payload_bytes" } else { "" }
    );
    if limit.hard > 0 && limit.hard < needed {
        let what = format!(
            "the server disconnects a client at a reply of more than {}",
            human_bytes(limit.hard)
        );
        let why = format!(
            "{why}: the server would close the connection at the first reply of that size, and at \
             each attempt to read it again"
        );
        return Finding::error(code, what).why(why).mend(remedy);
    }
    if limit.soft > 0 && limit.soft < needed {
        let what = format!(
            "the server disconnects a client if a reply has more than {} left after {} s",
            human_bytes(limit.soft),
            limit.seconds
        );
        let why = format!(
            "{why}: the server would disconnect an engine that waits for room in the middle of a \
             reply"
        );
        return Finding::warning(code, what).why(why).mend(remedy);
    }
    let lowest = [limit.hard, limit.soft].into_iter().filter(|bytes| *bytes > 0).min();
    let lowest = human_bytes(lowest.unwrap_or_default());
    Finding::ok(
        code,
        format!(
            "the server allows replies of {lowest}; the largest reply has {}",
            human_bytes(reply)
        ),
    )
}

/// The largest result: with lossless output, as large as the largest image, with its envelope.
fn request_size(settings: &Settings, config: &Config) -> Finding {
    let code = "server.request_size";
    let queue = &config.redis_queue;
    let lossless = !queue.enable_compression || queue.compression_format == CompressionFormat::Png;
    let payload = config.limits.max_payload_bytes as u64;
    let largest = if lossless { payload.max(3 * config.limits.max_pixels) } else { payload };
    let limits = [
        ("proto-max-bulk-len", settings.bulk_bytes_max),
        ("client-query-buffer-limit", settings.query_bytes_max),
    ];
    let lowest = limits.into_iter().filter(|(_, limit)| *limit > 0).min_by_key(|(_, limit)| *limit);
    match lowest {
        Some((name, limit)) if limit < largest => Finding::error(
            code,
            format!(
                "{name} is {}, less than the largest frame: {}",
                human_bytes(limit),
                human_bytes(largest)
            ),
        )
        .why("the server closes a connection that sends such a frame, so it can never be stored")
        .mend(format!(
            "CONFIG SET {name} {largest}, or lower limits.max_payload_bytes and limits.max_pixels"
        )),
        Some((_, limit)) => Finding::ok(
            code,
            format!(
                "the server allows requests of {}; the largest frame has {}",
                human_bytes(limit),
                human_bytes(largest)
            ),
        ),
        None => Finding::ok(code, "the size of requests is not limited"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Error, Note, Ok, Warning};
    use super::super::finding::tests::only;
    use super::super::tests::{config, healthy};
    use super::*;
    use crate::redis::Version;
    use crate::redis::check::survey::BufferLimit;

    fn findings(change: impl FnOnce(&mut Survey)) -> Vec<Finding> {
        let mut survey = healthy();
        change(&mut survey);
        judge(&survey, &config(&[]), "10.0.0.1:6379")
    }

    fn settings(change: impl FnOnce(&mut Settings)) -> Vec<Finding> {
        findings(|survey| change(survey.settings.as_mut().unwrap()))
    }

    fn info(change: impl FnOnce(&mut Info)) -> Vec<Finding> {
        findings(|survey| change(survey.info.as_mut().unwrap()))
    }

    #[test]
    fn a_healthy_server_has_nothing_to_mend() {
        let findings = findings(|_| {});
        assert!(findings.iter().all(|finding| finding.severity == Ok), "{findings:#?}");
    }

    #[test]
    fn old_servers_are_refused_and_middling_ones_noted() {
        let of = |version| findings(|survey| survey.greeting.version = version);
        let old = of(Version(6, 0, 16));
        assert!(only(&old, "server.version", Error).what.contains("XPENDING"), "{old:#?}");
        assert!(only(&of(Version(6, 2, 14)), "server.version", Note).what.contains("lag"));
        only(&of(Version(7, 0, 0)), "server.version", Ok);
    }

    #[test]
    fn a_replica_and_a_loading_server_are_no_primary() {
        let replica = info(|info| {
            info.role = "slave".into();
            info.primary = Some("10.0.0.2:6379".into());
        });
        let finding = only(&replica, "server.role", Error);
        assert!(finding.remedy.contains("10.0.0.2:6379"), "{finding:#?}");
        only(&info(|info| info.loading = true), "server.role", Warning);
    }

    #[test]
    fn a_cluster_node_is_not_to_be_taken_for_a_single_server() {
        only(&info(|info| info.cluster = true), "server.cluster", Warning);
        let url =
            [("redis_queue.url", "redis-cluster://10.0.0.1:7000"), ("redis_queue.shards", "2")];
        only(&judge(&healthy(), &config(&url), "10.0.0.1:7000"), "server.cluster", Error);
    }

    #[test]
    fn replicas_need_a_backlog_that_holds_frames() {
        assert!(info(|_| {}).iter().all(|finding| finding.code != "server.replication_backlog"));
        let small = info(|info| (info.replicas, info.backlog_bytes) = (2, 1 << 20));
        only(&small, "server.replication_backlog", Warning);
        only(
            &info(|info| (info.replicas, info.backlog_bytes) = (1, 256 << 20)),
            "server.replication_backlog",
            Ok,
        );
        let cut = findings(|survey| {
            survey.info.as_mut().unwrap().replicas = 1;
            survey.settings.as_mut().unwrap().replica_buffer.soft = 64 << 20;
        });
        only(&cut, "server.replica_buffer", Warning);
    }

    #[test]
    fn clocks_apart_are_told_by_how_far() {
        for (ahead, severity) in [(0.02, Ok), (-0.3, Note), (2.5, Warning), (-7.0, Warning)] {
            let findings = findings(|survey| survey.clock_ahead_seconds = Some(ahead));
            let finding = only(&findings, "server.clock", severity);
            assert_eq!(finding.what.contains("behind"), ahead < 0.0, "{finding:?}");
        }
    }

    #[test]
    fn connections_should_outlive_a_quiet_hour_and_not_a_cut_cable() {
        only(&settings(|s| s.idle_seconds_max = 60), "server.idle_timeout", Warning);
        only(&settings(|s| s.idle_seconds_max = 7_200), "server.idle_timeout", Ok);
        only(&settings(|s| s.keepalive_seconds = 0), "server.keepalive", Warning);
    }

    #[test]
    fn the_largest_reply_must_fit_into_the_output_buffer() {
        let limit = |hard, soft, payload: &str| {
            let mut survey = healthy();
            survey.settings.as_mut().unwrap().output_buffer =
                BufferLimit { hard, soft, seconds: 10 };
            judge(&survey, &config(&[("limits.max_payload_bytes", payload)]), "10.0.0.1:6379")
        };
        let (small, large) = ("1048576", "67108864");
        // A reply with several small frames has at most 16 MiB; a reply with one large frame has
        // the size of that frame.
        for (hard, payload, severity) in [
            (16 << 20, small, Error),
            (18 << 20, small, Ok),
            (18 << 20, large, Error),
            (64 << 20, large, Error),
            (66 << 20, large, Ok),
            (0, large, Ok),
        ] {
            let findings = limit(hard, 0, payload);
            let finding = only(&findings, "server.output_buffer", severity);
            let lowered = finding.remedy.contains("lower limits.max_payload_bytes");
            assert_eq!(lowered, severity == Error && payload == large, "{finding:?}");
        }
        // The soft limit disconnects only slow clients.
        only(&limit(0, 16 << 20, small), "server.output_buffer", Warning);
        only(&limit(1 << 30, 18 << 20, large), "server.output_buffer", Warning);
        only(&limit(1 << 30, 18 << 20, small), "server.output_buffer", Ok);
        only(&limit(16 << 20, 1 << 30, small), "server.output_buffer", Error);
    }

    #[test]
    fn the_largest_result_must_fit_into_a_request() {
        let finding = settings(|s| s.bulk_bytes_max = 8 << 20);
        assert!(only(&finding, "server.request_size", Error).what.contains("proto-max-bulk-len"));
        let finding = settings(|s| s.query_bytes_max = 8 << 20);
        assert!(only(&finding, "server.request_size", Error).what.contains("query-buffer"));
        let raw = config(&[
            ("redis_queue.enable_compression", "false"),
            ("limits.max_pixels", "268435456"),
        ]);
        only(&judge(&healthy(), &raw, "here"), "server.request_size", Error);
    }
}
