//! Location of a video, and the protocols that `ffmpeg` may use for it.
//!
//! A URL may hold a password, and every user can read the arguments of a process. Therefore
//! `ffmpeg` receives the URL on its standard input, as a list with one entry.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::base::{Fault, redact};

/// Schemes of video locations, and the protocols that `ffmpeg` may use for each. A playlist from a
/// web server must not read local files, and a local playlist must not access the network.
const SCHEMES: [(&str, &str); 4] = [
    ("rtsp", "pipe,rtsp,rtp,tcp,udp"),
    ("rtsps", "pipe,rtsp,rtsps,rtp,tcp,tls,udp"),
    ("http", "pipe,http,https,tcp,tls,crypto,data"),
    ("https", "pipe,http,https,tcp,tls,crypto,data"),
];

/// Microseconds without a byte after which a network camera is considered lost.
const SILENCE: &str = "10000000";

/// Characters to encode in a user name or password of a URL.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A checked location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    place: VideoTarget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum VideoTarget {
    File(PathBuf),
    /// The URL as typed and as passed to `ffmpeg`; `scheme` is an index into [`SCHEMES`].
    Url {
        typed: String,
        url: String,
        scheme: usize,
    },
}

/// Whether a text is a URL of any scheme.
fn is_url(text: &OsStr) -> bool {
    text.to_str().is_some_and(|text| text.contains("://"))
}

impl Location {
    /// Parses a path or URL. A path must exist.
    pub(crate) fn new(text: impl AsRef<OsStr>) -> Result<Self, Fault> {
        let text = text.as_ref();
        if is_url(text) {
            return Location::url(&text.to_string_lossy(), None);
        }
        // The path may be a mistyped URL that holds a password.
        let shown = redact::path(&text.to_string_lossy());
        let found =
            fs::metadata(text).map_err(|error| Fault::io(format!("video file {shown}"), error))?;
        if found.is_dir() {
            return Err(Fault::Unusable(format!("{shown} is a folder, not a video file")));
        }
        if found.is_file() && found.len() == 0 {
            return Err(Fault::Unusable(format!("{shown} is not a video: the file is empty")));
        }
        Ok(Location { place: VideoTarget::File(text.into()) })
    }

    /// Parses a URL. `account`, as `(user, password)`, replaces the one in the URL.
    pub(crate) fn url(typed: &str, account: Option<(&str, &str)>) -> Result<Self, Fault> {
        let typed = typed.trim();
        let known = typed.split_once("://").and_then(|(scheme, rest)| {
            let known = SCHEMES.iter().position(|(name, _)| scheme.eq_ignore_ascii_case(name))?;
            Some((known, rest))
        });
        let Some((scheme, rest)) = known else {
            return Err(Fault::Unusable(format!(
                "{} cannot be a video source: use a path, or a URL with rtsp, rtsps, http or https",
                redact::url(typed)
            )));
        };
        if typed.chars().any(char::is_control) {
            return Err(Fault::Unusable("a URL holds control characters".into()));
        }
        let (given, address) = split_account(rest);
        let account = match (account, given) {
            (Some((user, password)), _) => {
                format!("{}:{}@", encoded(user), encoded(password))
            }
            (None, Some(given)) => {
                let (user, password) = given.split_once(':').unwrap_or((given, ""));
                format!("{}:{}@", encoded_once(user), encoded_once(password))
            }
            (None, None) => String::new(),
        };
        let url = format!("{}://{account}{}", SCHEMES[scheme].0, address.replace(' ', "%20"));
        Ok(Location { place: VideoTarget::Url { typed: typed.into(), url, scheme } })
    }

    /// Whether this is a file, which ends and can start again.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.place, VideoTarget::File(_))
    }

    /// Whether the scheme is RTSP.
    pub(crate) fn is_rtsp(&self) -> bool {
        matches!(self.place, VideoTarget::Url { scheme: 0 | 1, .. })
    }

    /// The URL with its account, for the built-in client.
    pub(crate) fn secret_url(&self) -> Option<&str> {
        match &self.place {
            VideoTarget::Url { url, .. } => Some(url),
            VideoTarget::File(_) => None,
        }
    }

    /// Arguments of `ffmpeg` and `ffprobe` up to the input. The prefix `file:` prevents a path from
    /// being read as an option or as a protocol of the form `name:`.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        match &self.place {
            VideoTarget::File(path) => {
                let mut argument = OsString::from("file:");
                argument.push(path);
                vec!["-protocol_whitelist".into(), "file".into(), "-i".into(), argument]
            }
            VideoTarget::Url { scheme, .. } => {
                let list = ["-f", "concat", "-safe", "0", "-i", "pipe:0"];
                let whitelist = ["-protocol_whitelist", SCHEMES[*scheme].1];
                whitelist.iter().chain(&list).map(OsString::from).collect()
            }
        }
    }

    /// The standard input of `ffmpeg`: the URL, with options of its demuxer.
    pub(crate) fn list(&self, options: &[(String, String)]) -> Option<String> {
        let VideoTarget::Url { url, .. } = &self.place else { return None };
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let mut list = format!("ffconcat version 1.0\nfile {}\n", quoted(url));
        for (key, value) in options {
            let _ = writeln!(list, "option {key} {}", quoted(value));
        }
        Some(list)
    }

    /// Default demuxer options of a camera.
    pub(crate) fn usual_options(&self) -> Vec<(String, String)> {
        let options: &[(&str, &str)] = match self.is_rtsp() {
            true => &[("rtsp_transport", "tcp"), ("timeout", SILENCE)],
            false => &[("rw_timeout", SILENCE)],
        };
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// The location for messages, without secrets.
    pub(crate) fn shown(&self) -> String {
        match &self.place {
            VideoTarget::File(path) => redact::path(&path.to_string_lossy()),
            VideoTarget::Url { typed, .. } => shown_url(typed),
        }
    }

    /// Removes secrets from the output of a program.
    pub(crate) fn redact(&self, said: &str) -> String {
        let VideoTarget::Url { typed, url, .. } = &self.place else { return said.to_owned() };
        let shown = self.shown();
        let mut said = said.replace(url.as_str(), &shown).replace(typed.as_str(), &shown);
        let (_, rest) = url.split_once("://").unwrap_or_default();
        let (account, address) = split_account(rest);
        if let Some((_, password)) = account.and_then(|account| account.split_once(':')) {
            let plain = percent_encoding::percent_decode_str(password).decode_utf8_lossy();
            for secret in [password, &plain].into_iter().filter(|secret| secret.len() >= 3) {
                said = said.replace(secret, redact::HIDDEN);
            }
        }
        // Cameras have their own forms of user and password in path and query, and `ffmpeg`
        // rewrites addresses.
        if let Some(at) = address.find(['/', '?'])
            && redact::path(&address[at..]) != address[at..]
        {
            said = said.replace(&address[at..], &format!("/{}", redact::HIDDEN));
        }
        redact::said(&said, typed)
    }
}

/// A URL for messages, without account, query, or a path that may hold an account.
fn shown_url(typed: &str) -> String {
    let shown = redact::url(typed);
    shown.split_once('?').map_or(shown.clone(), |(address, _)| format!("{address}?***"))
}

/// Splits `user:password@` from the address. A password may contain `@` and `/`, and so may a path.
/// If the part before the first `/` is an address by itself, there is no account.
fn split_account(rest: &str) -> (Option<&str>, &str) {
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let is_address = |text: &str| {
        let port = text.rsplit_once(':').map_or("", |(_, port)| port.trim_end_matches(']'));
        text.starts_with('[') || port.chars().all(|c| c.is_ascii_digit())
    };
    if !authority.contains('@') && is_address(authority) {
        return (None, rest);
    }
    match rest.rsplit_once('@') {
        Some((account, address)) => (Some(account), address),
        None => (None, rest),
    }
}

/// Percent-encodes a user name or password.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, &PLAIN).to_string()
}

/// Percent-encodes a user name or password from a URL; existing escapes are kept.
fn encoded_once(text: &str) -> String {
    let is_hex = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    let mut out = String::new();
    for (at, letter) in text.char_indices() {
        if letter == '%' && is_hex(at + 1) && is_hex(at + 2) {
            out.push('%');
        } else {
            out.push_str(&encoded(letter.encode_utf8(&mut [0; 4])));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Location {
        Location::new(text).unwrap()
    }

    #[test]
    fn secrets_never_show() {
        for (typed, shown) in [
            ("rtsp://admin:secret@cam:554/live", "rtsp://***@cam:554/live"),
            ("rtsp://admin:se/cr@et@cam/live", "rtsp://***@cam/live"),
            ("http://cam/v.mjpg?user=admin&pwd=secret", "http://cam/v.mjpg?***"),
            ("http://cam/v?pwd=secret@x", "http://***@x"),
            ("rtsp://cam/live", "rtsp://cam/live"),
            ("RTSP://a:secret@cam/live", "RTSP://***@cam/live"),
        ] {
            assert_eq!(url(typed).shown(), shown);
        }
        for (typed, said) in [
            (
                "rtsp://a:s ecret@cam/live",
                "[tcp] 'rtsp://a:s ecret@cam/live': refused, http://b:secret@other/ too",
            ),
            (
                "rtsp://h/user=a_password=secret",
                "[rtsp] rtsp://h:554/user=a_password=secret: refused",
            ),
            ("rtsp://h:554/user=a_password=secret", "'/user=a_password=secret' refused"),
            ("rtsp://h/cam?loginpas=secret&x=1", "rtsp://h:554/cam?loginpas=secret&x=1 refused"),
            ("rtsp://a:se%23cret@cam/live", "se#cret refused"),
        ] {
            let location = url(typed);
            let redacted = location.redact(said);
            assert!(!redacted.contains("ecret"), "{redacted}");
            assert!(!location.shown().contains("ecret"), "{}", location.shown());
            assert!(redacted.contains("refused"), "{redacted}");
        }
    }

    #[test]
    fn special_characters_of_an_account_are_encoded_once() {
        for (typed, sent) in [
            (
                "rtsp://admin:p@ss/w#rd?@cam:554/live",
                "rtsp://admin:p%40ss%2Fw%23rd%3F@cam:554/live",
            ),
            ("rtsp://admin:p%40ss@cam/live", "rtsp://admin:p%40ss@cam/live"),
            ("rtsp://admin:100%@cam/live", "rtsp://admin:100%25@cam/live"),
            ("rtsp://cam:554/stream@1", "rtsp://cam:554/stream@1"),
            ("rtsp://[::1]:554/stream", "rtsp://[::1]:554/stream"),
            ("rtsp://a:b@[::1]:554/s", "rtsp://a:b@[::1]:554/s"),
        ] {
            assert_eq!(url(typed).secret_url(), Some(sent), "{typed}");
        }
        let given = Location::url("rtsp://cam/live", Some(("u'ser", "a:b%41"))).unwrap();
        assert_eq!(given.secret_url(), Some("rtsp://u%27ser:a%3Ab%2541@cam/live"));
    }

    #[test]
    fn the_list_holds_any_url() {
        let list = url("rtsp://cam/it's").list(&[("rtsp_transport".into(), "tcp".into())]).unwrap();
        assert!(
            list.contains("file 'rtsp://cam/it'\\''s'\noption rtsp_transport 'tcp'\n"),
            "{list}"
        );
        assert!(url("rtsp://a:b@cam/x").arguments().iter().all(|it| it != "rtsp://a:b@cam/x"));
    }

    #[test]
    fn strange_protocols_are_refused() {
        for url in ["concat://a|b", "gopher://host/x", "file:///etc/passwd", "subfile://x"] {
            assert!(matches!(Location::new(url), Err(Fault::Unusable(_))), "{url}");
        }
        assert!(matches!(Location::new("concat:/etc/passwd|x"), Err(Fault::Io { .. })));
        assert!(matches!(Location::new("/tmp"), Err(Fault::Unusable(_))));
    }

    #[test]
    fn a_path_never_becomes_an_option_and_a_web_playlist_never_a_file_reader() {
        let location = Location { place: VideoTarget::File("-y".into()) };
        assert!(location.arguments().contains(&"file:-y".into()));
        let web = Location::new("https://host/list.m3u8").unwrap();
        let reads = |it: &OsString| it.to_string_lossy().split(',').any(|it| it == "file");
        assert!(!web.arguments().iter().any(reads));
    }
}
