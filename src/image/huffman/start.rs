//! The initial tables of a camera for each quality, derived from statistics of many pictures.

use std::sync::OnceLock;

use super::alphabet::Alphabet;
use super::lengths::table;
use super::start_weights::BANDS;
use super::{END_OF_BLOCK, Pair, SIXTEEN_ZEROS, Tables};

/// All AC symbols: end of block, a run of sixteen, then values by run and size.
pub fn ac_symbols() -> impl Iterator<Item = u8> {
    let values = (0_u8..16).flat_map(|run| (1..=10).map(move |bits| run << 4 | bits));
    [END_OF_BLOCK, SIXTEEN_ZEROS].into_iter().chain(values)
}

/// Built on the first request for a quality.
static MADE: [OnceLock<Tables>; 100] = [const { OnceLock::new() }; 100];

/// The tables for a quality of 1 to 100.
pub fn start_tables(quality: u8) -> &'static Tables {
    let quality = quality.clamp(1, 100);
    MADE[usize::from(quality) - 1].get_or_init(|| make(quality))
}

fn make(quality: u8) -> Tables {
    let band = BANDS.iter().find(|band| quality <= band.quality_max).unwrap_or(&BANDS[0]);
    // A symbol that always occurs weighs 2^40.
    let weigh = |rarity: u8| 2_f64.powf(40.0 - f64::from(rarity) / 4.0) as u64;
    Tables([0, 1].map(|class| {
        let alphabet = Alphabet::of(quality, class == 1);
        let mut of_ac = [0; 256];
        for (symbol, &rarity) in ac_symbols().zip(&band.ac[class]) {
            of_ac[usize::from(symbol)] = weigh(rarity);
        }
        let of_dc = band.dc[class].map(weigh);
        Pair {
            dc: table(alphabet.dc().map(|symbol| (symbol, of_dc[usize::from(symbol)]))),
            ac: table(alphabet.ac().map(|symbol| (symbol, of_ac[usize::from(symbol)]))),
        }
    }))
}
