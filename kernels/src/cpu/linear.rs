//! `Y = f(X) W + b` for any number of rows, with the layer norm before it and what follows it fused.
//!
//! Loops, outermost first: blocks of up to [`ROW_BLOCK`] rows, blocks of up to [`K_BLOCK`] inputs,
//! panels of 32 outputs, tiles of a few rows. A's block is repacked tile by tile as `[k][rows]` and
//! stays in the second-level cache while each panel passes through once. Up to one tile of rows
//! the sum is not blocked at all: a decode step reads each panel front to back.
//!
//! Threads share out blocks of rows when there are many, else panels; then each prepares all rows
//! for itself, which costs less than a second meeting of the team.

use std::ops::Range;

use super::engine::{Cpu, Scratch};
use super::pack::{PANEL, Packed};
use super::pool::{Queue, piece};
use super::share::Shared;
use super::table::{MAX_ROWS, Table, Tile};

/// Rows prepared at a time: with `K_BLOCK`, 192 KiB of A. Fewer would fetch the weights more often,
/// more would leave threads without work at the end.
const ROW_BLOCK: usize = 96;
/// Inputs summed between two visits to Y: 64 KiB of a panel.
const K_BLOCK: usize = 512;
/// Rows per thread from which splitting rows beats splitting panels.
const ROWS_TO_SPLIT: usize = 48;

/// A weight matrix `[K, N]` and its bias.
#[derive(Debug)]
pub struct Linear {
    /// The matrix in panels.
    pub weight: Packed,
    /// `[N]`, or empty for none.
    pub bias: Vec<f32>,
}

/// What goes into a linear operation.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// `[M, K]` as it is.
    Rows(&'a [f32]),
    /// `[M, K]`, each row normalised first.
    Norm {
        /// `[M, K]`.
        rows: &'a [f32],
        /// `[K]`.
        gain: &'a [f32],
        /// `[K]`.
        bias: &'a [f32],
        /// Added to the variance.
        eps: f32,
    },
}

impl<'a> Input<'a> {
    fn rows(&self) -> &'a [f32] {
        match *self {
            Input::Rows(rows) | Input::Norm { rows, .. } => rows,
        }
    }
}

/// What happens to the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// `Y = XW + b`
    Store,
    /// `Y = Y + XW + b`, the residual connection.
    Add,
    /// `Y = gelu_new(XW + b)`
    Gelu,
}

impl Cpu {
    /// `Y [M, N]` from `X [M, K]`; M is taken from the input's length.
    ///
    /// # Panics
    /// If the lengths of input, bias, norm or `y` do not fit the weight's shape.
    pub fn linear(&self, input: Input<'_>, w: &Linear, y: &mut [f32], output: Output) {
        let (k, n) = (w.weight.inputs(), w.weight.outputs());
        assert!(k > 0 && input.rows().len().is_multiple_of(k), "rows of {k} inputs");
        let m = input.rows().len() / k;
        assert_eq!(y.len(), m * n, "output of {m} x {n}");
        assert!(w.bias.is_empty() || w.bias.len() == n, "bias of {n}");
        let threads = self.threads();
        let job = Job { table: self.table(), input, w, output, y: Shared::new(y) };
        let blocks = m.div_ceil(ROW_BLOCK);
        let most = m.min(ROW_BLOCK) * k;
        let normed = if matches!(input, Input::Norm { .. }) { most } else { 0 };
        let need = [normed, if m == 1 { 0 } else { most }];
        if m >= threads * ROWS_TO_SPLIT {
            let blocks = blocks.next_multiple_of(threads);
            let queue = Queue::single(blocks);
            self.run(need, |_, scratch| {
                while let Some(taken) = queue.take() {
                    let rows = piece(m, blocks, taken.start);
                    let mut all = Some(0..w.weight.panels());
                    job.rows(scratch, rows, || all.take());
                }
            });
        } else {
            for block in 0..blocks {
                let queue = Queue::runs(w.weight.panels(), threads);
                self.run(need, |_, scratch| job.rows(scratch, piece(m, blocks, block), || queue.take()));
            }
        }
    }
}

/// A linear operation.
struct Job<'a> {
    table: &'static Table,
    input: Input<'a>,
    w: &'a Linear,
    output: Output,
    y: Shared<'a>,
}

impl Job<'_> {
    /// The rows `block`, for as many runs of panels as `take` gives.
    fn rows(
        &self,
        scratch: &mut Scratch,
        block: Range<usize>,
        mut take: impl FnMut() -> Option<Range<usize>>,
    ) {
        let Some(mut panels) = take() else {
            return;
        };
        let (k, m) = (self.w.weight.inputs(), block.len());
        let tiles = m.div_ceil(self.table.rows);
        let k_blocks = if tiles == 1 { 1 } else { k.div_ceil(K_BLOCK) };
        let rows = &self.input.rows()[block.start * k..block.end * k];
        let rows = self.prepare(rows, &mut scratch.rows);
        // One row is its own packed form.
        let packed = if m == 1 { rows } else { pack(rows, m, tiles, k_blocks, &mut scratch.packed) };
        loop {
            for k_block in 0..k_blocks {
                let ks = piece(k, k_blocks, k_block);
                for panel in panels.clone() {
                    let a = &packed[ks.start * m..ks.end * m];
                    self.panel(a, block.start, m, panel, ks.clone());
                }
            }
            match take() {
                Some(next) => panels = next,
                None => return,
            }
        }
    }

    /// The rows to multiply: themselves, or normalised into `scratch`.
    fn prepare<'r>(&self, rows: &'r [f32], scratch: &'r mut [f32]) -> &'r [f32] {
        let Input::Norm { gain, bias, eps, .. } = self.input else {
            return rows;
        };
        let (k, normed) = (gain.len(), &mut scratch[..rows.len()]);
        for (x, out) in rows.chunks_exact(k).zip(normed.chunks_exact_mut(k)) {
            (self.table.layernorm)(x, gain, bias, eps, out);
        }
        normed
    }

    /// One panel times every tile of A, summed over the inputs `ks`.
    fn panel(&self, a: &[f32], first: usize, m: usize, panel: usize, ks: Range<usize>) {
        let tiles = m.div_ceil(self.table.rows);
        let b = &self.w.weight.panel(panel)[ks.start * PANEL..ks.end * PANEL];
        let mut c = [0.0f32; MAX_ROWS * PANEL];
        for tile in 0..tiles {
            let part = piece(m, tiles, tile);
            let rows = part.len();
            let a = &a[part.start * ks.len()..];
            let t = Tile { a, lda: rows, b, ldb: PANEL, k: ks.len(), rows };
            (self.table.tile)(t, &mut c, PANEL);
            for (i, sums) in c.chunks_exact_mut(PANEL).take(rows).enumerate() {
                self.finish(first + part.start + i, panel, sums, &ks);
            }
        }
    }

    /// Takes one row's 32 sums over the inputs `ks` into Y.
    fn finish(&self, row: usize, panel: usize, sums: &mut [f32], ks: &Range<usize>) {
        let n = self.w.weight.outputs();
        let column = panel * PANEL;
        let width = PANEL.min(n - column);
        let sums = &mut sums[..width];
        // SAFETY: threads have disjoint rows or disjoint panels, so this piece of a row is ours.
        let y = unsafe { self.y.part(row * n + column, width) };
        if ks.start == 0 && !self.w.bias.is_empty() {
            (self.table.add)(sums, &self.w.bias[column..][..width]);
        }
        if ks.start > 0 || self.output == Output::Add {
            (self.table.add)(y, sums);
        } else {
            y.copy_from_slice(sums);
        }
        if ks.end == self.w.weight.inputs() && self.output == Output::Gelu {
            (self.table.gelu)(y);
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
