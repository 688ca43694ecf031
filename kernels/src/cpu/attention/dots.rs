//! Attention of many queries with products in bf16: pairs of inputs, sums and softmax in f32.
//!
//! Up to [`BLOCK`] queries at a time, in tiles of a few. A tile's queries, rounded, are the left
//! operand of the product with the keys; its scores lie row by row; and what the softmax makes of
//! them, rounded and not yet divided by its sum, is the left operand of the product with the values. Keys and values are right
//! operands: as they lie in a cache in bf16, else rounded by each thread once for all its blocks of a
//! head. A tile stops at the panel of its last query, so little is computed that causality takes away
//! again.

use std::ops::Range;

use super::super::dots::{DotTile, Dots, words};
use super::super::engine::{Need, Scratch};
use super::super::kv::Kept;
use super::super::pool::piece;
use super::super::table::{MAX_ROWS, PANEL, Word};
use super::{Job, Rounded, Span, put_scaled};

/// Queries of a block, over whose tiles what it takes to begin one is spread out.
pub(super) const BLOCK: usize = 4 * PANEL;

/// Rounded keys and values of a head, as the cache lays them out.
#[derive(Clone, Copy)]
struct Held<'a> {
    /// `[capacity/32][D][16]`
    keys: &'a [u32],
    /// `[D/32][capacity][16]`
    values: &'a [u32],
}

/// Working memory of a tile.
struct Room<'a> {
    /// `[rows][keys]`, keys rounded up to 32.
    scores: &'a mut [f32],
    /// One query, scaled.
    query: &'a mut [f32],
    /// Rows of pairs, as [`DotTile`] wants them: the queries, then the weights.
    queries: &'a mut [u32],
    weights: &'a mut [u32],
    /// What brings the sum of a row's weights to 1.
    factors: [f32; MAX_ROWS],
}

impl<W: Kept> Job<'_, W> {
    /// What [`Job::dots`] takes of a thread's scratch.
    pub(super) fn need_dots(&self) -> Need {
        let (capacity, d) = (self.shape.padded_capacity(), self.shape.head_dim);
        let left = MAX_ROWS * (words(d) + words(capacity));
        let right: usize = self.room().iter().sum();
        Need { rows: MAX_ROWS * capacity + d, packed: left + right, ..Need::default() }
    }

    /// Words of one head's keys and values to be rounded into.
    fn room(&self) -> [usize; 2] {
        self.shape.places(0, 0, 0).map(|(_, length)| W::room(length))
    }

    /// The queries `block` of a span, which the team has stored. `rounded` says what the scratch holds
    /// from the block before: blocks of a head come last one first, so the first rounds for all.
    pub(super) fn dots(
        &self,
        dots: &Dots,
        scratch: &mut Scratch,
        span: Span,
        head: usize,
        block: Range<usize>,
        rounded: &mut Option<Rounded>,
    ) {
        let (capacity, d) = (self.shape.padded_capacity(), self.shape.head_dim);
        let len = span.start + block.end;
        let [keys_room, values_room] = self.room();
        let (scores, query) = scratch.rows.split_at_mut(MAX_ROWS * capacity);
        let (queries, rest) = scratch.packed.words_mut().split_at_mut(MAX_ROWS * words(d));
        let (weights, rest) = rest.split_at_mut(MAX_ROWS * words(capacity));
        let (keys_room, rest) = rest.split_at_mut(keys_room);
        let values_room = &mut rest[..values_room];
        // SAFETY: the team has met since these keys and values were stored; all threads only read.
        let (keys, values) = unsafe { self.stored(span, head) };
        let held = |&(sequence, of, keys): &Rounded| sequence == span.sequence && of == head && keys >= len;
        let fresh = !rounded.as_ref().is_some_and(held);
        if fresh {
            *rounded = Some((span.sequence, head, len));
        }
        let panels = std::iter::once(0..len.div_ceil(PANEL) * d).filter(|_| fresh);
        let runs = (0..d.div_ceil(PANEL)).map(|panel| panel * capacity..panel * capacity + len);
        let runs = runs.filter(|_| fresh);
        let held = Held {
            keys: W::pairs(dots, keys, panels, keys_room),
            values: W::pairs(dots, values, runs, values_room),
        };
        let query = &mut query[..d];
        let mut room = Room { scores, query, queries, weights, factors: [0.0; MAX_ROWS] };
        let tiles = block.len().div_ceil(dots.rows);
        for tile in self.wanted(tiles) {
            let part = piece(block.len(), tiles, tile);
            self.dots_tile(
                dots,
                &mut room,
                held,
                span,
                head,
                block.start + part.start..block.start + part.end,
            );
        }
    }

    /// The queries `part` of a span, no more than a tile takes.
    fn dots_tile(
        &self,
        dots: &Dots,
        room: &mut Room<'_>,
        held: Held<'_>,
        span: Span,
        head: usize,
        part: Range<usize>,
    ) {
        let (capacity, d, rows) = (self.shape.padded_capacity(), self.shape.head_dim, part.len());
        // The keys that the last query sees, and whole panels of them.
        let len = span.start + part.end;
        let width = len.next_multiple_of(PANEL);
        for (i, row) in part.clone().enumerate() {
            for (q, x) in room.query.iter_mut().zip(self.input(span.row + row, 0, head)) {
                *q = x * self.scale;
            }
            (dots.narrow)(room.query, &mut room.queries[i * u32::WORDS..], rows * u32::WORDS);
        }
        let scores = &mut room.scores[..rows * width];
        for (panel, b) in held.keys.chunks_exact(d * u32::WORDS).take(width / PANEL).enumerate() {
            (dots.tile)(DotTile { a: room.queries, b, k: d, rows }, &mut scores[panel * PANEL..], width);
        }
        for (i, row) in scores.chunks_exact_mut(width).enumerate() {
            // Causality, and whole registers for the softmax: what is behind a query weighs nothing.
            row[span.start + part.start + i + 1..].fill(f32::NEG_INFINITY);
            room.factors[i] = 1.0 / (self.table.exponentials)(row);
            (dots.narrow)(row, &mut room.weights[i * u32::WORDS..], rows * u32::WORDS);
        }
        let mut sums = [0.0; MAX_ROWS * PANEL];
        for (p, b) in held.values.chunks_exact(capacity * u32::WORDS).enumerate() {
            (dots.tile)(DotTile { a: room.weights, b, k: len, rows }, &mut sums, PANEL);
            let sums = sums.as_chunks_mut::<PANEL>().0;
            for ((row, sums), &factor) in part.clone().zip(sums).zip(&room.factors) {
                let out = &mut self.output(span.row + row, head)[p * PANEL..];
                let width = PANEL.min(out.len());
                put_scaled(sums, factor, &mut out[..width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::dots::Dots;
    use super::super::super::engine::Cpu;
    use super::super::super::kv::{KvCache, KvShape};
    use super::super::super::portable::bf16;
    use super::super::{Attend, Job, Span};
    use crate::KvPrecision;

    /// Whether a CPU gains by them or not, the kernels on pairs it has must do. What goes in are bf16
    /// already, so the weights alone are rounded, each by up to 1/256; values stay below 1.
    #[test]
    fn on_any_cpu_pairs_attend_as_floats_do() {
        let (heads, head_dim, c) = (2, 20, 40);
        let value = |i: usize| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let qkv: Vec<f32> = (0..190 * 3 * c).map(|i| f32::from_bits(bf16(value(i)) << 16)).collect();
        let shape =
            KvShape { layers: 1, sequences: 2, heads, head_dim, capacity: 150, precision: KvPrecision::F32 };
        let cpu = Cpu::new(2, None).unwrap();
        let attended = |dots: Option<&'static Dots>| {
            let (mut cache, mut out) = (KvCache::new(shape), vec![0.0; 190 * c]);
            let span = |sequence, start, row, rows| Span { sequence, start, row, rows };
            // Some at once, then the rest of both: 150 positions of one sequence and 40 of the other.
            for (spans, rows) in
                [(vec![span(0, 0, 0, 17)], 0..17), (vec![span(0, 17, 0, 133), span(1, 0, 133, 40)], 17..190)]
            {
                let (qkv, out) =
                    (&qkv[rows.start * 3 * c..rows.end * 3 * c], &mut out[rows.start * c..rows.end * c]);
                let job = Job::<f32>::new(&cpu, &mut cache, 0, qkv, Attend::from(2.0), out);
                cpu.attend(Job { dots, ..job }, &spans);
            }
            out
        };
        let exact = attended(None);
        for dots in Dots::available() {
            for (i, (got, want)) in attended(Some(dots)).into_iter().zip(&exact).enumerate() {
                assert!((got - want).abs() < 1.0 / 256.0, "{} [{i}]: {got} for {want}", dots.name);
            }
        }
    }
}
