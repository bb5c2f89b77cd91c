//! What long work shows: a bar or a spinner on a terminal, and nothing but lines on a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use parking_lot::Mutex;

use crate::base::threads::{self, Identity, Role};
use crate::base::{Stop, text};

/// A wait shorter than this is not worth a word.
const QUIET: Duration = Duration::from_secs(2);

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(100);

/// What is drawn now, if anything is: lines of the log go above it.
static DRAWN: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// A bar on standard error of `total` things called `things`; hidden where there is no terminal.
pub(super) fn bar(total: Option<u64>, things: &str) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            format!("{{bar:30}} {{pos}}/{{len}} {things}  {{per_sec}}  {{eta}} left"),
        ),
        None => (ProgressBar::no_length(), format!("{{spinner}} {{pos}} {things}  {{per_sec}}")),
    };
    styled(bar, &template)
}

/// A bar with looks of its own.
pub(super) fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // The templates are constant; a fault in one would only cost the bar its looks.
    let bar = match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    *DRAWN.lock() = Some(bar.downgrade());
    bar
}

/// Writes to standard error what would else be written into the bar.
pub(super) fn above<T>(write: impl FnOnce() -> T) -> T {
    let drawn = DRAWN.lock().as_ref().and_then(WeakProgressBar::upgrade);
    match drawn {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Does what may take long, and says after a while what is being waited for.
pub(super) fn waiting<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let spinner = styled(
        ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
        "{spinner} {msg} ({elapsed})",
    );
    let done = Stop::default();
    let clock = {
        let (spinner, done, what) = (spinner.clone(), done.clone(), text::line(what));
        let identity = Identity { role: Role::Watch, index: 0, core: None };
        threads::spawn(identity, &Stop::default(), move || {
            if !done.sleep(QUIET) {
                spinner.set_message(what);
                spinner.enable_steady_tick(TURN);
            }
            Ok(())
        })
    };
    let result = work();
    done.drain();
    drop(clock);
    spinner.finish_and_clear();
    result
}
