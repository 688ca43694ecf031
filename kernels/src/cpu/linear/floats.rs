//! Products of rows in f32 with weights in f32 and bf16: sums in f32 throughout.
//!
//! Loops, outermost first: runs of panels, blocks of up to [`K_BLOCK`] inputs, panels of 32
//! outputs, tiles of a few rows. A is repacked tile by tile as `[k][rows]`. Up to one tile of rows
//! the sum is not blocked at all: a decode step reads each panel front to back.
//!
//! bf16 is widened in the tile's registers, however many tiles there are: a shift and a mask for
//! every 16 words, beside up to 28 multiply-adds. Widening a block of a panel once into scratch, for
//! all tiles, lost wherever it was tried, to the memory traffic it adds.

use std::ops::Range;

use super::super::engine::{Need, Scratch};
use super::super::pack::PANEL;
use super::super::pool::piece;
use super::super::table::{Kernel, MAX_ROWS, Tile, Word};
use super::Job;
use crate::Precision;

/// Inputs summed between two visits to Y: 128 KiB of a panel in f32. GPT-2 124M's width of 768 passes
/// in one piece; 512 cost a second visit to Y and some 6 % of a prefill.
const K_BLOCK: usize = 1024;

/// One tile's sums.
type Sums = [f32; MAX_ROWS * PANEL];

/// A block of rows, some of its inputs, and the panel they meet.
struct Block<'a> {
    /// `[tiles][k][rows of the tile]`, for the inputs `ks`.
    a: &'a [f32],
    /// Where in X and Y the rows lie.
    rows: Range<usize>,
    ks: Range<usize>,
    panel: usize,
}

impl Job<'_> {
    pub(super) fn need_floats(&self, m: usize, normed: usize) -> Need {
        // One row is its own packed form.
        let packed = if m == 1 { 0 } else { m * self.w.weight.inputs() };
        Need { rows: normed, packed, ..Need::default() }
    }

    /// The rows `block` times each run of panels.
    pub(super) fn floats(
        &self,
        scratch: &mut Scratch,
        block: Range<usize>,
        panels: impl Iterator<Item = Range<usize>>,
    ) {
        let (k, m) = (self.w.weight.inputs(), block.len());
        let tiles = m.div_ceil(self.table.rows);
        let k_blocks = if tiles == 1 { 1 } else { k.div_ceil(K_BLOCK) };
        let rows = self.prepare(&block, &mut scratch.rows);
        let a = if m == 1 { rows } else { pack(rows, m, tiles, k_blocks, &mut scratch.packed) };
        let mut sums = [0.0; MAX_ROWS * PANEL];
        for run in panels {
            for k_block in 0..k_blocks {
                let ks = piece(k, k_blocks, k_block);
                for panel in run.clone() {
                    let a = &a[ks.start * m..ks.end * m];
                    self.panel(&Block { a, rows: block.clone(), ks: ks.clone(), panel }, &mut sums);
                }
            }
        }
    }

    fn panel(&self, block: &Block<'_>, sums: &mut Sums) {
        let (ks, weight) = (&block.ks, &self.w.weight);
        if weight.precision() == Precision::F32 {
            let b = &weight.panel(block.panel)[ks.start * PANEL..ks.end * PANEL];
            self.tiles(self.table.tile, block, b, sums);
        } else {
            let b = &weight.words(block.panel)[ks.start * u32::WORDS..ks.end * u32::WORDS];
            self.tiles(self.table.tile_bf16, block, b, sums);
        }
    }

    /// Every tile of the block times `b`, into Y.
    fn tiles<W: Word>(&self, kernel: Kernel<W>, block: &Block<'_>, b: &[W], sums: &mut Sums) {
        let (m, k) = (block.rows.len(), block.ks.len());
        let tiles = m.div_ceil(self.table.rows);
        for tile in 0..tiles {
            let part = piece(m, tiles, tile);
            let rows = part.len();
            let a = &block.a[part.start * k..];
            let at = block.rows.start + part.start..block.rows.start + part.end;
            if m > 1 {
                self.ask(at.clone(), block.panel);
            }
            kernel(Tile { a, lda: rows, b, ldb: W::WORDS, k, rows }, sums, PANEL);
            self.finish_tile(at, block.panel, &block.ks, sums);
        }
    }
}

/// Rewrites rows `[m][K]` as blocks of inputs, in each the tiles of rows, in each `[k][rows]`.
fn pack<'p>(rows: &[f32], m: usize, tiles: usize, k_blocks: usize, scratch: &'p mut [f32]) -> &'p [f32] {
    let k = rows.len() / m;
    let packed = &mut scratch[..m * k];
    let mut at = 0;
    for k_block in 0..k_blocks {
        let ks = piece(k, k_blocks, k_block);
        for tile in 0..tiles {
            let part = piece(m, tiles, tile);
            let out = &mut packed[at..at + part.len() * ks.len()];
            at += out.len();
            for (i, row) in rows[part.start * k..part.end * k].chunks_exact(k).enumerate() {
                for (column, &v) in out.chunks_exact_mut(part.len()).zip(&row[ks.clone()]) {
                    column[i] = v;
                }
            }
        }
    }
    packed
}
