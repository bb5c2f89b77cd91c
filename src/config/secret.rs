//! What must never be printed, and how it is printed instead.
//!
//! Redaction of text that could not be parsed is deliberately suspicious: it shows only what looks
//! like a host, a short port and a path, because a password can stand almost anywhere in a URL
//! somebody mistyped.

use std::fmt;

/// What stands in place of a secret.
pub(super) const HIDDEN: &str = "***";

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
pub(super) fn names_a_secret(key: &str) -> bool {
    const HINTS: [&str; 8] =
        ["pass", "pwd", "secret", "token", "credential", "auth", "api_key", "private"];
    let key = key.to_ascii_lowercase();
    HINTS.iter().any(|hint| key.contains(hint))
}

/// Whether a key's value is a URL that may carry a password.
pub(super) fn names_a_url(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.contains("url") || key.contains("uri") || key.contains("dsn")
}

/// A URL, well formed or not, without anything that could be a password.
pub(super) fn redact_url(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (format!("{scheme}://"), rest),
        Some(_) => return HIDDEN.into(),
        None => (String::new(), text),
    };
    match rest.rsplit_once('@') {
        Some((_, address)) => format!("{scheme}{HIDDEN}@{}", redact_address(address)),
        None => format!("{scheme}{}", redact_address(rest)),
    }
}

/// Any other text: untouched unless it holds a URL or something before an `@`.
pub(super) fn redact_text(text: &str) -> String {
    if text.contains("://") || text.contains('@') { redact_url(text) } else { text.into() }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 20
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '-')
}

/// `host[:port][,host[:port]...][/path]` as it is; anything else hidden.
fn redact_address(text: &str) -> String {
    let (text, query) = match text.split_once('?') {
        Some((text, query)) => (text, Some(query)),
        None => (text, None),
    };
    let (hosts, path) = text.find('/').map_or((text, ""), |at| text.split_at(at));
    let path_is_plain =
        path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
    if !hosts.split(',').all(is_plain_host) || !path_is_plain {
        return HIDDEN.into();
    }
    match query {
        Some(query) => format!("{text}?{}", redact_query(query)),
        None => text.into(),
    }
}

/// A host with at most a short port. A longer run of digits, or letters, may be a password whose
/// `@host` was forgotten.
fn is_plain_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
            ("v6", port.strip_prefix(':').unwrap_or(port))
        }
        Some(_) => return false,
        None => text.split_once(':').unwrap_or((text, "")),
    };
    (!host.is_empty() || text.is_empty())
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        && port.len() <= 5
        && port.chars().all(|c| c.is_ascii_digit())
}

/// Of a query only the values known to be harmless are kept.
fn redact_query(query: &str) -> String {
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name @ ("db" | "user"), value))
            if value.chars().all(|c| c.is_ascii_alphanumeric()) =>
        {
            format!("{name}={value}")
        }
        Some((name, _)) if name.chars().all(|c| c.is_ascii_alphabetic()) => {
            format!("{name}={HIDDEN}")
        }
        _ => HIDDEN.into(),
    });
    parts.collect::<Vec<_>>().join("&")
}
