//! What must never be printed, and how it is printed instead.

use std::fmt;

pub(super) use crate::base::redact::HIDDEN;
use crate::base::{redact, text};

/// Text that is never printed: `Display` and `Debug` both show `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The real text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Whether a key's name says that its value is a secret.
pub fn names_a_secret(key: &str) -> bool {
    const HINTS: [&str; 8] =
        ["pass", "pwd", "secret", "token", "credential", "auth", "api_key", "private"];
    let key = key.to_ascii_lowercase();
    HINTS.iter().any(|hint| key.contains(hint))
}

/// Whether a key's value is a URL that may carry a password.
pub(super) fn names_a_url(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    matches!(&*key, "source" | "fallback")
        || key.contains("url")
        || key.contains("uri")
        || key.contains("dsn")
}

/// The name of a key as it may be printed: what was typed as a key may be a URL, and of any length.
pub(super) fn shown_key(key: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let key = text::line(&redact::text(key));
    match key.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &key[..end]),
        None => key,
    }
}
