//! Optimal code lengths of at most 16 bits, from weights.
//!
//! Package-merge (Larmore and Hirschberg, "A fast algorithm for optimal length-limited Huffman
//! codes", Journal of the ACM 37, 1990): sixteen levels, each of which merges the symbols with the
//! pairs of the level before. T.81, K.2 shortens codes that are too long afterwards, which is not
//! optimal.

use super::Table;

/// Maximum length of a code, in bits.
const LENGTH_MAX: usize = 16;

/// Maximum number of symbols, including the reserved code of ones.
const SYMBOLS_MAX: usize = 163;
/// Maximum number of items in a level: its symbols, and half as many pairs as the level before had
/// items.
const ITEMS_MAX: usize = 2 * SYMBOLS_MAX;

/// The optimal table for symbols of the given weights, which must be much smaller than 2^55. A
/// weight of 0 counts as 1: every symbol listed gets a code. The code that consists only of ones
/// stays free (T.81, C). Does not allocate.
pub(super) fn table<const N: usize>(symbols: impl Iterator<Item = (u8, u64)>) -> Table<N> {
    let mut leaves = [(0_u64, None::<u8>); SYMBOLS_MAX];
    let mut count = 1; // the reserved code weighs nothing, so it is among the longest
    for (place, (symbol, weight)) in leaves[1..].iter_mut().zip(symbols.take(N)) {
        *place = (weight.max(1), Some(symbol));
        count += 1;
    }
    let leaves = &mut leaves[..count];
    leaves.sort_unstable();
    let mut weights = [0; SYMBOLS_MAX];
    for (weight, leaf) in weights.iter_mut().zip(&*leaves) {
        *weight = leaf.0;
    }
    let mut lengths = [0; SYMBOLS_MAX];
    measure(&weights[..count], &mut lengths[..count]);

    // Heaviest symbol first: it has the shortest code.
    let mut table = Table { counts: [0; LENGTH_MAX], values: [0; N] };
    let coded = leaves.iter().zip(&lengths).rev();
    let coded = coded.filter_map(|(leaf, &length)| Some((leaf.1?, length)));
    for (place, (symbol, length)) in table.values.iter_mut().zip(coded) {
        table.counts[length - 1] += 1;
        *place = symbol;
    }
    table
}

/// Computes lengths for ascending weights. The lengths descend.
fn measure(weights: &[u64], lengths: &mut [usize]) {
    if weights.len() < 2 {
        return;
    }
    // Whether an item is a symbol rather than a pair of the level before.
    let mut is_symbol = [[false; ITEMS_MAX]; LENGTH_MAX];
    let (mut before, mut level) = ([0_u64; ITEMS_MAX], [0_u64; ITEMS_MAX]);
    let mut items = 0;
    for is_symbol in &mut is_symbol {
        std::mem::swap(&mut before, &mut level);
        let mut pairs = before[..items].chunks_exact(2).map(|pair| pair[0] + pair[1]).peekable();
        let mut symbols = weights.iter().copied().peekable();
        items = 0;
        for (item, is_symbol) in level.iter_mut().zip(is_symbol) {
            *is_symbol = match (symbols.peek(), pairs.peek()) {
                (Some(symbol), Some(pair)) => symbol <= pair,
                (symbol, None) => symbol.is_some(),
                (None, _) => false,
            };
            match if *is_symbol { symbols.next() } else { pairs.next() } {
                Some(weight) => *item = weight,
                None => break,
            }
            items += 1;
        }
    }
    let mut taken = 2 * weights.len() - 2;
    for level in is_symbol.iter().rev() {
        let symbols = level[..taken].iter().filter(|is_symbol| **is_symbol).count();
        for length in &mut lengths[..symbols] {
            *length += 1;
        }
        taken = 2 * (taken - symbols);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cost(weights: &[u64], lengths: &[usize]) -> u64 {
        weights.iter().zip(lengths).map(|(weight, length)| weight * *length as u64).sum()
    }

    /// Huffman's own construction, without a limit.
    fn unlimited(weights: &[u64]) -> u64 {
        let mut heap: Vec<u64> = weights.to_vec();
        let mut cost = 0;
        while heap.len() > 1 {
            heap.sort_unstable_by(|a, b| b.cmp(a));
            let sum = heap.pop().unwrap() + heap.pop().unwrap();
            cost += sum;
            heap.push(sum);
        }
        cost
    }

    #[test]
    fn steep_weights_stay_within_sixteen_bits() {
        let weights: Vec<u64> = (0..40).map(|power| 1 << power).collect();
        let mut lengths = vec![0; 40];
        measure(&weights, &mut lengths);
        assert_eq!(lengths.iter().max(), Some(&16));
        let kraft: u32 = lengths.iter().map(|length| 1 << (16 - length)).sum();
        assert_eq!(kraft, 1 << 16);
    }

    #[test]
    fn one_symbol_gets_the_code_of_a_single_zero() {
        let table: Table<12> = table([(5, 100)].into_iter());
        assert_eq!((table.counts[0], table.values()), (1, &[5][..]));
    }

    proptest! {
        #[test]
        fn lengths_are_the_best_and_one_code_stays_free(
            weights in proptest::collection::vec(0_u64..1 << 20, 1..162),
        ) {
            let symbols = weights.iter().enumerate().map(|(at, &weight)| (at as u8, weight));
            let table: Table<162> = table(symbols);
            prop_assert_eq!(table.values().len(), weights.len());
            let kraft: u32 =
                (1..).zip(table.counts).map(|(length, count)| u32::from(count) << (16 - length)).sum();
            let longest = table.counts.iter().rposition(|&count| count > 0).unwrap() + 1;
            prop_assert!(kraft + (1 << (16 - longest)) <= 1 << 16);

            let mut sorted: Vec<u64> = weights.iter().map(|&weight| weight.max(1)).collect();
            sorted.push(0);
            sorted.sort_unstable();
            let mut lengths = vec![0; sorted.len()];
            measure(&sorted, &mut lengths);
            prop_assert!(lengths.is_sorted_by(|a, b| a >= b));
            let best = unlimited(&sorted);
            // The length limit costs bits only for steep weights.
            prop_assert!(cost(&sorted, &lengths) <= best + best / 50 + 16);
        }
    }
}
