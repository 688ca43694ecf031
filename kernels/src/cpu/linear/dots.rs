//! Products with weights in bf16 and rows rounded to bf16: pairs of inputs, sums in f32.
//!
//! Loops, outermost first: runs of panels, panels, tiles of rows. Each tile sums over all of K in
//! registers. Rows are rounded to where the tiles read them, as [`DotTile`] says.

use std::ops::Range;

use super::super::dots::{DotTile, Dots, words};
use super::super::engine::{Need, Scratch};
use super::super::pack::PANEL;
use super::super::pool::piece;
use super::super::table::{MAX_ROWS, Word};
use super::Job;

impl Job<'_> {
    pub(super) fn need_dots(&self, m: usize) -> Need {
        let k = self.w.weight.inputs();
        // One row at a time is normalised.
        Need { rows: k, packed: m * words(k), ..Need::default() }
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
        let (m, words) = (block.len(), words(k));
        let tiles = m.div_ceil(dots.rows);
        let pairs = &mut scratch.packed.words_mut()[..m * words];
        for tile in 0..tiles {
            let part = piece(m, tiles, tile);
            let out = &mut pairs[part.start * words..part.end * words];
            for (i, row) in (block.start + part.start..block.start + part.end).enumerate() {
                let row = self.prepare(&(row..row + 1), &mut scratch.rows);
                (dots.narrow)(row, &mut out[i * u32::WORDS..], part.len() * u32::WORDS);
            }
        }
        let mut sums = [0.0; MAX_ROWS * PANEL];
        for panel in panels.flatten() {
            for tile in 0..tiles {
                let part = piece(m, tiles, tile);
                let rows = block.start + part.start..block.start + part.end;
                self.ask(rows.clone(), panel);
                let a = &pairs[part.start * words..part.end * words];
                let tile = DotTile { a, b: self.w.weight.words(panel), k, rows: part.len() };
                (dots.tile)(tile, &mut sums, PANEL);
                self.finish_tile(rows, panel, &(0..k), &mut sums);
            }
        }
    }
}
