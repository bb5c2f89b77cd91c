//! Progress of long work: a bar or a spinner on a terminal, plain lines on a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use parking_lot::Mutex;

use crate::base::threads::{self, Identity, Role};
use crate::base::{Stop, text};

/// A shorter wait is not reported.
const QUIET: Duration = Duration::from_secs(2);

/// Interval of the spinner's animation.
const TICK: Duration = Duration::from_millis(100);

/// The bar drawn at present, if any; log lines go above it.
static DRAWN: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// A bar on standard error for `total` items named `things`; hidden if there is no terminal.
pub(in crate::cli) fn bar(total: Option<u64>, things: &str) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            format!("{{bar:30}} {{pos}}/{{len}} {things}  {{per_sec}}  {{eta}} left"),
        ),
        None => (ProgressBar::no_length(), format!("{{spinner}} {{pos}} {things}  {{per_sec}}")),
    };
    styled(bar, &template)
}

/// A bar with the given template.
pub(in crate::cli) fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // The templates are constant; a wrong one would only lose the style.
    let bar = match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    *DRAWN.lock() = Some(bar.downgrade());
    bar
}

/// Runs `write`, which writes to standard error, without disturbing the bar.
pub(in crate::cli) fn above<T>(write: impl FnOnce() -> T) -> T {
    let drawn = DRAWN.lock().as_ref().and_then(WeakProgressBar::upgrade);
    match drawn {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Runs work that may take long, and after a while shows what it waits for.
pub(in crate::cli) fn waiting<T>(what: &str, work: impl FnOnce() -> T) -> T {
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
                spinner.enable_steady_tick(TICK);
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
