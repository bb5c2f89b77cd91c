//! Text: names, paths and secrets.

use super::{Given, Kind, Parsed, Secrets, problem};
use crate::config::file;
use crate::config::secret::Secret;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Longest name of a topic, in bytes; Kafka's own limit.
const TOPIC_BYTES_MAX: usize = 249;

/// The name of a stream, a consumer group or a consumer.
pub(in crate::config) struct Name;

impl Kind<String> for Name {
    fn read(&self, given: Given<'_>) -> Parsed<String> {
        match given.text() {
            Ok(name) if !name.chars().any(char::is_whitespace) => Ok(name.into()),
            _ => Err(self.fault()),
        }
    }

    fn write(&self, value: &String, _: Secrets) -> Value {
        json!(value)
    }

    fn value_type(&self) -> String {
        "name".into()
    }

    fn valid(&self) -> String {
        "a name, not empty, without spaces or control characters".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("cabinet-7"), json!("other")]
    }
}

/// The name of a topic in Kafka.
pub(in crate::config) struct Topic;

impl Kind<String> for Topic {
    fn read(&self, given: Given<'_>) -> Parsed<String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_topic = |name: &str| {
            (1..=TOPIC_BYTES_MAX).contains(&name.len())
                && name.chars().all(is_plain)
                && !matches!(name, "." | "..")
        };
        match given.text() {
            Ok(name) if is_topic(name) => Ok(name.into()),
            _ => Err(self.fault()),
        }
    }

    fn write(&self, value: &String, _: Secrets) -> Value {
        json!(value)
    }

    fn value_type(&self) -> String {
        "name".into()
    }

    fn valid(&self) -> String {
        format!("letters, digits, \".\", \"_\" and \"-\", at most {TOPIC_BYTES_MAX}")
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("frames"), json!("results")]
    }
}

/// The path of a PEM file.
pub(in crate::config) struct Pem;

impl Kind<PathBuf> for Pem {
    fn read(&self, given: Given<'_>) -> Parsed<PathBuf> {
        given.text().map(PathBuf::from).map_err(|_| self.fault())
    }

    fn write(&self, value: &PathBuf, _: Secrets) -> Value {
        value.display().to_string().into()
    }

    fn value_type(&self) -> String {
        "path".into()
    }

    fn valid(&self) -> String {
        "the path of a PEM file".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("/etc/framepress/ca.pem"), json!("/etc/framepress/key.pem")]
    }
}

/// A path that is looked at when it is used.
pub(in crate::config) struct PathText;

impl Kind<PathBuf> for PathText {
    fn read(&self, given: Given<'_>) -> Parsed<PathBuf> {
        given.text().map(PathBuf::from).map_err(problem)
    }

    fn write(&self, value: &PathBuf, _: Secrets) -> Value {
        value.display().to_string().into()
    }

    fn value_type(&self) -> String {
        "path".into()
    }

    fn valid(&self) -> String {
        "the path of a file".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("/etc/framepress/cam1"), json!("/etc/framepress/cam2")]
    }
}

/// The absolute path of a folder.
pub(in crate::config) struct Folder;

impl Kind<PathBuf> for Folder {
    fn read(&self, given: Given<'_>) -> Parsed<PathBuf> {
        match given.text().map(PathBuf::from) {
            Ok(path) if path.is_absolute() => Ok(path),
            _ => Err(self.fault()),
        }
    }

    fn write(&self, value: &PathBuf, _: Secrets) -> Value {
        value.display().to_string().into()
    }

    fn value_type(&self) -> String {
        "path".into()
    }

    fn valid(&self) -> String {
        "the absolute path of a folder".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("/run/rings"), json!("/dev/shm/rings")]
    }
}

/// The path of a file that holds the value of another key. [`read_secret_file`] reads it.
pub(in crate::config) struct SecretFile;

const SECRET_FILE: &str = "the path of a readable file that holds one line of text";

impl Kind<PathBuf> for SecretFile {
    fn read(&self, given: Given<'_>) -> Parsed<PathBuf> {
        given.text().map(PathBuf::from).map_err(|_| self.fault())
    }

    fn write(&self, value: &PathBuf, _: Secrets) -> Value {
        value.display().to_string().into()
    }

    fn value_type(&self) -> String {
        "path".into()
    }

    fn valid(&self) -> String {
        SECRET_FILE.into()
    }

    fn examples(&self) -> Vec<Value> {
        Vec::new()
    }
}

/// The only line of a small file, without the white space around it.
pub(in crate::config) fn read_secret_file(path: &Path) -> Result<String, String> {
    let text = file::read_text(path).map_err(|error| format!("{error}; valid: {SECRET_FILE}"))?;
    match text.trim() {
        line if !line.is_empty() && !line.chars().any(char::is_control) => Ok(line.to_owned()),
        _ => Err(format!("valid: {SECRET_FILE}")),
    }
}

/// A secret of any characters.
pub(in crate::config) struct Password;

impl Kind<Secret> for Password {
    fn read(&self, given: Given<'_>) -> Parsed<Secret> {
        given.text().map(Secret::new).map_err(problem)
    }

    fn write(&self, value: &Secret, secrets: Secrets) -> Value {
        secret(value, secrets)
    }

    fn value_type(&self) -> String {
        "secret".into()
    }

    fn valid(&self) -> String {
        "text, not empty, without control characters".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("one"), json!("two")]
    }
}

/// A bearer token.
pub(in crate::config) struct Token;

impl Kind<Secret> for Token {
    fn read(&self, given: Given<'_>) -> Parsed<Secret> {
        match given.text() {
            Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => Ok(Secret::new(text)),
            _ => Err(self.fault()),
        }
    }

    fn write(&self, value: &Secret, secrets: Secrets) -> Value {
        secret(value, secrets)
    }

    fn value_type(&self) -> String {
        "secret".into()
    }

    fn valid(&self) -> String {
        "text of visible ASCII characters without spaces".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("one"), json!("two")]
    }
}

/// A secret as it is written.
fn secret(value: &Secret, secrets: Secrets) -> Value {
    match secrets {
        Secrets::Exposed => value.expose().into(),
        Secrets::Hidden => value.to_string().into(),
    }
}
