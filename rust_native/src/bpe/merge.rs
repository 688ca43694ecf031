//! Merges by rank: a piece's bytes into token ids.
//!
//! The rule: of all adjacent pairs with a merge, the one of lowest rank, leftmost first, becomes one token;
//! repeat until no pair has a merge.
//!
//! Two loops, one rule. Up to [`SHORT`] symbols a plain scan for the minimum is fastest, everything in
//! two small arrays. Beyond, a heap over a linked list keeps the work at n log n: the textbook loop takes
//! seven seconds for one word of 31 kB.
//!
//! Invariant: both loops give the same ids; a test compares them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Ids must stay below this: a slot packs two of them and a rank into 64 bits.
pub(super) const MAX_IDS: usize = 1 << 21;
/// Longest input, in symbols, of the scanning loop.
const SHORT: usize = 48;
/// Rank of a pair that has no merge.
const NONE: u32 = u32::MAX;

/// The merge table: (left id, right id) -> (rank, id of the result). Open addressing, linear probing,
/// at most half full.
pub(super) struct Merges {
    /// left << 43 | right << 22 | rank, or all ones for an empty slot.
    slots: Vec<u64>,
    shift: u32,
    /// Rank -> id of the merged token.
    results: Vec<u32>,
}

const EMPTY: u64 = u64::MAX;

impl Merges {
    /// A table from merges in rank order. Ids are below [`MAX_IDS`] and there are at most as many merges.
    /// Of two equal pairs the first counts.
    pub(super) fn new(merges: impl ExactSizeIterator<Item = (u32, u32, u32)>) -> Self {
        let size = (2 * merges.len()).next_power_of_two().max(16);
        let mut table = Self {
            slots: vec![EMPTY; size],
            shift: 64 - size.trailing_zeros(),
            results: Vec::with_capacity(merges.len()),
        };
        for (left, right, result) in merges {
            let rank = table.results.len() as u64;
            table.results.push(result);
            let pair = u64::from(left) << 21 | u64::from(right);
            let mut at = table.home(pair);
            while table.slots[at] != EMPTY && table.slots[at] >> 22 != pair {
                at = (at + 1) & (size - 1);
            }
            if table.slots[at] == EMPTY {
                table.slots[at] = pair << 22 | rank;
            }
        }
        table
    }

    pub(super) fn len(&self) -> usize {
        self.results.len()
    }

    #[inline]
    fn home(&self, pair: u64) -> usize {
        (pair.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }

    /// The rank of a pair, or [`NONE`].
    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        let pair = u64::from(left) << 21 | u64::from(right);
        let mut at = self.home(pair);
        loop {
            let slot = self.slots[at];
            // The empty slot's upper 42 bits are all ones: ids end below 2^21 - 1, so no pair equals them.
            if slot >> 22 == pair {
                return slot as u32 & ((1 << 22) - 1);
            }
            if slot == EMPTY {
                return NONE;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Replaces the single-byte ids in `work.symbols` by merged ids.
    #[inline]
    pub(super) fn apply(&self, work: &mut Work) {
        if work.symbols.len() <= SHORT {
            self.apply_short(&mut work.symbols);
        } else {
            self.apply_long(work);
        }
    }

    fn apply_short(&self, symbols: &mut Vec<u32>) {
        let mut ranks = [NONE; SHORT];
        let mut n = symbols.len();
        for i in 1..n {
            ranks[i - 1] = self.rank(symbols[i - 1], symbols[i]);
        }
        while n > 1 {
            let (mut at, mut best) = (0, NONE);
            for (i, &rank) in ranks[..n - 1].iter().enumerate() {
                if rank < best {
                    (at, best) = (i, rank);
                }
            }
            if best == NONE {
                break;
            }
            symbols[at] = self.results[best as usize];
            symbols.copy_within(at + 2..n, at + 1);
            ranks.copy_within(at + 1..n - 1, at);
            n -= 1;
            ranks[n - 1] = NONE;
            if at + 1 < n {
                ranks[at] = self.rank(symbols[at], symbols[at + 1]);
            }
            if at > 0 {
                ranks[at - 1] = self.rank(symbols[at - 1], symbols[at]);
            }
        }
        symbols.truncate(n);
    }

    fn apply_long(&self, work: &mut Work) {
        let Work { symbols, ranks, next, previous, heap } = work;
        let n = symbols.len();
        const END: usize = usize::MAX;
        heap.clear();
        next.clear();
        next.extend((1..n).chain([END]));
        previous.clear();
        previous.extend([END].into_iter().chain(0..n - 1));
        ranks.clear();
        ranks.extend(symbols.windows(2).map(|pair| self.rank(pair[0], pair[1])));
        ranks.push(NONE);
        heap.extend(ranks.iter().enumerate().filter(|&(_, &r)| r != NONE).map(|(at, &r)| Reverse((r, at))));
        while let Some(Reverse((rank, at))) = heap.pop() {
            // An entry is stale once its left symbol has merged: then `ranks[at]` has moved on.
            if ranks[at] != rank {
                continue;
            }
            let right = next[at];
            let after = next[right];
            symbols[at] = self.results[rank as usize];
            ranks[right] = NONE;
            next[at] = after;
            ranks[at] = NONE;
            if after != END {
                previous[after] = at;
                ranks[at] = self.rank(symbols[at], symbols[after]);
                if ranks[at] != NONE {
                    heap.push(Reverse((ranks[at], at)));
                }
            }
            let before = previous[at];
            if before != END {
                ranks[before] = self.rank(symbols[before], symbols[at]);
                if ranks[before] != NONE {
                    heap.push(Reverse((ranks[before], before)));
                }
            }
        }
        // The first symbol never disappears; the survivors move to the front in order.
        let (mut at, mut kept) = (0, 0);
        while at != END {
            symbols[kept] = symbols[at];
            kept += 1;
            at = next[at];
        }
        symbols.truncate(kept);
    }
}

/// Buffers of one merge, reused between pieces.
#[derive(Default)]
pub(super) struct Work {
    /// In: one id per byte. Out: the tokens.
    pub(super) symbols: Vec<u32>,
    ranks: Vec<u32>,
    next: Vec<usize>,
    previous: Vec<usize>,
    heap: BinaryHeap<Reverse<(u32, usize)>>,
}

impl Work {
    /// Gives memory back after an extraordinarily long piece.
    pub(super) fn shrink(&mut self) {
        const KEEP: usize = 1 << 16;
        if self.symbols.capacity() > KEEP || self.heap.capacity() > KEEP {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ids 0..4 are bytes; every later id merges two earlier ones.
    fn table(pairs: &[(u32, u32)]) -> Merges {
        let mut merges = Vec::new();
        for &(left, right) in pairs {
            let next = 4 + merges.len() as u32;
            merges.push((left % next, right % next, next));
        }
        Merges::new(merges.into_iter())
    }

    /// The textbook loop.
    fn by_definition(merges: &Merges, mut symbols: Vec<u32>) -> Vec<u32> {
        loop {
            let ranks = symbols.windows(2).map(|pair| merges.rank(pair[0], pair[1]));
            match ranks.enumerate().map(|(at, rank)| (rank, at)).min() {
                Some((rank, at)) if rank != NONE => {
                    symbols.splice(at..at + 2, [merges.results[rank as usize]]);
                }
                _ => return symbols,
            }
        }
    }

    proptest! {
        #[test]
        fn both_loops_follow_the_definition(
            pairs in prop::collection::vec((any::<u32>(), any::<u32>()), 0..40),
            symbols in prop::collection::vec(0..4_u32, 1..200),
        ) {
            let merges = table(&pairs);
            let expected = by_definition(&merges, symbols.clone());
            let mut work = Work { symbols: symbols.clone(), ..Work::default() };
            merges.apply_long(&mut work);
            prop_assert_eq!(&work.symbols, &expected);
            if symbols.len() <= SHORT {
                let mut short = symbols;
                merges.apply_short(&mut short);
                prop_assert_eq!(&short, &expected);
            }
        }
    }
}
