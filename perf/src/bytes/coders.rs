//! The modes of the engine's encoders.
use framepress::internals::image::{
    Adaptive, Codes, Encoder, Format, Learner, PngLevel, Target, jpeg_blocks, recode_jpeg,
};

use framepress::internals::instruments::Scene;

use super::{Mode, QUALITIES, Series, likeness};
use crate::Outcome;
use crate::common::thread_cpu;

/// Frames for WebP and PNG, which are slow.
const FEW: usize = 6;
/// Pictures whose likeness is measured.
const LIKE: usize = 3;

pub fn measure(scene: &Scene) -> Outcome<Vec<Mode>> {
    let mut modes = Vec::new();
    for quality in QUALITIES {
        modes.extend(jpeg(scene, quality)?);
    }
    for quality in QUALITIES {
        modes.extend(webp(scene, quality)?);
    }
    modes.extend(png(scene)?);
    Ok(modes)
}

fn jpeg(scene: &Scene, quality: u8) -> Outcome<Vec<Mode>> {
    const NAMES: [&str; 4] = ["standard", "adaptive", "two passes", "lossless recoding"];
    let mut encoder = Encoder::new()?;
    let target = Target { format: Format::Jpeg, quality, webp_method: 0 };
    let (camera, mut learner) = (Adaptive::default(), Learner::default());
    let (mut series, mut out) = (vec![Series::default(); NAMES.len()], Vec::new());
    let (mut psnr, mut ssim, mut recoded) = (0.0, 0.0, Vec::new());
    for (number, frame) in scene.frames.iter().enumerate() {
        let view = scene.view(number);
        // Rotate the order of the modes with every frame.
        for step in 0..3 {
            let mode = (number + step) % 3;
            let began = thread_cpu();
            match mode {
                0 => encoder.encode(&view, &target, &mut out),
                1 if camera.wants_two_passes(view.width, view.height, false) => {
                    encoder.encode_with(&view, &target, Codes::TwoPasses, &mut out).map(|()| {
                        camera.note_len(&out, false);
                    })
                }
                1 => {
                    let chosen = camera.choose(quality, false);
                    let codes = Codes::Tables(chosen.tables());
                    encoder.encode_with(&view, &target, codes, &mut out).map(|()| {
                        let blocks = jpeg_blocks(view.width, view.height, false);
                        if camera.judge(&chosen, &out, blocks, false) {
                            camera.learn(&mut learner, quality, &out, false);
                        }
                    })
                }
                _ => encoder.encode_with(&view, &target, Codes::TwoPasses, &mut out),
            }
            .map_err(|reject| reject.to_string())?;
            let took = (thread_cpu() - began).as_secs_f64();
            series[mode].cpu += took;
            series[mode].times.push(took);
            series[mode].sizes.push(out.len());
            if mode == 0 {
                let began = thread_cpu();
                recode_jpeg(&out, &mut recoded).ok_or("our own file cannot be recoded")?;
                series[3].cpu += (thread_cpu() - began).as_secs_f64();
                series[3].sizes.push(recoded.len());
                if number < LIKE {
                    let (a, b) =
                        (likeness::luma(frame), likeness::luma_of_file(Format::Jpeg, &out)?);
                    psnr += likeness::psnr(&a, &b);
                    ssim += likeness::ssim(&a, &b, view.width);
                }
            }
        }
    }
    let count = scene.frames.len().min(LIKE) as f64;
    let modes = NAMES.iter().zip(series).map(|(name, series)| Mode {
        format: "jpeg",
        quality,
        mode: (*name).to_owned(),
        series,
        // All modes encode the same pixels.
        psnr: psnr / count,
        ssim: ssim / count,
    });
    Ok(modes.collect())
}

fn webp(scene: &Scene, quality: u8) -> Outcome<Vec<Mode>> {
    let mut modes = Vec::new();
    for webp_method in [1, 2, 4, 6] {
        let target = Target { format: Format::Webp, quality, webp_method };
        modes.push(plain(scene, &target, PngLevel::Fast, format!("method {webp_method}"))?);
    }
    Ok(modes)
}

fn png(scene: &Scene) -> Outcome<Vec<Mode>> {
    let target = Target { format: Format::Png, quality: 0, webp_method: 0 };
    let levels =
        [("fast", PngLevel::Fast), ("balanced", PngLevel::Balanced), ("high", PngLevel::High)];
    levels.into_iter().map(|(name, level)| plain(scene, &target, level, name.to_owned())).collect()
}

fn plain(scene: &Scene, target: &Target, level: PngLevel, mode: String) -> Outcome<Mode> {
    let (mut encoder, mut out) = (Encoder::new()?, Vec::new());
    encoder.set_png_level(level);
    let few = if target.format == Format::Png { FEW / 2 } else { FEW };
    let step = (scene.frames.len() / few).max(1);
    let (mut series, mut psnr, mut ssim, mut like) = (Series::default(), 0.0, 0.0, 0.0);
    for (number, frame) in scene.frames.iter().enumerate().step_by(step) {
        let view = scene.view(number);
        let began = thread_cpu();
        encoder.encode(&view, target, &mut out).map_err(|reject| reject.to_string())?;
        series.cpu += (thread_cpu() - began).as_secs_f64();
        series.sizes.push(out.len());
        if series.sizes.len() <= LIKE {
            let (a, b) = (likeness::luma(frame), likeness::luma_of_file(target.format, &out)?);
            psnr += likeness::psnr(&a, &b);
            ssim += likeness::ssim(&a, &b, view.width);
            like += 1.0;
        }
    }
    Ok(Mode {
        format: target.format.name(),
        quality: target.quality,
        mode,
        series,
        psnr: psnr / like,
        ssim: ssim / like,
    })
}
