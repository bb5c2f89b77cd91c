//! Copies a JPEG without coding it again: only its picture, in a form that every decoder reads.
//!
//! The tables, the frame and the scans are copied. Of application data only the colour profile is
//! kept, so that what a phone or camera records about its owner and location is removed. A file
//! without Huffman tables (as in Motion JPEG) implies the standard ones; they are added. Data after
//! the end marker is not copied. Format: ITU-T T.81, annex B; JFIF 1.02.

use super::exif;
use super::huffman::STANDARD;
use super::markers::{from_start, segment};
use super::orient::Orientation;

/// Properties of the copied file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whether the picture is gray or 4:2:0, as the engine encodes it; other subsamplings take more
    /// space.
    pub is_own_sampling: bool,
    /// Whether there is a colour profile.
    pub has_profile: bool,
}

/// Set of Huffman tables: one bit for each class and identifier.
type TableSet = u8;

/// Copies the picture of `file` into `out`, which is cleared first. If the picture is not upright,
/// an EXIF orientation is written. `None` if some decoders would not read the file: another process
/// than baseline or progressive Huffman, other colours than gray and YCbCr, stray bytes, or a
/// missing end.
pub fn keep_jpeg(file: &[u8], orientation: Orientation, out: &mut Vec<u8>) -> Option<Kept> {
    out.clear();
    let mut rest = from_start(file)?.get(2..)?;
    out.extend([0xff, 0xd8]);
    let head_at = out.len();
    let mut kept = Kept::default();
    let mut walk = Walk::default();
    loop {
        let (marker, after) = marker_here(rest)?;
        if marker == 0xd9 {
            break;
        }
        let (body, after) = segment(after)?;
        let whole = &rest[rest.len() - after.len() - body.len() - 4..rest.len() - after.len()];
        rest = after;
        match marker {
            0xe0 => walk.jfif(body),
            0xe2 if body.starts_with(b"ICC_PROFILE\0") => {
                kept.has_profile = true;
                out.extend_from_slice(whole);
            }
            0xee if body.starts_with(b"Adobe") => walk.adobe = body.get(11).copied(),
            0xe1..=0xef | 0xfe => {}
            0xdb => {
                walk.has_coarse_tables |= has_wide_entries(body)?;
                out.extend_from_slice(whole);
            }
            0xc4 => {
                walk.tables |= tables_in(body)?;
                out.extend_from_slice(whole);
            }
            0xdd => out.extend_from_slice(whole),
            0xc0 | 0xc2 if walk.frame.is_none() => {
                walk.frame = Some(KeptFrame::of(marker, body)?);
                out.extend_from_slice(whole);
            }
            0xda => {
                let frame = walk.frame?;
                let missing = tables_used(frame, body)? & !walk.tables;
                if missing != 0 {
                    add_tables(missing, out)?;
                    walk.tables |= missing;
                }
                out.extend_from_slice(whole);
                let scan = scan_len(rest)?;
                out.extend_from_slice(&rest[..scan]);
                rest = &rest[scan..];
                walk.has_scan = true;
            }
            _ => return None,
        }
    }
    let frame = walk.frame.filter(|_| walk.has_scan)?;
    if !walk.is_plain(frame) {
        return None;
    }
    out.extend([0xff, 0xd9]);
    let mut head = walk.jfif_segment().to_vec();
    if !orientation.is_upright() {
        let body = exif::segment(orientation);
        head.extend([0xff, 0xe1, 0, 2 + body.len() as u8]);
        head.extend(body);
    }
    out.splice(head_at..head_at, head);
    kept.is_own_sampling = frame.is_gray || frame.sampling == 0x22;
    Some(kept)
}

#[derive(Clone, Copy)]
struct KeptFrame {
    is_baseline: bool,
    is_gray: bool,
    /// Sampling factors of the first component.
    sampling: u8,
    /// Whether the component identifiers mean RGB in a file without JFIF or Adobe segment.
    says_rgb: bool,
}

impl KeptFrame {
    fn of(marker: u8, body: &[u8]) -> Option<KeptFrame> {
        let (&[8, _, _, _, _, components], list) = body.split_first_chunk::<6>()? else {
            return None;
        };
        let list = list.get(..3 * usize::from(components))?;
        let others_are_single = list.chunks_exact(3).skip(1).all(|component| component[1] == 0x11);
        if !matches!(components, 1 | 3) || !others_are_single {
            return None;
        }
        Some(KeptFrame {
            is_baseline: marker == 0xc0,
            is_gray: components == 1,
            sampling: list[1],
            says_rgb: components == 3 && [list[0], list[3], list[6]] == *b"RGB",
        })
    }
}

/// State while reading a file.
#[derive(Default)]
struct Walk {
    frame: Option<KeptFrame>,
    has_scan: bool,
    tables: TableSet,
    has_coarse_tables: bool,
    /// Unit and densities of a JFIF head.
    jfif: Option<[u8; 5]>,
    /// The transform of an Adobe segment.
    adobe: Option<u8>,
}

impl Walk {
    fn jfif(&mut self, body: &[u8]) {
        if let Some([_, _, density @ ..]) = body.strip_prefix(b"JFIF\0").and_then(|b| b.get(..7)) {
            self.jfif = density.try_into().ok();
        }
    }

    /// A JFIF head. Without it, some decoders guess the colour space from the component
    /// identifiers.
    fn jfif_segment(&self) -> [u8; 18] {
        let mut head = *b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0";
        if let Some(density) = self.jfif {
            head[11..16].copy_from_slice(&density);
        }
        head
    }

    /// Whether every decoder interprets the picture as the same gray or YCbCr.
    fn is_plain(&self, frame: KeptFrame) -> bool {
        let is_ycc = frame.is_gray
            || match self.adobe {
                Some(1) => true,
                Some(_) => false,
                None => self.jfif.is_some() || !frame.says_rgb,
            };
        is_ycc && !(frame.is_baseline && self.has_coarse_tables)
    }
}

/// The marker at the start of `rest`, after optional fill bytes. A zero after fill bytes is not a
/// marker: some decoders treat it as coded data, others as the end of it.
fn marker_here(rest: &[u8]) -> Option<(u8, &[u8])> {
    let fill = rest.iter().take_while(|&&byte| byte == 0xff).count();
    let (&marker, after) = rest.get(fill..)?.split_first()?;
    (fill > 0 && marker != 0).then_some((marker, after))
}

fn has_wide_entries(mut body: &[u8]) -> Option<bool> {
    let mut is_wide = false;
    while let Some((&head, rest)) = body.split_first() {
        is_wide |= head >> 4 != 0;
        body = rest.get(if head >> 4 == 0 { 64 } else { 128 }..)?;
    }
    Some(is_wide)
}

/// The tables that a segment defines.
fn tables_in(mut body: &[u8]) -> Option<TableSet> {
    let mut set = 0;
    while let Some((&head, rest)) = body.split_first() {
        let counts = rest.get(..16)?;
        let symbols: usize = counts.iter().map(|&count| usize::from(count)).sum();
        if head >> 4 > 1 || head & 15 > 3 {
            return None;
        }
        set |= bit(head);
        body = rest.get(16 + symbols..)?;
    }
    Some(set)
}

fn bit(id: u8) -> TableSet {
    1 << (4 * (id >> 4) + (id & 3))
}

/// The tables that a scan refers to.
fn tables_used(frame: KeptFrame, head: &[u8]) -> Option<TableSet> {
    let (&count, list) = head.split_first()?;
    let (list, rest) = list.split_at_checked(2 * usize::from(count))?;
    let &[start, end, approximation] = rest else { return None };
    if frame.is_baseline && (start, end, approximation) != (0, 63, 0) {
        return None;
    }
    let uses_dc = start == 0 && approximation >> 4 == 0;
    let mut used = 0;
    for component in list.chunks_exact(2) {
        let (dc, ac) = (component[1] >> 4, component[1] & 15);
        if dc > 3 || ac > 3 {
            return None;
        }
        if uses_dc {
            used |= bit(dc);
        }
        if end > 0 {
            used |= bit(0x10 | ac);
        }
    }
    Some(used)
}

/// Length of the coded data up to the next marker that is not a restart marker.
fn scan_len(rest: &[u8]) -> Option<usize> {
    memchr::memchr_iter(0xff, rest)
        .find(|at| !matches!(rest.get(at + 1), Some(0 | 0xd0..=0xd7)))
        .filter(|at| at + 1 < rest.len())
}

/// Appends the missing standard tables; `None` if there is no standard table for an identifier.
fn add_tables(missing: TableSet, out: &mut Vec<u8>) -> Option<()> {
    let mut left = missing;
    STANDARD.write(
        |id| {
            let is_missing = left & bit(id) != 0;
            left &= !bit(id);
            is_missing
        },
        out,
    );
    (left == 0).then_some(())
}
