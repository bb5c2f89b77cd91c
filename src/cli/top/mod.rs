//! `framepress top`: live statistics of a running engine in a terminal, or once as plain text.

mod screen;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{Receiver, bounded};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::client::{ApiAnswer, Client};
use super::failure::Failure;
use super::output::terminal::Stream;
use super::output::{out, terminal};
use super::service::signals::SignalWatch;
use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop};
use crate::config::Secret;
use screen::{Screen, Sort};

/// How often keys and new statistics are checked for.
const LOOK: Duration = Duration::from_millis(100);

/// Width of plain text without a terminal, in columns.
const PLAIN_WIDTH: usize = 100;

/// Maximum size of a token file, in bytes.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Arguments of `top`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress top\n  \
    framepress top --url http://10.0.0.7:8080 --token-file /etc/framepress/token\n  \
    ssh cabinet-7 framepress top --once\n\n\
    Keys: s changes the order of the cameras, q leaves. A token may also be in the environment,\n\
    as STATS__TOKEN.")]
pub(super) struct TopArgs {
    /// URL of the engine's statistics server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// File that holds the bearer token, if one is needed
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Seconds between two updates
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Order of the cameras
    #[arg(long, value_enum, default_value_t = Sort::Name)]
    sort: Sort,
    /// Print plain text once and exit
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: &TopArgs) -> Result<(), Failure> {
    let client = Client::new(&args.url, token(args)?)?;
    let colours = terminal::colours(Stream::Output);
    let mut screen = Screen::new(client.shown(), args.sort, colours && !args.once);
    if args.once {
        let answer = client.ask();
        let gone = answer.as_ref().err().cloned();
        screen.take(answer);
        if let Some(why) = gone {
            return Err(Fault::Unusable(why).into());
        }
        return out::line(screen.text(terminal::width().unwrap_or(PLAIN_WIDTH)));
    }
    if !terminal::is_at(Stream::Output) {
        return Err(Failure::Usage("top needs a terminal; --once prints plain text".into()));
    }
    let stop = Stop::default();
    let _signals = SignalWatch::start(&stop)?;
    let polling = Polling::start(client, Duration::from_secs(args.interval))?;
    let failed = |source| Fault::io("the terminal", source);
    // This also restores the terminal after a panic.
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let _restore = Restore;
    watch(&mut terminal, &mut screen, &polling.answers, &stop).map_err(failed)?;
    Ok(())
}

fn token(args: &TopArgs) -> Result<Option<Secret>, Failure> {
    let Some(path) = &args.token_file else {
        return Ok(std::env::var("STATS__TOKEN").ok().filter(|it| !it.is_empty()).map(Secret::new));
    };
    let unreadable = |source| Fault::io(format!("cannot read {}", path.display()), source);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, TOKEN_BYTES_MAX), &mut text)
        .map_err(unreadable)?;
    match text.trim() {
        // Continuing without a token would only hide the mistake.
        "" => Err(Fault::Unusable(format!("{} holds no token", path.display())).into()),
        token => Ok(Some(Secret::new(token))),
    }
}

/// Restores the terminal on drop.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// A thread that queries the engine, so that a slow answer does not delay keys.
struct Polling {
    answers: Receiver<ApiAnswer>,
    stop: Stop,
    thread: Option<Running>,
}

impl Polling {
    fn start(client: Client, interval: Duration) -> Result<Polling, Fault> {
        let stop = Stop::default();
        // One answer waits for the screen; the next query starts once it is taken.
        let (fresh, answers) = bounded(1);
        let end = stop.clone();
        let identity = Identity { role: Role::Stats, index: 0, core: None };
        let thread = threads::spawn(identity, &stop, move || {
            while fresh.send(client.ask()).is_ok() && !end.sleep(interval) {}
            Ok(())
        })?;
        Ok(Polling { answers, stop, thread: Some(thread) })
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.stop.drain();
        // The thread may be waiting for an answer; do not wait for it.
        if let Some(thread) = self.thread.take() {
            thread.abandon();
        }
    }
}

fn watch(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    answers: &Receiver<ApiAnswer>,
    stop: &Stop,
) -> std::io::Result<()> {
    while !stop.is_draining() {
        for answer in answers.try_iter() {
            screen.take(answer);
        }
        terminal.draw(|frame| screen.draw(frame))?;
        if !event::poll(LOOK)? {
            continue;
        }
        let Event::Key(key) = event::read()? else { continue };
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            _ if key.kind == KeyEventKind::Release => {}
            KeyCode::Char('q') | KeyCode::Esc => break,
            KeyCode::Char('c') if control => break,
            KeyCode::Char('s') => screen.next_sort(),
            _ => {}
        }
    }
    Ok(())
}
