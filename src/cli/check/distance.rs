//! Judges the network distance of the server for this configuration.

use std::time::Duration;

use super::finding::Finding;
use crate::cli::output::human_bytes;
use crate::config::Config;

/// A server on the same host or in the same rack: nothing to report.
const NEAR: Duration = Duration::from_millis(1);

/// The promised end-to-end latency of a frame.
const LATENCY_GOAL: Duration = Duration::from_millis(100);

/// Bytes of a raw 1080p frame, the largest common size.
const LARGE_FRAME_BYTES: usize = 1920 * 1080 * 3;

/// Maximum usual frame rate of one camera.
const CAMERA_FPS: f64 = 30.0;

pub(super) fn judge(round_trip: Duration, config: &Config) -> Finding {
    let code = "server.distance";
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let what = format!("a request and its reply take {}", ms(round_trip));
    if round_trip < NEAR {
        return Finding::ok(code, what);
    }
    // Half a round trip each: frame to the engine, result to Redis, confirmation to the engine.
    let confirmed = round_trip * 3 / 2;
    let what = format!(
        "{what}: a result is stored at the earliest {} after its frame was added, and confirmed \
         after {}",
        ms(round_trip),
        ms(confirmed)
    );
    let budget = config.engine.max_inflight_bytes;
    // The read window covers two round trips.
    #[allow(clippy::cast_precision_loss)] // a rough rate for display
    let rate = (budget / LARGE_FRAME_BYTES) as f64 / (2.0 * round_trip.as_secs_f64());
    if rate < CAMERA_FPS {
        #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // positive and small
        let needed = (2.0 * CAMERA_FPS * round_trip.as_secs_f64()).ceil() as usize;
        return Finding::warning(code, what)
            .why(format!(
                "engine.max_inflight_bytes = {} limits the frames in transit: at this distance to \
                 about {rate:.0} raw 1080p frames per second",
                human_bytes(budget as u64)
            ))
            .mend(format!(
                "engine.max_inflight_bytes: {} or more; or let cameras send JPEG",
                needed * LARGE_FRAME_BYTES
            ));
    }
    if confirmed > LATENCY_GOAL {
        return Finding::note(code, what)
            .why("end to end below 100 ms is not possible at this distance")
            .mend("if latency matters, run the engine nearer to its Redis");
    }
    Finding::ok(code, what)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::super::tests::config;
    use super::*;

    fn severity(ms: u64, flags: &[(&str, &str)]) -> Severity {
        judge(Duration::from_millis(ms), &config(flags)).severity
    }

    #[test]
    fn a_server_far_away_is_judged_by_what_is_promised() {
        assert_eq!(severity(0, &[]), Severity::Ok);
        assert_eq!(severity(20, &[]), Severity::Ok);
        assert_eq!(severity(200, &[]), Severity::Note);
    }

    #[test]
    fn what_is_in_transit_has_to_fit_into_the_budget() {
        let small = [("engine.max_inflight_bytes", "67108864")];
        assert_eq!(severity(20, &small), Severity::Ok);
        assert_eq!(severity(300, &small), Severity::Warning);
        let finding = judge(Duration::from_millis(300), &config(&small));
        let needed: String = finding.remedy.chars().filter(char::is_ascii_digit).take(9).collect();
        let enough = [("engine.max_inflight_bytes", &*needed)];
        assert_eq!(severity(300, &enough), Severity::Note);
    }
}
