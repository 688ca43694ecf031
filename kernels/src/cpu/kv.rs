//! The key-value cache, flat and preallocated, in f32 or bf16.
//!
//! Per layer, sequence and head it holds the keys as panels `[capacity/32][D][32]` (32 positions
//! side by side) and the values as panels `[D/32][capacity][32]` (32 components side by side, the
//! last panel padded). A row of 32 numbers is 32 floats, or 16 words of bf16 pairs as [`Word`]
//! describes: either is the right operand of a tile kernel as it lies.
//!
//! A position is a row of the values and a column of the keys. In bf16 a column is one half of each
//! word, so what is written and copied there leaves the other half, a position 16 away, as it was.

use std::ops::Range;

use super::dots::Dots;
use super::portable::bf16;
use super::table::{Kernel, PANEL, Table, Word};
use crate::{Buffer, KvPrecision};

/// Sizes of a cache, and the numbers it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers.
    pub layers: usize,
    /// Sequences held side by side.
    pub sequences: usize,
    /// Attention heads, H.
    pub heads: usize,
    /// Width of a head, D.
    pub head_dim: usize,
    /// Positions per sequence; rounded up to a multiple of 32 in memory.
    pub capacity: usize,
    /// What keys and values are kept in.
    pub precision: KvPrecision,
}

impl KvShape {
    pub(super) fn padded_capacity(&self) -> usize {
        self.capacity.next_multiple_of(PANEL)
    }

    fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(PANEL)
    }

    /// Words of a row of 32 numbers.
    fn row(&self) -> usize {
        match self.precision {
            KvPrecision::F32 => <f32 as Word>::WORDS,
            KvPrecision::Bf16 => <u32 as Word>::WORDS,
        }
    }

    /// Words of one head's keys and of its values.
    fn lengths(&self) -> [usize; 2] {
        let panels = self.padded_capacity() / PANEL;
        [self.head_dim, self.padded_dim()].map(|width| panels * width * self.row())
    }

    /// Where the keys and the values of one head begin, in words.
    fn starts(&self, layer: usize, sequence: usize, head: usize) -> [usize; 2] {
        assert!(layer < self.layers && sequence < self.sequences && head < self.heads);
        let at = (layer * self.sequences + sequence) * self.heads + head;
        self.lengths().map(|len| at * len)
    }

    /// Where the keys and the values of one head lie, in words: `(start, length)` of each.
    pub(super) fn places(&self, layer: usize, sequence: usize, head: usize) -> [(usize, usize); 2] {
        let ([keys, values], [k, v]) = (self.starts(layer, sequence, head), self.lengths());
        [(keys, k), (values, v)]
    }

    /// Where, among the words of one head's values, `positions` lie: a run in each panel.
    fn value_runs(&self, positions: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let (capacity, row) = (self.padded_capacity(), self.row());
        (0..self.padded_dim() / PANEL).map(move |panel| {
            let first = panel * capacity;
            (first + positions.start) * row..(first + positions.end) * row
        })
    }
}

/// Keys and values of every layer, sequence and head.
#[derive(Debug)]
pub struct KvCache {
    pub(super) shape: KvShape,
    pub(super) keys: Buffer,
    pub(super) values: Buffer,
}

impl KvCache {
    /// An empty cache.
    pub fn new(shape: KvShape) -> KvCache {
        let heads = shape.layers * shape.sequences * shape.heads;
        let [keys, values] = shape.lengths().map(|len| Buffer::zeroed(heads * len));
        KvCache { shape, keys, values }
    }

    /// Its sizes.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(self.keys.words()) + size_of_val(self.values.words())
    }

    /// Copies the first `len` positions of `other`'s sequence `from` over this cache's sequence
    /// `to`, in every layer.
    ///
    /// # Panics
    /// If the two caches differ in anything but their number of sequences, or `len` exceeds them.
    pub fn copy_from(&mut self, other: &KvCache, from: usize, to: usize, len: usize) {
        let shape = self.shape;
        assert_eq!(KvShape { sequences: 0, ..shape }, KvShape { sequences: 0, ..other.shape });
        assert!(len <= shape.capacity);
        let keys = len.div_ceil(PANEL) * shape.head_dim * shape.row();
        for layer in 0..shape.layers {
            for head in 0..shape.heads {
                let [source, source_values] = other.shape.starts(layer, from, head);
                let [target, target_values] = shape.starts(layer, to, head);
                self.keys.words_mut()[target..][..keys]
                    .copy_from_slice(&other.keys.words()[source..][..keys]);
                for run in shape.value_runs(0..len) {
                    self.values.words_mut()[target_values + run.start..][..run.len()]
                        .copy_from_slice(&other.values.words()[source_values + run.start..][..run.len()]);
                }
            }
        }
    }

    /// Copies positions of sequence `from` over the same positions of sequence `to`, in every layer.
    /// Positions of `to` behind them must be thought of as forgotten.
    ///
    /// # Panics
    /// If a sequence or the range leaves the cache.
    pub fn copy_within(&mut self, from: usize, to: usize, positions: Range<usize>) {
        let shape = self.shape;
        assert!(positions.start <= positions.end && positions.end <= shape.capacity);
        let (row, panel) = (shape.row(), shape.head_dim * shape.row());
        let slot = positions.start % PANEL;
        // Keys lie 32 positions side by side: of a panel begun before, its later columns.
        let whole = positions.start / PANEL * panel..positions.end.div_ceil(PANEL) * panel;
        let begun = if slot == 0 { 0 } else { panel.min(whole.len()) };
        for layer in 0..shape.layers {
            for head in 0..shape.heads {
                let [source, source_values] = shape.starts(layer, from, head);
                let [target, target_values] = shape.starts(layer, to, head);
                let keys = self.keys.words_mut();
                for at in (whole.start..whole.start + begun).step_by(row) {
                    later_columns(shape.precision, keys, source + at, target + at, slot);
                }
                let rest = whole.start + begun..whole.end;
                keys.copy_within(source + rest.start..source + rest.end, target + rest.start);
                let values = self.values.words_mut();
                for run in shape.value_runs(positions.clone()) {
                    let read = source_values + run.start..source_values + run.end;
                    values.copy_within(read, target_values + run.start);
                }
            }
        }
    }
}

/// Copies the columns from `slot` on of the row at `from` over those of the row at `to`.
fn later_columns(precision: KvPrecision, words: &mut [u32], from: usize, to: usize, slot: usize) {
    match precision {
        KvPrecision::F32 => words.copy_within(from + slot..from + PANEL, to + slot),
        KvPrecision::Bf16 => {
            for j in 0..<u32 as Word>::WORDS {
                let low = if j >= slot { 0x0000_FFFF } else { 0 };
                let high = if j + PANEL / 2 >= slot { 0xFFFF_0000 } else { 0 };
                let later = low | high;
                words[to + j] = words[to + j] & !later | words[from + j] & later;
            }
        }
    }
}

/// Copies up to 32 numbers. All 32 are the rule, and two registers instead of a call.
pub(super) fn copy(from: &[f32], to: &mut [f32]) {
    match (<&[f32; PANEL]>::try_from(from), <&mut [f32; PANEL]>::try_from(&mut *to)) {
        (Ok(from), Ok(to)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

/// A word of the cache as attention writes and reads it.
pub(super) trait Kept: Word + Send + Sync {
    /// A buffer as such words.
    fn of(buffer: &mut Buffer) -> &mut [Self];

    /// The tile product with a right operand in them.
    fn tile(table: &Table) -> Kernel<Self>;

    /// The same, added to what is there.
    fn tile_add(table: &Table) -> Kernel<Self>;

    /// Puts a number for each row into column `at` of rows that follow each other, and changes no
    /// other column.
    fn put_column(rows: &mut [Self], at: usize, x: &[f32]);

    /// Puts rows of 32 numbers.
    fn put_rows(table: &Table, rows: &mut [Self], x: &[f32]);

    /// Puts up to 32 numbers into the first columns of a row; the others become zero or stay.
    fn put_row(table: &Table, row: &mut [Self], x: &[f32]);

    /// Rows of 32 as floats: as they lie, or widened into `scratch` (as long as they are then).
    fn floats<'r>(table: &Table, rows: &'r [Self], scratch: &'r mut [f32]) -> &'r [f32];

    /// Words that `pairs` needs to keep as many words of the cache.
    fn room(words: usize) -> usize;

    /// Rows of 32 as rows of 16 words of bf16 pairs: as they lie, or rounded into `scratch`, where the
    /// rows `runs` alone then are.
    fn pairs<'r>(
        dots: &Dots,
        rows: &'r [Self],
        runs: impl Iterator<Item = Range<usize>>,
        scratch: &'r mut [u32],
    ) -> &'r [u32];
}

impl Kept for f32 {
    fn of(buffer: &mut Buffer) -> &mut [f32] {
        buffer
    }

    fn tile(table: &Table) -> Kernel<f32> {
        table.tile
    }

    fn tile_add(table: &Table) -> Kernel<f32> {
        table.tile_add
    }

    fn put_column(rows: &mut [f32], at: usize, x: &[f32]) {
        for (row, &x) in rows.chunks_exact_mut(PANEL).zip(x) {
            row[at] = x;
        }
    }

    fn put_rows(_table: &Table, rows: &mut [f32], x: &[f32]) {
        rows.copy_from_slice(x);
    }

    fn put_row(_table: &Table, row: &mut [f32], x: &[f32]) {
        copy(x, &mut row[..x.len()]);
    }

    fn floats<'r>(_table: &Table, rows: &'r [f32], _scratch: &'r mut [f32]) -> &'r [f32] {
        rows
    }

    fn room(words: usize) -> usize {
        words / Self::WORDS * u32::WORDS
    }

    fn pairs<'r>(
        dots: &Dots,
        rows: &'r [f32],
        runs: impl Iterator<Item = Range<usize>>,
        scratch: &'r mut [u32],
    ) -> &'r [u32] {
        for run in runs {
            let words = &mut scratch[run.start * u32::WORDS..run.end * u32::WORDS];
            (dots.panel)(&rows[run.start * PANEL..run.end * PANEL], words);
        }
        scratch
    }
}

impl Kept for u32 {
    fn of(buffer: &mut Buffer) -> &mut [u32] {
        buffer.words_mut()
    }

    fn tile(table: &Table) -> Kernel<u32> {
        table.tile_bf16
    }

    fn tile_add(table: &Table) -> Kernel<u32> {
        table.tile_bf16_add
    }

    /// Number by number: rounding the column as a row first, in registers, took longer.
    fn put_column(rows: &mut [u32], at: usize, x: &[f32]) {
        let (at, shift) = (at % Self::WORDS, at / Self::WORDS * 16);
        for (row, &x) in rows.chunks_exact_mut(Self::WORDS).zip(x) {
            row[at] = row[at] & !(0xFFFF << shift) | bf16(x) << shift;
        }
    }

    fn put_rows(table: &Table, rows: &mut [u32], x: &[f32]) {
        (table.narrow)(x, rows);
    }

    fn put_row(table: &Table, row: &mut [u32], x: &[f32]) {
        if x.len() == PANEL {
            return (table.narrow)(x, row);
        }
        let mut padded = [0.0; PANEL];
        padded[..x.len()].copy_from_slice(x);
        (table.narrow)(&padded, row);
    }

    fn floats<'r>(table: &Table, rows: &'r [u32], scratch: &'r mut [f32]) -> &'r [f32] {
        (table.widen)(rows, scratch);
        scratch
    }

    fn room(_words: usize) -> usize {
        0
    }

    fn pairs<'r>(
        _dots: &Dots,
        rows: &'r [u32],
        _runs: impl Iterator<Item = Range<usize>>,
        _scratch: &'r mut [u32],
    ) -> &'r [u32] {
        rows
    }
}
