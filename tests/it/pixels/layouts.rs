//! Raw layouts as FFmpeg writes and reads them.

use std::io::Write;
use std::process::{Command, Stdio};

use framepress::internals::wire::proto::ImageData;

use super::pictures::result_of;
use crate::support::{Sample, decoded, has_program, mean_difference, protobuf_of, skip};

/// Mean difference from FFmpeg's conversion, in levels.
const LEVELS_MAX: f64 = 2.0;

/// FFmpeg's conversion of raw frames.
fn ffmpeg(input: &[u8], from: &str, to: &str, size: (usize, usize), filter: &str) -> Vec<u8> {
    let size = format!("{}x{}", size.0, size.1);
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "rawvideo", "-pix_fmt", from, "-s", &size, "-i", "-"])
        .args(["-vf", filter, "-pix_fmt", to, "-f", "rawvideo", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

#[test]
fn colours_are_those_that_ffmpeg_gives() {
    if !has_program("ffmpeg") {
        return skip("the program ffmpeg is not installed");
    }
    let lossless = [("redis_queue.enable_compression", "false"), ("analysis.enabled", "false")];
    // FFmpeg scales pictures of odd size, and so places chroma between pixels.
    for (width, height, more) in [(96, 64, 0.0), (97, 63, 1.0)] {
        let sample = Sample::colour(width, height, 4);
        let size = (width, height);
        for layout in ["rgb24", "bgr24", "rgba", "bgra", "yuv420p", "yuvj420p", "nv12", "yuyv422"] {
            let is_yuv = !layout.contains("rgb") && !layout.contains("bgr");
            // FFmpeg has no YUYV of odd width.
            if layout == "yuyv422" && width % 2 == 1 {
                continue;
            }
            for (matrix, range) in
                [("", ""), ("bt709", ""), ("bt601", "full"), ("bt709", "limited")]
            {
                if !is_yuv && !matrix.is_empty() {
                    continue;
                }
                let (named, span) = (
                    if matrix.is_empty() { "bt601" } else { matrix },
                    match (layout, range) {
                        ("yuvj420p", "") => "full",
                        (_, "") => "limited",
                        (_, range) => range,
                    },
                );
                // Without these flags FFmpeg rounds some layouts down by two levels, but not
                // others.
                let flags = "flags=neighbor+accurate_rnd+full_chroma_int";
                let with =
                    |side: &str| format!("{side}_color_matrix={named}:{side}_range={span}:{flags}");
                let (write, read) = match is_yuv {
                    true => (format!("scale={}", with("out")), format!("scale={}", with("in"))),
                    false => ("null".to_owned(), "null".to_owned()),
                };
                // The name `yuvj420p` would set the range a second time.
                let plain = if layout == "yuvj420p" { "yuv420p" } else { layout };
                let frame = ffmpeg(&sample.pixels, "rgb24", plain, size, &write);
                let reference = ffmpeg(&frame, plain, "rgb24", size, &read);
                let reference = Sample { pixels: reference, ..sample.clone() };
                let image = ImageData {
                    compressed_data: frame,
                    width: width as i32,
                    height: height as i32,
                    compression_format: layout.to_owned(),
                    color_matrix: matrix.to_owned(),
                    color_range: range.to_owned(),
                    ..Default::default()
                };
                let what = format!("{layout} {matrix} {range} {width}x{height}");
                for (flags, most) in [(&lossless[..], LEVELS_MAX), (&[], 2.0 * LEVELS_MAX)] {
                    let entry = protobuf_of("f", "cam", image.clone());
                    let out = decoded(&result_of(&entry, flags).original_image.unwrap());
                    let off = mean_difference(&reference, &out);
                    assert!(off <= if is_yuv { most + more } else { most }, "{what}: {off}");
                }
            }
        }
    }
}
