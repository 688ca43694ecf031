//! `Y = f(X) W + b` for any number of rows, with the layer norm before it and what follows it fused.
//!
//! This file shares the work out, and takes finished sums into Y; `floats` multiplies by weights
//! in f32 and bf16, `dots` by bf16 where that is faster, `wholes` by int8 and int4.
//!
//! Rows go in blocks of up to `ROW_BLOCK`, or `DOTS_BLOCK`, whose prepared form stays in the
//! second-level cache while each panel passes through once. Threads share out blocks of rows when there
//! are many, large ones in parts of the panels; else panels, and then each prepares all rows for itself,
//! which costs less than a second meeting of the team.

mod best;
mod dots;
mod floats;
mod wholes;

use std::ops::Range;

use super::dots::{Dots, words};
use super::engine::{Cpu, Need, Scratch};
use super::integers::Integers;
use super::pack::{PANEL, Packed};
use super::pool::{Queue, piece};
use super::share::Shared;
use super::table::{MAX_ROWS, Table};
use crate::Precision;

pub use best::Best;

/// Rows prepared at a time. In f32 with the floats' blocks of inputs, up to 384 KiB of A. Fewer would
/// fetch the weights more often, more would leave threads without work at the end.
const ROW_BLOCK: usize = 96;
/// Bytes of rows prepared at a time to be multiplied in bf16: 96 of GPT-2 124M's inner width, 384 of its
/// width. Fewer passes over the weights than by 96 rows gained about a percent.
const DOTS_BLOCK: usize = 576 << 10;
/// No bias.
const NONE: [f32; PANEL] = [0.0; PANEL];
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
        self.product(input, w, y, output, &[]);
    }

    /// [`Cpu::linear`] that stores Y, and for each of its rows where it is largest: a head and its greedy
    /// choice.
    ///
    /// # Panics
    /// As [`Cpu::linear`], and if `best` has not M elements.
    pub fn linear_best(&self, input: Input<'_>, w: &Linear, y: &mut [f32], best: &mut [Best]) {
        best.fill_with(Best::default);
        assert_eq!(best.len() * w.weight.outputs(), y.len(), "one of the best for each row");
        self.product(input, w, y, Output::Store, best);
    }

    fn product(&self, input: Input<'_>, w: &Linear, y: &mut [f32], output: Output, best: &[Best]) {
        let (k, n) = (w.weight.inputs(), w.weight.outputs());
        assert!(k > 0 && input.rows().len().is_multiple_of(k), "rows of {k} inputs");
        let m = input.rows().len() / k;
        assert_eq!(y.len(), m * n, "output of {m} x {n}");
        assert!(w.bias.is_empty() || w.bias.len() == n, "bias of {n}");
        let threads = self.threads();
        let (table, integers) = (self.table(), self.integers());
        let bf16 = w.weight.precision() == Precision::Bf16;
        let dots = self.dots().filter(|dots| bf16 && m >= dots.least);
        let job = Job { table, integers, dots, input, w, output, best, y: Shared::new(y) };
        let (block, parts) = job.row_block();
        let (blocks, panels) = (m.div_ceil(block), w.weight.panels());
        let need = job.need(m.min(block));
        if m >= threads * ROWS_TO_SPLIT {
            let blocks = blocks.next_multiple_of(threads);
            // Each thread begins with blocks of its own; who is done takes parts of another's last one.
            let queue = Queue::groups(blocks * parts, threads, 1);
            self.run(need, |thread, scratch| {
                let take = || queue.take(thread).map(|taken| taken.start);
                let mut next = take();
                while let Some(block) = next.map(|at| at / parts) {
                    job.rows(scratch, piece(m, blocks, block), || {
                        let at = next.take().or_else(take)?;
                        if at / parts == block {
                            return Some(piece(panels, parts, at % parts));
                        }
                        next = Some(at);
                        None
                    });
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
    /// Of each row, or none.
    best: &'a [Best],
    y: Shared<'a>,
}

impl Job<'_> {
    /// Rows prepared at a time, and the parts of the panels in which they are dealt out.
    fn row_block(&self) -> (usize, usize) {
        match self.dots {
            Some(_) => ((DOTS_BLOCK / size_of::<u32>() / words(self.w.weight.inputs())).max(MAX_ROWS), 4),
            None => (ROW_BLOCK, 1),
        }
    }

    /// The scratch that blocks of up to `m` rows need.
    fn need(&self, m: usize) -> Need {
        let k = self.w.weight.inputs();
        let normed = if matches!(self.input, Input::Norm { .. }) { m * k } else { 0 };
        match self.w.weight.precision() {
            Precision::Bf16 if self.dots.is_some() => self.need_dots(m),
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

    /// Asks for what a tile's sums will be taken into. They are done thousands of cycles later, and what
    /// is not in a cache by then keeps the stores waiting.
    fn ask(&self, rows: Range<usize>, panel: usize) {
        let n = self.w.weight.outputs();
        for row in rows {
            self.y.ask(row * n + panel * PANEL);
            self.y.ask(row * n + panel * PANEL + PANEL / 2);
        }
    }

    /// Takes a tile's sums over the inputs `ks`, `[rows][32]`, into Y.
    fn finish_tile(&self, rows: Range<usize>, panel: usize, ks: &Range<usize>, sums: &mut [f32]) {
        let sums = &mut sums[..rows.len() * PANEL];
        // GELU of all rows at once, before they are stored: row by row it waits for itself.
        let early = self.output == Output::Gelu && *ks == (0..self.w.weight.inputs());
        if early {
            if !self.w.bias.is_empty() {
                let bias = &self.w.bias[panel * PANEL..];
                for row in sums.chunks_exact_mut(PANEL) {
                    let width = PANEL.min(bias.len());
                    (self.table.add)(&mut row[..width], &bias[..width]);
                }
            }
            (self.table.gelu)(sums);
        }
        for (row, sums) in rows.zip(sums.chunks_exact(PANEL)) {
            let finish = self.table.finish;
            if early {
                self.take(row, panel, ks, |_, keep, y| finish(sums, 1.0, &NONE[..y.len()], keep, y));
            } else {
                self.finish(row, panel, ks, |bias, keep, y| finish(sums, 1.0, bias, keep, y));
            }
        }
    }

    /// Takes one row's 32 sums over the inputs `ks` into Y: `take(bias, whether to add, y)` does it.
    fn finish(
        &self,
        row: usize,
        panel: usize,
        ks: &Range<usize>,
        take: impl FnOnce(&[f32], bool, &mut [f32]),
    ) {
        let y = self.take(row, panel, ks, take);
        if ks.end == self.w.weight.inputs() && self.output == Output::Gelu {
            (self.table.gelu)(y);
        }
    }

    /// The same without GELU. Gives the piece of Y.
    #[allow(clippy::mut_from_ref, reason = "one writer for each row and panel")]
    fn take(
        &self,
        row: usize,
        panel: usize,
        ks: &Range<usize>,
        take: impl FnOnce(&[f32], bool, &mut [f32]),
    ) -> &mut [f32] {
        let n = self.w.weight.outputs();
        let column = panel * PANEL;
        let width = PANEL.min(n - column);
        // SAFETY: each panel of a block of rows is dealt to one thread, so this piece of a row is ours.
        let y = unsafe { self.y.part(row * n + column, width) };
        let none = ks.start > 0 || self.w.bias.is_empty();
        let bias = if none { &NONE } else { &self.w.bias[column..] };
        take(&bias[..width], ks.start > 0 || self.output == Output::Add, y);
        if ks.end == self.w.weight.inputs()
            && let Some(best) = self.best.get(row)
        {
            best.look(self.table, y, column);
        }
        y
    }
}
