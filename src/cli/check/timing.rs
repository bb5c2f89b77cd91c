//! Judges the time-outs of the configuration against each other.

use super::finding::Finding;
use crate::config::Config;

/// In-flight frames are renewed every second, by a request that may itself take a second.
const CLAIM_MS_MIN: u64 = 5_000;

pub(super) fn judge(config: &Config) -> Vec<Finding> {
    vec![answers(config), claim(config), drain(config)]
}

/// The configuration's own rules keep the time-out above the block time; this explains its effect.
fn answers(config: &Config) -> Finding {
    let queue = &config.redis_queue;
    let code = "timing.timeout";
    let (block, timeout) = (queue.block_time_ms, queue.timeout);
    let what = format!(
        "reads block for {block} ms; the engine gives up a server that does not answer after \
         {timeout} s"
    );
    if timeout * 1_000 > queue.claim_idle_ms.saturating_mul(2) {
        return Finding::note(code, what)
            .why(format!(
                "if the network fails silently, this engine keeps waiting while other engines take \
                 over its frames after claim_idle_ms = {}: no result is stored twice, but the work \
                 is done twice",
                queue.claim_idle_ms
            ))
            .mend("set a shorter redis_queue.timeout, or a longer claim_idle_ms");
    }
    Finding::ok(code, what)
}

fn claim(config: &Config) -> Finding {
    let code = "timing.claim";
    let claim = config.redis_queue.claim_idle_ms;
    let what = if config.redis_queue.is_exclusive() {
        let lease = config.redis_queue.lease_ms;
        format!(
            "the streams of an engine that died are taken over after {lease} ms, frames of a \
             consumer without a lease after {claim} ms"
        )
    } else {
        format!("frames of an engine that died are taken over after {claim} ms")
    };
    if claim < CLAIM_MS_MIN {
        return Finding::warning(code, what)
            .why(
                "the engine renews frames in work every second, or every two when Redis is slow: \
                 meanwhile other engines may take them over. No result is stored twice, but the \
                 work is done twice",
            )
            .mend(format!("redis_queue.claim_idle_ms: {CLAIM_MS_MIN} or more"));
    }
    Finding::ok(code, format!("{what}; frames in work are renewed after {} ms", claim / 3))
}

fn drain(config: &Config) -> Finding {
    let code = "timing.drain";
    let (drain, claim) = (config.engine.drain_timeout_ms, config.redis_queue.claim_idle_ms);
    // A frame in work when draining begins may already have gone a third of the claim time without
    // a renewal.
    if drain > claim - claim / 3 {
        return Finding::warning(
            code,
            format!("at a stop the engine finishes its frames for up to {drain} ms"),
        )
        .why(format!(
            "the engine renews no frame while it drains: after claim_idle_ms = {claim} other \
             engines take over the frames that are still in work"
        ))
        .mend("set a shorter engine.drain_timeout_ms, or a longer claim_idle_ms");
    }
    Finding::ok(code, format!("at a stop the engine finishes its frames for up to {drain} ms"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Note, Ok, Warning};
    use super::super::finding::tests::only;
    use super::super::tests::config;
    use super::*;

    #[test]
    fn the_built_in_times_fit_together() {
        assert!(judge(&config(&[])).iter().all(|finding| finding.severity == Ok));
    }

    #[test]
    fn what_is_held_is_taken_over_sooner() {
        let found = judge(&config(&[("redis_queue.shards", "2"), ("redis_queue.lease_ms", "700")]));
        let claim = found.iter().find(|finding| finding.code == "timing.claim").unwrap();
        assert!(claim.what.contains("after 700 ms"), "{}", claim.what);
    }

    #[test]
    fn others_should_not_take_over_what_is_in_work() {
        let short = config(&[("redis_queue.claim_idle_ms", "1000")]);
        only(&judge(&short), "timing.claim", Warning);
        only(&judge(&short), "timing.drain", Warning);
        only(&judge(&short), "timing.timeout", Note);
        let long = config(&[("engine.drain_timeout_ms", "25000")]);
        only(&judge(&long), "timing.drain", Warning);
        only(&judge(&config(&[("engine.drain_timeout_ms", "20000")])), "timing.drain", Ok);
    }
}
