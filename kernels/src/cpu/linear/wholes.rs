//! Products with weights in int8 and int4: rows of X rounded to 8 bits, sums in whole numbers.
//!
//! Loops, outermost first: runs of panels, panels, tiles of rows. Each tile sums over all of K in
//! registers; a panel of a quarter or an eighth of f32's bytes stays in the second-level cache
//! while the tiles pass. A row's bytes are dealt out to words of four inputs, tile by tile, as
//! [`WordTile`] says.
//!
//! The sums of a row do not depend on how many rows there are, so a prompt in one piece, in chunks
//! or token by token meets the same numbers in every product.

use std::ops::Range;

use super::super::engine::{Need, Scratch};
use super::super::integers::{GROUP, GROUP_WORDS, MAX_ROWS, WordTile, ZERO_INT4, ZERO_INT8};
use super::super::pack::PANEL;
use super::super::pool::piece;
use super::Job;
use crate::Precision;

/// How a row of activations is laid out.
#[derive(Clone, Copy)]
struct Shape {
    int8: bool,
    /// Groups of 32 inputs.
    groups: usize,
    /// Words of four inputs to one correction.
    run: usize,
    /// Words of a row in all.
    words: usize,
}

impl Shape {
    fn of(precision: Precision, k: usize) -> Shape {
        let (groups, fours) = (k.div_ceil(GROUP), k.div_ceil(4));
        match precision {
            Precision::Int8 => Shape { int8: true, groups, run: fours, words: 1 + fours },
            _ => Shape { int8: false, groups, run: GROUP_WORDS, words: groups * (1 + GROUP_WORDS) },
        }
    }

    /// Deals one row's bytes and sums out as the `i`-th of a tile of `rows`.
    fn deal(self, bytes: &[i8], sums: &[i32], i: usize, rows: usize, out: &mut [i32]) {
        let (zero, groups) = if self.int8 { (ZERO_INT8, self.groups) } else { (ZERO_INT4, 1) };
        let runs = bytes.chunks(4 * self.run).zip(sums.chunks(groups));
        for (out, (bytes, sums)) in out.chunks_exact_mut((1 + self.run) * rows).zip(runs) {
            let (correction, words) = out.split_at_mut(rows);
            correction[i] = -zero * sums.iter().sum::<i32>();
            if rows == 1 {
                // The same as below, in wide registers.
                for (word, four) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *word = i32::from_le_bytes(four.map(i8::cast_unsigned));
                }
                continue;
            }
            for (column, four) in words.chunks_exact_mut(rows).zip(bytes.as_chunks::<4>().0) {
                column[i] = i32::from_le_bytes(four.map(i8::cast_unsigned));
            }
        }
    }
}

/// One tile's sums, as they come and as they leave.
struct Sums {
    whole: [i32; MAX_ROWS * PANEL],
    float: [f32; MAX_ROWS * PANEL],
}

impl Job<'_> {
    pub(super) fn need_wholes(&self, m: usize, normed: usize) -> Need {
        let shape = Shape::of(self.w.weight.precision(), self.w.weight.inputs());
        let (words, bytes) = (m * shape.words + shape.groups, shape.groups * GROUP);
        Need { rows: normed, packed: m, words, bytes }
    }

    /// The rows `block` times each run of panels.
    pub(super) fn wholes(
        &self,
        scratch: &mut Scratch,
        block: Range<usize>,
        panels: impl Iterator<Item = Range<usize>>,
    ) {
        let k = self.w.weight.inputs();
        let shape = Shape::of(self.w.weight.precision(), k);
        let most = if shape.int8 { self.integers.rows_int8 } else { self.integers.rows_int4 };
        let (m, tiles) = (block.len(), block.len().div_ceil(most));
        let rows = self.prepare(&block, &mut scratch.rows);
        let (words, sums) = scratch.words.split_at_mut(m * shape.words);
        let (sums, bytes) = (&mut sums[..shape.groups], &mut scratch.bytes[..shape.groups * GROUP]);
        for tile in 0..tiles {
            let part = piece(m, tiles, tile);
            let out = &mut words[part.start * shape.words..part.end * shape.words];
            for (i, row) in part.clone().enumerate() {
                let x = &rows[row * k..][..k];
                scratch.packed[row] = (self.integers.quantise)(x, bytes, sums);
                shape.deal(bytes, sums, i, part.len(), out);
            }
        }
        let (words, scales) = (&*words, &scratch.packed[..m]);
        let mut sums = Sums { whole: [0; MAX_ROWS * PANEL], float: [0.0; MAX_ROWS * PANEL] };
        for panel in panels.flatten() {
            for tile in 0..tiles {
                let part = piece(m, tiles, tile);
                let a = &words[part.start * shape.words..part.end * shape.words];
                let first = block.start + part.start;
                self.whole_tile(shape, a, &scales[part], first, panel, &mut sums);
            }
        }
    }

    /// One tile, whose rows of Y begin with `first`, times one panel.
    fn whole_tile(
        &self,
        shape: Shape,
        a: &[i32],
        scales: &[f32],
        first: usize,
        panel: usize,
        Sums { whole, float }: &mut Sums,
    ) {
        let (rows, b) = (scales.len(), self.w.weight.words(panel));
        let all = 0..self.w.weight.inputs();
        if rows > 1 {
            self.ask(first..first + rows, panel);
        }
        if shape.int8 {
            let (b, columns) = b.split_at(shape.run * PANEL);
            (self.integers.int8)(WordTile { a, b, steps: shape.run, rows }, whole);
            for ((row, sums), &scale) in (first..).zip(whole.chunks_exact(PANEL)).zip(scales) {
                self.finish(row, panel, &all, |bias, keep, y| {
                    (self.integers.finish)(sums, scale, columns, bias, keep, y);
                });
            }
        } else {
            (self.integers.int4)(WordTile { a, b, steps: shape.groups, rows }, float);
            for ((row, sums), &scale) in (first..).zip(float.chunks_exact(PANEL)).zip(scales) {
                self.finish(row, panel, &all, |bias, keep, y| {
                    (self.table.finish)(sums, scale, bias, keep, y);
                });
            }
        }
    }
}
