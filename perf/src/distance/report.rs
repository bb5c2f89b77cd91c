//! The curve as text, with the goals next to the figures.

use std::fmt::Write as _;

use super::measurement::{Point, Steady};
use super::{DistanceArgs, Figures, MAX_FRAME_AGE_MS, Row, STEADY_FPS};
use crate::Outcome;
use crate::common::Spread;

/// The share of the rate without delay that a backlog must reach at a round trip.
fn goal_of_backlog(round_trip_ms: f64) -> Option<f64> {
    match round_trip_ms {
        10.0 | 50.0 => Some(0.9),
        200.0 => Some(0.85),
        _ => None,
    }
}

/// The 99th percentile that a steady rate must keep at a round trip, in milliseconds: one and a
/// half round trips, and the engine's own work.
fn goal_of_steady(round_trip_ms: f64) -> Option<f64> {
    matches!(round_trip_ms, 50.0 | 200.0).then_some(round_trip_ms * 1.5 + 20.0)
}

impl Row {
    fn backlog_met(&self) -> Option<bool> {
        Some(self.ratio?.median >= goal_of_backlog(self.point.round_trip_ms)?)
    }

    fn steady_met(&self) -> Option<bool> {
        let goal = goal_of_steady(self.point.round_trip_ms)?;
        self.steady.map(|steady| steady.engine_ms.p99 <= goal && steady.results == steady.sent)
    }
}

/// Whether the first build reaches all checked goals.
pub fn is_met(figures: &Figures) -> bool {
    let first = figures.rows.iter().filter(|row| row.build == 0);
    first.flat_map(|row| [row.backlog_met(), row.steady_met()]).flatten().all(|met| met)
}

/// For example `jpeg 640x480, tls, 50 ms`.
pub fn name(point: &Point, build: usize) -> String {
    let tls = if point.tls { ", TLS" } else { "" };
    let build = if build > 0 { ", the other build" } else { "" };
    format!("{} {}{tls}, {} ms{build}", point.input.name(), point.size, point.round_trip_ms)
}

pub fn text(args: &DistanceArgs, figures: &Figures) -> Outcome<String> {
    let mut text = String::from("## Distance\n");
    if figures.rows.iter().any(|row| row.fps.is_some()) {
        backlogs(args, figures, &mut text)?;
    }
    if figures.rows.iter().any(|row| row.steady.is_some()) {
        steadies(figures, &mut text)?;
    }
    if !figures.narrow.is_empty() {
        narrows(figures, &mut text)?;
    }
    Ok(text)
}

fn backlogs(args: &DistanceArgs, figures: &Figures, text: &mut String) -> Outcome<()> {
    write!(
        text,
        "\nA backlog, worked off by an engine that reaches Redis through a link with this round \
         trip: results per second from the first to the last, and the ratio to the link without \
         delay in the same round. {} rounds, alternately; the median, and the ratio's least and \
         greatest.\n\n\
         | frames | link | round trip, ms | build | frames/s | of no delay | min, max | over the first build | CPU ms/frame | goal |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        args.rounds
    )?;
    for row in &figures.rows {
        let (Some(fps), Some(ratio)) = (row.fps, row.ratio) else { continue };
        let cpu = Spread::of(row.backlogs.iter().map(|measured| measured.engine_cpu_ms_per_frame));
        let goal = verdict(goal_of_backlog(row.point.round_trip_ms), row.backlog_met(), "");
        let against = row.against_first.map_or(String::new(), |it| format!("{:.2}", it.median));
        writeln!(
            text,
            "{} | {:.1} | {:.2} | {:.2}, {:.2} | {against} | {:.2} | {goal} |",
            head(&row.point, row.build),
            fps.median,
            ratio.median,
            ratio.min,
            ratio.max,
            cpu.median
        )?;
    }
    Ok(())
}

fn steadies(figures: &Figures, text: &mut String) -> Outcome<()> {
    write!(
        text,
        "\n{STEADY_FPS} frames per second of four cameras together, open loop: from the entry's id \
         to the confirmed commit, as the engine tells it, and to the result's id. The first takes \
         a round trip and a half at least, the second one.\n\n\
         | frames | link | round trip, ms | build | engine p50, ms | p99 | ids p50, ms | p99 | results of | CPU ms/frame | goal for p99 |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    )?;
    for row in &figures.rows {
        let Some(steady) = row.steady else { continue };
        let Steady { sent, results, engine_ms, redis_ms, engine_cpu_ms_per_frame } = steady;
        let goal = verdict(goal_of_steady(row.point.round_trip_ms), row.steady_met(), " ms");
        writeln!(
            text,
            "{} | {:.1} | {:.1} | {:.0} | {:.0} | {results} of {sent} | \
             {engine_cpu_ms_per_frame:.2} | {goal} |",
            head(&row.point, row.build),
            engine_ms.p50,
            engine_ms.p99,
            redis_ms.p50,
            redis_ms.p99,
        )?;
    }
    Ok(())
}

fn narrows(figures: &Figures, text: &mut String) -> Outcome<()> {
    write!(
        text,
        "\nTwice as many frames as the link carries, with `max_frame_age_ms: {MAX_FRAME_AGE_MS}`. \
         The age of a result is the difference of its id and its frame's.\n\n\
         | frames | link | round trip, ms | build | Mbit/s | offered/s | fit/s | results/s | age p50, ms | p99 | shed | connections opened | reconnects |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    )?;
    for row in &figures.narrow {
        let narrow = &row.narrow;
        writeln!(
            text,
            "{} | {} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {} | {} | {} |",
            head(&row.point, row.build),
            narrow.megabits,
            narrow.offered_fps,
            narrow.carried_fps_at_most,
            narrow.results_fps,
            narrow.age_ms.p50,
            narrow.age_ms.p99,
            narrow.shed,
            narrow.connections_opened,
            narrow.reconnects
        )?;
    }
    Ok(())
}

/// The columns that name a row.
fn head(point: &Point, build: usize) -> String {
    let link = if point.tls { "TLS" } else { "plain" };
    let build = if build == 0 { "first" } else { "other" };
    format!("| {} {} | {link} | {} | {build}", point.input.name(), point.size, point.round_trip_ms)
}

fn verdict(goal: Option<f64>, met: Option<bool>, unit: &str) -> String {
    match (goal, met) {
        (Some(goal), Some(true)) => format!("{goal}{unit}: met"),
        (Some(goal), Some(false)) => format!("{goal}{unit}: missed"),
        _ => String::new(),
    }
}
