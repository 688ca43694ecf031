//! Products of bf16 by bf16, two at a time, as one table of functions.
//!
//! Rows of X are rounded to bf16 as the weights were, queries, keys and values alike; a product of two bf16 is exact in f32, and the
//! sums are f32; the smallest numbers, those without a leading one, count as zero. Only some CPUs gain
//! by it, see `Dots::of`; the others multiply f32 rows, and so do all where there are few rows,
//! which wait for the weights more than for arithmetic.
//!
//! Invariant: all paths round alike, and their sums agree to f32 rounding; `portable` is the
//! specification.

pub mod portable;

#[cfg(target_arch = "x86_64")]
mod avx512;

use super::isa::Isa;
use super::table::{MAX_ROWS, PANEL, Word};

/// Rows of pairs times one panel: `C[m][n] = sum_k A[m][k] * B[k][n]` for n in 0..32.
#[derive(Clone, Copy, Debug)]
pub struct DotTile<'a> {
    /// `[ceil(k/32)][rows][16]` pairs, as `narrow` makes them: of each row 32 inputs at a time, input
    /// 2 i in the low half of word i, 2 i + 1 in the high half.
    pub a: &'a [u32],
    /// `[k][16]` words, a bf16 panel as [`Word`] says.
    pub b: &'a [u32],
    /// Length of the sum.
    pub k: usize,
    /// Rows of the tile, 1 to `Dots::rows`.
    pub rows: usize,
}

impl DotTile<'_> {
    /// Panics unless every element the tile reads and writes lies inside its slices.
    pub(crate) fn check(&self, rows_max: usize, c: &[f32], ldc: usize) {
        assert!((1..=rows_max).contains(&self.rows), "tile of {} rows", self.rows);
        assert!(self.a.len() >= self.rows * words(self.k), "tile operand A too short");
        assert!(self.b.len() >= self.k * u32::WORDS, "tile operand B too short");
        assert!(c.len() >= (self.rows - 1) * ldc + PANEL, "tile output too short");
    }
}

/// The kernels on pairs of bf16 of one path.
pub struct Dots {
    /// The name used in identities.
    pub name: &'static str,
    /// Rows of X from which they are used.
    pub least: usize,
    /// Most rows `tile` takes.
    pub rows: usize,
    /// One row to pairs, 32 inputs to 16 words, the i-th of them at `pairs[i * apart..]`: word j holds
    /// input 2 j in its low half and 2 j + 1 in its high half, each to the nearest (of two equally near
    /// the even one; NaN stays NaN; below 1.2e-38 it is zero). Past the end is zero.
    pub narrow: fn(row: &[f32], pairs: &mut [u32], apart: usize),
    /// Rows of 32 floats to rows of 16 words of a panel, as [`Word`] says, rounded alike.
    pub panel: fn(rows: &[f32], words: &mut [u32]),
    /// The tile product into `c` `[rows][32]`, whose rows are `ldc` apart, overwriting it.
    pub tile: fn(tile: DotTile<'_>, c: &mut [f32], ldc: usize),
}

/// Words of a row of `k` inputs.
pub(crate) fn words(k: usize) -> usize {
    k.div_ceil(PANEL) * u32::WORDS
}

const _: () = assert!(portable::DOTS.rows <= MAX_ROWS);

impl Dots {
    /// The kernels this machine can run, whether it gains by them or not.
    pub fn available() -> impl Iterator<Item = &'static Dots> {
        #[cfg(target_arch = "x86_64")]
        let vector = avx512::Avx512Bf16::detect().map(avx512::Avx512Bf16::dots);
        #[cfg(not(target_arch = "x86_64"))]
        let vector = None;
        std::iter::once(&portable::DOTS).chain(vector)
    }

    /// Those that beat multiply-adds of f32 on this CPU, if any.
    ///
    /// AMD's cores since Zen 4 start as many `vdpbf16ps` as f32 multiply-adds, so one does twice the
    /// work. Intel's Sapphire Rapids starts a quarter as many: there it would take twice as long as
    /// widening. No flag tells, so the vendor decides.
    pub(crate) fn of(isa: Isa) -> Option<&'static Dots> {
        #[cfg(target_arch = "x86_64")]
        let faster = avx512::Avx512Bf16::detect()
            .filter(|_| avx512::vendor() == *b"AuthenticAMD")
            .map(avx512::Avx512Bf16::dots);
        #[cfg(not(target_arch = "x86_64"))]
        let faster = None;
        faster.filter(|_| isa == Isa::Avx512)
    }
}
