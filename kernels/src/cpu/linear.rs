//! `Y = f(X) W + b` for any number of rows, with the layer norm before it and what follows it fused.
//!
//! Loops, outermost first: blocks of up to [`ROW_BLOCK`] rows, blocks of up to [`K_BLOCK`] inputs,
//! panels of 32 outputs, tiles of a few rows. A's block is repacked tile by tile as `[k][rows]` and
//! stays in the second-level cache while each panel passes through once. Up to one tile of rows
//! the sum is not blocked at all: a decode step reads each panel front to back.
//!
//! Threads split the rows when there are many, else the panels; then each prepares all rows for
//! itself, which costs less than a second meeting of the team.

use super::engine::{Cpu, Scratch};
use super::pack::{PANEL, Packed};
use super::pool::piece;
use super::share::Shared;
use super::table::{MAX_ROWS, Table, Tile};

/// Rows prepared at a time: with `K_BLOCK`, half a MiB of A.
const ROW_BLOCK: usize = 256;
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
        let y = Shared::new(y);
        let threads = self.threads();
        let by_rows = m >= threads * ROWS_TO_SPLIT;
        self.run(|thread, scratch| {
            let (rows, panels) = if by_rows {
                (piece(m, threads, thread), 0..w.weight.panels())
            } else {
                (0..m, piece(w.weight.panels(), threads, thread))
            };
            let job = Job { table: self.table(), input, w, output, y, panels };
            let blocks = rows.len().div_ceil(ROW_BLOCK);
            for block in 0..blocks {
                let part = piece(rows.len(), blocks, block);
                job.rows(scratch, rows.start + part.start, part.len());
            }
        });
    }
}

/// One thread's share of a linear operation.
struct Job<'a> {
    table: &'static Table,
    input: Input<'a>,
    w: &'a Linear,
    output: Output,
    y: Shared<'a>,
    panels: std::ops::Range<usize>,
}

impl Job<'_> {
    /// Rows `first..first + m`, this thread's panels.
    fn rows(&self, scratch: &mut Scratch, first: usize, m: usize) {
        let k = self.w.weight.inputs();
        if self.panels.is_empty() || m == 0 {
            return;
        }
        let tiles = m.div_ceil(self.table.rows);
        let k_block = if tiles == 1 { k } else { k.div_ceil(k.div_ceil(K_BLOCK)) };
        let rows = &self.input.rows()[first * k..][..m * k];
        let normed = grown(&mut scratch.rows, if self.is_norm() { m * k } else { 0 });
        let rows = self.prepare(rows, normed);
        if m == 1 {
            // One row is its own packed form.
            return self.tiles(rows, first, 1, 0..k);
        }
        let packed = grown(&mut scratch.packed, m * k_block);
        for start in (0..k).step_by(k_block) {
            let end = k.min(start + k_block);
            for tile in 0..tiles {
                let part = piece(m, tiles, tile);
                let out = &mut packed[part.start * (end - start)..][..part.len() * (end - start)];
                pack(&rows[part.start * k..part.end * k], k, start..end, out);
            }
            self.tiles(packed, first, m, start..end);
        }
    }

    fn is_norm(&self) -> bool {
        matches!(self.input, Input::Norm { .. })
    }

    /// The rows to multiply: themselves, or normalised into `normed`.
    fn prepare<'r>(&self, rows: &'r [f32], normed: &'r mut [f32]) -> &'r [f32] {
        let Input::Norm { gain, bias, eps, .. } = self.input else {
            return rows;
        };
        let k = gain.len();
        for (x, out) in rows.chunks_exact(k).zip(normed.chunks_exact_mut(k)) {
            (self.table.layernorm)(x, gain, bias, eps, out);
        }
        normed
    }

    /// Every panel times every tile of A over the inputs `ks`.
    fn tiles(&self, a: &[f32], first: usize, m: usize, ks: std::ops::Range<usize>) {
        let tiles = m.div_ceil(self.table.rows);
        let mut c = [0.0f32; MAX_ROWS * PANEL];
        for p in self.panels.clone() {
            let b = &self.w.weight.panel(p)[ks.start * PANEL..ks.end * PANEL];
            for tile in 0..tiles {
                let part = piece(m, tiles, tile);
                let rows = part.len();
                let a = &a[part.start * ks.len()..];
                let t = Tile { a, lda: rows, b, ldb: PANEL, k: ks.len(), rows };
                (self.table.tile)(t, &mut c, PANEL);
                for (i, sums) in c.chunks_exact_mut(PANEL).take(rows).enumerate() {
                    self.finish(first + part.start + i, p, sums, &ks);
                }
            }
        }
    }

    /// Takes one row's 32 sums over the inputs `ks` into Y.
    fn finish(&self, row: usize, panel: usize, sums: &mut [f32], ks: &std::ops::Range<usize>) {
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

/// Rewrites `[rows][k]` as `[ks][rows]`.
fn pack(rows: &[f32], k: usize, ks: std::ops::Range<usize>, out: &mut [f32]) {
    let m = rows.len() / k;
    for (i, row) in rows.chunks_exact(k).enumerate() {
        for (column, &v) in out.chunks_exact_mut(m).zip(&row[ks.clone()]) {
            column[i] = v;
        }
    }
}

/// The first `len` floats of a scratch vector, grown when it is shorter.
pub(crate) fn grown(scratch: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if scratch.len() < len {
        scratch.resize(len, 0.0);
    }
    &mut scratch[..len]
}
