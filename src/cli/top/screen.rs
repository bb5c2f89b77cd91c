//! Formats the statistics as lines. The same lines fill a terminal of any size and, without
//! colours, are the output of `--once`.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::ValueEnum;
use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::Value;

use crate::cli::client::{ApiAnswer, Figures};
use crate::cli::output::human_bytes;
use crate::cli::output::terminal::clip;
use crate::metrics::clock::{Tick, unix_seconds};

/// From this width on all columns are shown.
const WIDE: usize = 80;

/// Latencies above these are coloured, in milliseconds.
const SLOW_MS: f64 = 50.0;
const TOO_SLOW_MS: f64 = 100.0;

/// Frame rings with a line each.
const RINGS_SHOWN: usize = 4;

/// The order of the cameras.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// By name
    Name,
    /// Most results first
    Frames,
    /// Most refused and dropped first
    Trouble,
    /// Slowest first
    Slow,
}

/// The content of the screen.
pub(super) struct Screen {
    url: String,
    sort: Sort,
    colours: bool,
    figures: Option<(Figures, Tick)>,
    /// Why the last query failed.
    gone: Option<String>,
}

impl Screen {
    pub(super) fn new(url: &str, sort: Sort, colours: bool) -> Screen {
        Screen { url: url.to_owned(), sort, colours, figures: None, gone: None }
    }

    /// Takes the result of a query. After a failure, the last statistics stay with their age.
    pub(super) fn take(&mut self, answer: ApiAnswer) {
        match answer {
            Ok(figures) => {
                self.figures = Some((figures, Tick::now()));
                self.gone = None;
            }
            Err(why) => self.gone = Some(why),
        }
    }

    pub(super) fn next_sort(&mut self) {
        let all = Sort::value_variants();
        let now = all.iter().position(|sort| *sort == self.sort).unwrap_or(0);
        self.sort = all[(now + 1) % all.len()];
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let lines = self.lines(area.width.into(), area.height.into());
        frame.render_widget(Paragraph::new(lines), area);
    }

    /// All lines as plain text.
    pub(super) fn text(&self, width: usize) -> String {
        let lines = self.lines(width, usize::MAX);
        let text: Vec<String> =
            lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect();
        text.join("\n")
    }

    /// At most `height` lines, the most important first.
    fn lines(&self, width: usize, height: usize) -> Vec<Line<'static>> {
        let mut lines = self.head(width);
        let Some((figures, _)) = &self.figures else { return lines };
        let metrics = MetricsView(&figures.metrics);
        let full = height >= 24;
        lines.push(flow(metrics, width));
        lines.extend(self.latencies(metrics, width, full));
        lines.extend(self.queues(metrics, width, full));
        lines.extend(self.sum(metrics, width));
        lines.extend(effort(metrics));
        lines.extend(self.shards(metrics, width));
        lines.extend(self.rings(metrics, width));
        lines.truncate(height);
        let room = height - lines.len();
        if room >= 2 {
            lines.extend(self.cameras(&figures.cameras, width, room));
            let room = height.saturating_sub(lines.len());
            lines.extend(self.feeds(&figures.cameras, width, room));
        }
        lines
    }

    fn head(&self, width: usize) -> Vec<Line<'static>> {
        let (mut title, mut state) = (format!("framepress  {}", self.url), "asking ...".to_owned());
        let mut colour = Color::Yellow;
        if let Some((figures, _)) = &self.figures {
            let metrics = MetricsView(&figures.metrics);
            let version = metrics.0["version"].as_str().unwrap_or("?");
            let up = metrics.number("/uptime_seconds");
            title = format!("framepress {version}  {}  up {}", self.url, duration(up));
            (state, colour) = match &figures.unready {
                None => ("ready".to_owned(), Color::Green),
                Some(why) => (format!("not ready: {why}"), Color::Red),
            };
        }
        if let Some(why) = &self.gone {
            let age = self.figures.as_ref().map(|(_, at)| at.elapsed().as_secs());
            let age = age.map_or_else(String::new, |age| format!("figures are {age} s old; "));
            (state, colour) = (format!("gone: {age}{why}"), Color::Red);
        }
        vec![
            self.styled(clip(&title, width), Style::new().add_modifier(Modifier::BOLD)),
            self.coloured(clip(&format!("* {state}"), width), colour),
        ]
    }

    fn latencies(&self, metrics: MetricsView<'_>, width: usize, full: bool) -> Vec<Line<'static>> {
        let figures: &[(&str, &str)] = if width >= WIDE {
            &[("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max")]
        } else {
            &[("p50", "p50"), ("p99", "p99"), ("max", "max")]
        };
        let mut head = format!("{:<13}", "latency ms");
        for (name, _) in figures {
            let _ = write!(head, "{name:>9}");
        }
        let row = |name: &str, at: &str| {
            let mut text = format!("  {name:<11}");
            for (_, key) in figures {
                let _ = write!(text, "{:>9.1}", metrics.number(&format!("{at}/{key}")));
            }
            text
        };
        let whole = "/performance_metrics/latency_ms";
        let colour = match metrics.number(&format!("{whole}/p99")) {
            ms if ms > TOO_SLOW_MS => Color::Red,
            ms if ms > SLOW_MS => Color::Yellow,
            _ => Color::Green,
        };
        let mut lines = vec![self.heading(head), self.coloured(row("end to end", whole), colour)];
        if full {
            for stage in crate::base::Stage::ALL {
                let at = format!("/performance_metrics/stages/{}", stage.name());
                lines.push(row(&stage.name().replace('_', " "), &at).into());
            }
        }
        lines
    }

    fn queues(&self, metrics: MetricsView<'_>, width: usize, full: bool) -> Vec<Line<'static>> {
        let wide = width >= WIDE;
        let mut head = format!("{:<13}{:>9}{:>9}{:>9}", "queue", "entries", "pending", "lag");
        if wide {
            let _ = write!(head, "{:>11}{:>9}{:>12}", "consumers", "per s", "memory");
        }
        let mut lines = vec![self.heading(head)];
        for (name, key) in [("input", "input"), ("output", "output"), ("dead", "dead_letter")] {
            if !full && key == "output" {
                continue;
            }
            let of = |what: &str| format!("/queue_metrics/{key}/{what}");
            let mut text = format!("  {name:<11}");
            for what in ["depth", "pending_count", "lag"] {
                let _ = write!(text, "{:>9}", metrics.whole(&of(what)));
            }
            if wide {
                let memory = metrics.0.pointer(&of("memory_usage_bytes")).and_then(Value::as_u64);
                let _ = write!(
                    text,
                    "{:>11}{:>9.1}{:>12}",
                    metrics.whole(&of("consumer_count")),
                    metrics.number(&of("throughput_fps")),
                    memory.map_or_else(|| "-".into(), human_bytes),
                );
            }
            let worrying = key == "dead_letter" && metrics.number(&of("depth")) > 0.0;
            lines.push(if worrying { self.coloured(text, Color::Yellow) } else { text.into() });
        }
        lines
    }

    /// The conservation sum: where every frame went.
    fn sum(&self, metrics: MetricsView<'_>, width: usize) -> Vec<Line<'static>> {
        let of = |name: &str| metrics.whole(&format!("/conservation/{name}"));
        let balanced = metrics.0.pointer("/conservation/balanced") == Some(&Value::Bool(true));
        // Zero unless leases are used.
        let handed_over = match of("handed_over").as_str() {
            "0" | "-" => String::new(),
            frames => format!("+ handed over {frames}"),
        };
        // Zero unless frame rings are used.
        let overwritten = match of("overwritten").as_str() {
            "0" | "-" => String::new(),
            frames => format!(" ({frames} overwritten)"),
        };
        let parts = [
            format!("read {}", of("read")),
            format!("= out {}", of("out")),
            format!("+ rejected {}", of("rejected")),
            format!("+ dead {}", of("dead_lettered")),
            format!("+ shed {}", of("shed")),
            format!("+ lost {}{overwritten}", of("lost")),
            handed_over,
            format!("+ in work {}", of("in_flight")),
            (if balanced { "(it adds up)" } else { "(DOES NOT ADD UP)" }).to_owned(),
        ];
        let mut texts = vec![String::new()];
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            match texts.last_mut() {
                Some(last) if last.len() + 1 + part.len() <= width => {
                    if !last.is_empty() {
                        last.push(' ');
                    }
                    last.push_str(&part);
                }
                _ => texts.push(format!("  {part}")),
            }
        }
        let colour = if balanced { Color::Reset } else { Color::Red };
        texts.into_iter().map(|text| self.coloured(text, colour)).collect()
    }

    /// Which engine holds which shards, if streams are exclusive.
    fn shards(&self, metrics: MetricsView<'_>, width: usize) -> Vec<Line<'static>> {
        let Some(holders) = metrics.0.pointer("/shards/holders").and_then(Value::as_array) else {
            return Vec::new();
        };
        let own = metrics.0.pointer("/shards/engine").and_then(Value::as_str).unwrap_or_default();
        let mut of_engine: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (shard, holder) in holders.iter().enumerate() {
            let name = holder.as_str().unwrap_or_default();
            of_engine.entry(name).or_default().push(shard.to_string());
        }
        let lines = of_engine.into_iter().map(|(name, shards)| {
            let shown = match name {
                "" => "NO ENGINE",
                name if name == own => "this engine",
                name => name.split('~').next().unwrap_or(name),
            };
            let text = clip(&format!("  {shown}: {}", shards.join(" ")), width);
            if name.is_empty() { self.coloured(text, Color::Yellow) } else { text.into() }
        });
        std::iter::once(self.heading("shards held".to_owned())).chain(lines).collect()
    }

    /// The frame rings from which frames were read. `check` lists more of them.
    fn rings(&self, metrics: MetricsView<'_>, width: usize) -> Vec<Line<'static>> {
        let Some(rings) = metrics.0.pointer("/rings").and_then(Value::as_array) else {
            return Vec::new();
        };
        if rings.is_empty() {
            return Vec::new();
        }
        let lines = rings.iter().take(RINGS_SHOWN).map(|ring| {
            let of = |name: &str| ring[name].as_u64().unwrap_or(0);
            let text = format!(
                "  {}: {} slots of {}, {} waiting; {} frames read, {} overwritten",
                ring["name"].as_str().unwrap_or_default(),
                of("slots"),
                human_bytes(of("slot_bytes")),
                of("waiting"),
                of("frames"),
                of("overwritten"),
            );
            let text = clip(&text, width);
            if of("overwritten") > 0 { self.coloured(text, Color::Yellow) } else { text.into() }
        });
        let heading = match rings.len().saturating_sub(RINGS_SHOWN) {
            0 => "frame rings".to_owned(),
            more => format!("frame rings, and {more} more"),
        };
        std::iter::once(self.heading(heading)).chain(lines).collect()
    }

    fn cameras(&self, cameras: &[Value], width: usize, room: usize) -> Vec<Line<'static>> {
        let wide = width >= WIDE;
        let head = if wide {
            format!(
                "{:<14}{:>9}{:>9}{:>8}{:>8}{:>8}{:>8}{:>10}{:>6}",
                "camera",
                "state",
                "frames",
                "refused",
                "dropped",
                "quality",
                "density",
                "traffic",
                "ms"
            )
        } else {
            format!("{:<12}{:>9}{:>8}{:>10}", "camera", "frames", "quality", "traffic")
        };
        let mut sorted: Vec<&Value> = cameras.iter().collect();
        let of = |camera: &Value, key: &str| camera[key].as_f64().unwrap_or(0.0);
        let trouble = |camera: &Value| of(camera, "frames_rejected") + of(camera, "frames_dropped");
        match self.sort {
            Sort::Name => sorted.sort_by_key(|camera| camera["camera_id"].as_str().unwrap_or("")),
            Sort::Frames => sorted
                .sort_by(|a, b| of(b, "frames_processed").total_cmp(&of(a, "frames_processed"))),
            Sort::Trouble => sorted.sort_by(|a, b| trouble(b).total_cmp(&trouble(a))),
            Sort::Slow => sorted.sort_by(|a, b| {
                of(b, "processing_time_ms").total_cmp(&of(a, "processing_time_ms"))
            }),
        }
        let mut lines = vec![self.heading(head)];
        // One line for the heading, and one for the number of hidden cameras.
        let shown = if sorted.len() < room { sorted.len() } else { room.saturating_sub(2) };
        for camera in &sorted[..shown] {
            let text =
                |key: &str| camera[key].as_str().filter(|text| !text.is_empty()).unwrap_or("-");
            let traffic = clip(text("congestion_level"), 9);
            let row = if wide {
                format!(
                    "{:<14}{:>9}{:>9}{:>8}{:>8}{:>8.2}{:>8.2}{:>10}{:>6.1}",
                    clip(text("camera_id"), 13),
                    clip(text("status"), 8),
                    of(camera, "frames_processed"),
                    of(camera, "frames_rejected"),
                    of(camera, "frames_dropped"),
                    of(camera, "quality_score"),
                    of(camera, "vehicle_density"),
                    traffic,
                    of(camera, "processing_time_ms"),
                )
            } else {
                format!(
                    "{:<12}{:>9}{:>8.2}{:>10}",
                    clip(text("camera_id"), 11),
                    of(camera, "frames_processed"),
                    of(camera, "quality_score"),
                    traffic,
                )
            };
            let active = text("status") == "active";
            lines.push(if active { row.into() } else { self.coloured(row, Color::DarkGray) });
        }
        if shown < sorted.len() {
            lines.push(format!("  and {} more", sorted.len() - shown).into());
        }
        lines
    }

    /// The state of the cameras that `ingest` reads; cameras with trouble come first.
    fn feeds(&self, cameras: &[Value], width: usize, room: usize) -> Vec<Line<'static>> {
        let mut feeds: Vec<&Value> =
            cameras.iter().filter(|camera| camera["ingest"].is_object()).collect();
        if feeds.is_empty() || room < 2 {
            return Vec::new();
        }
        let state = |camera: &Value| camera["ingest"]["state"].as_str().unwrap_or("-").to_owned();
        feeds.sort_by_key(|camera| state(camera) == "live");
        let head = format!(
            "{:<14}{:>12}{:>9}{:>7}{:>10}  {}",
            "source", "state", "since", "fps", "restarts", "last error"
        );
        let mut lines = vec![self.heading(head)];
        for camera in feeds.iter().take(room - 1) {
            let told = &camera["ingest"];
            let since = told["since"].as_f64().map(|since| (unix_seconds() - since).max(0.0));
            let row = format!(
                "{:<14}{:>12}{:>9}{:>7.1}{:>10}  {}",
                clip(camera["camera_id"].as_str().unwrap_or("-"), 13),
                clip(&state(camera), 11),
                since.map_or_else(|| "-".into(), duration),
                told["fps"].as_f64().unwrap_or(0.0),
                told["restarts"].as_u64().unwrap_or(0),
                told["last_error"].as_str().unwrap_or("-"),
            );
            let row = clip(&row, width);
            let live = state(camera) == "live";
            lines.push(if live { row.into() } else { self.coloured(row, Color::Yellow) });
        }
        lines
    }

    fn heading(&self, text: String) -> Line<'static> {
        self.styled(text, Style::new().add_modifier(Modifier::UNDERLINED))
    }

    fn coloured(&self, text: String, colour: Color) -> Line<'static> {
        self.styled(text, Style::new().fg(colour))
    }

    fn styled(&self, text: String, style: Style) -> Line<'static> {
        let style = if self.colours { style } else { Style::new() };
        Line::from(Span::styled(text, style))
    }
}

/// The throughput line.
fn flow(metrics: MetricsView<'_>, width: usize) -> Line<'static> {
    let out = metrics.number("/performance_metrics/throughput_fps");
    if width < WIDE {
        return format!(
            "{out:.1} frames/s  {} in work  {} errors",
            metrics.whole("/conservation/in_flight"),
            metrics.whole("/performance_metrics/error_count"),
        )
        .into();
    }
    format!(
        "{:.1} frames/s in, {out:.1} out   ratio {:.3}   {} errors   {} reconnects   {} cameras",
        metrics.number("/queue_metrics/input/throughput_fps"),
        metrics.number("/serialization_metrics/avg_compression_ratio"),
        metrics.whole("/performance_metrics/error_count"),
        metrics.whole("/connections/reconnects"),
        metrics.whole("/active_streams"),
    )
    .into()
}

/// The effort of the last WebP or PNG encoding, if any.
fn effort(metrics: MetricsView<'_>) -> Option<Line<'static>> {
    let webp = metrics.number("/effort/webp_method");
    let png = metrics.number("/effort/png_level") as usize;
    let png = [None, Some("balanced"), Some("high")].get(png).copied().flatten();
    match (webp > 0.0, png) {
        (true, _) => Some(format!("webp method {webp}").into()),
        (false, Some(level)) => Some(format!("png level {level}").into()),
        (false, None) => None,
    }
}

/// Access to the statistics by JSON path; missing values are 0 or `-`.
#[derive(Clone, Copy)]
struct MetricsView<'a>(&'a Value);

impl MetricsView<'_> {
    fn number(self, path: &str) -> f64 {
        self.0.pointer(path).and_then(Value::as_f64).unwrap_or(0.0)
    }

    fn whole(self, path: &str) -> String {
        self.0.pointer(path).and_then(Value::as_u64).map_or_else(|| "-".into(), |n| n.to_string())
    }
}

/// A duration in readable form.
fn duration(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds since the start
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min {} s", seconds % 60),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
