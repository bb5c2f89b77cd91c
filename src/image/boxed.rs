//! Makes a letterboxed JPEG from the coded rows of a picture.
//!
//! A picture that fills its square from side to side without scaling has the same blocks in both
//! files, and encoding them is most of the work. With a restart marker after every row of blocks,
//! each row is independent: it begins at a byte, and its first blocks are not predicted from the
//! previous row (ITU-T T.81, F.1.1.5.1 and E.1.4). So the rows are copied. Gray rows, encoded once,
//! are added above and below.

use std::ops::RangeInclusive;

use super::compress::{Codes, Compressor, JpegCoding};
use super::huffman::{STANDARD, Tables, recode_rows};
use super::markers::{next_marker, segment};
use super::scale::Placement;
use super::turbo::{Complaint, Layout};
use crate::frame::View;
use turbojpeg::Subsamp;

/// Codes of the restart markers, which cycle in this order.
const RESTARTS: RangeInclusive<u8> = 0xd0..=0xd7;

/// The end marker of a file.
const END: [u8; 2] = [0xff, 0xd9];

/// Whether the letterboxed picture of `view` in a square of `size` pixels consists of whole rows of
/// blocks of `view`.
pub fn keeps_its_rows(view: &View<'_>, size: usize) -> bool {
    let place = Placement::fit(view.width, view.height, size);
    let unscaled = (view.width, place.width, place.height) == (size, size, view.height);
    let unit = row_height(view.channels == 1);
    unscaled && [size, place.y, place.height].into_iter().all(|rows| rows.is_multiple_of(unit))
}

/// Height of a row of units, in pixels: two rows of luma blocks for each row of chroma blocks.
fn row_height(gray: bool) -> usize {
    if gray { 8 } else { 16 }
}

/// Makes letterboxed files. Caches the last bars, for colour and for gray pictures.
#[derive(Default)]
pub(super) struct Boxer {
    kept: [GrayRow; 2],
    /// A row of a bar, coded with the tables of the picture.
    row: Vec<u8>,
}

/// The blocks of one row of a bar, coded with the standard tables.
#[derive(Default)]
struct GrayRow {
    made_for: Option<Bars>,
    coded: Vec<u8>,
}

/// Parameters of the bars around a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bars {
    /// Side of the square, in pixels.
    pub size: usize,
    /// Gray level of the bars.
    pub padding: u8,
    /// Whether the picture is gray.
    pub gray: bool,
    /// The quality of its file.
    pub quality: u8,
}

impl Boxer {
    /// Puts the rows of `file` between bars. `file` is a JPEG of `height` pixels with restart
    /// markers and the given Huffman tables.
    pub fn put_between(
        &mut self,
        bars: Bars,
        tables: &Tables,
        file: &[u8],
        height: usize,
        compressor: &mut Compressor,
        out: &mut Vec<u8>,
    ) -> Result<(), Complaint> {
        let broken = || Complaint::ours("the coded picture is not made of rows");
        let bar = &mut self.kept[usize::from(bars.gray)];
        if bar.made_for != Some(bars) {
            *bar = GrayRow { coded: gray_row(bars, compressor)?, made_for: Some(bars) };
        }
        let unit = row_height(bars.gray);
        self.row.clear();
        let row = (bars.gray, bars.size / unit);
        recode_rows(&bar.coded, row, (&STANDARD, tables), &mut self.row).ok_or_else(broken)?;
        let above = bars.size.saturating_sub(height) / 2 / unit;
        let below = bars.size.saturating_sub(height) / unit - above;
        let size = u16::try_from(bars.size).map_err(|_| broken())?;

        let picture = Parts::of(file).ok_or_else(broken)?;
        out.clear();
        out.extend_from_slice(picture.head);
        out[picture.height_at..][..2].copy_from_slice(&size.to_be_bytes());
        let mut codes = RESTARTS.cycle();
        let mut restart = || codes.next().unwrap_or(*RESTARTS.start());
        for _ in 0..above {
            out.extend_from_slice(&self.row);
            out.extend([0xff, restart()]);
        }
        let mut at = out.len();
        out.extend_from_slice(picture.rows);
        while let Some(found) = memchr::memchr(0xff, &out[at..]) {
            at += found + 1;
            if let Some(code) = out.get_mut(at)
                && RESTARTS.contains(code)
            {
                *code = restart();
            }
        }
        for _ in 0..below {
            out.extend([0xff, restart()]);
            out.extend_from_slice(&self.row);
        }
        out.extend(END);
        Ok(())
    }
}

fn gray_row(bars: Bars, compressor: &mut Compressor) -> Result<Vec<u8>, Complaint> {
    let height = row_height(bars.gray);
    let subsampling = if bars.gray { Subsamp::Gray } else { Subsamp::Sub2x2 };
    let layout = Layout { width: bars.size, height, subsampling };
    let mut samples = vec![128; layout.len()];
    samples[..bars.size * height].fill(bars.padding);
    let mut file = Vec::new();
    let codes = Codes::Tables(&STANDARD);
    let coding = JpegCoding { quality: bars.quality, restart_rows: true, codes };
    compressor.compress_planar(&samples, layout, coding, &mut file)?;
    let parts = Parts::of(&file);
    parts
        .map(|parts| parts.rows.to_vec())
        .ok_or_else(|| Complaint::ours("a coded bar is not made of rows"))
}

/// The parts of a baseline file of one scan.
struct Parts<'a> {
    /// Everything before the coded data, including the scan header.
    head: &'a [u8],
    /// Offset of the picture's height within `head`; two bytes.
    height_at: usize,
    /// The coded blocks.
    rows: &'a [u8],
}

impl Parts<'_> {
    fn of(file: &[u8]) -> Option<Parts<'_>> {
        let mut rest = file.get(2..)?;
        let mut height_at = None;
        loop {
            let (marker, body) = next_marker(rest)?;
            let (_, after) = segment(body)?;
            match marker {
                // After the length and the precision.
                0xc0 => height_at = Some(file.len() - body.len() + 3),
                0xda => {
                    let (head, rows) = file.split_at(file.len() - after.len());
                    return Some(Parts {
                        head,
                        height_at: height_at?,
                        rows: rows.strip_suffix(&END)?,
                    });
                }
                _ => {}
            }
            rest = after;
        }
    }
}
