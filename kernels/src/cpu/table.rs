//! The single-threaded float kernels every instruction set provides, as one table of functions.
//!
//! A driver picks the table once and never asks again. Each entry checks its slice lengths at the
//! door, so the table is safe to call whatever the arguments. The kernels on whole numbers have a
//! table of their own, [`Integers`](super::integers::Integers): which CPU has them is another
//! question.

/// Columns of one weight panel and of one tile: two AVX-512 registers, four of AVX2, eight of NEON.
pub const PANEL: usize = 32;

/// The largest number of rows any table's tile takes.
pub const MAX_ROWS: usize = 14;

/// What a right operand is stored in: [`PANEL`] columns are `WORDS` of these.
pub trait Word: Copy {
    /// Words in one row of a panel.
    const WORDS: usize;
}

/// One column each.
impl Word for f32 {
    const WORDS: usize = PANEL;
}

/// Two bf16: word j of 16 holds column j in its low half and column j + 16 in its high half, so
/// that a shift and a mask widen a register of words to two registers of neighbouring columns.
impl Word for u32 {
    const WORDS: usize = PANEL / 2;
}

/// One tile product, `C[m][n] = sum_k A[k*lda + m] * B[k*ldb + n]` for n in 0..32, B in f32 or in
/// pairs of bf16.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a, W = f32> {
    /// Left operand, column by column: `[k][lda]`, the first `rows` of each used.
    pub a: &'a [f32],
    /// Floats from one k to the next in `a`.
    pub lda: usize,
    /// Right operand, row by row: `[k][ldb]`, the first [`Word::WORDS`] of each used.
    pub b: &'a [W],
    /// Words from one k to the next in `b`.
    pub ldb: usize,
    /// Length of the sum.
    pub k: usize,
    /// Rows of the tile, 1 to `Table::rows`.
    pub rows: usize,
}

impl<W: Word> Tile<'_, W> {
    /// Panics unless every element the tile reads and writes lies inside its slices.
    pub(crate) fn check(&self, rows_max: usize, c: &[f32], ldc: usize) {
        assert!((1..=rows_max).contains(&self.rows), "tile of {} rows", self.rows);
        assert!(c.len() >= (self.rows - 1) * ldc + PANEL, "tile output too short");
        if self.k > 0 {
            assert!(self.a.len() >= (self.k - 1) * self.lda + self.rows, "tile operand A too short");
            assert!(self.b.len() >= (self.k - 1) * self.ldb + W::WORDS, "tile operand B too short");
        }
    }
}

/// A softmax under way down each of 32 columns, after Milakov and Gimelshein, "Online normalizer
/// calculation for softmax" (2018): what has been taken in so far is to be divided by `sums` in the end.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The largest number so far.
    pub max: [f32; PANEL],
    /// The sum of `2^(x - max)` so far.
    pub sums: [f32; PANEL],
    /// `2^(max before the last step - max)`: what sums formed before that step are to be multiplied by.
    pub factors: [f32; PANEL],
}

impl Columns {
    /// Nothing taken in yet.
    pub const EMPTY: Columns =
        Columns { max: [f32::NEG_INFINITY; PANEL], sums: [0.0; PANEL], factors: [0.0; PANEL] };
}

/// A tile product into `c`, whose rows are `ldc` apart.
pub type Kernel<W> = fn(tile: Tile<'_, W>, c: &mut [f32], ldc: usize);

/// `(x, gain, bias, eps, out)`, four slices of one length.
pub type LayerNorm = fn(x: &[f32], gain: &[f32], bias: &[f32], eps: f32, out: &mut [f32]);

/// The kernels of one instruction set.
pub struct Table {
    /// Most rows a tile takes at once.
    pub rows: usize,
    /// The tile product into `c` (row stride `ldc`), overwriting 32 columns of `rows` rows.
    pub tile: Kernel<f32>,
    /// The same, added to what `c` holds.
    pub tile_add: Kernel<f32>,
    /// `tile` with B in bf16.
    pub tile_bf16: Kernel<u32>,
    /// `tile_add` with B in bf16.
    pub tile_bf16_add: Kernel<u32>,
    /// Rows of 32 floats to rows of 16 words of bf16 pairs, each value to the nearest (of two equally
    /// near the even one; NaN stays NaN).
    pub narrow: fn(rows: &[f32], words: &mut [u32]),
    /// Rows of 16 such words back to rows of 32 floats, exactly.
    pub widen: fn(words: &[u32], rows: &mut [f32]),
    /// `x = gelu_new(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    pub gelu: fn(x: &mut [f32]),
    /// `y = scale sums + bias`, or that added to `y` where `keep` says so; up to 32 columns, `sums`
    /// at least as long as `y`, `bias` equally long.
    pub finish: fn(sums: &[f32], scale: f32, bias: &[f32], keep: bool, y: &mut [f32]),
    /// `y += x`, equal lengths.
    pub add: fn(y: &mut [f32], x: &[f32]),
    /// `out = (x - mean) / sqrt(var + eps) * gain + bias`, the variance over the row, biased.
    pub layernorm: LayerNorm,
    /// The largest value; minus infinity for an empty row.
    pub largest: fn(x: &[f32]) -> f32,
    /// `x = exp(x - max x)`, in place, and the sum of these: a softmax not yet divided. Each is off by up
    /// to `2e-7 (1 + max x - x)` of itself, and all alike by rounding of the maximum.
    pub exponentials: fn(x: &mut [f32]) -> f32,
    /// The next rows `x` `[keys][32]` of a softmax down each of 32 columns, in powers of two: raises the
    /// maxima to those of `x`, writes `2^(x - max)` over it, and adds that to the sums, which the factors
    /// have brought to the new maxima before. Whether any maximum rose.
    pub softmax_step: fn(x: &mut [f32], columns: &mut Columns) -> bool,
    /// Index of the largest value, the lowest such index on a tie; 0 for an empty row.
    pub argmax: fn(x: &[f32]) -> usize,
    /// `ln(sum exp x)`.
    pub log_sum_exp: fn(x: &[f32]) -> f32,
}
