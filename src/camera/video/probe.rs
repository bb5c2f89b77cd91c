//! Asks `ffprobe` about a video before the first frame is read.

use std::ffi::OsString;

use serde_json::Value;

use super::child::Piped;
use super::location::Location;
use crate::base::{Fault, Stop};
use crate::camera::SIDE_MAX;

/// Maximum length of an answer, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Shape and rate of a video.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct VideoShape {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) fps: Option<f64>,
    pub(super) frames: Option<u64>,
}

/// Runs `ffprobe`.
pub(super) fn probe(location: &Location, stop: &Stop) -> Result<VideoShape, Fault> {
    let entries = "stream=width,height,sample_aspect_ratio,avg_frame_rate,r_frame_rate,nb_frames,duration\
                   :stream_tags=rotate:stream_side_data=rotation:format=duration";
    let mut arguments: Vec<OsString> = vec!["-v".into(), "level+error".into()];
    arguments.extend(
        ["-select_streams", "v:0", "-show_entries", entries, "-of", "json"].map(OsString::from),
    );
    arguments.extend(location.arguments());
    let list = location.list(&location.usual_options());
    let mut child = Piped::start("ffprobe", arguments, list.as_ref().map(String::as_bytes), stop)?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let length = child.fill(&mut answer)?;
    let status = child.finish()?;
    let shown = location.shown();
    if stop.is_draining() {
        return Err(Fault::Unusable(format!("{shown} was not opened: stopped before that")));
    }
    if !status.success() {
        let said = child
            .words()
            .explanation()
            .map_or_else(|| status.to_string(), |line| location.redact(line));
        return Err(Fault::Unusable(format!(
            "{shown} is not a video that ffmpeg can read: {said}"
        )));
    }
    read_answer(&answer[..length])
        .map_err(|detail| Fault::Unusable(format!("{shown} is not a usable video: {detail}")))
}

fn read_answer(json: &[u8]) -> Result<VideoShape, String> {
    let answer: Value = serde_json::from_slice(json)
        .map_err(|error| format!("ffprobe's answer is not JSON: {error}"))?;
    let stream = &answer["streams"][0];
    if stream.is_null() {
        return Err("it has no picture stream".into());
    }
    let side = |name: &str| {
        let pixels = stream[name].as_u64().and_then(|side| u32::try_from(side).ok());
        pixels
            .filter(|side| (1..=SIDE_MAX).contains(side))
            .ok_or_else(|| format!("its {name} is {}, not 1 to {SIDE_MAX}", stream[name]))
    };
    let (mut width, mut height) = (side("width")?, side("height")?);
    let ratio = ratio(&stream["sample_aspect_ratio"]);
    if ratio > 1.02 {
        width = square(width, ratio);
    } else if ratio < 0.98 {
        height = square(height, 1.0 / ratio);
    }
    if lies_on_its_side(stream) {
        (width, height) = (height, width);
    }
    let fps = rate(&stream["avg_frame_rate"]).or_else(|| rate(&stream["r_frame_rate"]));
    let counted = stream["nb_frames"].as_str().and_then(|text| text.parse().ok());
    let seconds = [&stream["duration"], &answer["format"]["duration"]]
        .into_iter()
        .find_map(|value| value.as_str()?.parse::<f64>().ok());
    let estimated = || Some((seconds? * fps?).round() as u64);
    Ok(VideoShape {
        width,
        height,
        fps,
        frames: counted.or_else(estimated).filter(|&count| count > 0),
    })
}

/// Aspect ratio of a sample (width / height); 1 if it is not known.
fn ratio(value: &Value) -> f64 {
    let parts = value.as_str().and_then(|text| text.split_once(':'));
    let parts = parts.and_then(|(w, h)| Some(w.parse::<f64>().ok()? / h.parse::<f64>().ok()?));
    parts.filter(|ratio| ratio.is_finite() && (0.1..=10.0).contains(ratio)).unwrap_or(1.0)
}

/// Scales a side so that samples become square; rounded to an even number, as in the filter.
fn square(side: u32, ratio: f64) -> u32 {
    ((f64::from(side) * ratio / 2.0 + 0.5).floor() as u32 * 2).clamp(2, SIDE_MAX)
}

/// Whether `ffmpeg` rotates the pictures by 90 degrees, as it does automatically for phone videos.
fn lies_on_its_side(stream: &Value) -> bool {
    let tagged = stream["tags"]["rotate"].as_str().and_then(|text| text.parse::<f64>().ok());
    let listed = stream["side_data_list"].as_array();
    let listed = listed.and_then(|list| list.iter().find_map(|data| data["rotation"].as_f64()));
    listed.or(tagged).is_some_and(|degrees| (degrees.rem_euclid(180.0) - 90.0).abs() < 45.0)
}

/// A rate written as a fraction; `0/0` means unknown.
fn rate(value: &Value) -> Option<f64> {
    let (upper, lower) = value.as_str()?.split_once('/')?;
    let fps = upper.parse::<f64>().ok()? / lower.parse::<f64>().ok()?;
    (fps.is_finite() && fps > 0.0).then_some(fps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let json = br#"{"streams": [{"width": 768, "height": 432, "avg_frame_rate": "25/2",
            "r_frame_rate": "25/1", "nb_frames": "377"}], "format": {"duration": "30.2"}}"#;
        let shape = VideoShape { width: 768, height: 432, fps: Some(12.5), frames: Some(377) };
        assert_eq!(read_answer(json), Ok(shape));
    }

    #[test]
    fn what_is_not_said_is_estimated_or_left_open() {
        let json = br#"{"streams": [{"width": 4, "height": 2, "avg_frame_rate": "0/0",
            "r_frame_rate": "10/1", "side_data_list": [{"rotation": -90}]}],
            "format": {"duration": "3.0"}}"#;
        let shape = VideoShape { width: 2, height: 4, fps: Some(10.0), frames: Some(30) };
        assert_eq!(read_answer(json), Ok(shape));
        let live = br#"{"streams": [{"width": 4, "height": 2, "avg_frame_rate": "0/0"}]}"#;
        let shape = VideoShape { width: 4, height: 2, fps: None, frames: None };
        assert_eq!(read_answer(live), Ok(shape));
    }

    #[test]
    fn sound_without_pictures_and_sizes_without_sense_are_refused() {
        assert!(read_answer(br#"{"streams": []}"#).is_err());
        assert!(read_answer(br#"{"streams": [{"width": 0, "height": 2}]}"#).is_err());
        assert!(read_answer(br#"{"streams": [{"width": 9, "height": 99999999}]}"#).is_err());
        assert!(read_answer(b"").is_err());
    }
}
