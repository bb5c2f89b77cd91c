//! The checks of each fuzz target.
//!
//! Ordinary tests include this file too. They run it on the corpus and on proptest's mutations of
//! the same samples, so that the checks also run without a fuzzer.

mod onward;
pub mod samples;

use framepress::internals::image::{
    Bounds, Decoder, Format, InputImage, Matrix, Needs, Picture, PixelLayout, Range, RawLayout,
    Treatment, keep_jpeg,
};
use framepress::internals::redis::{RespHeader as Answer, RespLimits, RespReader, Trouble};
use framepress::internals::ring::{PAGE, Reference, RingHeader, is_name};
use framepress::internals::wire::proto::{ProcessedFrame, ProcessedFrameBatch};
use framepress::internals::wire::{self, Envelope, OpenedEnvelope, Scratch};
use prost::Message as _;
use std::io::{self, Read};

/// Pixels accepted: enough for the samples, and few enough to be quick.
pub const PIXELS_MAX: u64 = 1 << 14;

/// Small, so that values of the declared sizes fit in memory.
const RESP_LIMITS: RespLimits = RespLimits { bulk_bytes_max: 1 << 16, array_max: 1 << 10 };

/// Values read from one stream of bytes.
const VALUES_MAX: usize = 1 << 12;

/// A reference to a frame ring, or the header of one: if accepted, it points to no place outside
/// the ring, and serialises to the same bytes.
pub fn ring(data: &[u8]) {
    if let Ok(reference) = Reference::parse(data) {
        assert!(is_name(&reference.name) && reference.generation.is_multiple_of(2));
        assert_eq!(Reference::parse(reference.to_string().as_bytes()), Ok(reference));
    }
    let Some((bytes, rest)) = data.split_first_chunk() else { return };
    let Ok(header) = RingHeader::decode(bytes) else { return };
    assert_eq!(header.encode(), *bytes);
    let len = header.file_len().unwrap();
    let slot = rest.first_chunk().map_or(header.slots - 1, |slot| u32::from_le_bytes(*slot));
    if let Some(at) = header.slot_at(slot) {
        assert!(at >= PAGE && at + PAGE + header.room <= len);
    }
}

/// A RESP stream reads the same in one piece and in many. The first byte gives the size of the
/// pieces.
pub fn resp(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    let whole = transcript(&mut Pieces { rest: stream, size: usize::MAX });
    let cut = transcript(&mut Pieces { rest: stream, size: 1 + usize::from(piece) });
    assert_eq!(whole, cut, "in pieces of {} bytes", 1 + usize::from(piece));

    let mut reader = RespReader::new(RESP_LIMITS);
    let mut io = Pieces { rest: stream, size: usize::MAX };
    for _ in 0..VALUES_MAX {
        if reader.skip_value(&mut io).is_err() {
            break;
        }
    }
}

/// A reader that returns at most `size` bytes at a time.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let len = self.size.min(target.len()).min(self.rest.len());
        target[..len].copy_from_slice(&self.rest[..len]);
        self.rest = &self.rest[len..];
        Ok(len)
    }
}

/// Everything in a stream up to its end or first fault. Reads bulk strings alternately with each of
/// the reader's methods.
fn transcript(io: &mut Pieces<'_>) -> Vec<Vec<u8>> {
    let mut reader = RespReader::new(RESP_LIMITS);
    let mut parts = Vec::new();
    for index in 0..VALUES_MAX {
        let bulk = match reader.header(io) {
            Ok(header) => {
                parts.push(format!("{header:?}").into_bytes());
                if let Answer::Bulk(len) = header { len } else { continue }
            }
            Err(trouble) => {
                parts.push(trouble.to_string().into_bytes());
                break;
            }
        };
        let read = match index % 3 {
            0 => {
                let mut target = vec![0; usize::try_from(bulk).unwrap()];
                reader.bulk_into(io, &mut target).map(|()| target)
            }
            1 => reader.bulk_small(io, bulk).map(<[u8]>::to_vec),
            _ => reader.bulk_discard(io, bulk).map(|()| Vec::new()),
        };
        match read {
            Ok(bytes) => parts.push(bytes),
            // The wording of an end of stream depends on the method.
            Err(Trouble::Io(_)) => {
                parts.push(b"the end".to_vec());
                break;
            }
            Err(Trouble::Protocol(what)) => {
                parts.push(what.into());
                break;
            }
        }
    }
    parts
}

/// The `data` of an entry as a protobuf frame, compared with prost.
pub fn protobuf(data: &[u8]) {
    // Leading white space may introduce JSON, which the other target covers.
    if data
        .first()
        .is_none_or(|first| *first == b'{' || first.is_ascii_whitespace() && *first != b'\n')
    {
        return;
    }
    let mut scratch = Scratch::default();
    let ours = wire::open(data, PIXELS_MAX, &mut scratch);
    agrees_on_the_camera(data, &ours);
    batch(data);
    let Ok(theirs) = ProcessedFrame::decode(data) else { return };
    let has_image = theirs.original_image.is_some();
    let image = theirs.original_image.unwrap_or_default();
    match ours {
        // JSON after a line feed that prost takes for the tag of a frame id.
        Ok(_) if !has_image => {}
        Ok(ours) => {
            assert_eq!(ours.frame_id, theirs.frame_id);
            assert_eq!(ours.camera_id, theirs.camera_id);
            assert_eq!(ours.timestamp.unwrap_or(0.0).to_bits(), theirs.timestamp.to_bits());
            assert_eq!(ours.version, theirs.version);
            assert_eq!(ours.image.bytes, image.compressed_data);
            assert_eq!(
                (ours.image.width, ours.image.height, ours.image.channels, ours.image.format),
                (image.width, image.height, image.channels, &*image.compression_format),
            );
        }
        Err(reject) => {
            let long = theirs.frame_id.len().max(theirs.camera_id.len()) > 256;
            let deep = reject.detail.contains("nested too deeply");
            assert!(!has_image || long || deep, "prost reads it, we do not: {reject}");
        }
    }
}

/// The frames of a `ProcessedFrameBatch`, compared with prost.
fn batch(data: &[u8]) {
    let mut scratch = Scratch::default();
    let Ok(OpenedEnvelope::Batch(batch)) = wire::open_all(data, PIXELS_MAX, &mut scratch) else {
        return;
    };
    let len = batch.len();
    let frames: Vec<_> = batch.collect();
    assert_eq!(frames.len(), len, "a frame each, readable or not");
    if let Some(Ok(first)) = frames.first() {
        let camera = wire::camera_of(data, 64 << 20);
        assert_eq!(camera.as_deref().unwrap_or_default(), first.camera_id);
    }
    let Ok(theirs) = ProcessedFrameBatch::decode(data) else { return };
    assert_eq!(theirs.frames.len(), len);
    for (ours, theirs) in frames.iter().zip(&theirs.frames) {
        if let Ok(ours) = ours {
            let image = theirs.original_image.clone().unwrap_or_default();
            assert_eq!(ours.frame_id, theirs.frame_id);
            assert_eq!(ours.camera_id, theirs.camera_id);
            assert_eq!(ours.image.bytes, image.compressed_data);
        }
    }
}

/// The `data` of an entry as a JSON frame, compared with serde_json's values.
pub fn json(data: &[u8]) {
    if data.first() != Some(&b'{') {
        return;
    }
    let mut scratch = Scratch::default();
    let ours = wire::open(data, PIXELS_MAX, &mut scratch);
    agrees_on_the_camera(data, &ours);
    let (Ok(ours), Ok(theirs)) = (ours, serde_json::from_slice::<serde_json::Value>(data)) else {
        return;
    };
    for (id, value) in [(&ours.frame_id, "frame_id"), (&ours.camera_id, "camera_id")] {
        match &theirs[value] {
            serde_json::Value::String(text) => assert_eq!(id, text),
            serde_json::Value::Null => assert_eq!(id, ""),
            other => assert!(other.is_number() && !id.is_empty(), "{other} is no id"),
        }
    }
    if let (Some(ours), Some(theirs)) = (ours.timestamp, theirs["timestamp"].as_f64()) {
        assert!((ours - theirs).abs() <= theirs.abs() * 1e-12, "{ours} is not {theirs}");
    }
    match theirs["image_base64"].as_str().or(theirs["image"].as_str()) {
        Some(text) => {
            // There is no reference for anything but strict base64.
            if let Ok(bytes) = base64_simd::STANDARD.decode_to_vec(text) {
                assert_eq!(ours.image.bytes, bytes);
            }
        }
        None => {
            let mut samples = Vec::new();
            flatten(&theirs["image_array"], &mut samples);
            assert_eq!(ours.image.bytes, samples);
            let sides = [ours.image.width, ours.image.height, ours.image.channels];
            let product: u64 = sides.map(|side| u64::try_from(side).unwrap()).iter().product();
            assert_eq!(product, samples.len() as u64);
            assert!(product <= 3 * (PIXELS_MAX + 1), "{product} samples");
        }
    }
}

fn flatten(value: &serde_json::Value, into: &mut Vec<u8>) {
    match value {
        serde_json::Value::Array(values) => values.iter().for_each(|value| flatten(value, into)),
        serde_json::Value::Bool(truth) => into.push((*truth).into()),
        number => {
            let number = number.as_f64().unwrap();
            assert!((0.0..256.0).contains(&number), "{number} is no sample");
            into.push(number as u8);
        }
    }
}

/// The dispatcher orders a frame by the same camera that the worker sees.
fn agrees_on_the_camera<E>(data: &[u8], opened: &Result<Envelope<'_>, E>) {
    let camera = wire::camera_of(data, 64 << 20);
    if let Ok(envelope) = opened {
        assert_eq!(camera.as_deref().unwrap_or_default(), envelope.camera_id);
    }
}

/// The `data` of an entry decoded to pixels and processed like a worker does.
pub fn pictures(data: &[u8]) {
    reads(data);
}

/// Runs all of a worker's steps on `data`; returns whether there were any pixels.
pub fn reads(data: &[u8]) -> bool {
    let mut scratch = Scratch::default();
    match wire::open_all(data, PIXELS_MAX, &mut scratch) {
        Ok(OpenedEnvelope::Frame(envelope)) => {
            let opened: Result<_, ()> = Ok(envelope);
            agrees_on_the_camera(data, &opened);
            opened.is_ok_and(|envelope| shows(&envelope))
        }
        Ok(OpenedEnvelope::Batch(batch)) => {
            let shown: Vec<_> = batch.filter_map(Result::ok).map(|frame| shows(&frame)).collect();
            shown.contains(&true)
        }
        Err(_) => false,
    }
}

/// Runs a worker's steps on a frame; returns whether there were any pixels.
fn shows(envelope: &Envelope<'_>) -> bool {
    let image = envelope.image;
    let pixels = PixelLayout::from_name(image.format);
    let named = Format::from_name(image.format).or(pixels.map(|_| Format::Raw));
    let format = match named {
        Some(Format::Raw) => Format::Raw,
        _ => match Format::find(image.bytes).or(named) {
            Some(format) => format,
            None => return false,
        },
    };
    let side = |value: i32| u32::try_from(value).unwrap_or(0);
    let (width, height) = (side(image.width), side(image.height));
    let channels = side(image.channels);
    let layout = RawLayout {
        pixels,
        row_stride: side(image.row_stride),
        range: Range::from_name(image.color_range),
        matrix: Matrix::from_name(image.color_matrix).unwrap_or_default(),
    };
    let source = InputImage { format, width, height, channels, layout, bytes: image.bytes };
    let mut decoder = Decoder::new(Bounds { pixels_max: PIXELS_MAX }).unwrap();
    kept(&mut decoder, &source);
    let accepting = Treatment { accept_damaged: true, rotate_upright: false };
    [Treatment::default(), accepting].map(|treatment| {
        decoder.treat(treatment);
        decodes(&mut decoder, &source)
    })[0]
}

/// A JPEG kept in its coded form decodes to the same pixels.
fn kept(decoder: &mut Decoder, source: &InputImage<'_>) {
    let needs = Needs { planes: false, interleaved: true };
    let mut store = Picture::default();
    let Ok(view) = decoder.decode(source, needs, &mut store) else { return };
    let before = view.interleaved.map(<[u8]>::to_vec);
    let findings = decoder.findings().clone();
    let mut file = Vec::new();
    if source.format != Format::Jpeg
        || !findings.is_clean_jpeg
        || keep_jpeg(source.bytes, findings.orientation, &mut file).is_none()
    {
        return;
    }
    let mut store = Picture::default();
    let view = decoder.decode(&InputImage::file(Format::Jpeg, &file), needs, &mut store);
    let view = view.expect("a kept file is sound");
    assert_eq!(view.interleaved.map(<[u8]>::to_vec), before);
}

/// Decodes the picture to every form; returns whether there were any pixels.
fn decodes(decoder: &mut Decoder, source: &InputImage<'_>) -> bool {
    let mut any = false;
    for (planes, interleaved) in [(true, false), (false, true), (true, true)] {
        let mut store = Picture::default();
        let Ok(view) = decoder.decode(source, Needs { planes, interleaved }, &mut store) else {
            continue;
        };
        any = true;
        assert!((view.width * view.height) as u64 <= PIXELS_MAX);
        if let Some(samples) = view.interleaved {
            assert_eq!(samples.len(), view.width * view.height * view.channels);
        }
        assert!(view.planes.is_some() || !planes);
        assert!(view.interleaved.is_some() || !interleaved);
        onward::every_output(&view);
    }
    any
}
