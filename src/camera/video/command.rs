//! The command lines of `ffmpeg`.

use std::ffi::OsString;

use super::location::Location;

/// Requested form of the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodedPixels {
    /// Interleaved RGB.
    Rgb,
    /// Planes of luma and chroma, chroma halved in both directions, with the decoder's range and
    /// matrix.
    Planes,
    /// The same planes, converted to full range and BT.601 as in JPEG.
    JpegPlanes,
    /// The camera's own JPEG files.
    Copy,
}

/// How a video is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The form of the pictures.
    pub(crate) pixels: DecodedPixels,
    /// Size to letterbox them to, in pixels; `None` for the video's own size with square pixels.
    pub(crate) size: Option<(u32, u32)>,
    /// Whether a file starts again at its end.
    pub(crate) repeat: bool,
    /// Settings of a live camera.
    pub(crate) live: Option<LiveOptions>,
}

/// How a live camera is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveOptions {
    /// Threads of the decoder.
    pub(crate) threads: u32,
    /// Whether only key frames are decoded.
    pub(crate) keyframes: bool,
    /// Whether the pictures are interlaced.
    pub(crate) interlaced: bool,
    /// Hardware decoder, and the codec, which some kinds of hardware need.
    pub(crate) hwaccel: Option<(String, String)>,
    /// Further options before the input.
    pub(crate) options: Vec<(String, String)>,
}

/// Arguments of `ffmpeg`, without the program name.
pub(crate) fn arguments(location: &Location, reading: &Reading) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["-nostdin", "-hide_banner", "-nostats", "-v"].map(OsString::from).into();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    match &reading.live {
        // `ffmpeg` describes the output only at this level.
        None => add(&["level+info"]),
        Some(live) => {
            // `ffmpeg` describes input and filters only at this level.
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
        DecodedPixels::Copy => add(&["-c:v", "copy"]),
        DecodedPixels::Rgb | DecodedPixels::Planes | DecodedPixels::JpegPlanes => {
            add(&["-vf", &filters(reading), "-c:v", "rawvideo"]);
            // Without scaling, a change of size shows in the length of the frames.
            if reading.size.is_none() {
                add(&["-autoscale", "0"]);
            }
        }
    }
    add(&["-f", "nut", "-write_index", "0", "-flush_packets", "1", "pipe:1"]);
    arguments
}

fn live_options(live: &LiveOptions, add: &mut impl FnMut(&[&str])) {
    add(&["-threads", &live.threads.to_string()]);
    // Not `nobuffer`: it discards the key frame by which the stream was recognised, and the next
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

/// Makes pixels square first, so that letterboxing uses the displayed aspect ratio.
fn filters(reading: &Reading) -> String {
    let colour = match reading.pixels {
        DecodedPixels::JpegPlanes => ":out_color_matrix=bt601:out_range=full,format=yuvj420p",
        // `ffmpeg` keeps whichever of the two the decoder yields.
        DecodedPixels::Planes => ",format=yuv420p|yuvj420p",
        DecodedPixels::Rgb => ",format=rgb24",
        DecodedPixels::Copy => "",
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
