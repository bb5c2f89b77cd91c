//! What the configuration promises, as claims.

mod defaults;
mod files;
mod kafka;
mod layers;
mod leases;
mod legacy;
mod lists;
mod live;
mod rules;
mod secrets;
mod table;
mod topology;
mod urls;

use super::{Config, ConfigError, Loaded, Loader};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A file named `name` with `text`, in a directory that lives as long as the first value.
fn file(name: &str, text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn load_as(name: &str, text: impl AsRef<[u8]>) -> Result<Loaded, ConfigError> {
    let (_dir, path) = file(name, text);
    Loader::new().file(Some(path)).load()
}

fn load(yaml: &str) -> Result<Loaded, ConfigError> {
    load_as("framepress.yaml", yaml)
}

/// The configuration of a valid file.
fn valid(yaml: &str) -> Config {
    load(yaml).unwrap_or_else(|error| panic!("{yaml}\n{error}")).config
}

/// The fault lines of an invalid file.
fn faults(yaml: &str) -> Vec<String> {
    match load(yaml) {
        Ok(_) => panic!("accepted: {yaml}"),
        Err(error) => error.to_string().lines().map(String::from).collect(),
    }
}

/// `yaml` has exactly one fault, and its line holds every word of `words`.
fn check(yaml: &str, words: &[&str]) {
    let lines = faults(yaml);
    assert_eq!(lines.len(), 1, "{yaml}: {lines:#?}");
    for word in words {
        assert!(lines[0].contains(word), "{yaml}: no {word:?} in {}", lines[0]);
    }
}

fn pairs(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// The configuration of an environment alone.
fn environment(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Loader::new().environment(pairs(variables)).load().map(|loaded| loaded.config)
}
