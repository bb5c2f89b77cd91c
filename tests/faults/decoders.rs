//! Arbitrary input from a server or a camera: the RESP reader, both envelopes and every decoder
//! refuse it or read it, and none panics. These tests run the checks of the fuzz targets on their
//! corpus, and on mutations of the same samples by proptest.

use std::path::Path;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};

use crate::targets::{self, samples};

/// One change of some bytes; positions are shares of the length.
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
    // Most of a sample is its picture, so half of the changes are made near its beginning, where
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
fn entries() -> Vec<Vec<u8>> {
    [samples::protobuf(), samples::json(), samples::files()].concat()
}

#[test]
fn the_samples_themselves_are_read() {
    for (index, sample) in entries().iter().enumerate() {
        assert!(targets::reads(sample), "sample {index}");
    }
}

/// Runs each target on its corpus. If `FRAMEPRESS_WRITE_SEEDS` is set, writes the samples into the
/// corpus first.
#[test]
fn every_file_of_the_corpus_passes() {
    type Target = fn(&[u8]);
    let all: [(&str, Target, Vec<Vec<u8>>); 5] = [
        ("resp", targets::resp, samples::resp()),
        ("protobuf", targets::protobuf, samples::protobuf()),
        ("json", targets::json, samples::json()),
        ("pictures", targets::pictures, entries()),
        ("ring", targets::ring, samples::ring()),
    ];
    for (name, target, seeds) in all {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
        if std::env::var_os("FRAMEPRESS_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            for (index, seed) in seeds.iter().enumerate() {
                std::fs::write(folder.join(format!("seed-{index}")), seed).unwrap();
            }
        }
        let files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= 4, "{} has files", folder.display());
        for file in files {
            eprintln!("{}", file.display());
            target(&std::fs::read(&file).unwrap());
        }
    }
}

/// One of `samples` after a few changes.
fn changed(samples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec(change(), 1..4);
    (prop::sample::select(samples), changes).prop_map(|(mut data, changes)| {
        for change in &changes {
            change.apply(&mut data);
        }
        data
    })
}

#[test]
fn the_changes_are_small_enough_to_get_past_the_first_check() {
    let mut runner = TestRunner::deterministic();
    let changed = changed(entries());
    let read =
        (0..1000).filter(|_| targets::reads(&changed.new_tree(&mut runner).unwrap().current()));
    let read = read.count();
    assert!((50..900).contains(&read), "{read} of 1000 are read all the same");
}

proptest! {
    // The same cases in each run: finding new ones is left to the fuzzers.
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_in_data_makes_a_decoder_panic(data in changed(entries())) {
        targets::pictures(&data);
    }

    #[test]
    fn noise_is_refused_or_read(data in prop::collection::vec(any::<u8>(), 0..200)) {
        targets::pictures(&data);
        targets::resp(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn answers_read_the_same_however_they_are_cut(stream in changed(samples::resp())) {
        targets::resp(&stream);
    }

    #[test]
    fn references_and_headers_of_rings_lead_nowhere_else(data in changed(samples::ring())) {
        targets::ring(&data);
    }

    #[test]
    fn protobuf_frames_read_as_prost_reads_them(data in changed(samples::protobuf())) {
        targets::protobuf(&data);
    }

    #[test]
    fn json_frames_read_as_serde_json_reads_them(data in changed(samples::json())) {
        targets::json(&data);
    }
}
