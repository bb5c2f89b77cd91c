//! The statistics server of `ingest`: state and picture of each camera.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use serde_json::json;
use tiny_http::Request;

use super::routes::{HttpAnswer, JSON, Site, not_found};
use super::{Listener, Serving};
use crate::base::{Fault, Stop};
use crate::config::Config;
use crate::ingest::{AGE_BOUNDS, IngestStatus, IngestView, SendOutcome, State};
use crate::metrics::clock::unix_seconds;

/// A running statistics server of `ingest`; dropping it ends it.
#[derive(Debug)]
pub struct IngestServer {
    _serving: Option<Serving>,
}

impl IngestServer {
    /// Serves at `ingest.stats.addr`, with the token and the host names of `stats`.
    ///
    /// [`Fault::Io`] if the address is not available.
    pub fn start(config: &Config, view: IngestView, stop: &Stop) -> Result<IngestServer, Fault> {
        let Some(addr) = &config.ingest.stats.addr else {
            return Ok(IngestServer { _serving: None });
        };
        let listener = Listener::bind(addr)?.with_hosts(&config.stats.hosts);
        tracing::info!("statistics of the cameras on http://{}", listener.addr());
        let site = Box::new(IngestSite { view });
        let token = config.stats.token.clone();
        let serving = listener.serve_site(site, Arc::new(OnceLock::new()), token, stop)?;
        Ok(IngestServer { _serving: Some(serving) })
    }
}

struct IngestSite {
    view: IngestView,
}

impl Site for IngestSite {
    fn open(&self, segments: &[&str]) -> Option<HttpAnswer> {
        match *segments {
            ["livez"] => Some(match self.view.hangs() {
                Some(why) => HttpAnswer::lines(503, [why]),
                None => HttpAnswer::lines(200, ["ok".to_owned()]),
            }),
            ["readyz"] => Some(match self.view.unready() {
                Some(why) => HttpAnswer::lines(503, [why]),
                None => HttpAnswer::lines(200, std::iter::once("ok".to_owned()).chain(self.away())),
            }),
            [""] => Some(HttpAnswer::page(
                "text/html; charset=utf-8",
                include_str!("page/cameras.html"),
            )),
            ["assets", "page.css"] => {
                Some(HttpAnswer::page("text/css; charset=utf-8", include_str!("page/page.css")))
            }
            ["assets", "cameras.js"] => Some(HttpAnswer::page(
                "text/javascript; charset=utf-8",
                include_str!("page/cameras.js"),
            )),
            _ => None,
        }
    }

    fn guarded(&self, _request: &Request, segments: &[&str]) -> HttpAnswer {
        match *segments {
            ["metrics"] => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                HttpAnswer::new(200, kind, exposition(&self.view.cameras()))
            }
            ["api", "v1", "cameras"] => {
                let cameras: Vec<_> = self.view.cameras().iter().map(|it| it.json()).collect();
                HttpAnswer::json(&json!({ "cameras": cameras, "now": unix_seconds() }))
            }
            ["api", "v1", "cameras", id] => match self.view.camera(id) {
                Some(camera) => HttpAnswer::json(&camera.json()),
                None => HttpAnswer::error(404, "no such camera is configured"),
            },
            ["api", "v1", "cameras", id, "latest.jpg"] => {
                match self.view.camera(id).and_then(|camera| camera.picture()) {
                    Some(picture) => HttpAnswer::new(200, "image/jpeg", picture.to_vec()),
                    None if _request.url().ends_with("?missing=204") => {
                        HttpAnswer::new(204, JSON, Vec::new())
                    }
                    None => HttpAnswer::error(404, "no picture yet").with("Retry-After", "1"),
                }
            }
            _ => not_found(),
        }
    }
}

impl IngestSite {
    fn away(&self) -> Vec<String> {
        let away = |camera: &Arc<IngestStatus>| {
            let (state, _) = camera.state();
            let fine = matches!(state, State::Live | State::Disabled);
            (!fine).then(|| format!("{}: {}", camera.id, state.name()))
        };
        self.view.cameras().iter().filter_map(away).collect()
    }
}

/// The series of `ingest` in Prometheus' text format.
fn exposition(cameras: &[Arc<IngestStatus>]) -> String {
    let mut page = String::new();
    let head = |page: &mut String, name: &str, kind: &str, help: &str| {
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
    };
    let label = |status: &IngestStatus| {
        status.id.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
    };
    let name = "framepress_ingest_camera_state";
    head(&mut page, name, "gauge", "1 for the present state of a camera, 0 for each other state.");
    for camera in cameras {
        let (now, _) = camera.state();
        for state in State::ALL {
            let (id, is, word) = (label(camera), u8::from(state == now), state.name());
            let _ = writeln!(page, "{name}{{camera=\"{id}\",state=\"{word}\"}} {is}");
        }
    }
    let name = "framepress_ingest_frames_total";
    head(&mut page, name, "counter", "Frames of a camera, by outcome.");
    for camera in cameras {
        for outcome in SendOutcome::ALL {
            let (id, word, count) = (label(camera), outcome.name(), camera.frames(outcome));
            let _ = writeln!(page, "{name}{{camera=\"{id}\",outcome=\"{word}\"}} {count}");
        }
    }
    let name = "framepress_ingest_restarts_total";
    head(&mut page, name, "counter", "Times that ingest restarted a camera, by reason.");
    for camera in cameras {
        for (reason, count) in camera.restarts() {
            let id = label(camera);
            let _ = writeln!(page, "{name}{{camera=\"{id}\",reason=\"{reason}\"}} {count}");
        }
    }
    let name = "framepress_ingest_last_frame_timestamp_seconds";
    head(
        &mut page,
        name,
        "gauge",
        "When the last picture of a camera arrived, in seconds since the Unix epoch.",
    );
    for camera in cameras {
        if let Some(last) = camera.last_frame() {
            let _ = writeln!(page, "{name}{{camera=\"{}\"}} {last:.3}", label(camera));
        }
    }
    type CameraCounter = (&'static str, &'static str, fn(&IngestStatus) -> f64);
    let counters: [CameraCounter; 3] = [
        ("framepress_ingest_bytes_total", "Bytes of the pictures sent.", |it| it.bytes() as f64),
        (
            "framepress_ingest_child_cpu_seconds_total",
            "CPU time of the child processes that read a camera.",
            IngestStatus::child_cpu,
        ),
        (
            "framepress_ingest_hwaccel_fallbacks_total",
            "Times that the hardware could not decode a camera and software replaced it.",
            |it| it.hwaccel_fallbacks() as f64,
        ),
    ];
    for (name, help, value) in counters {
        head(&mut page, name, "counter", help);
        for camera in cameras {
            let _ = writeln!(page, "{name}{{camera=\"{}\"}} {}", label(camera), value(camera));
        }
    }
    let name = "framepress_ingest_frame_age_seconds";
    head(&mut page, name, "histogram", "Time from the arrival of a picture to its entry in Redis.");
    let mut below = vec![0; AGE_BOUNDS.len() + 1];
    let (mut count, mut sum) = (0, 0.0);
    for camera in cameras {
        let (ages, all, seconds) = camera.ages();
        below.iter_mut().zip(ages).for_each(|(below, age)| *below += age);
        (count, sum) = (count + all, sum + seconds);
    }
    for (bound, below) in AGE_BOUNDS.iter().zip(&below) {
        let _ = writeln!(page, "{name}_bucket{{le=\"{bound}\"}} {below}");
    }
    let _ = writeln!(page, "{name}_bucket{{le=\"+Inf\"}} {count}");
    let _ = writeln!(page, "{name}_sum {sum}\n{name}_count {count}");
    page
}
