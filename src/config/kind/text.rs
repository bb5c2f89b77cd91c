//! Text: names, paths and secrets.

use super::{Given, Parsed, Secrets, ValueKind, problem};
use crate::base::redact;
use crate::config::file;
use crate::config::secret::Secret;
use crate::config::url::is_host;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Longest name of a topic, in bytes; Kafka's own limit.
const TOPIC_BYTES_MAX: usize = 249;

/// Text without control characters, not empty, that stands for a `T`.
pub(in crate::config) struct Text<T: 'static> {
    value_type: &'static str,
    valid: &'static str,
    examples: &'static [&'static str],
    /// Which text is valid; `None` means any, and what is wrong with other values is said in full.
    accepts: Option<fn(&str) -> bool>,
    make: fn(&str) -> T,
    write: fn(&T, Secrets) -> Value,
}

impl<T> ValueKind<T> for Text<T> {
    fn read(&self, given: Given<'_>) -> Parsed<T> {
        match (given.text(), self.accepts) {
            (Err(message), None) => Err(problem(message)),
            (Ok(text), None) => Ok((self.make)(text)),
            (Ok(text), Some(accepts)) if accepts(text) => Ok((self.make)(text)),
            _ => Err(self.fault()),
        }
    }

    fn write(&self, value: &T, secrets: Secrets) -> Value {
        (self.write)(value, secrets)
    }

    fn value_type(&self) -> String {
        self.value_type.into()
    }

    fn valid(&self) -> String {
        self.valid.into()
    }

    fn examples(&self) -> Vec<Value> {
        self.examples.iter().copied().map(Value::from).collect()
    }
}

/// What kinds of names have in common.
const ANY_NAME: Text<String> = Text {
    value_type: "name",
    valid: "text, not empty, without control characters",
    examples: &["cabinet-7", "other"],
    accepts: None,
    make: |text| text.to_owned(),
    write: |name, _| name.as_str().into(),
};

/// The name of a stream, a consumer group or a consumer.
pub(in crate::config) const NAME: Text<String> = Text {
    valid: "a name, not empty, without spaces or control characters",
    accepts: Some(|name| !name.chars().any(char::is_whitespace)),
    ..ANY_NAME
};

/// The name of a topic in Kafka.
pub(in crate::config) const TOPIC: Text<String> = Text {
    valid: "letters, digits, \".\", \"_\" and \"-\", at most 249",
    accepts: Some(|name| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (1..=TOPIC_BYTES_MAX).contains(&name.len())
            && name.chars().all(is_plain)
            && !matches!(name, "." | "..")
    }),
    ..ANY_NAME
};

/// The name in a certificate.
pub(in crate::config) const SERVER_NAME: Text<String> = Text {
    value_type: "host",
    valid: "a host name or address",
    examples: &["redis.example", "192.0.2.1"],
    accepts: Some(|name| is_host(name).is_ok()),
    ..ANY_NAME
};

/// The id of a camera.
pub(in crate::config) const CAMERA_ID: Text<String> = Text { value_type: "text", ..ANY_NAME };

/// A path that is looked at when it is used.
pub(in crate::config) const FILE: Text<PathBuf> = Text {
    value_type: "path",
    valid: "the path of a file",
    examples: &["/etc/framepress/cam1", "/etc/framepress/cam2"],
    accepts: None,
    make: |path| PathBuf::from(path),
    write: |path, _| path.display().to_string().into(),
};

/// The path of a PEM file.
pub(in crate::config) const PEM: Text<PathBuf> =
    Text { valid: "the path of a PEM file", accepts: Some(|_| true), ..FILE };

/// The absolute path of a folder.
pub(in crate::config) const FOLDER: Text<PathBuf> = Text {
    valid: "the absolute path of a folder",
    examples: &["/run/rings", "/dev/shm/rings"],
    accepts: Some(|path| Path::new(path).is_absolute()),
    ..FILE
};

/// The path of a file that holds the value of another key. [`read_secret_file`] reads it.
pub(in crate::config) const SECRET_FILE: Text<PathBuf> = Text {
    valid: "the path of a readable file that holds one line of text",
    examples: &[],
    accepts: Some(|_| true),
    ..FILE
};

/// The only line of a small file, without the white space around it.
pub(in crate::config) fn read_secret_file(path: &Path) -> Result<String, String> {
    let valid = SECRET_FILE.valid;
    let text = file::read_text(path).map_err(|error| format!("{error}; valid: {valid}"))?;
    match text.trim() {
        line if !line.is_empty() && !line.chars().any(char::is_control) => Ok(line.to_owned()),
        _ => Err(format!("valid: {valid}")),
    }
}

/// A secret of any characters.
pub(in crate::config) const PASSWORD: Text<Secret> = Text {
    value_type: "secret",
    valid: "text, not empty, without control characters",
    examples: &["one", "two"],
    accepts: None,
    make: |text| Secret::new(text),
    write: |secret, secrets| match secrets {
        Secrets::Exposed => secret.expose().into(),
        Secrets::Hidden => secret.to_string().into(),
    },
};

/// A bearer token.
pub(in crate::config) const TOKEN: Text<Secret> = Text {
    valid: "text of visible ASCII characters without spaces",
    accepts: Some(|text| text.chars().all(|c| c.is_ascii_graphic())),
    ..PASSWORD
};

/// A source of frames, as typed. It may hold a password, which alone is hidden.
pub(in crate::config) const CAMERA_SOURCE: Text<Secret> = Text {
    value_type: "URL or path",
    valid: "a URL, a device or a file",
    examples: &["rtsp://192.0.2.11/sub", "/dev/video0"],
    write: |source, secrets| match secrets {
        Secrets::Exposed => source.expose().into(),
        Secrets::Hidden => redact::text(source.expose()).into(),
    },
    ..PASSWORD
};
