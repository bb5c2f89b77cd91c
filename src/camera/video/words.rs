//! Parses the standard error of `ffmpeg` line by line.

use std::collections::VecDeque;

/// Longest line kept, in bytes; the rest of a longer one is dropped.
const LINE_BYTES_MAX: usize = 2048;
/// Maximum number of waiting lines; beyond that, the oldest are dropped.
const LINES_MAX: usize = 64;

/// Severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LineLevel {
    Told,
    Warning,
    Error,
}

/// One line, without object addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) level: LineLevel,
    pub(crate) text: String,
}

/// Collected lines of one program.
#[derive(Debug, Default)]
pub(crate) struct FfmpegOutput {
    partial: Vec<u8>,
    cut: bool,
    lines: VecDeque<LogLine>,
    /// Lines about input, filters and hardware, for the reader.
    notes: Vec<String>,
    /// Whether the current lines describe the output, and the line about its video.
    in_output: bool,
    output_video: Option<String>,
    /// The first error since [`FfmpegOutput::forget`]; later ones are consequences of it.
    first_error: Option<String>,
    last: Option<String>,
    /// Level of the previous line, once lines have levels; a line without a level continues it.
    level: Option<LineLevel>,
    damages: u64,
    first_damage: Option<String>,
}

/// Substrings of lines that describe how a video is read.
const NOTES: [&str; 5] = [
    ": Video: ",
    "[graph 0 input",
    "hwaccel initialisation returned error",
    "Device creation failed",
    "No device available for decoder",
];

/// Errors that only report the consequence of an earlier one.
const CONSEQUENCES: [&str; 6] = [
    "Impossible to open",
    "Conversion failed",
    "Error opening",
    "Could not find codec parameters",
    "Error while decoding stream",
    "could not find codec parameters",
];

/// Prefixes of lines from decoders. Each error of a decoder concerns a picture.
const DECODERS: [&str; 8] =
    ["[h264]", "[hevc]", "[mjpeg]", "[mpeg4]", "[mpeg2video]", "[vp8]", "[vp9]", "[av1]"];

/// Substrings of lines that demuxers and decoders write about a damaged picture.
const DAMAGES: [&str; 16] = [
    "error while decoding",
    "concealing",
    "corrupt",
    "Invalid NAL",
    "invalid data found when processing input",
    "decode_slice",
    "non-existing PPS",
    "no frame!",
    "reference picture missing",
    "Missing reference",
    "missing picture",
    "ac-tex damaged",
    "overread",
    "Could not find ref",
    "RTP: missed",
    "bad vlc",
];

impl FfmpegOutput {
    /// Adds received bytes.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' || *byte == b'\r' {
                self.end_line();
            } else if self.partial.len() < LINE_BYTES_MAX {
                self.partial.push(*byte);
            } else {
                self.cut = true;
            }
        }
    }

    /// Ends the input; an unterminated line counts as a line.
    pub(crate) fn end(&mut self) {
        self.end_line();
    }

    /// Removes and returns the oldest waiting line.
    pub(crate) fn take(&mut self) -> Option<LogLine> {
        self.lines.pop_front()
    }

    /// Removes and returns the lines about input, filters and hardware.
    pub(crate) fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// The line that describes the output video.
    pub(crate) fn output_video(&self) -> Option<&str> {
        self.output_video.as_deref()
    }

    /// The first error since the last picture.
    pub(crate) fn error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// The line that best explains why the program failed.
    pub(crate) fn explanation(&self) -> Option<&str> {
        self.first_error.as_deref().or(self.last.as_deref())
    }

    /// Forgets the first error. Called when a picture arrives, because earlier errors then do not
    /// explain a later failure.
    pub(crate) fn forget(&mut self) {
        self.first_error = None;
    }

    /// Number of lines about damaged pictures.
    pub(crate) fn damages(&self) -> u64 {
        self.damages
    }

    /// The first line about a damaged picture.
    pub(crate) fn first_damage(&self) -> Option<&str> {
        self.first_damage.as_deref()
    }

    fn end_line(&mut self) {
        let mut bytes = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.cut) {
            bytes.extend_from_slice(b" ...");
        }
        let line = read(&String::from_utf8_lossy(&bytes), &mut self.level);
        bytes.clear();
        self.partial = bytes;
        if line.text.is_empty() {
            return;
        }
        let lower = line.text.to_ascii_lowercase();
        let of_decoder = DECODERS.iter().any(|decoder| line.text.starts_with(decoder));
        let is_damage = DAMAGES.iter().any(|damage| lower.contains(&damage.to_ascii_lowercase()));
        if (line.level == LineLevel::Error && of_decoder)
            || (line.level >= LineLevel::Warning && is_damage)
        {
            self.damages += 1;
            self.first_damage.get_or_insert_with(|| line.text.clone());
        }
        if line.level == LineLevel::Error {
            let explains = !CONSEQUENCES.iter().any(|text| line.text.contains(text));
            if explains && self.first_error.is_none() {
                self.first_error = Some(line.text.clone());
            }
        }
        if line.level > LineLevel::Told {
            self.last = Some(line.text.clone());
        }
        if line.level == LineLevel::Told && line.text.starts_with("Output #") {
            self.in_output = true;
        } else if self.in_output && line.text.contains(": Video: ") {
            self.output_video.get_or_insert_with(|| line.text.clone());
        } else if NOTES.iter().any(|note| line.text.contains(note)) && self.notes.len() < LINES_MAX
        {
            self.notes.push(line.text.clone());
        }
        // Informational lines are not logged.
        if line.level == LineLevel::Told {
            return;
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// Removes level and addresses from a line such as `[rtsp @ 0x55] [error] no`.
fn read(said: &str, before: &mut Option<LineLevel>) -> LogLine {
    // Without levels, every line counts as a warning, so that the last line is the explanation.
    let mut level = before.unwrap_or(LineLevel::Warning);
    let mut text = String::new();
    let mut rest = said.trim();
    while let Some((tag, behind)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        match tag {
            "panic" | "fatal" | "error" => level = LineLevel::Error,
            "warning" => level = LineLevel::Warning,
            "info" | "verbose" | "debug" | "trace" => level = LineLevel::Told,
            _ => {
                rest = behind.trim_start();
                let name = tag.split_once(" @ 0x").map_or(tag, |(name, _)| name);
                text.push_str(&format!("[{name}] "));
                continue;
            }
        }
        rest = behind.trim_start();
        *before = Some(level);
    }
    text.push_str(rest);
    LogLine { level, text: text.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_explains_and_later_ones_only_follow() {
        let mut words = FfmpegOutput::default();
        words
            .hear(b"[tcp @ 0x5] [verbose] Starting connection\n[rtsp @ 0x55d] [error] method DESC");
        words.hear(
            b"RIBE failed: 401 Unauthorized\n[concat @ 0x1] [error] Impossible to open 'x'\n",
        );
        words.hear(b"[error] pipe:0: Server returned 401 Unauthorized");
        words.end();
        assert_eq!(words.explanation(), Some("[rtsp] method DESCRIBE failed: 401 Unauthorized"));
        let levels: Vec<_> = std::iter::from_fn(|| words.take()).map(|line| line.level).collect();
        assert_eq!(levels, [LineLevel::Error, LineLevel::Error, LineLevel::Error]);
    }

    #[test]
    fn a_flood_is_bounded_and_damage_is_counted() {
        let mut words = FfmpegOutput::default();
        for _ in 0..1000 {
            words.hear(b"[h264 @ 0x1] [error] error while decoding MB 3 7, bytestream 5\n");
        }
        words.hear(&[b'x'; 100_000]);
        words.end();
        assert_eq!((words.damages(), words.lines.len()), (1000, 64));
        assert!(words.lines.iter().all(|line| line.text.len() < LINE_BYTES_MAX + 8));
        assert!(words.first_damage().is_some_and(|line| line.starts_with("[h264] error while")));
    }
}
