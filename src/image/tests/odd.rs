//! Deviations from the JPEG format that real cameras produce, and damaged files.

use turbojpeg::{Image, PixelFormat, Subsamp};

use super::*;
use crate::base::error::Reason;

const WIDTH: usize = 96;
const HEIGHT: usize = 80;

/// Intact files: baseline, with restart markers, progressive.
fn sound() -> Vec<(&'static str, Vec<u8>)> {
    let pixels = smooth(WIDTH, HEIGHT);
    let coded = |tune: &dyn Fn(&mut turbojpeg::Compressor)| {
        let mut compressor = turbojpeg::Compressor::new().unwrap();
        compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
        compressor.set_quality(90).unwrap();
        tune(&mut compressor);
        let (pixels, format) = (&pixels[..], PixelFormat::RGB);
        let image = Image { pixels, width: WIDTH, pitch: 3 * WIDTH, height: HEIGHT, format };
        compressor.compress_to_vec(image).unwrap()
    };
    let restarts = with_restart_rows(&pixels, (WIDTH, HEIGHT), 90);
    vec![
        ("baseline", coded(&|_| {})),
        ("restart", restarts),
        ("progressive", coded(&|compressor| compressor.set_progressive(true).unwrap())),
        ("optimised", coded(&|compressor| compressor.set_optimize(true).unwrap())),
    ]
}

fn find(file: &[u8], pair: [u8; 2]) -> usize {
    file.windows(2).position(|found| found == pair).unwrap()
}

/// `file` with `bytes` inserted at `at`.
fn with(file: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    [&file[..at], bytes, &file[at..]].concat()
}

/// Pixels in both forms, and the findings.
fn outcome(file: &[u8], accept_damaged: bool) -> Result<(Vec<u8>, Vec<u8>, Findings), Reason> {
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    decoder.treat(Treatment { accept_damaged, ..Treatment::default() });
    let mut store = Picture::default();
    let of = source(Format::Jpeg, file);
    let view = decoder.decode(&of, PIXELS, &mut store).map_err(|reject| reject.reason)?;
    let pixels = view.interleaved.unwrap().to_vec();
    let view = decoder.decode(&of, PLANES, &mut store).map_err(|reject| reject.reason)?;
    let planes = view.planes.unwrap().samples().to_vec();
    Ok((pixels, planes, decoder.findings().clone()))
}

/// The odd file decodes to exactly the same pixels as the sound one.
#[track_caller]
fn is_the_same(sound: &[u8], odd: &[u8], what: &str) {
    let want = outcome(sound, false).unwrap();
    let got = outcome(odd, false).unwrap_or_else(|reason| panic!("{what}: {reason:?}"));
    assert!(got.0 == want.0, "{what}: the same pixels");
    assert!(got.1 == want.1, "{what}: the same planes");
    assert_eq!(got.2.damage, None, "{what}");
}

/// The file is refused, or accepted as damaged.
#[track_caller]
fn is_damaged(odd: &[u8], what: &str) {
    assert_eq!(outcome(odd, false).err(), Some(Reason::Undecodable), "{what}");
    let accepted = outcome(odd, true).unwrap_or_else(|reason| panic!("{what}: {reason:?}"));
    assert!(accepted.2.damage.is_some(), "{what}");
    assert_eq!(accepted.0.len(), 3 * WIDTH * HEIGHT, "{what}");
}

#[test]
fn a_warning_is_not_damage() {
    for (kind, file) in sound() {
        let check = |odd: &[u8], what: &str| is_the_same(&file, odd, &format!("{kind}: {what}"));
        let mut version = file.clone();
        version[11..13].copy_from_slice(&[0, 0]);
        check(&version, "JFIF 0.00");
        version[11..13].copy_from_slice(&[7, 9]);
        check(&version, "JFIF 7.09");
        let adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x03";
        check(&with(&file, 2, adobe), "an unknown Adobe transform");
        let quantisation = find(&file, [0xff, 0xdb]);
        check(&with(&file, quantisation, b"abc"), "stray bytes between segments");
        check(&with(&file, 2, b"\0\0"), "stray bytes behind the start marker");
        check(&with(&file, quantisation, &[0xff; 5]), "fill bytes between segments");
        check(&with(&file, 0, b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"), "a multipart head");
        check(&with(&file, 0, &[0xff, 0xd8]), "two start markers");
        check(&with(&file, file.len() - 2, &[0; 7]), "zeros before the end marker");
        check(&with(&file, file.len() - 2, b"\x12\x34\x56"), "stray bytes before the end marker");
        check(&with(&file, file.len(), b"\xff\xd8\xff\xe0 and so on"), "another file behind it");
    }
}

#[test]
fn a_missing_end_marker_is_not_damage() {
    for (kind, file) in sound() {
        let body = &file[..file.len() - 2];
        for (what, tail) in [
            ("nothing", &b""[..]),
            ("one byte", b"\xff"),
            ("zeros", &[0; 900]),
            ("eight bytes", b"\x01\x7f\x33\x80\x12\xfe\x00\x44"),
            ("markers", b"\xff\xc4\x00\x03\x00\xff\xdb\x00"),
            ("a table that is none", b"\xff\xdb\x00\x05\x00\x01\x02\xff\xd9"),
            ("an impossible marker", b"\xff\x02\xff\xd9"),
        ] {
            is_the_same(&file, &[body, tail].concat(), &format!("{kind}, {what} in its place"));
        }
    }
}

#[test]
fn wrong_scan_parameters_of_a_baseline_file_are_not_damage() {
    for (kind, mut file) in sound().into_iter().filter(|(kind, _)| *kind != "progressive") {
        let want = file.clone();
        let scan = find(&file, [0xff, 0xda]);
        for parameters in [[0, 0, 0], [1, 63, 0], [0, 63, 0x11], [255, 255, 255]] {
            file[scan + 11..scan + 14].copy_from_slice(&parameters);
            is_the_same(&want, &file, &format!("{kind}, {parameters:?}"));
        }
    }
}

#[test]
fn stray_bytes_before_restart_markers_are_not_damage() {
    let (_, file) = sound().remove(1);
    for stray in [&[0_u8, 0][..], b"\x12\x34", &[0x55; 6]] {
        let mut odd = file.clone();
        let mut at = find(&odd, [0xff, 0xda]);
        let mut markers = 0;
        while let Some(next) =
            (at..odd.len() - 1).find(|&at| odd[at] == 0xff && (0xd0..=0xd7).contains(&odd[at + 1]))
        {
            odd.splice(next..next, stray.iter().copied());
            at = next + stray.len() + 2;
            markers += 1;
        }
        assert!(markers >= 4);
        is_the_same(&file, &odd, &format!("{stray:?} before each of {markers} restart markers"));
    }
}

#[test]
fn a_harmless_warning_hides_no_loss() {
    for (kind, file) in sound() {
        let mut odd = file.clone();
        // The first warning is about the version; the loss is reported later.
        odd[11..13].copy_from_slice(&[0, 0]);
        let cut = [&odd[..file.len() * 9 / 10], b"\xff\xd9"].concat();
        is_damaged(&cut, &format!("{kind}, another version and cut"));
    }
}

#[test]
fn lost_samples_are_damage_wherever_they_are() {
    for (kind, file) in sound() {
        let scan = find(&file, [0xff, 0xda]) + 14;
        for tenth in 3..10 {
            let end = scan + (file.len() - scan) * tenth / 10;
            is_damaged(&file[..end], &format!("{kind}, cut at {tenth}/10"));
            if kind != "progressive" {
                let ended = [&file[..end], b"\xff\xd9"].concat();
                is_damaged(&ended, &format!("{kind}, cut at {tenth}/10 and ended"));
            }
        }
    }
    let (_, restarts) = sound().remove(1);
    let (third, fourth) = (find(&restarts, [0xff, 0xd1]), find(&restarts, [0xff, 0xd2]));
    let lost = [&restarts[..third], &restarts[fourth..]].concat();
    is_damaged(&lost, "a restart interval missing");
}

#[test]
fn a_progressive_file_that_ends_before_its_last_scan_is_damaged() {
    let (_, file) = sound().remove(2);
    let scans: Vec<usize> =
        (0..file.len() - 1).filter(|&at| file[at..at + 2] == [0xff, 0xda]).collect();
    assert!(scans.len() > 5);
    let last = *scans.last().unwrap();
    // Tables before the last scan may remain.
    is_damaged(&file[..last], "no last scan and no end marker");
    is_damaged(&file[..scans[3]], "three scans and no end marker");
}

#[test]
fn tables_of_another_file_never_help() {
    let other = sound().remove(0).1;
    let file = sound().remove(0).1;
    // The second quantisation table is that of the chroma components.
    let first = find(&file, [0xff, 0xdb]);
    let second = first + 2 + find(&file[first + 2..], [0xff, 0xdb]);
    let mut without = file.clone();
    without.drain(second..second + 2 + 67);
    let mut optimised_without = sound().remove(3).1;
    while let Some(at) = optimised_without.windows(2).position(|pair| pair == [0xff, 0xc4]) {
        let len =
            usize::from(u16::from_be_bytes([optimised_without[at + 2], optimised_without[at + 3]]));
        optimised_without.drain(at..at + 2 + len);
    }
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let mut store = Picture::default();
    let alone = decoder
        .decode(&source(Format::Jpeg, &optimised_without), PIXELS, &mut store)
        .map(|view| view.interleaved.unwrap().to_vec())
        .map_err(|reject| reject.reason);
    for helper in [&other, &sound()[3].1] {
        for needs in [PIXELS, PLANES] {
            decoder.decode(&source(Format::Jpeg, helper), needs, &mut store).unwrap();
            let refused = decoder.decode(&source(Format::Jpeg, &without), needs, &mut store);
            assert_eq!(refused.unwrap_err().reason, Reason::Undecodable, "a table is missing");
            decoder.decode(&source(Format::Jpeg, helper), needs, &mut store).unwrap();
            let again = decoder
                .decode(&source(Format::Jpeg, &optimised_without), PIXELS, &mut store)
                .map(|view| view.interleaved.unwrap().to_vec())
                .map_err(|reject| reject.reason);
            assert!(again == alone, "own Huffman tables are missing: the standard ones are meant");
        }
    }
}

#[test]
fn what_is_accepted_of_a_damaged_file_is_its_own() {
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    decoder.treat(Treatment { accept_damaged: true, ..Treatment::default() });
    let mut store = Picture::default();
    let white = vec![255; 3 * WIDTH * HEIGHT];
    for format in [Format::Png, Format::Webp] {
        let whole = encode(&interleaved(&smooth(WIDTH, HEIGHT), WIDTH, HEIGHT), format, 90);
        let cut = &whole[..whole.len() * 2 / 3];
        let mut seen = Vec::new();
        for other in [&white, &smooth(WIDTH, HEIGHT)] {
            let other = encode(&interleaved(other, WIDTH, HEIGHT), format, 90);
            decoder.decode(&source(format, &other), PIXELS, &mut store).unwrap();
            let view = decoder.decode(&source(format, cut), PIXELS, &mut store).unwrap();
            seen.push(view.interleaved.unwrap().to_vec());
            assert!(decoder.findings().damage.is_some(), "{format:?}");
        }
        assert!(seen[0] == seen[1], "{format:?}: nothing of an earlier picture");
        let upper = 3 * WIDTH * HEIGHT / 4;
        let whole = decode(format, &whole);
        assert!(mean(&seen[0][..upper], &whole[..upper]) < 4.0, "{format:?}: what came is there");
        decoder
            .decode(
                &source(format, &encode(&interleaved(&white, WIDTH, HEIGHT), format, 90)),
                PIXELS,
                &mut store,
            )
            .unwrap();
        assert_eq!(decoder.findings().damage, None, "{format:?}: a sound file after it");
    }
}

#[test]
fn what_is_kept_is_the_picture_alone_and_decodes_to_the_same() {
    let (_, file) = sound().remove(0);
    let exif = b"\xff\xe1\0\x12Exif\0\0GPS 52N 5E";
    let comment = [&b"\xff\xfe\x27\x12"[..], &[b'c'; 10_000]].concat();
    let profile = b"\xff\xe2\0\x12ICC_PROFILE\0\x01\x01xx";
    let mut tables_gone = file.clone();
    while let Some(at) = tables_gone.windows(2).position(|pair| pair == [0xff, 0xc4]) {
        let len = usize::from(u16::from_be_bytes([tables_gone[at + 2], tables_gone[at + 3]]));
        tables_gone.drain(at..at + 2 + len);
    }
    let mut out = Vec::new();
    for (what, odd) in [
        ("itself", file.clone()),
        ("EXIF", with(&file, 20, exif)),
        ("a comment", with(&file, 20, &comment)),
        ("a film behind it", [&file[..], &[7; 20_000]].concat()),
        ("no Huffman tables", tables_gone.clone()),
    ] {
        let kept = keep_jpeg(&odd, Orientation::default(), &mut out).unwrap();
        assert_eq!(kept, Kept { is_own_sampling: true, has_profile: false }, "{what}");
        assert!(out.len() <= file.len() + 16, "{what}: {} of {}", out.len(), file.len());
        assert!(out.windows(2).any(|pair| pair == [0xff, 0xc4]), "{what}");
        assert!(!out.windows(3).any(|word| word == b"GPS"), "{what}");
        is_the_same(&file, &out, what);
    }
    assert!(
        keep_jpeg(&with(&file, 20, profile), Orientation::default(), &mut out).unwrap().has_profile
    );
    assert!(out.windows(11).any(|word| word == b"ICC_PROFILE"));
    let progressive = sound().remove(2).1;
    assert!(keep_jpeg(&progressive, Orientation::default(), &mut out).is_some());
    is_the_same(&progressive, &out, "progressive");
    let right = Orientation::new(6).unwrap();
    assert!(keep_jpeg(&file, right, &mut out).is_some());
    assert_eq!(outcome(&out, false).unwrap().2.orientation, right);

    let quantisation = find(&file, [0xff, 0xdb]);
    let scan = find(&file, [0xff, 0xda]);
    let stuffed = scan + find(&file[scan..], [0xff, 0]);
    for (what, odd) in [
        ("stray bytes", with(&file, quantisation, b"abc")),
        ("fill bytes before a zero in the scan", with(&file, stuffed, b"\xff\xff")),
        ("no end", file[..file.len() - 2].to_vec()),
        ("an Adobe transform of 0", with(&file, 2, b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0")),
        ("nothing", Vec::new()),
    ] {
        assert_eq!(keep_jpeg(&odd, Orientation::default(), &mut out), None, "{what}");
    }
}
