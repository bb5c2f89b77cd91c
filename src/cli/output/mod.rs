//! Writes and formats what the subcommands show.

pub(super) mod out;
pub(super) mod progress;
pub(super) mod report;
pub(super) mod terminal;

/// A number of bytes in readable form.
pub(super) fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
