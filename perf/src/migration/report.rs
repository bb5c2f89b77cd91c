//! The figures as tables, with the goals of the migration next to them.

use std::fmt::Write as _;

use super::coded::FrameCoding;
use super::measurement::{Measured, Part};
use super::ports::{ROLES, Role, Traffic};
use super::{CAMERAS, Era, Figures, MigrationArgs, Row};
use crate::Outcome;

/// Upper bound of the 99th percentile, in milliseconds.
const LATENCY_GOAL_MS: f64 = 100.0;
/// Largest remaining share of bytes on the wire: 50 to 70 % fewer.
const WIRE_GOAL: f64 = 0.5;
/// Largest remaining share of the memory of broker and processor: 40 % less.
const MEMORY_GOAL: f64 = 0.6;

impl Row {
    fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        let mut values: Vec<f64> = self.rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let middle = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
        // Of two rounds the mean.
        (middle(values.len().saturating_sub(1) / 2) + middle(values.len() / 2)) / 2.0
    }

    /// Milliseconds of CPU per frame of some of the processes.
    fn cpu(&self, parts: &[Part]) -> Option<f64> {
        self.sum(parts, |part| part.cpu_ms_per_frame)
    }

    /// MiB of memory of some of the processes.
    fn memory(&self, parts: &[Part]) -> Option<f64> {
        self.sum(parts, |part| part.rss_mib)
    }

    fn sum(
        &self,
        parts: &[Part],
        of: impl Fn(&super::measurement::PartUsage) -> f64,
    ) -> Option<f64> {
        let has = self.rounds.iter().flat_map(|round| &round.parts);
        let has = has.into_iter().any(|usage| parts.contains(&usage.part));
        has.then(|| {
            self.median(|round| {
                let ours = round.parts.iter().filter(|usage| parts.contains(&usage.part));
                ours.map(&of).sum()
            })
        })
    }

    /// Bytes per frame between a role and the brokers.
    fn traffic(&self, role: Role) -> Traffic {
        self.counted.traffic.unwrap_or_default()[role as usize]
    }

    /// Bytes per frame on the wire.
    fn wire(&self) -> f64 {
        ROLES.into_iter().map(|role| self.traffic(role).sum()).sum()
    }
}

const ALL: [Part; 5] =
    [Part::Kafka, Part::Redis, Part::Processor, Part::KafkaToRedis, Part::RedisToKafka];
const BRIDGES: [Part; 2] = [Part::KafkaToRedis, Part::RedisToKafka];

/// The text, and whether all goals are met.
pub fn text(args: &MigrationArgs, figures: &Figures) -> Outcome<(String, bool)> {
    let mut text = format!(
        "## The migration\n\nThe same frames ({}) of {CAMERAS} cameras, {} rounds, alternately, medians. \
         Producer and reader are the same program for every system, and share the machine with it. \
         *Before*: JSON with base64 through Kafka, one Python process with OpenCV and Pillow, results \
         in JSON without a picture. *After*: protobuf with JPEG through Redis, results with picture, ML \
         image and thumbnail. *Between*: producer and reader of before, `framepress bridge` both \
         directions. ML image and thumbnail are made by every system.\n\n\
         Latency is that of an open loop of {} s at the given rate, from when a frame should have been \
         sent to when the reader had the decoded result. CPU is user and system time of the \
         processes in that time, memory their resident size at its end; Kafka has the JVM flags of its \
         own start script and stays up for the whole run. Full load is {} s of a backlog.\n\n",
        figures.scene, args.rounds, args.seconds, args.full_seconds
    );
    loads(figures, &mut text)?;
    legs(figures, &mut text)?;
    let columns = ["Kafka", "Redis", "processor", "bridges", "sum"];
    writeln!(text, "\nMilliseconds of CPU a frame, at the rate:\n")?;
    parts(figures, &mut text, &columns, 2, Row::cpu)?;
    writeln!(text, "\nResident memory, MiB:\n")?;
    parts(figures, &mut text, &columns, 0, Row::memory)?;
    wire(figures, &mut text)?;
    let is_met = goals(figures, &mut text)?;
    for line in &figures.skipped {
        writeln!(text, "- **Skipped**: {line}")?;
    }
    Ok((text, is_met))
}

/// The columns that name a row.
fn head(row: &Row) -> String {
    format!("| {} | {} | {} |", row.size, row.era.name(), row.coding.name())
}

fn loads(figures: &Figures, text: &mut String) -> Outcome<()> {
    text.push_str(
        "| size | system | pictures | frames/s | p50, ms | p99, ms | frames | without result | \
         frames/s at full load |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in &figures.rows {
        let count = |of: fn(&Measured) -> u64| row.rounds.iter().map(of).sum::<u64>();
        writeln!(
            text,
            "{} {} | {:.1} | {:.1} | {} | {} | {:.1} |",
            head(row),
            row.rate,
            row.median(|round| round.p50_ms),
            row.median(|round| round.p99_ms),
            count(|round| round.frames),
            count(|round| round.missing),
            row.median(|round| round.full_fps)
        )?;
    }
    Ok(())
}

/// The medians of each leg of the path through Redis.
fn legs(figures: &Figures, text: &mut String) -> Outcome<()> {
    writeln!(
        text,
        "\nThe path through Redis, medians in milliseconds; from ids of entries, which have whole ones.\n\n\
         | size | system | pictures | sent to added | added to result | result to read |\n\
         | --- | --- | --- | --- | --- | --- |"
    )?;
    for row in &figures.rows {
        if row.era.has_redis() {
            write!(text, "{}", head(row))?;
            for at in 0..3 {
                let leg = row.median(|round| round.legs_ms.map_or(f64::NAN, |legs| legs[at]));
                write!(text, " {leg:.1} |")?;
            }
            text.push('\n');
        }
    }
    Ok(())
}

/// A table with a column for each kind of process.
fn parts(
    figures: &Figures,
    text: &mut String,
    columns: &[&str],
    digits: usize,
    of: fn(&Row, &[Part]) -> Option<f64>,
) -> Outcome<()> {
    writeln!(text, "| size | system | pictures | {} |", columns.join(" | "))?;
    writeln!(text, "| --- | --- | --- |{}", " --- |".repeat(columns.len()))?;
    for row in &figures.rows {
        write!(text, "{}", head(row))?;
        let groups: [&[Part]; 5] =
            [&[Part::Kafka], &[Part::Redis], &[Part::Processor], &BRIDGES, &ALL];
        for group in groups {
            let cell = of(row, group).map_or(String::new(), |value| format!("{value:.digits$}"));
            write!(text, " {cell} |")?;
        }
        text.push('\n');
    }
    Ok(())
}

fn wire(figures: &Figures, text: &mut String) -> Outcome<()> {
    text.push_str(
        "\nThousands of bytes a frame. On the wire: what a proxy in front of the broker counts for \
         each client, both directions together, in a run of its own at the same rate; the \
         protocols' own messages are among them. Stored: the segments of both topics in Kafka; \
         `MEMORY USAGE` of both streams in Redis, which keeps what it is told to keep.\n\n\
         | size | system | pictures | picture | producer | processor | bridges | reader | sum on the \
         wire | stored in Kafka | in Redis |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in &figures.rows {
        write!(text, "{} {:.1} |", head(row), row.picture_bytes / 1e3)?;
        for role in ROLES {
            write!(text, " {} |", thousands(row.traffic(role).sum()))?;
        }
        let kafka = row.median(|round| round.kafka_bytes_per_frame);
        let redis = row.median(|round| round.redis_bytes_per_frame);
        for bytes in [row.wire(), kafka, redis] {
            write!(text, " {} |", thousands(bytes))?;
        }
        text.push('\n');
    }
    text.push('\n');
    Ok(())
}

/// Empty if there is no such client or broker.
fn thousands(bytes: f64) -> String {
    if bytes > 0.0 { format!("{:.1}", bytes / 1e3) } else { String::new() }
}

/// The goals of the migration, after against before.
fn goals(figures: &Figures, text: &mut String) -> Outcome<bool> {
    let mut all = true;
    let mut verdict = |is_met: bool| {
        all &= is_met;
        if is_met { "met" } else { "missed" }
    };
    for after in figures.rows.iter().filter(|row| row.era == Era::After) {
        let p99 = after.median(|round| round.p99_ms);
        let met = verdict(p99 < LATENCY_GOAL_MS);
        write!(text, "- Goal, {}: latency from 150 to 200 ms to below 100 ms", after.size)?;
        let befores = || {
            let same = |row: &&Row| row.era == Era::Before && row.size == after.size;
            figures.rows.iter().filter(same)
        };
        let jpeg = befores().find(|row| row.coding == FrameCoding::Jpeg);
        if let Some(before) = jpeg {
            let [p50, p99] =
                [before.median(|round| round.p50_ms), before.median(|round| round.p99_ms)];
            write!(text, "; before p50 {p50:.1} ms, p99 {p99:.1} ms")?;
        }
        let p50 = after.median(|round| round.p50_ms);
        writeln!(text, "; after p50 {p50:.1} ms, p99 {p99:.1} ms: {met}.")?;
        for before in befores() {
            let share = after.wire() / before.wire();
            let added = change(after.traffic(Role::Producer).sum(), before);
            writeln!(
                text,
                "- Goal, {}, against {} in JSON: 50 to 70 % less on the wire: {}, {}; the producer's \
                 part alone: {added}.",
                after.size,
                before.coding.name(),
                percent(share),
                verdict(share <= WIRE_GOAL)
            )?;
        }
        if let (Some(before), Some(now)) =
            (jpeg.and_then(|before| before.memory(&ALL)), after.memory(&ALL))
        {
            let share = now / before;
            writeln!(
                text,
                "- Goal, {}: 40 % less memory of broker and processor: {before:.0} MiB before, \
                 {now:.0} MiB after, {}: {}.",
                after.size,
                percent(share),
                verdict(share <= MEMORY_GOAL)
            )?;
        }
    }
    Ok(all)
}

fn change(after: f64, before: &Row) -> String {
    percent(after / before.traffic(Role::Producer).sum())
}

/// A ratio as a change, for example `-60 %`.
fn percent(share: f64) -> String {
    format!("{:+.0} %", (share - 1.0) * 100.0)
}
