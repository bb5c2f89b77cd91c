//! The folder of the rings, who may write there, and the identity of this machine.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, Stat};
use twox_hash::XxHash3_64;

use super::layout::is_name;

/// The file in which the kernel gives the id of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The same from the service manager, for services that see only processes in `/proc`.
const BOOT_ID_VARIABLE: &str = "FRAMEPRESS_BOOT_ID";

/// Letters and digits of a camera's id that are kept in the name of its ring.
const KEPT_MAX: usize = 32;

/// The folder of the rings unless the configuration names one: the folder that systemd creates for
/// the service, the user's runtime folder, or `/run/framepress`.
pub fn default_folder() -> PathBuf {
    let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folders) = given("RUNTIME_DIRECTORY") {
        // A unit may have several; the first is its main folder.
        if let Some(folder) = env::split_paths(&folders).next() {
            return folder;
        }
    }
    given("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from("/run/framepress"),
        |folder| Path::new(&folder).join("framepress"),
    )
}

/// The name of the ring for the frames of a camera: its id, or if that is not a valid name, its
/// letters and digits and a hash.
pub fn name_of(camera_id: &str) -> String {
    if is_name(camera_id) {
        return camera_id.to_owned();
    }
    let hash = XxHash3_64::oneshot(camera_id.as_bytes());
    let kept = camera_id.chars().filter(char::is_ascii_alphanumeric).take(KEPT_MAX);
    format!("camera-{}-{hash:016x}", kept.collect::<String>())
}

/// The id of this boot: 16 bytes, in the order in which the kernel prints them.
///
/// # Errors
/// If neither `/proc` nor the service manager provides it.
pub(super) fn boot_id() -> io::Result<u128> {
    let told = |error| env::var(BOOT_ID_VARIABLE).map_err(|_| error);
    let text = fs::read_to_string(BOOT_ID).or_else(told)?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let id = Some(digits).filter(|digits| digits.len() == 32);
    id.and_then(|digits| u128::from_str_radix(&digits, 16).ok())
        .ok_or_else(|| io::Error::other(format!("{BOOT_ID} does not name this boot")))
}

/// Why pixels are not safe in a folder: another account could read or replace them. If a folder of
/// another account is writable to a group of this process, its owner has shared it, and it is
/// accepted.
pub(super) fn why_no_place(folder: &Stat) -> Option<String> {
    let mode = Mode::from_raw_mode(folder.st_mode);
    if is_open_to_all(folder) {
        return Some("everybody may write to it".into());
    }
    let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&folder.st_uid);
    let is_group = |gid: u32| gid == folder.st_gid;
    let is_shared = || {
        mode.contains(Mode::WGRP)
            && (is_group(rustix::process::getegid().as_raw())
                || rustix::process::getgroups()
                    .is_ok_and(|all| all.iter().any(|gid| is_group(gid.as_raw()))))
    };
    (!is_ours && !is_shared())
        .then(|| format!("it belongs to another account (user id {})", folder.st_uid))
}

/// Whether every account may write to a folder, and so create any file in it.
pub(super) fn is_open_to_all(folder: &Stat) -> bool {
    Mode::from_raw_mode(folder.st_mode).contains(Mode::WOTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_camera_has_a_ring_of_its_own_name() {
        assert_eq!(name_of("cam-1"), "cam-1");
        let ids = ["", "Kreuzung Nord/2", "Kreuzung Nord-2", "../cam", "ä", ".x", &"x".repeat(99)];
        let names: std::collections::HashSet<String> = ids.into_iter().map(name_of).collect();
        assert_eq!(names.len(), ids.len());
        assert!(names.iter().all(|name| is_name(name)), "{names:?}");
    }
}
