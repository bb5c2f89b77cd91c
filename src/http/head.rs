//! Rewrites the head of a request for the library behind the gate.
//!
//! Lenient parsers disagree on malformed heads, such as folded or indented headers and lines that
//! end in a bare line feed. So nothing is passed on unchanged. A malformed head is refused; of the
//! others, the request line and the few headers that are needed are rewritten.

/// The headers that the server uses, and whether they may be repeated.
const WANTED: [(&str, bool); 6] = [
    ("Host", false),
    ("Authorization", false),
    ("If-None-Match", true),
    ("Origin", false),
    ("Sec-Fetch-Site", false),
    ("Sec-Fetch-Mode", false),
];

/// The request, rewritten as the only one of its connection and without a body. `head` ends with
/// its empty line. `None` if `head` violates RFC 9112, sections 3 and 5.
pub(super) fn rewritten(head: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(head.strip_suffix(b"\r\n\r\n")?).ok()?;
    let mut lines = head.split("\r\n");
    let mut request = request_line(lines.next()?)?;
    let mut given = [false; WANTED.len()];
    for line in lines {
        let (name, value) = line.split_once(':')?;
        // A bare CR or LF is among the control characters.
        if !is_token(name) || value.chars().any(|char| char.is_control() && char != '\t') {
            return None;
        }
        let wanted = WANTED.iter().position(|(wanted, _)| name.eq_ignore_ascii_case(wanted));
        let Some(index) = wanted else { continue };
        let (name, may_repeat) = WANTED[index];
        let value = value.trim_matches([' ', '\t']);
        if !value.is_ascii() || (std::mem::replace(&mut given[index], true) && !may_repeat) {
            return None;
        }
        request += &format!("{name}: {value}\r\n");
    }
    request += "Connection: close\r\n\r\n";
    Some(request.into_bytes())
}

/// Method, target and version, separated by single spaces. A later minor version is treated as 1.1.
fn request_line(line: &str) -> Option<String> {
    let mut parts = line.split(' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    let is_target = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
    let version = match version.strip_prefix("HTTP/1.")?.as_bytes() {
        b"0" => "HTTP/1.0",
        [b'1'..=b'9'] => "HTTP/1.1",
        _ => return None,
    };
    let is_whole = is_token(method) && is_target && parts.next().is_none();
    is_whole.then(|| format!("{method} {target} {version}\r\n"))
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(head: &str, expected: &str) {
        let request = rewritten(head.as_bytes()).map(|request| String::from_utf8(request).unwrap());
        assert_eq!(request.as_deref(), Some(expected), "{head:?}");
    }

    #[test]
    fn only_what_is_needed_goes_on() {
        becomes(
            "POST /x?y HTTP/1.1\r\nHOST:a:1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\
             authorization: \t Bearer a b \r\nExpect: 100-continue\r\nConnection: keep-alive\r\n\
             X: \u{e9}\r\nif-none-match: \"a\"\r\nTE:\r\nIf-None-Match: \"b\"\r\n\r\n",
            "POST /x?y HTTP/1.1\r\nHost: a:1\r\nAuthorization: Bearer a b\r\n\
             If-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\nConnection: close\r\n\r\n",
        );
        becomes("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nConnection: close\r\n\r\n");
        becomes("GET / HTTP/1.7\r\n\r\n", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    }

    #[test]
    fn what_is_not_beyond_doubt_is_refused() {
        for header in [
            " Content-Length: 9",
            "\tContent-Length: 9",
            "X: y\r\n Content-Length: 9",
            "Content-Length : 9",
            "X: y\nContent-Length: 9",
            "X: y\rContent-Length: 9",
            "X: y\n\nGET /metrics HTTP/1.1",
            "X: \0",
            "X: \x7f",
            "X\0: y",
            "no colon",
            ": no name",
            "Host: a\r\nhost: b",
            "Authorization: a\r\nAuthorization: b",
            "Host: \u{e9}",
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n");
            let head =
                if header.contains("Host") { head.replacen("Host: a\r\n", "", 1) } else { head };
            assert_eq!(rewritten(head.as_bytes()), None, "{head:?}");
        }
        for line in [
            "",
            "\r\nGET / HTTP/1.1",
            "GET /",
            "GET  / HTTP/1.1",
            " GET / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET / HTTP/1.1\nHost: a",
            "GET\t/ HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "G:T / HTTP/1.1",
            "GET / HTTP/2.0",
            "GET / HTTP/1.",
            "GET / HTTP/1.10",
            "GET / http/1.1",
        ] {
            assert_eq!(rewritten(format!("{line}\r\n\r\n").as_bytes()), None, "{line:?}");
        }
        assert_eq!(rewritten(b"GET / HTTP/1.1\r\nX: \xff\r\n\r\n"), None, "not UTF-8");
    }
}
