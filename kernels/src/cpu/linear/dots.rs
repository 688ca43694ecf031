//! Products with weights in bf16 and rows rounded to bf16: pairs of inputs, sums in f32.
//!
//! Loops, outermost first: runs of panels, panels, tiles of rows. Each tile sums over all of K in
//! registers. A row's pairs are dealt out tile by tile, as [`DotTile`] says.

use std::ops::Range;

use super::super::dots::{DotTile, Dots};
use super::super::engine::{Need, Scratch};
use super::super::pack::PANEL;
use super::super::pool::piece;
use super::super::table::MAX_ROWS;
use super::Job;

impl Job<'_> {
    pub(super) fn need_dots(&self, m: usize, normed: usize) -> Need {
        // And one row on its way there.
        Need { rows: normed, packed: (m + 1) * self.w.weight.inputs().div_ceil(2), ..Need::default() }
    }

    /// The rows `block` times each run of panels.
    pub(super) fn dots(
        &self,
        dots: &Dots,
        scratch: &mut Scratch,
        block: Range<usize>,
        panels: impl Iterator<Item = Range<usize>>,
    ) {
        let k = self.w.weight.inputs();
        let (m, pairs) = (block.len(), k.div_ceil(2));
        let tiles = m.div_ceil(dots.rows);
        let rows = self.prepare(&block, &mut scratch.rows);
        let (words, row) = scratch.packed.words_mut().split_at_mut(m * pairs);
        for tile in 0..tiles {
            let part = piece(m, tiles, tile);
            let out = &mut words[part.start * pairs..part.end * pairs];
            deal(dots, &rows[part.start * k..part.end * k], k, &mut row[..pairs], out);
        }
        let mut sums = [0.0; MAX_ROWS * PANEL];
        for panel in panels.flatten() {
            for tile in 0..tiles {
                let part = piece(m, tiles, tile);
                let a = &words[part.start * pairs..part.end * pairs];
                (dots.tile)(DotTile { a, b: self.w.weight.words(panel), k, rows: part.len() }, &mut sums);
                for (row, sums) in part.zip(sums.chunks_exact(PANEL)) {
                    let take =
                        |bias: &[f32], keep, y: &mut [f32]| (self.table.finish)(sums, 1.0, bias, keep, y);
                    self.finish(block.start + row, panel, &(0..k), take);
                }
            }
        }
    }
}

/// Rounds the rows of one tile, `[rows][k]`, and deals their pairs out as `[ceil(k/2)][rows]`.
fn deal(dots: &Dots, rows: &[f32], k: usize, pairs: &mut [u32], out: &mut [u32]) {
    let count = rows.len() / k;
    for (i, row) in rows.chunks_exact(k).enumerate() {
        (dots.narrow)(row, pairs);
        for (column, &pair) in out.chunks_exact_mut(count).zip(&*pairs) {
            column[i] = pair;
        }
    }
}
