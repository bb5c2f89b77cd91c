//! Removes secrets from text before it is shown.
//!
//! Redaction of text that cannot be parsed is deliberately strict: it shows only what looks like a
//! host, a short port and a path, because a password can be almost anywhere in a mistyped URL.

/// Replaces a secret.
pub const HIDDEN: &str = "***";

/// A URL, well formed or not, without anything that could be a password.
pub fn url(text: &str) -> String {
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
pub fn text(text: &str) -> String {
    if text.contains("://") || text.contains('@') { url(text) } else { text.into() }
}

/// A path. If it contains an `@` after a colon, it may be a mistyped URL with a password. Some
/// cameras use paths such as `/user=NAME_password=TEXT`.
pub fn path(path: &str) -> String {
    match path.rsplit_once('@') {
        Some((before, _)) if before.contains(':') => url(path),
        _ => match secret_of_path(path) {
            Some(at) => format!("{}{HIDDEN}", &path[..at]),
            None => path.into(),
        },
    }
}

/// The start of the part of a path that assigns a value to the name of a secret.
fn secret_of_path(path: &str) -> Option<usize> {
    const NAMES: [&str; 6] = ["pass", "pwd", "pas", "user", "token", "auth"];
    let lower = path.to_ascii_lowercase();
    let named = lower.match_indices('=').find_map(|(at, _)| {
        let start = lower[..at].rfind(['/', '?', '&', '_', ';', ' ']).map_or(0, |start| start + 1);
        NAMES.iter().any(|name| lower[start..at].contains(name)).then_some(start)
    })?;
    Some(lower[..named].rfind(['/', '?']).map_or(0, |start| start + 1))
}

/// The output of a program about `secret`, a URL or a path as it was typed. The secret and the
/// passwords of all other URLs are removed.
pub fn said(said: &str, secret: &str) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ',' | ';' | '(' | ')');
    let shown = text(secret);
    let said = if secret.is_empty() || shown == secret {
        said.to_owned()
    } else {
        said.replace(secret, &shown)
    };
    let words = said.split_inclusive(ends).map(|word| {
        let body = word.trim_end_matches(ends);
        let end = &word[body.len()..];
        // Punctuation after the URL, such as the colon of a message, is not part of it.
        let plain = body.trim_end_matches([':', '.']);
        match plain.contains("://") && !plain.contains(HIDDEN) {
            true => format!("{}{}{end}", url(plain), &body[plain.len()..]),
            false => word.to_owned(),
        }
    });
    words.collect()
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 20
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '-')
}

/// `host[:port][,host[:port]...][/path]` unchanged; anything else hidden.
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

/// A query with only the values known to be harmless.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_a_camera_or_a_page_is_shown() {
        for (typed, shown) in [
            ("rtsp://admin:hunter2@cam:554/live", "rtsp://***@cam:554/live"),
            ("rtsp:/admin:hunter2@cam", "***@cam"),
            ("rtsp:admin:hunter2@cam/live", "***@cam/live"),
            ("rtsp://admin:se/hunter2@x@cam/live", "rtsp://***@cam/live"),
            ("http://cam/v.mjpg?user=admin&pwd=hunter2", "http://cam/v.mjpg?user=admin&pwd=***"),
            ("http://h:1/?hunter2", "http://h:1/?***"),
            ("traffic.mp4", "traffic.mp4"),
            ("/var/a=b/user.mp4", "/var/a=b/user.mp4"),
            ("/var/a b/c:d.mp4", "/var/a b/c:d.mp4"),
        ] {
            assert_eq!(text(typed), shown);
            let told = said(&format!("no answer from {typed}: it is gone"), typed);
            assert_eq!(told, format!("no answer from {shown}: it is gone"));
        }
        let told = said("[tcp @ 0x5] 'http://b:hunter2@other/x': refused", "rtsp://a:hunter2@cam");
        assert_eq!(told, "[tcp @ 0x5] 'http://***@other/x': refused");
    }

    #[test]
    fn a_camera_path_without_its_scheme_shows_no_password() {
        for (typed, shown) in [
            ("h/user=a_password=hunter2_channel=1", "h/***"),
            ("h/live?loginpas=hunter2", "h/live?***"),
            ("user=a_password=hunter2", "***"),
            ("/data/speed=30/a.mp4", "/data/speed=30/a.mp4"),
        ] {
            assert_eq!(path(typed), shown);
        }
    }
}
