//! Pictures that are not upright as stored.

use super::*;

const TAGS: std::ops::RangeInclusive<u16> = 1..=8;

/// A file with an EXIF orientation.
fn tagged(format: Format, (width, height): (usize, usize), orientation: Orientation) -> Vec<u8> {
    let mut file = encode(&interleaved(&smooth(width, height), width, height), format, 97);
    tag(&mut file, format, (width, height), orientation);
    file
}

#[test]
fn every_format_is_turned_in_every_form_at_every_size() {
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let (mut store, mut wanted) = (Picture::default(), Picture::default());
    for format in [Format::Jpeg, Format::Png, Format::Webp] {
        for size in [(64, 48), (63, 48), (64, 47), (63, 47), (5, 3)] {
            let plain = decode(format, &tagged(format, size, Orientation::default()));
            for orientation in TAGS.filter_map(Orientation::new) {
                let what = format!("{format:?} {size:?} {orientation:?}");
                let file = tagged(format, size, orientation);
                let turned = orientation.size(size);
                let mut want = vec![0; plain.len()];
                orient::orient::<3>(&plain, size, orientation, &mut want);

                let view = decoder.decode(&source(format, &file), PIXELS, &mut store).unwrap();
                assert_eq!((view.width, view.height), turned, "{what}");
                assert!(view.interleaved == Some(&want[..]), "{what}");
                let raw_want = raw(&want, turned.0, turned.1);
                let want = decoder.decode(&raw_want, PLANES, &mut wanted).unwrap();
                let want = want.planes.unwrap().samples();
                for needs in [PLANES, ALL] {
                    let view = decoder.decode(&source(format, &file), needs, &mut store).unwrap();
                    let planes = view.planes.unwrap();
                    assert_eq!((planes.width(), planes.height()), turned, "{what}");
                    assert!(mean(planes.samples(), want) < 2.0, "{what}");
                }
                assert_eq!(decoder.findings().orientation, orientation, "{what}");
            }
        }
    }
}

#[test]
fn gray_files_are_turned_exactly() {
    let (width, height) = (37, 21);
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let mut store = Picture::default();
    for format in [Format::Jpeg, Format::Png] {
        let pixels = gray(width, height);
        let mut file = encode(&interleaved(&pixels, width, height), format, 97);
        let plain = decode(format, &file);
        let right = Orientation::new(6).unwrap();
        tag(&mut file, format, (width, height), right);
        let mut want = vec![0; plain.len()];
        orient::orient::<1>(&plain, (width, height), right, &mut want);
        let view = decoder.decode(&source(format, &file), ALL, &mut store).unwrap();
        assert_eq!((view.width, view.height, view.channels), (height, width, 1));
        assert_eq!(view.interleaved, Some(&want[..]));
        assert_eq!(view.planes.unwrap().samples(), want);
    }
}

#[test]
fn pictures_stay_as_stored_if_so_treated() {
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    decoder.treat(Treatment { rotate_upright: false, ..Treatment::default() });
    let mut store = Picture::default();
    let right = Orientation::new(6).unwrap();
    for format in [Format::Jpeg, Format::Png, Format::Webp] {
        let plain = decode(format, &tagged(format, (48, 32), Orientation::default()));
        let file = tagged(format, (48, 32), right);
        let view = decoder.decode(&source(format, &file), PIXELS, &mut store).unwrap();
        assert_eq!((view.width, view.height), (48, 32));
        assert_eq!(view.interleaved, Some(&plain[..]));
        assert_eq!(decoder.findings().orientation, right);
    }
}

#[test]
fn tagged_files_are_read_by_other_decoders() {
    let right = Orientation::new(8).unwrap();
    let png = tagged(Format::Png, (48, 32), right);
    let reader = ::png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap();
    let exif = reader.info().exif_metadata.as_ref().unwrap();
    assert_eq!(exif.len(), 26);
    let webp = tagged(Format::Webp, (48, 32), right);
    let mut reader = image_webp::WebPDecoder::new(std::io::Cursor::new(&webp)).unwrap();
    assert_eq!(reader.dimensions(), (48, 32));
    assert_eq!(reader.exif_metadata().unwrap().map(|exif| exif.len()), Some(26));
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.read_image(&mut pixels).unwrap();
}
