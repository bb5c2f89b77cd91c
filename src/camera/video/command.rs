//! The command lines of `ffmpeg`.

use std::ffi::OsString;

use super::location::Location;

/// In which form pictures are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pixels {
    /// Interleaved RGB.
    Rgb,
    /// Planes of luma and chroma, chroma halved both ways, as the decoder made them.
    Planes,
    /// The same as JPEG has them: full range, BT.601.
    JpegPlanes,
    /// The camera's own JPEG files.
    Copy,
}

/// How a video is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The form of the pictures.
    pub(crate) pixels: Pixels,
    /// Their size, letterboxed; `None` for the video's own, with square pixels.
    pub(crate) size: Option<(u32, u32)>,
    /// A file begins anew at its end.
    pub(crate) repeat: bool,
    /// What a camera that is there now needs.
    pub(crate) live: Option<Live>,
}

/// How a live camera is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    /// Threads of the decoder.
    pub(crate) threads: u32,
    /// Only pictures that need no other ones are decoded.
    pub(crate) keyframes: bool,
    /// The pictures come as two fields.
    pub(crate) interlaced: bool,
    /// Hardware that decodes, and the codec, for the kinds that want to be told.
    pub(crate) hwaccel: Option<(String, String)>,
    /// Further options before the input.
    pub(crate) options: Vec<(String, String)>,
}

/// The arguments of `ffmpeg`, after the program's name.
pub(crate) fn arguments(location: &Location, reading: &Reading) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["-nostdin", "-hide_banner", "-nostats", "-v"].map(OsString::from).into();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    match &reading.live {
        // The output is described at this level only.
        None => add(&["level+info"]),
        Some(live) => {
            // Input and filters are described at this level only.
            add(&["level+verbose"]);
            live_options(live, &mut add);
        }
    }
    if reading.repeat && location.is_file() {
        add(&["-stream_loop", "-1"]);
    }
    arguments.extend(location.arguments());
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "1/1000000"]);
    if reading.live.is_some() {
        add(&["-copyts"]);
    }
    match reading.pixels {
        Pixels::Copy => add(&["-c:v", "copy"]),
        Pixels::Rgb | Pixels::Planes | Pixels::JpegPlanes => {
            add(&["-vf", &filters(reading), "-c:v", "rawvideo"]);
            // Frames of another size than the first are noticed by their length.
            if reading.size.is_none() {
                add(&["-autoscale", "0"]);
            }
        }
    }
    add(&["-f", "nut", "-write_index", "0", "-flush_packets", "1", "pipe:1"]);
    arguments
}

fn live_options(live: &Live, add: &mut impl FnMut(&[&str])) {
    add(&["-threads", &live.threads.to_string()]);
    // Not `nobuffer`: it throws away the key frame with which the stream was recognised, and the next
    // one may be seconds away.
    add(&["-fflags", "discardcorrupt", "-flags", "low_delay"]);
    add(&["-analyzeduration", "500000", "-fpsprobesize", "0"]);
    add(&["-use_wallclock_as_timestamps", "1"]);
    if live.keyframes {
        add(&["-skip_frame", "nokey"]);
    }
    match live.hwaccel.as_ref().map(|(kind, codec)| (kind.as_str(), codec)) {
        None => {}
        Some(("v4l2m2m", codec)) => add(&["-c:v", &format!("{codec}_v4l2m2m")]),
        Some(("qsv", codec)) => add(&["-hwaccel", "qsv", "-c:v", &format!("{codec}_qsv")]),
        Some((kind, _)) => add(&["-hwaccel", kind]),
    }
    for (key, value) in &live.options {
        add(&[&format!("-{key}"), value]);
    }
}

/// Pixels become square first: a size is letterboxed as the picture is meant to be seen.
fn filters(reading: &Reading) -> String {
    let colour = match reading.pixels {
        Pixels::JpegPlanes => ":out_color_matrix=bt601:out_range=full,format=yuvj420p",
        // Whichever of the two it is already.
        Pixels::Planes => ",format=yuv420p|yuvj420p",
        Pixels::Rgb => ",format=rgb24",
        Pixels::Copy => "",
    };
    let mut filters = String::new();
    if reading.live.as_ref().is_some_and(|live| live.interlaced) {
        filters.push_str("yadif=deint=interlaced,");
    }
    filters.push_str(
        "scale=w='if(gt(sar,1.02),trunc(iw*sar/2+0.5)*2,iw)'\
         :h='if(gt(sar,0)*lt(sar,0.98),trunc(ih/sar/2+0.5)*2,ih)'",
    );
    if let Some((width, height)) = reading.size {
        filters.push_str(&format!(
            ",setsar=1,scale={width}:{height}:force_original_aspect_ratio=decrease{colour}\
             ,pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,setsar=1"
        ));
    } else {
        filters.push_str(&format!("{colour},setsar=1"));
    }
    filters
}
