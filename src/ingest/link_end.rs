//! How the connection to a camera ends.

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// A stable identifier: `auth`, `changed`, `config`, `ended`, `ring`, `same_frame`, `stalled`,
    /// `timeout`, `transport` or `unreachable`.
    pub(super) reason: &'static str,
    /// Message for the user, without secrets.
    pub(super) text: String,
}

impl Loss {
    pub(super) fn new(reason: &'static str, text: impl Into<String>) -> Loss {
        Loss { reason, text: text.into() }
    }
}

/// A finding about the camera that requires a different link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkFinding {
    /// The camera sends JPEG files, which can be passed on.
    Mjpeg,
    /// The camera sends another format.
    NotMjpeg,
    /// The pictures are interlaced.
    Interlaced,
    /// The size of the pictures changed.
    Resized,
    /// The hardware decoder failed.
    NoHardware,
    /// Entries cannot name the colour matrix of the pictures.
    OtherColours,
    /// The address does not deliver JPEG files over HTTP, but perhaps a stream for `ffmpeg`.
    NotWeb,
}

/// How a link ends: lost, or replaced because of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LinkEnd {
    Lost(Loss),
    Found(LinkFinding),
}

impl From<Loss> for LinkEnd {
    fn from(loss: Loss) -> LinkEnd {
        LinkEnd::Lost(loss)
    }
}
