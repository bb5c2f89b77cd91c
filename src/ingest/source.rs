//! Location of a camera from the configuration: URLs, files that hold URLs, accounts.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use url::Url;

use crate::base::text;
use crate::camera::video::Location;
use crate::config::{CameraConfig, FeedConfig, InputArg, RtspTransport, Secret};

/// Maximum bytes read from a source or credentials file.
const FILE_BYTES_MAX: u64 = 8 << 10;

/// A camera to read, and how to read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Camera id.
    pub id: String,
    /// Settings for reading it.
    pub feed: FeedConfig,
    pub(super) source: Option<Secret>,
    pub(super) source_file: Option<PathBuf>,
    pub(super) credentials_file: Option<PathBuf>,
    pub(super) fallback: Option<Secret>,
    pub(super) input_args: Vec<InputArg>,
}

/// A location that can be opened.
#[derive(Clone, Debug)]
pub(super) struct OpenLocation {
    pub(super) location: Location,
}

impl Spec {
    /// The spec of a configured camera.
    pub fn of(camera: &CameraConfig) -> Spec {
        Spec {
            id: camera.id.clone(),
            feed: camera.feed.clone(),
            source: camera.source.clone(),
            source_file: camera.source_file.clone(),
            credentials_file: camera.credentials_file.clone(),
            fallback: camera.fallback.clone(),
            input_args: camera.input_args.clone(),
        }
    }

    /// A camera at the URL `source`.
    pub fn at(id: &str, source: &str, feed: FeedConfig) -> Spec {
        let camera =
            CameraConfig { source: Some(Secret::new(source)), feed, ..CameraConfig::named(id) };
        Spec::of(&camera)
    }

    /// The same, with credentials, fallback and input arguments of a configured camera.
    #[must_use]
    pub fn like(self, camera: &CameraConfig) -> Spec {
        let (credentials_file, fallback) =
            (camera.credentials_file.clone(), camera.fallback.clone());
        Spec { credentials_file, fallback, input_args: camera.input_args.clone(), ..self }
    }

    /// Checks the spec without opening the camera.
    ///
    /// What is wrong, without secrets.
    pub fn check(&self) -> Result<(), String> {
        self.place(false).map(|_| ())
    }

    /// Reads the files and assembles the location; `other` selects the fallback.
    pub(super) fn place(&self, other: bool) -> Result<OpenLocation, String> {
        let typed = match (other, &self.fallback, &self.source, &self.source_file) {
            (true, Some(fallback), ..) => fallback.expose().to_owned(),
            (_, _, Some(source), _) => source.expose().to_owned(),
            (_, _, None, Some(file)) => read_line(file, false)?,
            _ => return Err("the camera has no source".into()),
        };
        let account = match &self.credentials_file {
            Some(file) => {
                let line = read_line(file, true)?;
                let (user, password) = line
                    .split_once(':')
                    .ok_or_else(|| format!("{} does not contain user:password", file.display()))?;
                Some((user.to_owned(), password.to_owned()))
            }
            None => None,
        };
        let account = account.as_ref().map(|(user, word)| (user.as_str(), word.as_str()));
        let location = Location::url(&typed, account).map_err(|fault| fault.to_string())?;
        Ok(OpenLocation { location })
    }
}

impl OpenLocation {
    /// Host and port.
    pub(super) fn authority(&self) -> Option<(String, u16)> {
        authority(&Url::parse(self.location.secret_url()?).ok()?)
    }

    /// Demuxer options.
    pub(super) fn options(&self, feed: &FeedConfig, udp: bool) -> Vec<(String, String)> {
        let mut options: Vec<(&str, String)> = Vec::new();
        let longest = feed.open_timeout_ms.max(feed.no_frame_ms) * 1000;
        if self.location.is_rtsp() {
            let udp = udp || feed.transport == RtspTransport::Udp;
            options.push(("rtsp_transport", if udp { "udp" } else { "tcp" }.into()));
            options.push(("allowed_media_types", "video".into()));
            options.push(("timeout", longest.to_string()));
        } else {
            options.push(("rw_timeout", longest.to_string()));
        }
        options.push(("analyzeduration", "500000".into()));
        options.push(("fpsprobesize", "0".into()));
        options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// Host and port of a URL.
pub(super) fn authority(url: &Url) -> Option<(String, u16)> {
    let usual = if url.scheme() == "rtsps" { 322 } else { 554 };
    let port = url.port_or_known_default().unwrap_or(usual);
    Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), port))
}

/// Reads the only line of a small file. A file that holds a secret must be accessible only to its
/// owner.
fn read_line(path: &Path, is_secret: bool) -> Result<String, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("{shown} cannot be read: {error}");
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    if is_secret && about.mode() & 0o077 != 0 {
        let mode = about.mode() & 0o777;
        return Err(format!("{shown} has mode {mode:o} and others can read it: chmod 600"));
    }
    let mut line = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut line).map_err(failed)?;
    let line = line.trim_matches(['\n', '\r', '\u{feff}']);
    if line.is_empty() || text::line(line) != line {
        return Err(format!("{shown} does not hold one line of text"));
    }
    Ok(line.to_owned())
}
