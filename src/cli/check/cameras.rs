//! Opens each camera of the configuration once.

use super::finding::Finding;
use crate::base::Stop;
use crate::cli::output::human_bytes;
use crate::config::Config;
use crate::ingest::{CameraFound, Spec, try_out};

/// A clock that is off by at most this many seconds counts as right, because cameras report whole
/// seconds.
const CLOCK_OFF: i64 = 2;

/// The findings for all cameras, which are opened one after the other.
pub(super) fn judge(config: &Config) -> Vec<Finding> {
    let cameras = config.cameras.iter().filter(|camera| camera.enabled && camera.has_source());
    cameras.map(|camera| judge_one(config, &Spec::of(camera))).collect()
}

fn judge_one(config: &Config, spec: &Spec) -> Finding {
    match try_out(config, spec, &Stop::default()) {
        Ok(found) => describe(&spec.id, &found),
        Err(fault) => Finding::error("cameras.open", fault.to_string())
            .why("ingest would send no frame of this camera, and would keep trying")
            .mend("check its source and credentials_file, and that this machine can reach it"),
    }
}

fn describe(id: &str, found: &CameraFound) -> Finding {
    let CameraFound { codec, size: (width, height), fps, sent_fps, form, .. } = found;
    let codec = codec.as_deref().unwrap_or("unknown codec");
    let clock = match found.clock_ahead {
        None => "its clock is unknown".to_owned(),
        Some(ahead) => format!("its clock is ahead by {ahead} s"),
    };
    let through = match found.ring_bytes {
        Some(size) => format!("through a frame ring of {}", human_bytes(size)),
        None => "through Redis".to_owned(),
    };
    let what = format!(
        "camera {id}: {codec} {width}x{height}, {fps:.1} frames/s, first picture after {:.1} s, ready \
         {} ms after its arrival, {clock}; sent would be {sent_fps:.1} frames/s as {form}, {}/s {through}",
        found.opened_after.as_secs_f64(),
        found.delay.as_millis(),
        human_bytes(found.bytes_per_second as u64),
    );
    if found.hwaccel_fallbacks > 0 {
        return Finding::warning("cameras.hwaccel", what)
            .why(
                "the hardware that hwaccel names cannot decode this camera; ingest decodes it in \
                 software",
            )
            .mend("remove hwaccel, or check the driver and the rights on its device");
    }
    if found.clock_ahead.is_some_and(|ahead| ahead.abs() > CLOCK_OFF) {
        return Finding::warning("cameras.clock", what)
            .why("the time that the camera writes into its pictures differs from their timestamps")
            .mend("give the camera an NTP server");
    }
    Finding::ok("cameras.open", what)
}
