//! Whatever is in `data`: both envelopes and every decoder refuse it or read it, and none panics.

use framepress::image::{Bounds, Decoder, Format, Needs, Picture, Source};
use framepress::wire::{self, Scratch};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};

use crate::support::{frame, picture, pixels};

/// Pixels accepted: enough for the samples, little enough to be quick.
const PIXELS_MAX: u64 = 1 << 14;

/// One change of some bytes; places are shares of the length.
#[derive(Clone, Debug)]
enum Change {
    Flip(f64, u8),
    Set(f64, u8),
    Cut(f64),
    Remove(f64, usize),
    Repeat(f64, usize),
    Insert(f64, Vec<u8>),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let place = |share: f64, len: usize| (share * len as f64) as usize;
        let len = bytes.len();
        match self {
            Change::Flip(share, bits) => {
                if let Some(byte) = bytes.get_mut(place(*share, len)) {
                    *byte ^= bits;
                }
            }
            Change::Set(share, value) => {
                if let Some(byte) = bytes.get_mut(place(*share, len)) {
                    *byte = *value;
                }
            }
            Change::Cut(share) => bytes.truncate(place(*share, len)),
            Change::Remove(share, count) => {
                let at = place(*share, len);
                bytes.drain(at..(at + count).min(len));
            }
            Change::Repeat(share, count) => {
                let at = place(*share, len);
                let piece = bytes[at..(at + count).min(len)].to_vec();
                bytes.splice(at..at, piece);
            }
            Change::Insert(share, piece) => {
                let at = place(*share, len);
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    // Most of a sample is its picture; half of the changes are made near its beginning, where
    // the headers are.
    let place = || prop_oneof![0.0..1.0_f64, (0.0..1.0_f64).prop_map(|share| share.powi(4))];
    prop_oneof![
        4 => (place(), 1..=255_u8).prop_map(|(at, bits)| Change::Flip(at, bits)),
        4 => (place(), prop_oneof![Just(0), Just(255), Just(b'"'), Just(b'{'), any::<u8>()])
            .prop_map(|(at, value)| Change::Set(at, value)),
        1 => place().prop_map(Change::Cut),
        1 => (place(), 1..64_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (place(), 1..64_usize).prop_map(|(at, count)| Change::Repeat(at, count)),
        1 => (place(), prop::collection::vec(any::<u8>(), 1..16))
            .prop_map(|(at, piece)| Change::Insert(at, piece)),
    ]
}

/// Valid entries of every kind, in a fixed order.
fn samples() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for format in [Format::Jpeg, Format::Png, Format::Webp, Format::Raw] {
        let image = picture(format, 48, 34);
        all.push(frame("frame-1", "camera-1", &image));
        if format != Format::Raw {
            let text = base64_simd::STANDARD.encode_to_string(&image.compressed_data);
            all.push(json("image_base64", serde_json::Value::String(text)));
        }
    }
    let pixels = pixels(12, 9);
    let rows = |channels: usize| {
        let of_row = |row: &[u8]| match channels {
            1 => serde_json::to_value(row.iter().step_by(3).collect::<Vec<_>>()).unwrap(),
            _ => serde_json::to_value(row.chunks_exact(3).collect::<Vec<_>>()).unwrap(),
        };
        serde_json::Value::Array(pixels.chunks_exact(36).map(of_row).collect())
    };
    all.push(json("image_array", rows(3)));
    all.push(json("image_array", rows(1)));
    all
}

fn json(key: &str, picture: serde_json::Value) -> Vec<u8> {
    let mut frame = serde_json::json!({
        "frame_id": "frame-1", "camera_id": "camera-1", "timestamp": 1_700_000_000.25,
    });
    frame[key] = picture;
    frame.to_string().into_bytes()
}

/// Everything a worker does with `data` until there are pixels; whether there were any.
fn read(data: &[u8]) -> bool {
    let mut scratch = Scratch::default();
    let camera = wire::camera_of(data);
    let Ok(envelope) = wire::open(data, PIXELS_MAX, &mut scratch) else { return false };
    // The dispatcher puts the frame into the order of the camera that the worker will see.
    assert_eq!(camera.as_deref().unwrap_or_default(), envelope.camera_id);
    let image = envelope.image;
    let named = Format::from_name(image.format);
    let format = match named {
        Some(Format::Raw) => Format::Raw,
        _ => match Format::sniff(image.bytes).or(named) {
            Some(format) => format,
            None => return false,
        },
    };
    let side = |value: i32| u32::try_from(value).unwrap_or(0);
    let (width, height) = (side(image.width), side(image.height));
    let channels = side(image.channels);
    let source = Source { format, width, height, channels, bytes: image.bytes };
    let mut decoder = Decoder::new(Bounds { pixels_max: PIXELS_MAX }).unwrap();
    let mut any = false;
    for (planes, interleaved) in [(true, false), (false, true), (true, true)] {
        let mut store = Picture::default();
        let Ok(view) = decoder.decode(&source, Needs { planes, interleaved }, &mut store) else {
            continue;
        };
        any = true;
        assert!((view.width * view.height) as u64 <= PIXELS_MAX);
        if let Some(samples) = view.interleaved {
            assert_eq!(samples.len(), view.width * view.height * view.channels);
        }
        assert!(view.planes.is_some() || !planes);
        assert!(view.interleaved.is_some() || !interleaved);
    }
    any
}

#[test]
fn the_samples_themselves_are_read() {
    for (index, sample) in samples().iter().enumerate() {
        assert!(read(sample), "sample {index}");
    }
}

/// A valid entry after a few changes.
fn changed() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec(change(), 1..4);
    (prop::sample::select(samples()), changes).prop_map(|(mut data, changes)| {
        for change in &changes {
            change.apply(&mut data);
        }
        data
    })
}

#[test]
fn the_changes_are_small_enough_to_get_past_the_first_check() {
    let mut runner = TestRunner::deterministic();
    let changed = changed();
    let read = (0..1000).filter(|_| read(&changed.new_tree(&mut runner).unwrap().current()));
    let read = read.count();
    assert!((50..900).contains(&read), "{read} of 1000 are read all the same");
}

proptest! {
    // The same cases at each run: a search for new ones is the business of the fuzzers.
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_in_data_makes_a_decoder_panic(data in changed()) {
        read(&data);
    }

    #[test]
    fn noise_is_refused_or_read(data in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&data);
    }
}
