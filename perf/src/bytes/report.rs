//! Tables, curves and goals.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Found, Mode, QUALITIES, Series};
use crate::Outcome;
use crate::folder::Folder;
use crate::plot::{self, Axes};

/// The second goal applies to files below this size, in bytes.
const SMALL_BYTES: f64 = 15_000.0;
/// Bytes of adaptive tables over those of Pillow's two passes, from the second second on.
const GOAL_BYTES: f64 = 1.03;
const GOAL_BYTES_SMALL: f64 = 1.05;
/// CPU of adaptive tables over that of standard ones.
const GOAL_CPU: f64 = 1.02;
/// A second after the scene changes, bytes over those of two passes.
const GOAL_CUT: f64 = 1.02;

fn mode<'a>(found: &'a Found, format: &str, quality: u8, name: &str) -> Option<&'a Mode> {
    found
        .modes
        .iter()
        .find(|mode| (mode.format, mode.quality, &*mode.mode) == (format, quality, name))
}

fn pillow<'a>(found: &'a Found, key: &str) -> Option<&'a Series> {
    found.pillow.as_ref()?.get(key)
}

fn sum(sizes: &[usize]) -> f64 {
    sizes.iter().sum::<usize>() as f64
}

pub fn text(all: &[Found]) -> Outcome<(String, bool)> {
    let mut text = String::from("## Bytes\n");
    let mut is_met = true;
    writeln!(
        text,
        "\nJPEG: kB and CPU milliseconds a frame. `adaptive` begins with the built-in tables and learns; \
         its CPU includes learning. Ratios: adaptive by Pillow's `optimize` in bytes, from the second \
         second on; adaptive by standard in CPU, from there on. All modes give the same pixels.\n\n\
         | scene | q | standard | adaptive | two passes | recoding | Pillow | bytes by Pillow | CPU by standard | PSNR | SSIM |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for found in all {
        for quality in QUALITIES {
            let of = |name| mode(found, "jpeg", quality, name);
            let (Some(standard), Some(adaptive), Some(two), Some(recoding)) =
                (of("standard"), of("adaptive"), of("two passes"), of("lossless recoding"))
            else {
                continue;
            };
            let theirs = pillow(found, &format!("jpeg {quality}"));
            let from = found.fps.min(found.frames / 2);
            let bytes = theirs
                .map(|theirs| sum(&adaptive.series.sizes[from..]) / sum(&theirs.sizes[from..]));
            let time = |mode: &Mode| mode.series.times[from..].iter().sum::<f64>();
            let cpu = time(adaptive) / time(standard);
            let goal = if two.series.bytes() < SMALL_BYTES { GOAL_BYTES_SMALL } else { GOAL_BYTES };
            // The engine encodes pictures of this size in two passes.
            let (width, height) = (found.size.width as usize, found.size.height as usize);
            let is_small = framepress::internals::image::is_small(width, height);
            // The goal applies to qualities up to 90; a scene with a change has a separate goal.
            if quality <= 90 && found.cut.is_none() && !is_small {
                is_met &= bytes.is_none_or(|bytes| bytes <= goal) && cpu <= GOAL_CPU;
            }
            let show = |series: &Series| format!("{:.1}, {:.2}", series.bytes() / 1e3, series.ms());
            writeln!(
                text,
                "| {} | {quality} | {} | {} | {} | {} | {} | {} | {cpu:.3} | {:.1} | {:.4} |",
                found.scene,
                show(&standard.series),
                show(&adaptive.series),
                show(&two.series),
                show(&recoding.series),
                theirs.map_or_else(|| "-".to_owned(), show),
                bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.3}")),
                standard.psnr,
                standard.ssim,
            )?;
        }
    }
    writeln!(
        text,
        "\nGoals, at q60 to q85: {GOAL_BYTES} of Pillow's bytes ({GOAL_BYTES_SMALL} for pictures below \
         15 kB), {GOAL_CPU} of the CPU of standard tables: {}.",
        if is_met { "met" } else { "missed" }
    )?;
    for found in all.iter().filter(|found| found.cut.is_some()) {
        is_met &= cut(found, &mut text)?;
    }
    efforts(all, &mut text)?;
    Ok((text, is_met))
}

/// Bytes over those of two passes around a change of the scene.
fn cut(found: &Found, text: &mut String) -> Outcome<bool> {
    let Some(cut) = found.cut else { return Ok(true) };
    writeln!(
        text,
        "\n{}: bytes of adaptive tables by those of two passes.\n\n\
         | q | before | first frame after | in the first second | after it | goal {GOAL_CUT} |\n\
         | --- | --- | --- | --- | --- | --- |",
        found.scene
    )?;
    let mut is_met = true;
    for quality in QUALITIES {
        let of = |name| mode(found, "jpeg", quality, name);
        let (Some(adaptive), Some(two)) = (of("adaptive"), of("two passes")) else { continue };
        let ratio = |from: usize, to: usize| {
            let to = to.min(found.frames);
            sum(&adaptive.series.sizes[from..to]) / sum(&two.series.sizes[from..to])
        };
        let after = ratio(cut + found.fps, found.frames);
        is_met &= after <= GOAL_CUT;
        writeln!(
            text,
            "| {quality} | {:.3} | {:.3} | {:.3} | {after:.3} | {} |",
            ratio(found.fps, cut),
            ratio(cut, cut + 1),
            ratio(cut, cut + found.fps),
            if after <= GOAL_CUT { "met" } else { "missed" }
        )?;
    }
    Ok(is_met)
}

fn efforts(all: &[Found], text: &mut String) -> Outcome<()> {
    writeln!(
        text,
        "\nWebP: kB and CPU milliseconds a frame.\n\n\
         | scene | q | method 1 | method 2 | method 4 | method 6 | Pillow, method 6 | PSNR of 1, 2, 6 |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    let show = |series: Option<&Series>| {
        series.map_or_else(
            || "-".to_owned(),
            |series| format!("{:.1}, {:.1}", series.bytes() / 1e3, series.ms()),
        )
    };
    for found in all {
        for quality in QUALITIES {
            let of = |method: u8| mode(found, "webp", quality, &format!("method {method}"));
            let series = |method| show(of(method).map(|mode| &mode.series));
            let psnr = |method| of(method).map_or(f64::NAN, |mode| mode.psnr);
            writeln!(
                text,
                "| {} | {quality} | {} | {} | {} | {} | {} | {:.1}, {:.1}, {:.1} |",
                found.scene,
                series(1),
                series(2),
                series(4),
                series(6),
                show(pillow(found, &format!("webp {quality}"))),
                psnr(1),
                psnr(2),
                psnr(6),
            )?;
        }
    }
    writeln!(
        text,
        "\nPNG: kB and CPU milliseconds a frame.\n\n\
         | scene | fast | balanced | high | Pillow, `optimize` |\n| --- | --- | --- | --- | --- |"
    )?;
    for found in all {
        let series = |name| show(mode(found, "png", 0, name).map(|mode| &mode.series));
        writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            found.scene,
            series("fast"),
            series("balanced"),
            series("high"),
            show(pillow(found, "png"))
        )?;
    }
    Ok(())
}

/// PSNR over bytes, for each scene.
pub fn draw(folder: &Folder, all: &[Found]) -> Outcome<()> {
    const SHOWN: [(&str, &str); 5] = [
        ("jpeg", "standard"),
        ("jpeg", "adaptive"),
        ("webp", "method 1"),
        ("webp", "method 2"),
        ("webp", "method 6"),
    ];
    for found in all {
        let line = |(format, name): (&str, &str)| {
            let points = QUALITIES.iter().filter_map(|&quality| {
                let mode = mode(found, format, quality, name)?;
                Some((mode.series.bytes() / 1e3, mode.psnr))
            });
            (format!("{format}, {name}"), points.collect())
        };
        let lines: Vec<plot::Line> = SHOWN.into_iter().map(line).collect();
        let name: String = found
            .scene
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
            .collect();
        let title = format!("{}: likeness by size", found.scene);
        let axes = Axes { title: &title, x: "kB a frame", y: "PSNR of luma, dB" };
        plot::lines(&folder.path(&format!("bytes-{name}.svg")), &axes, &lines)?;
    }
    Ok(())
}

/// The figures without the size of every frame.
pub fn short(all: &[Found]) -> Value {
    let series = |series: &Series| json!({ "frames": series.sizes.len(), "bytes": series.bytes(), "cpu_ms": series.ms() });
    let found = all.iter().map(|found| {
        let modes = found.modes.iter().map(|mode| {
            json!({
                "format": mode.format, "quality": mode.quality, "mode": mode.mode,
                "figures": series(&mode.series), "psnr": mode.psnr, "ssim": mode.ssim,
            })
        });
        let pillow = found.pillow.iter().flatten().map(|(key, of)| (key.clone(), series(of)));
        json!({
            "scene": found.scene, "frames": found.frames,
            "modes": modes.collect::<Vec<_>>(),
            "pillow": pillow.collect::<serde_json::Map<_, _>>(),
        })
    });
    Value::Array(found.collect())
}
