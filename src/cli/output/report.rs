//! The report of a measured run, as text and as JSON for `--report`.

use std::path::Path;

use serde_json::{Value, json};

use crate::base::{Fault, files, text};
use crate::cli::failure::Failure;
use crate::cli::output::human_bytes;
use crate::config::Config;
use crate::engine::EngineView;
use crate::http::{compression_ratio, latency_json};
use crate::instruments::{engine_cpu_ms, machine, rss_bytes_max};
use crate::metrics::clock::Tick;
use crate::metrics::{Conservation, Counter, Distribution, Timer};

/// The measurements of a run.
#[derive(Debug)]
pub(in crate::cli) struct Report {
    account: Conservation,
    seconds: f64,
    latency: Value,
    bytes_in: u64,
    bytes_out: u64,
    json_base64_bytes: u64,
    compression_ratio: f64,
    cpu_ms_per_frame: f64,
    rss_bytes_max: u64,
    config: Value,
}

impl Report {
    /// Collects the measurements from an engine that is still running; `began` is the time at which
    /// the first frame was sent.
    #[allow(clippy::cast_precision_loss)]
    pub(in crate::cli) fn take(view: &EngineView, config: &Config, began: Tick) -> Report {
        let metrics = &*view.metrics;
        let account = metrics.ledger.read();
        Report {
            seconds: began.elapsed().as_secs_f64(),
            latency: latency_json(&metrics.distribution(Timer::EndToEnd)),
            bytes_in: metrics.get(Counter::BytesIn),
            bytes_out: metrics.get(Counter::BytesOut),
            json_base64_bytes: metrics.get(Counter::JsonBase64Bytes),
            compression_ratio: compression_ratio(metrics),
            cpu_ms_per_frame: engine_cpu_ms() / (account.read.max(1)) as f64,
            rss_bytes_max: rss_bytes_max(),
            config: config.to_json(),
            account,
        }
    }

    /// The report with latencies measured by a consumer instead of the engine.
    pub(in crate::cli) fn timed(self, latency: &Distribution) -> Report {
        Report { latency: latency_json(latency), ..self }
    }

    #[allow(clippy::cast_precision_loss)]
    fn throughput_fps(&self) -> f64 {
        self.account.out as f64 / self.seconds.max(1e-9)
    }

    /// Size of the results relative to JSON with base64 of the same raw frames.
    #[allow(clippy::cast_precision_loss)]
    fn share_of_json(&self) -> f64 {
        self.bytes_out as f64 / self.json_base64_bytes.max(1) as f64
    }

    /// The report as JSON.
    pub(in crate::cli) fn to_json(&self) -> Value {
        json!({
            "frames_in": self.account.read,
            "frames_out": self.account.out,
            "rejected": self.account.rejected,
            "dead_lettered": self.account.dead_lettered,
            "shed": self.account.shed,
            "lost": self.account.lost,
            "in_flight": self.account.in_flight,
            "seconds": self.seconds,
            "throughput_fps": self.throughput_fps(),
            "latency_ms": self.latency,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "json_base64_bytes": self.json_base64_bytes,
            "compression_ratio": self.compression_ratio,
            "engine_cpu_ms_per_frame": self.cpu_ms_per_frame,
            "rss_bytes_max": self.rss_bytes_max,
            "machine": machine(),
            "config": self.config,
        })
    }

    /// Writes the report to a file; see [`can_be_written`].
    pub(in crate::cli) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = format!("{:#}\n", self.to_json());
        files::replace(path, text::json(&text).as_bytes())
            .map_err(|source| Fault::io(format!("cannot write {}", path.display()), source).into())
    }

    /// Whether every frame read was also stored.
    pub(in crate::cli) fn is_complete(&self) -> bool {
        self.account.balanced && self.account.read == self.account.out && self.account.read > 0
    }

    /// The report as text.
    pub(in crate::cli) fn to_text(&self) -> String {
        let account = &self.account;
        let of = |name: &str| self.latency[name].as_f64().unwrap_or(0.0);
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            text.push_str(&format!("  {name:<22}{value}\n"));
        };
        row("frames in", account.read.to_string());
        row("frames out", account.out.to_string());
        row(
            "not out",
            format!(
                "{} dead-lettered, {} rejected, {} shed, {} lost, {} in flight",
                account.dead_lettered,
                account.rejected,
                account.shed,
                account.lost,
                account.in_flight
            ),
        );
        row(
            "throughput",
            format!("{:.1} frames/s over {:.1} s", self.throughput_fps(), self.seconds),
        );
        row(
            "latency",
            format!(
                "p50 {:.1} ms   p90 {:.1} ms   p99 {:.1} ms   max {:.1} ms",
                of("p50"),
                of("p90"),
                of("p99"),
                of("max")
            ),
        );
        row("read from Redis", human_bytes(self.bytes_in));
        row("written to Redis", human_bytes(self.bytes_out));
        row("compression ratio", format!("{:.3} of the raw pixels", self.compression_ratio));
        row(
            "against JSON + base64",
            format!(
                "{} would have been {}: {:.1} % of it",
                human_bytes(self.bytes_out),
                human_bytes(self.json_base64_bytes),
                100.0 * self.share_of_json()
            ),
        );
        row("engine CPU", format!("{:.2} ms per frame", self.cpu_ms_per_frame));
        row("memory, most", format!("{} (whole process)", human_bytes(self.rss_bytes_max)));
        text
    }
}

/// Checks that a file can be written, before a long run instead of after it. An existing file is
/// not changed.
pub(in crate::cli) fn can_be_written(path: &Path) -> Result<(), Failure> {
    files::can_be_replaced(path)
        .map_err(|source| Fault::io(format!("cannot write {}", path.display()), source).into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_can_be_written_is_found_out_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report");
        assert!(can_be_written(&file).is_ok() && !file.exists());
        std::fs::write(&file, "of before").unwrap();
        assert!(can_be_written(&file).is_ok());
        assert_eq!(std::fs::read(&file).unwrap(), b"of before");
        assert!(can_be_written(folder.path()).is_err(), "a folder");
        assert!(can_be_written(&folder.path().join("none/report")).is_err(), "no folder");

        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(can_be_written(&link).is_ok());
        assert!(link.is_symlink() && !target.exists());
    }

    #[test]
    fn a_reader_of_a_pipe_notices_nothing_before_the_report() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut reader = Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().unwrap();
        assert!(can_be_written(&pipe).is_ok());
        // Opened for reading too, so that opening does not wait for a reader.
        let mut writer = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        writer.write_all(b"report").unwrap();
        let mut read = [0; 6];
        let whole = reader.stdout.take().unwrap().read_exact(&mut read);
        drop(writer);
        assert!(reader.wait().unwrap().success());
        assert!(whole.is_ok() && read == *b"report", "{whole:?}");
    }
}
