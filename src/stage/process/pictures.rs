//! The pictures of a result: the frame itself, the ML image, the thumbnail.

use std::time::Duration;

use super::effort::{Ahead, Effort, Scale};
use super::figures::replace;
use super::{LiveSettings, Recoding};
use crate::base::{Fault, Reject};
use crate::frame::{Planes, Pool, View};
use crate::image::{
    self, Adaptive, CameraTables, Chosen, Codes, Encoder, Findings, Format, Huffman, InputImage,
    Learner, Needs, Orientation, PngLevel, Scaler, Target,
};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Gauge, Metrics};
use crate::wire::proto::ImageData;
use crate::wire::{Composer, Draft};

/// Side of the ML image, in pixels.
const ML_SIDE: usize = 640;
/// Gray of the bars around it.
const ML_PADDING: u8 = 114;
/// Side of the thumbnail, in pixels.
const THUMBNAIL_SIDE: usize = 128;
/// JPEG quality of the thumbnail.
const THUMBNAIL_QUALITY: u8 = 90;

/// JPEG quality of pictures for the dashboard, if results have another format.
const PHOTO_QUALITY: u8 = 80;

/// Bytes by which the message may still grow: times and traffic features, and for each region.
const GROWTH: usize = 256;
const GROWTH_PER_REGION: usize = 128;

/// The forms in which the decoder must deliver the picture.
pub(super) fn needs(settings: &LiveSettings) -> Needs {
    Needs {
        planes: settings.ml_image || settings.thumbnail || settings.analysis.is_some(),
        interleaved: matches!(settings.target.format, Format::Raw | Format::Png),
    }
}

/// Encoder, scaler and their buffers.
pub(super) struct PictureCoder {
    encoder: Encoder,
    scaler: Scaler,
    scaled: Planes,
    original: Vec<u8>,
    /// A JPEG as it was coded, without the segments that are not part of its picture.
    kept: Vec<u8>,
    ml_image: Vec<u8>,
    thumbnail: Vec<u8>,
    /// Set if Huffman tables are to be learnt from the picture or the ML image of the last frame.
    lessons: [Option<Lesson>; 2],
    learner: Learner,
}

/// A file that Huffman tables are to be learnt from.
#[derive(Clone, Copy, Debug)]
struct Lesson {
    quality: u8,
    gray: bool,
}

/// What the effort for a frame depends on.
pub(super) struct Leeway<'a> {
    pub effort: &'a Effort,
    pub metrics: &'a Metrics,
    /// When the frame was read.
    pub read_at: Tick,
    /// When the worker began with it.
    pub since: Tick,
    /// Whether more frames wait than the workers can begin with.
    pub is_queue: bool,
    pub workers: usize,
}

impl Leeway<'_> {
    /// Sets the level of PNG, and returns the method of WebP.
    fn begin(&self, settings: &LiveSettings, view: &View<'_>, encoder: &mut Encoder) -> u8 {
        let choose = |scale| {
            let ahead = Ahead {
                pixels: view.width * view.height,
                age: self.read_at.elapsed(),
                worked: self.since.elapsed(),
                is_queue: self.is_queue,
                workers: self.workers,
                target: settings.latency_target,
            };
            self.effort.choose(scale, &ahead)
        };
        match (settings.target.format, settings.png_level) {
            (Format::Png, Some(level)) => encoder.set_png_level(level),
            (Format::Png, None) => encoder.set_png_level(PngLevel::of_effort(choose(Scale::Png))),
            (Format::Webp, _) if settings.is_webp_open => return choose(Scale::Webp),
            _ => {}
        }
        settings.target.webp_method
    }

    /// Learns from the time the picture took at its effort.
    fn end(
        &self,
        settings: &LiveSettings,
        view: &View<'_>,
        target: &Target,
        encoder: &Encoder,
        took: Duration,
    ) {
        let (scale, level, gauge, is_open) = match target.format {
            Format::Webp => {
                (Scale::Webp, target.webp_method, Gauge::WebpMethod, settings.is_webp_open)
            }
            Format::Png => {
                let is_open = settings.png_level.is_none();
                (Scale::Png, encoder.png_level().effort(), Gauge::PngLevel, is_open)
            }
            Format::Jpeg | Format::Raw => return,
        };
        self.metrics.set_level(gauge, level);
        if is_open {
            self.effort.note(scale, level, view.width * view.height, took);
        }
    }
}

/// The pictures of one frame, coded.
pub(super) struct CodedPictures<'a> {
    original: &'a [u8],
    ml_image: Option<&'a [u8]>,
    thumbnail: Option<&'a [u8]>,
    passed_through: bool,
}

impl PictureCoder {
    pub(super) fn new() -> Result<PictureCoder, Fault> {
        Ok(PictureCoder {
            encoder: Encoder::new()?,
            scaler: Scaler::new(),
            scaled: Planes::default(),
            original: Vec::new(),
            kept: Vec::new(),
            ml_image: Vec::new(),
            thumbnail: Vec::new(),
            lessons: [None; 2],
            learner: Learner::default(),
        })
    }

    /// Codes all pictures that the settings ask for and describes them in the message.
    pub(super) fn code<'a>(
        &'a mut self,
        (settings, tables, leeway): (&LiveSettings, &CameraTables, &Leeway<'_>),
        source: &InputImage<'_>,
        findings: &Findings,
        view: &View<'_>,
        composer: &mut Composer,
    ) -> Result<CodedPictures<'a>, Reject> {
        let (target, huffman) = (settings.target, settings.huffman);
        self.lessons = [None; 2];
        let webp_method = leeway.begin(settings, view, &mut self.encoder);
        let target = Target { webp_method, ..target };
        let began = Tick::now();
        // A rotated picture is upright by now; otherwise the result repeats the orientation in the
        // file.
        let orientation = match settings.treatment.rotate_upright {
            true => Orientation::default(),
            false => findings.orientation,
        };
        let is_turned = findings.orientation != orientation;
        let (kept, is_coded) = match settings.recoding {
            Recoding::WhenSmaller if !is_turned => {
                self.keep(source, findings, view, orientation, (&target, huffman, tables))?
            }
            Recoding::Lossless if !is_turned => {
                (self.recode(source, findings, orientation, &target), false)
            }
            _ => (None, false),
        };
        describe(
            &mut composer.original,
            view,
            &Target { quality: kept.unwrap_or(target.quality), ..target },
        );
        let ml_target = Target { format: Format::Jpeg, ..target };
        // A frame that fits into the square without scaling, such as 640x480, is coded once for
        // both.
        let at_once = settings.ml_image
            && kept.is_none()
            && target.format == Format::Jpeg
            && huffman != Huffman::Optimised
            && image::keeps_its_rows(view, ML_SIDE);
        if at_once {
            let PictureCoder { encoder, original, ml_image, .. } = self;
            let mut encode = |codes| {
                let square = (ML_SIDE, ML_PADDING);
                encoder.encode_boxed(view, (target.quality, codes), square, original, ml_image)
            };
            if huffman == Huffman::Standard {
                encode(image::standard_tables())?;
            } else {
                let chosen = tables.picture.choose(target.quality, view.channels == 1);
                encode(chosen.tables())?;
                self.lessons[0] = judge(&tables.picture, &chosen, view, &target, &self.original);
            }
            let square = View { width: ML_SIDE, height: ML_SIDE, ..*view };
            describe(&mut composer.processed, &square, &ml_target);
        } else if kept.is_none() && !is_coded {
            self.encode_picture(view, &target, huffman, tables)?;
            leeway.end(settings, view, &target, &self.encoder, began.elapsed());
        }
        if kept.is_none() {
            let size = (view.width, view.height);
            image::tag(&mut self.original, target.format, size, orientation);
        }
        if let (true, false, Some(planes)) = (settings.ml_image, at_once, view.planes) {
            self.scaler.letterbox(planes, ML_SIDE, ML_PADDING, &mut self.scaled);
            let small = view_of(&self.scaled);
            let PictureCoder { encoder, ml_image, .. } = self;
            let of_ml = (huffman, &tables.ml_image);
            self.lessons[1] = encode(encoder, &small, &ml_target, of_ml, ml_image)?;
            describe(&mut composer.processed, &small, &ml_target);
        }
        if let (true, Some(planes)) = (settings.thumbnail, view.planes) {
            self.scaler.thumbnail(planes, THUMBNAIL_SIDE, &mut self.scaled);
            let small = view_of(&self.scaled);
            let target = Target { format: Format::Jpeg, quality: THUMBNAIL_QUALITY, ..target };
            let codes = match huffman {
                Huffman::Standard => Codes::Tables(image::standard_tables()),
                Huffman::Adaptive | Huffman::Optimised => Codes::TwoPasses,
            };
            self.encoder.encode_with(&small, &target, codes, &mut self.thumbnail)?;
            describe(&mut composer.thumbnail, &small, &target);
        }
        Ok(CodedPictures {
            original: if kept.is_some() { &self.kept } else { &self.original },
            ml_image: settings.ml_image.then_some(&self.ml_image),
            thumbnail: settings.thumbnail.then_some(&self.thumbnail),
            passed_through: kept.is_some(),
        })
    }
}

impl PictureCoder {
    /// Copies a JPEG that may be handed on as it was coded, and returns its quality. The JPEG must
    /// decode without a warning, and none of its quantisation tables may be finer than the
    /// target's. If its chroma subsampling or colour profile may make it larger than a new file,
    /// the new file is coded too and the smaller one is used. The second value is true if the new
    /// file was coded.
    fn keep(
        &mut self,
        source: &InputImage<'_>,
        findings: &Findings,
        view: &View<'_>,
        orientation: Orientation,
        (target, huffman, tables): (&Target, Huffman, &CameraTables),
    ) -> Result<(Option<u8>, bool), Reject> {
        let is_jpeg = (source.format, target.format) == (Format::Jpeg, Format::Jpeg);
        if !is_jpeg || !findings.is_clean_jpeg {
            return Ok((None, false));
        }
        let quality = image::jpeg_quality(source.bytes).filter(|found| *found <= target.quality);
        let kept =
            quality.and_then(|_| image::keep_jpeg(source.bytes, orientation, &mut self.kept));
        let Some(kept) = kept else { return Ok((None, false)) };
        if kept.is_own_sampling && !kept.has_profile {
            return Ok((quality, false));
        }
        self.encode_picture(view, target, huffman, tables)?;
        let is_smaller = self.original.len() < self.kept.len();
        Ok((quality.filter(|_| !is_smaller), true))
    }

    /// Writes a JPEG with its own coefficients and the best Huffman tables for them, and returns
    /// its quality. A JPEG that cannot be rewritten, such as a progressive one, is handed on as it
    /// was coded. `None` if it did not decode without a warning.
    fn recode(
        &mut self,
        source: &InputImage<'_>,
        findings: &Findings,
        orientation: Orientation,
        target: &Target,
    ) -> Option<u8> {
        let is_jpeg = (source.format, target.format) == (Format::Jpeg, Format::Jpeg);
        if !is_jpeg || !findings.is_clean_jpeg {
            return None;
        }
        let quality = image::jpeg_quality(source.bytes)?;
        image::keep_jpeg(source.bytes, orientation, &mut self.kept)?;
        let is_recoded = image::recode_jpeg(&self.kept, &mut self.original).is_some();
        if is_recoded && self.original.len() < self.kept.len() {
            std::mem::swap(&mut self.original, &mut self.kept);
        }
        Some(quality)
    }

    fn encode_picture(
        &mut self,
        view: &View<'_>,
        target: &Target,
        huffman: Huffman,
        tables: &CameraTables,
    ) -> Result<(), Reject> {
        let of_picture = (huffman, &tables.picture);
        self.lessons[0] = encode(&mut self.encoder, view, target, of_picture, &mut self.original)?;
        Ok(())
    }

    /// Whether Huffman tables are to be learnt from the last frame.
    pub(super) fn has_lesson(&self) -> bool {
        self.lessons.iter().any(Option::is_some)
    }

    /// Learns Huffman tables from the last frame where the old ones fitted badly; `tables` are
    /// those of its camera.
    pub(super) fn learn(&mut self, tables: &CameraTables, metrics: &Metrics) {
        let files = [(&tables.picture, &self.original), (&tables.ml_image, &self.ml_image)];
        for (lesson, (adaptive, file)) in self.lessons.iter_mut().zip(files) {
            if let Some(Lesson { quality, gray }) = lesson.take()
                && adaptive.learn(&mut self.learner, quality, file, gray)
            {
                metrics.add(Counter::HuffmanTablesLearnt, 1);
            }
        }
    }

    /// The picture as a JPEG for the dashboard, if the result has another format.
    pub(super) fn photograph(&mut self, view: &View<'_>) -> Result<&[u8], Reject> {
        let target = Target { format: Format::Jpeg, quality: PHOTO_QUALITY, webp_method: 0 };
        self.encoder.encode(view, &target, &mut self.original)?;
        Ok(&self.original)
    }
}

/// Encodes one output of a camera. Returns a lesson if its Huffman tables are to be learnt from it.
fn encode(
    encoder: &mut Encoder,
    view: &View<'_>,
    target: &Target,
    (huffman, adaptive): (Huffman, &Adaptive),
    out: &mut Vec<u8>,
) -> Result<Option<Lesson>, Reject> {
    let (format, gray) = (target.format, view.channels == 1);
    if huffman == Huffman::Standard || format != Format::Jpeg {
        encoder.encode(view, target, out)?;
        return Ok(None);
    }
    let is_adaptive = huffman == Huffman::Adaptive;
    if is_adaptive && !adaptive.wants_two_passes(view.width, view.height, gray) {
        let chosen = adaptive.choose(target.quality, gray);
        encoder.encode_with(view, target, Codes::Tables(chosen.tables()), out)?;
        return Ok(judge(adaptive, &chosen, view, target, out));
    }
    encoder.encode_with(view, target, Codes::TwoPasses, out)?;
    adaptive.note_len(out, gray);
    Ok(None)
}

fn judge(
    adaptive: &Adaptive,
    chosen: &Chosen,
    view: &View<'_>,
    target: &Target,
    file: &[u8],
) -> Option<Lesson> {
    let gray = view.channels == 1;
    let blocks = image::jpeg_blocks(view.width, view.height, gray);
    let lesson = Lesson { quality: target.quality, gray };
    adaptive.judge(chosen, file, blocks, gray).then_some(lesson)
}

impl<'a> CodedPictures<'a> {
    /// The picture of the frame, if it is a JPEG.
    pub(super) fn jpeg(&self, composer: &Composer) -> Option<&'a [u8]> {
        let format = Format::from_name(&composer.original.compression_format);
        (format == Some(Format::Jpeg)).then_some(self.original)
    }

    pub(super) fn count(&self, metrics: &Metrics, view: &View<'_>) {
        let raw_bytes = (view.width * view.height * view.channels) as u64;
        metrics.add(Counter::ImageBytesOut, self.original.len() as u64);
        metrics.add(Counter::RawPixelBytes, raw_bytes);
        metrics.add(Counter::JsonBase64Bytes, json_base64_bytes(raw_bytes));
        metrics.add(Counter::PassedThrough, self.passed_through.into());
    }

    /// Writes the pictures into the message, with room for its other fields.
    pub(super) fn draft(&self, composer: &Composer, regions: usize, pool: &Pool) -> Draft {
        let growth = GROWTH + GROWTH_PER_REGION * regions;
        composer.draft(self.original, self.ml_image, self.thumbnail, growth, pool)
    }
}

fn view_of(planes: &Planes) -> View<'_> {
    View {
        width: planes.width(),
        height: planes.height(),
        channels: if planes.is_gray() { 1 } else { 3 },
        interleaved: None,
        planes: Some(planes),
    }
}

fn describe(about: &mut ImageData, view: &View<'_>, target: &Target) {
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    about.width = number(view.width);
    about.height = number(view.height);
    about.channels = number(view.channels);
    replace(&mut about.compression_format, target.format.name());
    about.quality = match target.format {
        Format::Jpeg | Format::Webp => target.quality.into(),
        Format::Png | Format::Raw => 0,
    };
}

/// Bytes of the frame as JSON with base64 of its raw pixels: four characters for every three bytes,
/// and about 120 for ids, time and braces.
fn json_base64_bytes(raw_bytes: u64) -> u64 {
    raw_bytes.div_ceil(3) * 4 + 120
}
