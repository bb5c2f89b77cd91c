//! Where a video is, and how little `ffmpeg` is allowed to do there.

use std::ffi::OsString;
use std::fs;

use crate::base::{Fault, redact};

/// Schemes of video locations, and the protocols `ffmpeg` may use for each. A playlist fetched from
/// a web server must not read local files, nor a local playlist reach into the network.
const SCHEMES: [(&str, &str); 4] = [
    ("rtsp", "rtsp,rtp,tcp,udp"),
    ("rtsps", "rtsp,rtsps,rtp,tcp,tls,udp"),
    ("http", "http,https,tcp,tls,crypto,data"),
    ("https", "http,https,tcp,tls,crypto,data"),
];

/// Microseconds without a byte after which a network camera counts as lost.
const SILENCE: &str = "10000000";

/// A location that has been looked at.
#[derive(Clone, Debug)]
pub(super) struct Location {
    text: String,
    /// Index into [`SCHEMES`], or a file.
    scheme: Option<usize>,
}

impl Location {
    /// Takes a path or URL, and for a path makes sure that something is there.
    pub(super) fn new(text: &str) -> Result<Self, Fault> {
        if let Some((scheme, _)) = text.split_once("://") {
            let known = SCHEMES.iter().position(|(name, _)| scheme.eq_ignore_ascii_case(name));
            return match known {
                Some(known) => Ok(Location { text: text.into(), scheme: Some(known) }),
                None => Err(Fault::Unusable(format!(
                    "{} cannot be a video source: use a path, or a URL with rtsp, rtsps, http or https",
                    redact::url(text)
                ))),
            };
        }
        // A mistyped URL is a path to no file.
        let shown = redact::path(text);
        let found =
            fs::metadata(text).map_err(|error| Fault::io(format!("video file {shown}"), error))?;
        if found.is_dir() {
            return Err(Fault::Unusable(format!("{shown} is a folder, not a video file")));
        }
        if found.is_file() && found.len() == 0 {
            return Err(Fault::Unusable(format!("{shown} is not a video: the file is empty")));
        }
        Ok(Location { text: text.into(), scheme: None })
    }

    /// Whether this is a file, so that it has an end and can begin anew.
    pub(super) fn is_file(&self) -> bool {
        self.scheme.is_none()
    }

    /// Input options for `ffmpeg` and `ffprobe` alike, before `-i`.
    pub(super) fn options(&self) -> Vec<&'static str> {
        let Some(scheme) = self.scheme else {
            return vec!["-protocol_whitelist", "file"];
        };
        let (name, protocols) = SCHEMES[scheme];
        let mut options = vec!["-protocol_whitelist", protocols];
        if name.starts_with("rtsp") {
            options.extend(["-rtsp_transport", "tcp", "-timeout", SILENCE]);
        } else {
            options.extend(["-rw_timeout", SILENCE]);
        }
        options
    }

    /// The argument of `-i`. The prefix keeps a path from being taken for an option, or for one of
    /// the protocols that look like `name:`.
    pub(super) fn argument(&self) -> OsString {
        match self.scheme {
            Some(_) => self.text.clone().into(),
            None => format!("file:{}", self.text).into(),
        }
    }

    /// The location without secrets, for messages.
    pub(super) fn shown(&self) -> String {
        if self.is_file() {
            return redact::path(&self.text);
        }
        // A camera's query holds names and passwords in forms of its own.
        let shown = redact::url(&self.text);
        shown.split_once('?').map_or(shown.clone(), |(address, _)| format!("{address}?***"))
    }

    /// What a program said, with every URL in it stripped of secrets.
    pub(super) fn redact(&self, said: &str) -> String {
        if self.is_file() {
            return said.to_owned();
        }
        redact::said(&said.replace(&self.text, &self.shown()), &self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_show() {
        for (url, shown) in [
            ("rtsp://admin:secret@cam:554/live", "rtsp://***@cam:554/live"),
            ("rtsp://admin:se/cr@et@cam/live", "rtsp://***@cam/live"),
            ("http://cam/v.mjpg?user=admin&pwd=secret", "http://cam/v.mjpg?***"),
            ("http://cam/v?pwd=secret@x", "http://***@x"),
            ("rtsp://cam/live", "rtsp://cam/live"),
        ] {
            assert_eq!(Location::new(url).unwrap().shown(), shown);
        }
        let location = Location::new("rtsp://a:s ecret@cam/live").unwrap();
        let said = "[tcp @ 0x5] 'rtsp://a:s ecret@cam/live': refused, http://b:secret@other/ too";
        let redacted = location.redact(said);
        assert!(!redacted.contains("ecret"), "{redacted}");
        assert!(redacted.contains("refused") && redacted.contains("[tcp @ 0x5]"), "{redacted}");
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
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("-y");
        fs::write(&path, b"x").unwrap();
        let location = Location { text: "-y".into(), scheme: None };
        assert_eq!(location.argument(), "file:-y");
        let web = Location::new("https://host/list.m3u8").unwrap();
        assert!(web.options().iter().all(|option| !option.split(',').any(|it| it == "file")));
    }
}
