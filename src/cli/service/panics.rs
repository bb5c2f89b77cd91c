//! The message of a panic, which may contain foreign text.

use std::backtrace::{Backtrace, BacktraceStatus};

use crate::base::threads::{self, panic_message};
use crate::cli::output::{out, progress};

/// Shows panics like any other message from this call on.
pub(in crate::cli) fn show_cleanly() {
    std::panic::set_hook(Box::new(|panic| {
        if threads::is_caught() {
            return;
        }
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name").to_owned();
        let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
        let message = crate::base::text::line(&panic_message(panic.payload()));
        let mut said = format!("framepress: thread {name} panicked{place}: {message}");
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            said += &format!("\n{trace}");
        }
        progress::above(|| out::remark(said));
    }));
}
