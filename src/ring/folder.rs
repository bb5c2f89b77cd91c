//! Where rings lie, and which machine this is.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel names this boot of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where rings lie unless the configuration says so: the folder that systemd makes for the service,
/// the user's own, or `/run/framepress`.
pub fn default_folder() -> PathBuf {
    let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folders) = given("RUNTIME_DIRECTORY") {
        // A unit may have several; the first is its own.
        if let Some(folder) = env::split_paths(&folders).next() {
            return folder;
        }
    }
    given("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from("/run/framepress"),
        |folder| Path::new(&folder).join("framepress"),
    )
}

/// The boot of this machine: 16 bytes, in the order in which the kernel prints them.
///
/// # Errors
/// Where `/proc` cannot be read.
pub(super) fn boot_id() -> io::Result<u128> {
    let text = fs::read_to_string(BOOT_ID)?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let id = Some(digits).filter(|digits| digits.len() == 32);
    id.and_then(|digits| u128::from_str_radix(&digits, 16).ok())
        .ok_or_else(|| io::Error::other(format!("{BOOT_ID} does not name this boot")))
}
