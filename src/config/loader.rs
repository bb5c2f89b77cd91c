//! The entry point: collects the layers and returns a valid configuration.

use super::fault::{ConfigError, FaultLine, Origin};
use super::kind::Secrets;
use super::layers::Layers;
use super::reader::KeyReader;
use super::table::Config;
use super::{check, render, valid};
use std::path::PathBuf;

/// Collects the layers of a configuration. Without any it loads the built-in one.
///
/// `Debug` is deliberately absent: flags and environment hold secrets as typed.
#[must_use]
pub struct Loader {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    flags: Vec<(String, String)>,
}

/// A valid configuration, and what a person should know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Sentences for the log, as about keys without effect.
    pub notes: Vec<String>,
    /// Where each value came from that is not built in: key, key as typed, origin.
    pub origins: Vec<(String, String, Origin)>,
}

impl Loader {
    /// Only the built-in defaults.
    #[expect(clippy::new_without_default, reason = "no hidden Default on the way through the code")]
    pub fn new() -> Self {
        Loader { file: None, environment: Vec::new(), flags: Vec::new() }
    }

    /// The file of `--config`, if there is one: JSON if it ends in `.json`, else YAML.
    pub fn file(mut self, path: Option<PathBuf>) -> Self {
        self.file = path;
        self
    }

    /// Environment variables; those of other programs are ignored.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(variables);
        self
    }

    /// The environment variables of this process.
    pub fn process_environment(self) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        self.environment(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
    }

    /// A command-line flag, by dotted key as in `redis_queue.url`. Flags win over everything.
    pub fn flag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.flags.push((key.into(), value.into()));
        self
    }

    /// Reads all layers. The error holds every fault of all of them.
    pub fn load(self) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::new();
        if let Some(path) = &self.file {
            layers.file(path);
        }
        layers.environment(self.environment);
        for (key, value) in self.flags {
            layers.flag(key, value);
        }
        finish(layers)
    }
}

impl Config {
    /// Holds a configuration made by a program to the same rules as a file.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut layers = Layers::new();
        layers.tree(render::tree(self, Secrets::Exposed), &Origin::Program);
        finish(layers).map(|_| ())
    }
}

/// Everything typed, as one valid configuration.
pub(super) fn finish(layers: Layers) -> Result<Loaded, ConfigError> {
    let Layers { values, mut faults, notes, file_is_whole } = layers;
    let origins = values
        .iter()
        .map(|(key, typed)| (key.clone(), typed.name.clone(), typed.origin.clone()))
        .collect();
    let mut reader = KeyReader::new(values);
    let config = valid::config(&mut reader);
    reader.unknown();
    if file_is_whole {
        check::across(&config, &mut reader);
    }
    let reader_faults: Vec<FaultLine> = reader.faults;
    faults.extend(reader_faults);
    if faults.is_empty() {
        Ok(Loaded { config, notes, origins })
    } else {
        Err(ConfigError { faults })
    }
}
