//! Merging by rank: the bytes of a piece into token ids.
//!
//! The rule: of all adjacent pairs with a merge, the one of lowest rank, leftmost first, becomes one token;
//! repeat until no pair has a merge.
//!
//! One rule, three ways. Up to [`SHORT`] bytes, everything lies in a few registers' worth of memory and
//! the next merge is a minimum over all. A longer piece is merged in overlapping windows of that size,
//! which makes the work linear and keeps it in the first-level cache (why that is right is said at
//! [`Merger::long`]). What windows cannot decide goes to larger ones, over a heap and a linked list.
//!
//! Invariant: all ways give the same ids; a test compares them with the textbook loop.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use kernels::text::Scan;

use super::merges::{Merges, NONE};

/// Most bytes that are merged at once without a heap: one bit each in a `u64`.
pub(super) const SHORT: usize = 64;
/// Places whose minimum is found at once.
const ROW: usize = 16;

/// A merge table, the lengths of its tokens, and memory to work in.
pub(super) struct Merger<'a> {
    pub(super) merges: &'a Merges,
    /// Token `id` has `starts[id + 1] - starts[id]` bytes.
    pub(super) starts: &'a [u32],
    pub(super) work: &'a mut Work,
}

/// Buffers of long pieces, reused between them.
#[derive(Default)]
pub(super) struct Work {
    window: Vec<u32>,
    symbols: Vec<u32>,
    ranks: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    heap: BinaryHeap<Reverse<(u32, u32)>>,
}

impl Work {
    /// Gives memory back after an extraordinarily long window.
    pub(super) fn shrink(&mut self) {
        const KEEP: usize = 1 << 16;
        if self.symbols.capacity() > KEEP || self.heap.capacity() > KEEP || self.window.capacity() > KEEP {
            *self = Self::default();
        }
    }
}

impl Merges {
    /// Merges 1 to [`SHORT`] bytes, writes the ids to the front of `ids` and returns how many there are.
    #[inline(always)]
    pub(super) fn short<S: Scan>(&self, scan: S, bytes: &[u8], ids: &mut [u32]) -> usize {
        // Most pieces that are merged at all are that short.
        if bytes.len() <= ROW {
            self.rows::<S, 1>(scan, bytes, ids)
        } else {
            self.rows::<S, { SHORT / ROW }>(scan, bytes, ids)
        }
    }

    /// The same for at most so many rows of bytes.
    ///
    /// A symbol stays at its place; `alive` has the bits of places that hold one. Each place has the rank of its pair
    /// with the next symbol, and below it, in six bits, the place itself, so that one minimum gives the rank and the
    /// leftmost place that has it.
    #[inline(always)]
    fn rows<S: Scan, const ROWS: usize>(&self, scan: S, bytes: &[u8], ids: &mut [u32]) -> usize {
        let mut symbols = [0_u32; SHORT];
        let mut order = [[u32::MAX; ROW]; ROWS];
        let place = |at: u32| (at as usize / ROW % ROWS, at as usize % ROW);
        // Words in ASCII have too little that may be merged at once to look for it.
        let count = if bytes.is_ascii() {
            for (symbol, &byte) in symbols.iter_mut().zip(bytes) {
                *symbol = self.byte_id(byte);
            }
            for ((order, pair), at) in order.as_flattened_mut().iter_mut().zip(bytes.windows(2)).zip(0..) {
                *order = self.byte_rank(pair[0], pair[1]) << 6 | at;
            }
            bytes.len()
        } else {
            self.at_once(bytes, &mut symbols, &mut order)
        };
        let mut alive = u64::MAX >> (SHORT - count);
        let rows = count.div_ceil(ROW).min(ROWS);
        loop {
            let least = scan.smallest(if ROWS == 1 { &order } else { &order[..rows] });
            if least >= NONE << 6 {
                break;
            }
            let at = least % SHORT as u32;
            let merged = self.result(least >> 6);
            let (row, column) = place(at);
            symbols[at as usize] = merged;
            // The right half of the pair is the first symbol behind `at`; it goes.
            let behind = alive & (u64::MAX << 1 << at);
            let right = behind & behind.wrapping_neg();
            let after = behind ^ right;
            alive ^= right;
            let (gone, there) = place(right.trailing_zeros());
            order[gone][there] = u32::MAX;
            order[row][column] = if after == 0 {
                u32::MAX
            } else {
                self.rank(merged, symbols[after.trailing_zeros() as usize % SHORT]) << 6 | at
            };
            let before = alive & ((1 << at) - 1);
            if before != 0 {
                let left = before.ilog2();
                let (row, column) = place(left);
                order[row][column] = self.rank(symbols[left as usize % SHORT], merged) << 6 | left;
            }
        }
        let count = alive.count_ones() as usize;
        for id in &mut ids[..count] {
            *id = symbols[alive.trailing_zeros() as usize % SHORT];
            alive &= alive - 1;
        }
        count
    }

    /// Gives symbols their places, and ranks, and merges what may be merged at once meanwhile: a symbol then joins the
    /// one before it and takes its place. How many there are.
    #[inline(always)]
    fn at_once<const ROWS: usize>(
        &self,
        bytes: &[u8],
        symbols: &mut [u32; SHORT],
        order: &mut [[u32; ROW]; ROWS],
    ) -> usize {
        let order = order.as_flattened_mut();
        let (mut count, mut before) = (0, None);
        for &byte in bytes {
            let (mut symbol, mut single) = (self.byte_id(byte), Some(byte));
            while count > 0 {
                let left = count - 1;
                let rank = match (before, single) {
                    (Some(before), Some(byte)) => self.byte_rank(before, byte),
                    _ => self.rank(symbols[left], symbol),
                };
                if !self.is_safe(rank) {
                    order[left] = rank << 6 | left as u32;
                    break;
                }
                order[left] = u32::MAX;
                symbol = self.result(rank);
                (single, count) = (None, left);
            }
            symbols[count] = symbol;
            (before, count) = (single, count + 1);
        }
        count
    }
}

impl Merger<'_> {
    /// Appends the ids of a piece of any length, which is not empty.
    #[inline(always)]
    pub(super) fn piece<S: Scan>(&mut self, scan: S, bytes: &[u8], ids: &mut Vec<u32>) {
        if bytes.len() <= SHORT {
            let mut short = [0; SHORT];
            let count = self.merges.short(scan, bytes, &mut short);
            ids.extend_from_slice(&short[..count]);
        } else {
            self.long(scan, bytes, ids);
        }
    }

    /// Appends the ids of a long piece, window by window.
    ///
    /// Write E(s) for the ids of s alone. If E(xy) and E(yz) both have a token boundary at two places
    /// a < b of y, then E(xyz) is E(xy) up to a, then E(yz) from a on. For suppose that in the merging of
    /// xyz some merge crosses a or b, and look at the first. Until then what is left of a, between, and right
    /// of b merge independently of each other, each in its own order. If the merge crosses a, then what is
    /// left of b looks, at that moment, as it does at some moment in the merging of xy; there the same pair
    /// is the lowest of those left of b, what is right of b cannot prevent it for ever, and so it crosses a in
    /// xy as well, where a is a boundary. If it crosses b, the same holds for yz. So none does, and then
    /// the three parts merge as they do in xy and in yz. No property of the merge table is used.
    ///
    /// So windows overlap by a few tokens of the one before; where the two agree on a token, the later
    /// one continues. Where they do not, or where one token fills the overlap, the overlap and the window
    /// grow, at last to the whole piece.
    #[inline(always)]
    fn long<S: Scan>(&mut self, scan: S, bytes: &[u8], ids: &mut Vec<u32>) {
        let base = ids.len();
        let mut done = 0;
        let (mut window, mut overlap) = (SHORT, SHORT / 8);
        // What `work.window` is E of. One letter, blanks and rulers look alike wherever they are cut.
        let mut last: &[u8] = &[];
        // `ids[base..]` is E of the first `done` bytes.
        while done < bytes.len() {
            let (mut from, mut kept) = (done, ids.len());
            while kept > base && done - from < overlap {
                kept -= 1;
                from -= self.length(ids[kept]);
            }
            let end = bytes.len().min(from + window);
            if end > done {
                if bytes[from..end] != *last {
                    last = &bytes[from..end];
                    self.window(scan, last);
                }
                if from == 0 || self.agree(&ids[kept..]) {
                    ids.truncate(kept);
                    ids.extend_from_slice(&self.work.window);
                    (window, overlap) = (SHORT, SHORT / 8);
                    done = end;
                    continue;
                }
            }
            if overlap < window / 2 {
                overlap = window / 2;
            } else {
                (window, overlap) = (8 * window, 2 * window);
            }
        }
    }

    fn length(&self, id: u32) -> usize {
        let id = id as usize;
        (self.starts[id + 1] - self.starts[id]) as usize
    }

    /// Whether the tokens of the window and the earlier ones of the same place have an end in common.
    fn agree(&self, earlier: &[u32]) -> bool {
        let mut window = self.work.window.iter();
        let (mut a, mut b) = (0, 0);
        for &id in earlier {
            a += self.length(id);
            while b < a {
                let Some(&id) = window.next() else { return false };
                b += self.length(id);
            }
            if a == b {
                return true;
            }
        }
        false
    }

    /// E of some bytes, to `work.window`.
    #[inline(always)]
    fn window<S: Scan>(&mut self, scan: S, bytes: &[u8]) {
        if bytes.len() <= SHORT {
            self.work.window.resize(SHORT, 0);
            let count = self.merges.short(scan, bytes, &mut self.work.window);
            self.work.window.truncate(count);
        } else {
            self.heap(bytes);
        }
    }

    fn heap(&mut self, bytes: &[u8]) {
        let merges = self.merges;
        let Work { window, symbols, ranks, next, previous, heap } = &mut *self.work;
        const END: u32 = u32::MAX;
        let n = bytes.len() as u32;
        heap.clear();
        symbols.clear();
        symbols.extend(bytes.iter().map(|&byte| merges.byte_id(byte)));
        next.clear();
        next.extend((1..n).chain([END]));
        previous.clear();
        previous.extend([END].into_iter().chain(0..n - 1));
        ranks.clear();
        ranks.extend(bytes.windows(2).map(|pair| merges.byte_rank(pair[0], pair[1])));
        ranks.push(NONE);
        heap.extend((0..n).map(|at| Reverse((ranks[at as usize], at))).filter(|pair| pair.0.0 != NONE));
        while let Some(Reverse((rank, at))) = heap.pop() {
            // An entry is stale once its left symbol has merged: then `ranks[at]` has moved on.
            let here = at as usize;
            if ranks[here] != rank {
                continue;
            }
            let right = next[here] as usize;
            let after = next[right];
            symbols[here] = merges.result(rank);
            ranks[right] = NONE;
            next[here] = after;
            ranks[here] = NONE;
            if after != END {
                previous[after as usize] = at;
                ranks[here] = merges.rank(symbols[here], symbols[after as usize]);
                if ranks[here] != NONE {
                    heap.push(Reverse((ranks[here], at)));
                }
            }
            let before = previous[here];
            if before != END {
                let left = before as usize;
                ranks[left] = merges.rank(symbols[left], symbols[here]);
                if ranks[left] != NONE {
                    heap.push(Reverse((ranks[left], before)));
                }
            }
        }
        // The first symbol never disappears; the survivors are in order.
        window.clear();
        let mut at = 0;
        while at != END {
            window.push(symbols[at as usize]);
            at = next[at as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use kernels::Isa;
    use kernels::text::{Job, Scanner};
    use proptest::prelude::*;

    use super::*;

    /// Ids 0..256 are the bytes; later ids, one in `step`, merge two earlier ones of the first few. Their ranks are in
    /// the same order, or in any with an odd `turn`.
    fn table(pairs: &[(u32, u32)], step: u32, turn: u32) -> (Merges, Vec<u32>) {
        let (mut merges, mut lengths) = (Vec::new(), vec![1_u32; 256]);
        for &(left, right) in pairs {
            let known = 4 + merges.len() as u32;
            let id = |i: u32| if i % known < 4 { i % known } else { 256 + step * (i % known - 4) };
            let (left, right) = (id(left), id(right));
            merges.push((left, right, 256 + step * merges.len() as u32));
            lengths.push(lengths[left as usize].saturating_add(lengths[right as usize]));
            lengths.extend((1..step).map(|_| 1));
        }
        if turn % 2 == 1 {
            merges.sort_by_key(|(_, _, result)| result.wrapping_mul(turn).reverse_bits());
        }
        let mut starts = vec![0];
        for length in lengths {
            starts.push(starts[starts.len() - 1] + length.min(100_000));
        }
        (Merges::new(&merges, std::array::from_fn(|byte| byte as u32)), starts)
    }

    /// The textbook loop.
    fn by_definition(merges: &Merges, bytes: &[u8]) -> Vec<u32> {
        let mut symbols: Vec<u32> = bytes.iter().map(|&byte| merges.byte_id(byte)).collect();
        loop {
            let ranks = symbols.windows(2).map(|pair| merges.rank(pair[0], pair[1]));
            match ranks.enumerate().map(|(at, rank)| (rank, at)).min() {
                Some((rank, at)) if rank != NONE => {
                    symbols.splice(at..at + 2, [merges.result(rank)]);
                }
                _ => return symbols,
            }
        }
    }

    struct Piece<'a>(Merger<'a>, &'a [u8]);

    impl Job for Piece<'_> {
        type Output = Vec<u32>;

        fn run<S: Scan>(mut self, scan: S) -> Vec<u32> {
            let mut ids = vec![7];
            self.0.piece(scan, self.1, &mut ids);
            ids.split_off(1)
        }
    }

    /// By hand: of a table of four bytes, which merges wait for none.
    #[test]
    fn what_is_merged_at_once() {
        // 1+2, 0+1 (the 1 may go to the right before), 256+3 (nothing else wants these), 3+3 (overlaps itself).
        let merges = [(1, 2, 256), (0, 1, 257), (256, 3, 258), (3, 3, 259)];
        let table = Merges::new(&merges, std::array::from_fn(|byte| byte as u32));
        let safe = |rank| table.is_safe(rank);
        assert_eq!([0, 1, 2, 3].map(safe), [true, false, true, false]);
        assert!(!safe(4) && !safe(NONE));
        // A result that merges before it is made the usual way.
        let merges = [(256, 3, 257), (1, 2, 256)];
        let table = Merges::new(&merges, std::array::from_fn(|byte| byte as u32));
        assert!(!table.is_safe(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn every_way_follows_the_definition(
            pairs in prop::collection::vec((any::<u32>(), any::<u32>()), 0..40),
            step in 1..3_u32,
            turn in any::<u32>(),
            bytes in prop_oneof![
                prop::collection::vec(0..4_u8, 1..70),
                prop::collection::vec(0..4_u8, 64..700),
                prop::collection::vec(0..2_u8, 64..700),
                (prop::collection::vec(0..4_u8, 1..80), 2..20_usize).prop_map(|(part, count)| part.repeat(count)),
                (0..4_u8, 60..700_usize).prop_map(|(byte, count)| vec![byte; count]),
            ],
        ) {
            let (merges, starts) = table(&pairs, step, turn);
            let expected = by_definition(&merges, &bytes);
            let mut work = Work::default();
            let mut merger = Merger { merges: &merges, starts: &starts, work: &mut work };
            merger.heap(&bytes);
            prop_assert_eq!(&merger.work.window, &expected);
            for scanner in Isa::ALL.into_iter().filter_map(Scanner::of) {
                let merger = Merger { merges: &merges, starts: &starts, work: &mut work };
                prop_assert_eq!(&scanner.run(Piece(merger, &bytes)), &expected, "{:?}", scanner.isa());
            }
        }
    }
}
