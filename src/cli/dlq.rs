//! `framepress dlq`: lists, shows, replays and purges refused frames.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use indicatif::ProgressBar;

use super::common::Common;
use super::failure::Failure;
use super::output::human_bytes;
use super::output::terminal::clip;
use super::output::{out, progress, terminal};
use crate::base::text::line as printable;
use crate::base::{Fault, Reason, Stop, files};
use crate::engine;
use crate::frame::EntryId;
use crate::image::Format;
use crate::redis::{Control, DeadLetterNote, Record, dead_letters_of};
use crate::wire::{self, Scratch};

/// Arguments of `dlq`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress dlq list\n  \
    framepress dlq show 1700000000000-0 --save broken.jpg\n  \
    framepress dlq replay --all\n  \
    framepress dlq purge --all --yes")]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// List the latest dead letters, one per line
    #[command(after_help = "Example:\n  framepress dlq list --count 100")]
    List {
        #[command(flatten)]
        common: Common,
        /// How many to list
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        count: u64,
    },
    /// Show one dead letter with all its fields, and what its reason means
    #[command(after_help = "Example:\n  framepress dlq show 1700000000000-0 --save broken.jpg")]
    Show {
        #[command(flatten)]
        common: Common,
        /// Entry id of the dead letter
        id: String,
        /// Save the picture to this file, or the unchanged `data` if it holds none
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// Put dead letters back into the stream they came from
    ///
    /// Each returns with all its original fields and is removed from the dead letters, in one step
    /// on the server.
    #[command(after_help = "Examples:\n  \
        framepress dlq replay 1700000000000-0 1700000000001-0\n  \
        framepress dlq replay --all")]
    Replay {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        which: Selection,
    },
    /// Remove dead letters for good
    #[command(after_help = "Examples:\n  \
        framepress dlq purge 1700000000000-0\n  \
        framepress dlq purge --all --yes")]
    Purge {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        which: Selection,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
}

/// The selected dead letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Selection {
    /// Entry ids of dead letters
    ids: Vec<String>,
    /// All dead letters present at the start
    #[arg(long)]
    all: bool,
}

/// A dead-letter stream and the input stream it belongs to.
struct Queue {
    input: String,
    dead_letters: String,
}

pub(super) fn run(args: &DlqArgs) -> Result<(), Failure> {
    let common = match &args.command {
        DlqCommand::List { common, .. }
        | DlqCommand::Show { common, .. }
        | DlqCommand::Replay { common, .. }
        | DlqCommand::Purge { common, .. } => common,
    };
    let config = common.load(common.quiet(common.loader()))?.config;
    let (topology, _embedded) = engine::find_server(&config.redis_queue, &Stop::default())?;
    let mut control = Control::new(&topology, Duration::from_secs(config.redis_queue.timeout));
    let queues: Vec<Queue> = engine::input_streams(&config)
        .into_iter()
        .map(|input| Queue { dead_letters: dead_letters_of(&input), input })
        .collect();
    progress::waiting(&format!("waiting for Redis at {topology}"), || {
        control.length(&queues[0].dead_letters)
    })?;
    match &args.command {
        DlqCommand::List { count, .. } => {
            list(&mut control, &queues, usize::try_from(*count).unwrap_or(usize::MAX))
        }
        DlqCommand::Show { id, save, .. } => {
            let id = entry_id(id)?;
            show(&mut control, &queues, id, save.as_ref(), config.limits.max_pixels)
        }
        DlqCommand::Replay { which, .. } => {
            each(&mut control, &queues, which, "replayed", &|control, queue, ids| {
                control.replay(&queue.dead_letters, &queue.input, ids)
            })
        }
        DlqCommand::Purge { which, yes, .. } => {
            if !yes && !confirmed(&mut control, &queues, which)? {
                return out::line("nothing purged");
            }
            each(&mut control, &queues, which, "purged", &|control, queue, ids| {
                control.delete(&queue.dead_letters, ids)
            })
        }
    }
}

fn entry_id(text: &str) -> Result<EntryId, Failure> {
    EntryId::parse(text.as_bytes()).ok_or_else(|| {
        Failure::Usage(format!("{text:?} is not an entry id; valid: an id such as 1700000000000-0"))
    })
}

fn text(record: &Record, name: &str) -> String {
    let bytes = record.1.get(name).map(Vec::as_slice).unwrap_or_default();
    printable(&String::from_utf8_lossy(bytes))
}

fn list(control: &mut Control, queues: &[Queue], count: usize) -> Result<(), Failure> {
    let width = terminal::width().unwrap_or(usize::MAX);
    let mut any = false;
    for queue in queues {
        let total = control.length(&queue.dead_letters)?;
        // The frames stay on the server; only the lines to be shown are kept here.
        let mut rows: Vec<String> = Vec::new();
        let mut before = None;
        while rows.len() < count {
            let page = control.dead_letters(&queue.dead_letters, before)?;
            let Some(last) = page.last() else { break };
            before = Some(last.entry_id());
            rows.extend(page.iter().take(count - rows.len()).map(|note| clip(&row(note), width)));
        }
        if rows.is_empty() {
            continue;
        }
        any = true;
        out::line(format!("{}: {total}, the last {}:", queue.dead_letters, rows.len()))?;
        rows.iter().rev().try_for_each(out::line)?;
    }
    if any {
        out::line("framepress dlq show ID explains one of them")
    } else {
        out::line("no dead letters")
    }
}

fn row(note: &DeadLetterNote) -> String {
    format!(
        "{:<15} {:<17} {:<7} {:<12} {}",
        note.id,
        note.reason,
        note.stage,
        clip(&note.camera_id, 12),
        note.detail,
    )
}

fn find(control: &mut Control, queues: &[Queue], id: EntryId) -> Result<Record, Failure> {
    for queue in queues {
        if let Some(record) = control.entry(&queue.dead_letters, id)? {
            return Ok(record);
        }
    }
    Err(Fault::Unusable(format!("there is no dead letter {id}")).into())
}

fn show(
    control: &mut Control,
    queues: &[Queue],
    id: EntryId,
    save: Option<&PathBuf>,
    pixels_max: u64,
) -> Result<(), Failure> {
    let record = find(control, queues, id)?;
    let mut names: Vec<&String> = record.1.keys().collect();
    names.sort_unstable();
    out::line(format!("dead letter {id}"))?;
    for name in names {
        let value = match name.as_str() {
            "data" => human_bytes(record.1[name].len() as u64),
            "failed_at" => with_utc(&text(&record, name)),
            _ => text(&record, name),
        };
        out::line(format!("  {:<14} {value}", printable(name)))?;
    }
    out::line(format!("\n{}", meaning(&text(&record, "reason"))))?;
    if let Some(path) = save {
        let data = record.1.get("data").map(Vec::as_slice).unwrap_or_default();
        let mut scratch = Scratch::default();
        // Save the image, or the whole entry if no image can be extracted.
        let picture = wire::open(data, pixels_max, &mut scratch)
            .ok()
            .map(|envelope| envelope.image.bytes)
            .filter(|bytes| Format::sniff(bytes).is_some());
        files::replace(path, picture.unwrap_or(data))
            .map_err(|source| Fault::io(format!("cannot write {}", path.display()), source))?;
        let what = if picture.is_some() { "the picture" } else { "data" };
        out::line(format!("\nsaved {what} to {}", path.display()))?;
    }
    Ok(())
}

/// Seconds since the Unix epoch, followed by the UTC time if valid.
fn with_utc(seconds: &str) -> String {
    match seconds.parse().ok().and_then(utc) {
        Some(time) => format!("{seconds} ({time})"),
        None => seconds.to_owned(),
    }
}

/// A time in the format of the log, to the second; `None` outside the years 1970 to 9999.
fn utc(seconds: f64) -> Option<String> {
    const LAST_SECOND: u64 = 253_402_300_799; // of the year 9999
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    let is_told = since.as_secs() <= LAST_SECOND;
    is_told.then(|| humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string())
}

/// What a reason code means and what to do about it.
fn meaning(code: &str) -> &'static str {
    match Reason::ALL.into_iter().find(|reason| reason.code() == code) {
        Some(Reason::Undecodable) => {
            "The entry or its picture is damaged or not what it claims to be. Look at the producer; \
             replaying it changes nothing, unless what can be saved of damaged pictures is taken \
             (limits.damaged_images: accept)."
        }
        Some(Reason::UnsupportedImage) => {
            "The engine does not support this kind of picture (see detail). Change what the \
             producer sends."
        }
        Some(Reason::TooLarge) => {
            "The entry or its picture is above limits.max_payload_bytes or limits.max_pixels. Raise \
             the limit and replay, or have the producer send smaller frames."
        }
        Some(Reason::EncodeFailed) => {
            "The engine could not write the picture in the configured format. Set another \
             compression_format, then replay."
        }
        Some(Reason::MaxDeliveries) => {
            "It was delivered more than retry_attempts times and never acknowledged: each engine \
             that had it died or was stopped first. Replay it once the cause is known."
        }
        Some(Reason::Panic) => {
            "Processing it hit a defect of the program. Please report it, with the entry saved by \
             --save."
        }
        Some(Reason::RingGone) => {
            "Its pixels were in a frame ring that the engine could not read (see detail): the ring \
             is on another machine, its producer has created it again, or the engine's account has \
             no right to read it. Run producer and engine on one machine, with the same ring.dir \
             and the rights to it. The pixels are gone, so a replay changes nothing."
        }
        None => "This program does not know this reason.",
    }
}

/// Dead letters handled in one round trip. After a refusal the rest of them are still tried.
const TOGETHER: usize = 32;

/// Replays or purges dead letters. Returns for each whether it existed.
type Treat<'a> =
    dyn Fn(&mut Control, &Queue, &[EntryId]) -> Result<Vec<Result<bool, Fault>>, Fault> + 'a;

fn each(
    control: &mut Control,
    queues: &[Queue],
    which: &Selection,
    done: &str,
    treat: &Treat<'_>,
) -> Result<(), Failure> {
    let mut count = 0_u64;
    let mut kept = 0_u64;
    if which.all {
        let bar = progress::bar(Some(total(control, queues)?), "dead letters");
        for queue in queues {
            let (treated, refused) = all(control, queue, treat, &bar)?;
            (count, kept) = (count + treated, kept + refused);
        }
        bar.finish_and_clear();
    }
    for id in &which.ids {
        let id = entry_id(id)?;
        let mut found = false;
        for queue in queues {
            if !found {
                found = treat(control, queue, &[id])?.pop().transpose()?.unwrap_or(false);
            }
        }
        if !found {
            return Err(
                Fault::Unusable(format!("there is no dead letter {id}; {count} {done}")).into()
            );
        }
        count += 1;
    }
    out::line(format!("{count} {done}"))?;
    match kept {
        0 => Ok(()),
        _ => Err(Fault::Unusable(format!(
            "{kept} dead letters were kept: they have no fields to replay, because their entries \
             were trimmed"
        ))
        .into()),
    }
}

fn total(control: &mut Control, queues: &[Queue]) -> Result<u64, Fault> {
    queues.iter().map(|queue| control.length(&queue.dead_letters)).sum()
}

/// Asks the user for confirmation.
fn confirmed(control: &mut Control, queues: &[Queue], which: &Selection) -> Result<bool, Failure> {
    let count = if which.all { total(control, queues)? } else { which.ids.len() as u64 };
    if count == 0 {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        let text = "purging cannot be undone; without a terminal, add --yes";
        return Err(Failure::Usage(text.into()));
    }
    out::question(format!("remove {count} dead letters for good? [y/N] "));
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|source| Fault::io("cannot read the answer", source))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Handles the dead letters that exist at the beginning; a replayed frame that is refused again
/// comes after those. Returns how many were handled, and how many were empty and kept.
fn all(
    control: &mut Control,
    queue: &Queue,
    treat: &Treat<'_>,
    bar: &ProgressBar,
) -> Result<(u64, u64), Failure> {
    let dead_letters = &queue.dead_letters;
    let latest = control.dead_letters(dead_letters, None)?;
    let Some(last) = latest.first().map(DeadLetterNote::entry_id) else { return Ok((0, 0)) };
    let (mut count, mut kept) = (0, 0);
    let mut next = EntryId::default();
    loop {
        let page = control.dead_letters_from(dead_letters, next)?;
        let ids: Vec<EntryId> =
            page.iter().map(DeadLetterNote::entry_id).filter(|id| *id <= last).collect();
        if ids.is_empty() {
            return Ok((count, kept));
        }
        for ids in ids.chunks(TOGETHER) {
            for treated in treat(control, queue, ids)? {
                match treated {
                    Ok(done) => count += u64::from(done),
                    Err(fault) if fault.redis_code() == Some("EMPTY") => kept += 1,
                    Err(fault) => return Err(fault.into()),
                }
                bar.inc(1);
            }
            next = ids.last().map_or(next, |last| last.next());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_the_calendar() {
        for (seconds, time) in [
            ("0", "1970-01-01T00:00:00Z"),
            ("951782399", "2000-02-28T23:59:59Z"),
            ("951782400", "2000-02-29T00:00:00Z"),
            ("951868800", "2000-03-01T00:00:00Z"),
            ("1764184000", "2025-11-26T19:06:40Z"),
            ("4107542400", "2100-03-01T00:00:00Z"),
            ("253402300799", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(with_utc(seconds), format!("{seconds} ({time})"));
        }
        assert_eq!(with_utc("1.75"), "1.75 (1970-01-01T00:00:01Z)");
        for none in ["", "soon", "-1", "NaN", "inf", "253402300800", "1e19", "1e300"] {
            assert_eq!(with_utc(none), none);
        }
    }
}
