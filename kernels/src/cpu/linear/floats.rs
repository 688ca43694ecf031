//! Products with weights in f32 and bf16: sums in f32 throughout.
//!
//! Loops, outermost first: runs of panels, blocks of up to [`K_BLOCK`] inputs, panels of 32
//! outputs, tiles of a few rows. A is repacked tile by tile as `[k][rows]`. Up to one tile of rows
//! the sum is not blocked at all: a decode step reads each panel front to back.
//!
//! bf16 is widened in the tile's registers where there is one tile, which reads half the memory;
//! with more tiles a block of a panel is widened once into scratch and multiplied as f32, so that
//! prefill has f32's speed.

use std::ops::Range;

use super::super::engine::{Need, Scratch};
use super::super::pack::PANEL;
use super::super::pool::piece;
use super::super::table::{MAX_ROWS, Tile, Word};
use super::Job;
use crate::Precision;

/// Inputs summed between two visits to Y: 64 KiB of a panel.
const K_BLOCK: usize = 512;

/// One tile's sums.
type Sums = [f32; MAX_ROWS * PANEL];

/// A tile kernel over B in words `W`.
type Kernel<W> = fn(tile: Tile<'_, W>, c: &mut [f32], ldc: usize);

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
        let k = self.w.weight.inputs();
        let widens = self.w.weight.precision() == Precision::Bf16 && m > self.table.rows;
        let widened = if widens { k.min(K_BLOCK) * PANEL } else { 0 };
        Need { rows: normed.max(widened), packed: if m == 1 { 0 } else { m * k }, ..Need::default() }
    }

    /// The rows `block` times each run of panels.
    pub(super) fn floats(
        &self,
        scratch: &mut Scratch,
        block: Range<usize>,
        panels: impl Iterator<Item = Range<usize>>,
    ) {
        let tiles = block.len().div_ceil(self.table.rows);
        let k_blocks = if tiles == 1 { 1 } else { self.w.weight.inputs().div_ceil(K_BLOCK) };
        if block.len() == 1 {
            // One row is its own packed form.
            let row = self.prepare(&block, &mut scratch.rows);
            self.sweep(row, &mut [], block, k_blocks, panels);
        } else {
            let rows = self.prepare(&block, &mut scratch.rows);
            let a = pack(rows, block.len(), tiles, k_blocks, &mut scratch.packed);
            // The prepared rows are done with: their memory takes the widened panels.
            self.sweep(a, &mut scratch.rows, block, k_blocks, panels);
        }
    }

    fn sweep(
        &self,
        a: &[f32],
        widened: &mut [f32],
        rows: Range<usize>,
        k_blocks: usize,
        panels: impl Iterator<Item = Range<usize>>,
    ) {
        let (k, m) = (self.w.weight.inputs(), rows.len());
        let mut sums = [0.0; MAX_ROWS * PANEL];
        for run in panels {
            for k_block in 0..k_blocks {
                let ks = piece(k, k_blocks, k_block);
                for panel in run.clone() {
                    let a = &a[ks.start * m..ks.end * m];
                    let block = Block { a, rows: rows.clone(), ks: ks.clone(), panel };
                    self.panel(&block, widened, &mut sums);
                }
            }
        }
    }

    /// One block times one panel, in whichever form the panel is fastest.
    fn panel(&self, block: &Block<'_>, widened: &mut [f32], sums: &mut Sums) {
        let ks = &block.ks;
        if self.w.weight.precision() == Precision::F32 {
            let b = &self.w.weight.panel(block.panel)[ks.start * PANEL..ks.end * PANEL];
            return self.tiles(self.table.tile, block, b, sums);
        }
        let words = &self.w.weight.words(block.panel)[ks.start * u32::WORDS..ks.end * u32::WORDS];
        if block.rows.len() <= self.table.rows {
            self.tiles(self.table.tile_bf16, block, words, sums);
        } else {
            let b = &mut widened[..ks.len() * PANEL];
            (self.table.widen)(words, b);
            self.tiles(self.table.tile, block, b, sums);
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
            kernel(Tile { a, lda: rows, b, ldb: W::WORDS, k, rows }, sums, PANEL);
            for (i, sums) in sums.chunks_exact(PANEL).take(rows).enumerate() {
                let take = |bias: &[f32], keep, y: &mut [f32]| (self.table.finish)(sums, 1.0, bias, keep, y);
                self.finish(block.rows.start + part.start + i, block.panel, &block.ks, take);
            }
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
