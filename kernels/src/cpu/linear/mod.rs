//! `Y = f(X) W + b` for any number of rows, with the layer norm before it and what follows it fused.
//!
//! This file shares the work out, and takes finished sums into Y; `floats` multiplies by weights
//! in f32 and bf16, `dots` by bf16 where that is faster, `wholes` by int8 and int4.
//!
//! Rows go in blocks of up to [`ROW_BLOCK`], whose prepared form stays in the second-level cache
//! while each panel passes through once. Threads share out blocks of rows when there are many, else
//! panels; then each prepares all rows for itself, which costs less than a second meeting of the
//! team.

mod dots;
mod floats;
mod wholes;

use std::ops::Range;

use super::dots::Dots;
use super::engine::{Cpu, Need, Scratch};
use super::integers::Integers;
use super::pack::{PANEL, Packed};
use super::pool::{Queue, piece};
use super::share::Shared;
use super::table::Table;
use crate::Precision;

/// Rows prepared at a time. In f32 with the floats' blocks of inputs, up to 384 KiB of A. Fewer would
/// fetch the weights more often, more would leave threads without work at the end.
const ROW_BLOCK: usize = 96;
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
    /// `Y [M, N]` from `X [M, K]`, in the precision of the weight; M is taken from the input's
    /// length. In int8 and int4 the rows are rounded to 8 bits first, after the norm; in bf16 to bf16,
    /// where the CPU has [`Dots`] and the rows are as many as those ask for.
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
        let (table, integers) = (self.table(), self.integers());
        let bf16 = w.weight.precision() == Precision::Bf16;
        let dots = self.dots().filter(|dots| bf16 && m >= dots.least);
        let job = Job { table, integers, dots, input, w, output, y: Shared::new(y) };
        let blocks = m.div_ceil(ROW_BLOCK);
        let need = job.need(m.min(ROW_BLOCK));
        if m >= threads * ROWS_TO_SPLIT {
            let blocks = blocks.next_multiple_of(threads);
            let queue = Queue::single(blocks);
            self.run(need, |thread, scratch| {
                while let Some(taken) = queue.take(thread) {
                    let rows = piece(m, blocks, taken.start);
                    let mut all = Some(0..w.weight.panels());
                    job.rows(scratch, rows, || all.take());
                }
            });
        } else {
            for block in 0..blocks {
                let queue = Queue::runs(w.weight.panels(), threads);
                self.run(need, |thread, scratch| {
                    job.rows(scratch, piece(m, blocks, block), || queue.take(thread));
                });
            }
        }
    }
}

/// A linear operation.
struct Job<'a> {
    table: &'static Table,
    integers: &'static Integers,
    /// Where weights and number of rows suit them.
    dots: Option<&'static Dots>,
    input: Input<'a>,
    w: &'a Linear,
    output: Output,
    y: Shared<'a>,
}

impl Job<'_> {
    /// The scratch that blocks of up to `m` rows need.
    fn need(&self, m: usize) -> Need {
        let k = self.w.weight.inputs();
        let normed = if matches!(self.input, Input::Norm { .. }) { m * k } else { 0 };
        match self.w.weight.precision() {
            Precision::Bf16 if self.dots.is_some() => self.need_dots(m, normed),
            Precision::F32 | Precision::Bf16 => self.need_floats(m, normed),
            Precision::Int8 | Precision::Int4 => self.need_wholes(m, normed),
        }
    }

    /// The rows `block`, for as many runs of panels as `take` gives.
    fn rows(
        &self,
        scratch: &mut Scratch,
        block: Range<usize>,
        mut take: impl FnMut() -> Option<Range<usize>>,
    ) {
        // Whoever comes too late for a panel is spared the rows.
        let Some(first) = take() else {
            return;
        };
        let panels = std::iter::once(first).chain(std::iter::from_fn(take));
        if let Some(dots) = self.dots {
            return self.dots(dots, scratch, block, panels);
        }
        match self.w.weight.precision() {
            Precision::F32 | Precision::Bf16 => self.floats(scratch, block, panels),
            Precision::Int8 | Precision::Int4 => self.wholes(scratch, block, panels),
        }
    }

    /// The rows to multiply: themselves, or normalised into `scratch`.
    fn prepare<'r>(&self, block: &Range<usize>, scratch: &'r mut [f32]) -> &'r [f32]
    where
        Self: 'r,
    {
        let k = self.w.weight.inputs();
        let rows = &self.input.rows()[block.start * k..block.end * k];
        let Input::Norm { gain, bias, eps, .. } = self.input else {
            return rows;
        };
        let normed = &mut scratch[..rows.len()];
        for (x, out) in rows.chunks_exact(k).zip(normed.chunks_exact_mut(k)) {
            (self.table.layernorm)(x, gain, bias, eps, out);
        }
        normed
    }

    /// Takes one row's 32 sums over the inputs `ks` into Y: `take(bias, whether to add, y)` does it.
    fn finish(
        &self,
        row: usize,
        panel: usize,
        ks: &Range<usize>,
        take: impl FnOnce(&[f32], bool, &mut [f32]),
    ) {
        let n = self.w.weight.outputs();
        let column = panel * PANEL;
        let width = PANEL.min(n - column);
        // SAFETY: threads have disjoint rows or disjoint panels, so this piece of a row is ours.
        let y = unsafe { self.y.part(row * n + column, width) };
        let none = ks.start > 0 || self.w.bias.is_empty();
        let bias: &[f32] = if none { &[0.0; PANEL] } else { &self.w.bias[column..] };
        take(&bias[..width], ks.start > 0 || self.output == Output::Add, y);
        if ks.end == self.w.weight.inputs() && self.output == Output::Gelu {
            (self.table.gelu)(y);
        }
    }
}
