//! Parser of a baseline JPEG: its tables, the blocks of its units, its coded data, and a walk over
//! the symbols. Format: ITU-T T.81, annexes B and F.2.
//!
//! Coefficients are deliberately not decoded. Counting and exchanging tables need only the symbols
//! and the bits after them.

use super::super::markers::{from_start, next_marker, segment};
use super::{SIXTEEN_ZEROS, Table};

/// Maximum number of blocks in a unit (T.81, B.2.3).
const BLOCKS_MAX: usize = 10;
/// Components: one, or luma and two of chroma.
const COMPONENTS_MAX: usize = 3;
/// Bits that index the lookup table; few codes are longer.
const LOOK: u32 = 9;

/// A sequential Huffman-coded file of one scan.
pub(super) struct ScanFile<'a> {
    /// Everything before the coded data.
    pub(super) head: &'a [u8],
    /// The coded data and everything after it.
    pub(super) data: &'a [u8],
    /// The blocks of a unit.
    pub(super) unit: Unit,
    pub(super) units: usize,
    /// Units between restart markers; 0 for none.
    pub(super) restart: usize,
    tables: [Decoding; 4],
}

/// The blocks of a unit: the component of each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unit {
    components: [u8; BLOCKS_MAX],
    len: usize,
}

impl Unit {
    /// The unit of 4:2:0, or of gray.
    pub(super) fn own(gray: bool) -> Unit {
        let mut unit = Unit::default();
        let counts: &[usize] = if gray { &[1] } else { &[4, 1, 1] };
        for (component, &count) in (0..).zip(counts) {
            unit.add(component, count);
        }
        unit
    }

    fn add(&mut self, component: u8, count: usize) -> Option<()> {
        self.components.get_mut(self.len..self.len + count)?.fill(component);
        self.len += count;
        Some(())
    }
}

/// Receiver of the symbols of a walk. `class` is 0 for luma and 1 for chroma. `extra` holds the
/// bits after the code; the low half of the symbol is their number.
pub(super) trait CodeVisitor {
    fn dc(&mut self, class: usize, symbol: u8, extra: u32);
    fn ac(&mut self, class: usize, symbol: u8, extra: u32);
    /// Called at a restart marker with its code.
    fn restart(&mut self, code: u8);
}

/// The end of a walk.
pub(super) struct Walked {
    /// Bytes of coded data that hold symbols.
    pub(super) len: usize,
    /// Zero bytes stuffed after 0xff.
    pub(super) stuffed: usize,
}

impl<'a> ScanFile<'a> {
    /// `None` if the file is not sequential Huffman-coded, has several scans, or is broken.
    pub(super) fn open(file: &'a [u8]) -> Option<ScanFile<'a>> {
        let file = from_start(file)?;
        let mut rest = file.get(2..)?;
        let mut tables: [Decoding; 4] = Default::default();
        let mut frame = None;
        let mut restart = 0;
        loop {
            let (marker, after) = next_marker(rest)?;
            let (body, after) = segment(after)?;
            match marker {
                0xc0 | 0xc1 => frame = Some(ScanFrame::of(body)?),
                0xc2..=0xcf if marker != 0xc4 => return None,
                0xc4 => read_tables(body, &mut tables)?,
                0xdd => restart = usize::from(u16::from_be_bytes(body.try_into().ok()?)),
                0xda => {
                    let (unit, units) = frame?.units(body, &mut tables)?;
                    let head = &file[..file.len() - after.len()];
                    return Some(ScanFile { head, data: after, unit, units, restart, tables });
                }
                _ => {}
            }
            rest = after;
        }
    }

    /// Rows coded with known tables, without a head.
    pub(super) fn rows(
        data: &'a [u8],
        unit: Unit,
        units: usize,
        of: &super::Tables,
    ) -> ScanFile<'a> {
        let [luma, chroma] = &of.0;
        let tables = [
            Decoding::of(luma.dc.counts(), luma.dc.values()),
            Decoding::of(luma.ac.counts(), luma.ac.values()),
            Decoding::of(chroma.dc.counts(), chroma.dc.values()),
            Decoding::of(chroma.ac.counts(), chroma.ac.values()),
        ];
        ScanFile { head: &[], data, unit, units, restart: 0, tables }
    }

    pub(super) fn blocks(&self) -> usize {
        self.units * self.unit.len
    }

    /// Passes every symbol to `visit` in order; `None` if the data do not match the head.
    pub(super) fn walk(&self, visit: &mut impl CodeVisitor) -> Option<Walked> {
        let mut bits = Bits { data: self.data, at: 0, buffer: 0, held: 0, invented: 0, stuffed: 0 };
        for number in 0..self.units {
            if self.restart > 0 && number > 0 && number.is_multiple_of(self.restart) {
                visit.restart(bits.restart()?);
            }
            for &component in &self.unit.components[..self.unit.len] {
                self.block(usize::from(component > 0), &mut bits, visit)?;
            }
            if !bits.is_sound() {
                return None;
            }
        }
        Some(Walked { len: bits.at, stuffed: bits.stuffed })
    }

    #[inline]
    fn block(&self, class: usize, bits: &mut Bits<'_>, visit: &mut impl CodeVisitor) -> Option<()> {
        let [dc, ac] = [&self.tables[2 * class], &self.tables[2 * class + 1]];
        let symbol = bits.symbol(dc)?;
        if symbol > 11 {
            return None;
        }
        visit.dc(class, symbol, bits.take(symbol.into()));
        let mut place = 1;
        while place < 64 {
            let symbol = bits.symbol(ac)?;
            let len = symbol & 15;
            visit.ac(class, symbol, bits.take(len.into()));
            match (symbol, len) {
                (SIXTEEN_ZEROS, _) => place += 16,
                (0, _) => return Some(()),
                (_, 1..=10) => place += usize::from(symbol >> 4) + 1,
                _ => return None,
            }
        }
        (place == 64).then_some(())
    }
}

#[derive(Clone, Copy)]
struct ScanFrame {
    width: usize,
    height: usize,
    /// Identifier and sampling factors of each component.
    components: [(u8, usize, usize); COMPONENTS_MAX],
    count: usize,
}

impl ScanFrame {
    fn of(body: &[u8]) -> Option<ScanFrame> {
        let (&[8, h1, h0, w1, w0, count], list) = body.split_first_chunk::<6>()? else {
            return None;
        };
        let count = usize::from(count);
        let list = list.get(..3 * count).filter(|_| matches!(count, 1 | 3))?;
        let mut components = [(0, 1, 1); COMPONENTS_MAX];
        for (place, &[id, factors, _]) in components.iter_mut().zip(list.as_chunks::<3>().0) {
            *place = (id, usize::from(factors >> 4), usize::from(factors & 15));
        }
        let side = |high, low| usize::from(u16::from_be_bytes([high, low]));
        let (width, height) = (side(w1, w0), side(h1, h0));
        let is_sound = components
            .iter()
            .all(|&(_, across, down)| (1..=4).contains(&across) && (1..=4).contains(&down));
        (is_sound && width > 0 && height > 0).then_some(ScanFrame {
            width,
            height,
            components,
            count,
        })
    }

    /// The unit and the number of units of a scan of all components. Reorders the tables to luma
    /// DC, luma AC, chroma DC, chroma AC.
    fn units(&self, scan: &[u8], tables: &mut [Decoding; 4]) -> Option<(Unit, usize)> {
        let (&count, list) = scan.split_first()?;
        let (list, rest) = list.split_at_checked(2 * usize::from(count))?;
        if usize::from(count) != self.count || rest != [0, 63, 0] {
            return None;
        }
        let mut chosen = [None; 2];
        let mut unit = Unit::default();
        let of_each = self.components.iter().zip(list.as_chunks::<2>().0);
        for (at, (&(id, across, down), &[scan_id, ids])) in of_each.enumerate() {
            let (dc, ac) = (usize::from(ids >> 4), usize::from(ids & 15));
            // Both chroma components must use the same tables, as all common files do.
            let known = chosen[usize::from(at > 0)].get_or_insert((dc, ac));
            if id != scan_id || *known != (dc, ac) || dc > 1 || ac > 1 {
                return None;
            }
            unit.add(at as u8, if self.count == 1 { 1 } else { across * down })?;
        }
        let of = |ids: Option<(usize, usize)>| {
            ids.map_or_else(Default::default, |(dc, ac)| {
                [tables[2 * dc].clone(), tables[2 * ac + 1].clone()]
            })
        };
        let ([a, b], [c, d]) = (of(chosen[0]), of(chosen[1]));
        *tables = [a, b, c, d];
        let most = |side: fn(&(u8, usize, usize)) -> usize| {
            if self.count == 1 { 1 } else { self.components.iter().map(side).max().unwrap_or(1) }
        };
        let across = self.width.div_ceil(8 * most(|component| component.1));
        let down = self.height.div_ceil(8 * most(|component| component.2));
        Some((unit, across * down))
    }
}

fn read_tables(mut body: &[u8], tables: &mut [Decoding; 4]) -> Option<()> {
    while let Some((&head, rest)) = body.split_first() {
        let (counts, rest) = rest.split_first_chunk::<16>()?;
        let len = counts.iter().map(|&count| usize::from(count)).sum();
        let (values, rest) = rest.split_at_checked(len)?;
        if head & !0x11 != 0 || len > 256 {
            return None;
        }
        tables[usize::from(2 * (head & 15) + (head >> 4))] = Decoding::of(counts, values);
        body = rest;
    }
    Some(())
}

/// A decoding table.
#[derive(Clone)]
struct Decoding {
    /// Length and symbol for every prefix of [`LOOK`] bits; length 0 for a longer code or none.
    short: [(u8, u8); 1 << LOOK],
    /// For each length, the first code after those of that length, and the offset from a code to
    /// its index in `values`.
    longer: [(u32, i32); 17],
    values: [u8; 256],
}

impl Default for Decoding {
    fn default() -> Self {
        Decoding { short: [(0, 0); 1 << LOOK], longer: [(0, 0); 17], values: [0; 256] }
    }
}

impl Decoding {
    fn of(counts: &[u8; 16], values: &[u8]) -> Decoding {
        let mut decoding = Decoding::default();
        let len = values.len().min(256);
        decoding.values[..len].copy_from_slice(&values[..len]);
        let (mut code, mut index) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            decoding.longer[length as usize] =
                (code + u32::from(count), index as i32 - code as i32);
            for _ in 0..count {
                if length <= LOOK {
                    let from = (code << (LOOK - length)) as usize;
                    let same = decoding.short.iter_mut().skip(from).take(1 << (LOOK - length));
                    let symbol = values.get(index).copied().unwrap_or(0);
                    same.for_each(|place| *place = (length as u8, symbol));
                }
                code += 1;
                index += 1;
            }
            code <<= 1;
        }
        decoding
    }
}

/// Coded data, bit by bit. After its end it yields zeros, which are counted.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, highest first.
    buffer: u64,
    held: u32,
    invented: u32,
    stuffed: usize,
}

impl Bits<'_> {
    /// Ensures that at least 32 bits are held.
    #[inline]
    fn refill(&mut self) {
        if self.held >= 32 {
            return;
        }
        if let Some(&chunk) = self.data.get(self.at..).and_then(|rest| rest.first_chunk::<4>()) {
            let word = u32::from_be_bytes(chunk);
            let inverse = !word;
            let has_ones = inverse.wrapping_sub(0x0101_0101) & !inverse & 0x8080_8080 != 0;
            if !has_ones {
                self.buffer |= u64::from(word) << (32 - self.held);
                self.held += 32;
                self.at += 4;
                return;
            }
        }
        self.refill_slowly();
    }

    #[cold]
    fn refill_slowly(&mut self) {
        while self.held <= 56 {
            let byte = match (self.data.get(self.at), self.data.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    self.stuffed += 1;
                    0xff
                }
                (Some(0xff), _) | (None, _) => {
                    self.invented = self.invented.saturating_add(8);
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.held);
            self.held += 8;
        }
    }

    #[inline]
    fn symbol(&mut self, table: &Decoding) -> Option<u8> {
        self.refill();
        let (len, symbol) = table.short[(self.buffer >> (64 - LOOK)) as usize];
        if len > 0 {
            self.skip(len.into());
            return Some(symbol);
        }
        self.long_symbol(table)
    }

    fn long_symbol(&mut self, table: &Decoding) -> Option<u8> {
        for len in LOOK + 1..=16 {
            let code = (self.buffer >> (64 - len)) as u32;
            let (end, add) = table.longer[len as usize];
            if code < end {
                self.skip(len);
                let index = usize::try_from(code as i32 + add).ok()?;
                return table.values.get(index).copied();
            }
        }
        None
    }

    #[inline]
    fn skip(&mut self, len: u32) {
        self.buffer <<= len;
        self.held -= len;
    }

    /// Takes up to 16 bits. They are available, because reading the symbol before them refilled the
    /// buffer.
    #[inline]
    fn take(&mut self, len: u32) -> u32 {
        let bits = (self.buffer >> 32) as u32;
        self.skip(len);
        // In two steps, because `len` may be 0.
        (bits >> 1) >> (31 - len)
    }

    /// Whether no bit beyond the end of the data was used.
    fn is_sound(&self) -> bool {
        self.invented <= self.held
    }

    /// Skips a restart marker and returns its code.
    fn restart(&mut self) -> Option<u8> {
        // The held bits are padding of this interval followed by invented bits. Padding is less
        // than a byte.
        if !self.is_sound() || self.held - self.invented >= 8 {
            return None;
        }
        let (&0xff, &code) = (self.data.get(self.at)?, self.data.get(self.at + 1)?) else {
            return None;
        };
        self.at += 2;
        (self.buffer, self.held, self.invented) = (0, 0, 0);
        (0xd0..=0xd7).contains(&code).then_some(code)
    }
}

const _: () = assert!(std::mem::size_of::<Table<162>>() == 178);
