//! A worker's outputs for a decoded picture: figures, small pictures, files.

use framepress::internals::analysis::{self, Background, Reduced, RegionBox};
use framepress::internals::frame::{Planes, View};
use framepress::internals::image::{
    self, Bounds, Decoder, Encoder, Format, InputImage, Needs, Picture, Scaler, Target,
    keeps_its_rows,
};

use super::PIXELS_MAX;

/// Sides of the small pictures: an odd one, and one larger than most samples.
const SIDES: [usize; 2] = [37, 96];

/// The limit of the WebP format.
const WEBP_SIDE_MAX: usize = 16383;

/// Analyses, scales and encodes `view` with every option, and decodes each file again.
pub fn every_output(view: &View<'_>) {
    let mut encoder = Encoder::new().unwrap();
    let mut file = Vec::new();
    for format in [Format::Jpeg, Format::Webp, Format::Png, Format::Raw] {
        write(&mut encoder, view, format, &mut file);
    }
    for side in [view.width, view.width + 2] {
        boxed(&mut encoder, view, side);
    }
    let Some(planes) = view.planes else { return };
    figures(view, planes);
    let (mut scaler, mut scaled) = (Scaler::new(), Planes::default());
    for side in SIDES {
        let place = scaler.letterbox(planes, side, 114, &mut scaled);
        assert!(place.x + place.width <= side && place.y + place.height <= side);
        write(&mut encoder, &view_of(&scaled), Format::Jpeg, &mut file);
        scaler.thumbnail(planes, side, &mut scaled);
        write(&mut encoder, &view_of(&scaled), Format::Jpeg, &mut file);
    }
}

/// Both files of a picture that is encoded together with its letterboxed form.
fn boxed(encoder: &mut Encoder, view: &View<'_>, side: usize) {
    if !keeps_its_rows(view, side) || (side * side) as u64 > PIXELS_MAX {
        return;
    }
    let (mut file, mut square) = (Vec::new(), Vec::new());
    encoder
        .encode_boxed(view, (85, image::standard_tables()), (side, 114), &mut file, &mut square)
        .unwrap();
    read_back(&file, Format::Jpeg, (view.width, view.height));
    read_back(&square, Format::Jpeg, (side, side));
}

fn view_of(planes: &Planes) -> View<'_> {
    let channels = if planes.is_gray() { 1 } else { 3 };
    let (width, height) = (planes.width(), planes.height());
    View { width, height, channels, interleaved: None, planes: Some(planes) }
}

fn figures(view: &View<'_>, planes: &Planes) {
    let luma = planes.luma();
    let stats = analysis::luma_stats(luma);
    assert_eq!(stats.pixels, (view.width * view.height) as u64);
    let scores = analysis::quality(&stats);
    assert!((0.0..=1.0).contains(&scores.quality_score));
    assert!((0.0..=255.0).contains(&analysis::mean_value(planes)));
    let (mut reduced, mut background) = (Reduced::new(), Background::new());
    let whole = [view.width, view.height].map(|side| i32::try_from(side).unwrap());
    let region = RegionBox { x: 0, y: 0, width: whole[0], height: whole[1] };
    for seconds in [0.0, 0.1] {
        reduced.fill(luma);
        let activity = background.update(&reduced, seconds);
        assert_eq!(activity.density, 0.0, "nothing moves between two equal pictures");
    }
    assert_eq!(background.region_density(&region, view.width, view.height), 0.0);
}

/// An encoded file decodes again, at the same size.
fn write(encoder: &mut Encoder, view: &View<'_>, format: Format, file: &mut Vec<u8>) {
    let target = Target { format, quality: 85, webp_method: 0 };
    let written = encoder.encode(view, &target, file);
    if format == Format::Webp && view.width.max(view.height) > WEBP_SIDE_MAX {
        assert!(written.is_err());
        return;
    }
    written.unwrap();
    if format == Format::Raw {
        assert_eq!(file.len(), view.width * view.height * view.channels);
        return;
    }
    read_back(file, format, (view.width, view.height));
    if format == Format::Jpeg {
        with_other_tables(encoder, view, file);
    }
}

/// The same symbols with tables independent of the picture, and with its own.
fn with_other_tables(encoder: &mut Encoder, view: &View<'_>, file: &[u8]) {
    let counts = image::count_symbols(file).unwrap();
    let (mut other, mut own) = (Vec::new(), Vec::new());
    let target = Target { format: Format::Jpeg, quality: 85, webp_method: 0 };
    let codes = image::Codes::Tables(image::start_tables(85));
    encoder.encode_with(view, &target, codes, &mut other).unwrap();
    image::recode_jpeg(file, &mut own).unwrap();
    for file in [&other, &own] {
        let same = image::count_symbols(file).unwrap();
        assert_eq!((same.dc, same.ac), (counts.dc, counts.ac));
    }
}

fn read_back(file: &[u8], format: Format, size: (usize, usize)) {
    let pixels_max = PIXELS_MAX.max(SIDES.map(|side| (side * side) as u64)[1]);
    let mut decoder = Decoder::new(Bounds { pixels_max }).unwrap();
    let source = InputImage {
        format,
        width: 0,
        height: 0,
        channels: 0,
        layout: Default::default(),
        bytes: file,
    };
    let needs = Needs { planes: true, interleaved: false };
    let mut store = Picture::default();
    let again = decoder.decode(&source, needs, &mut store).unwrap();
    assert_eq!((again.width, again.height), size, "{}", format.name());
}
