//! Products of bf16 by bf16, two at a time, as one table of functions.
//!
//! Rows of X are rounded to bf16 as the weights were; a product of two bf16 is exact in f32, and the
//! sums are f32; the smallest numbers, those without a leading one, count as zero. Only some CPUs gain
//! by it, see [`Dots::of`]; the others multiply f32 rows, and so do all where there are few rows,
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
    /// `[ceil(k/2)][rows]` pairs: input 2 i in the low half, 2 i + 1 in the high half, which is zero
    /// past the end.
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
    pub(crate) fn check(&self, rows_max: usize, c: &[f32]) {
        assert!((1..=rows_max).contains(&self.rows), "tile of {} rows", self.rows);
        assert!(self.a.len() >= self.k.div_ceil(2) * self.rows, "tile operand A too short");
        assert!(self.b.len() >= self.k * u32::WORDS, "tile operand B too short");
        assert!(c.len() >= self.rows * PANEL, "tile output too short");
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
    /// One row to pairs: word i holds input 2 i in its low half and 2 i + 1 in its high half, each
    /// to the nearest (of two equally near the even one; NaN stays NaN); past the end is zero.
    pub narrow: fn(row: &[f32], pairs: &mut [u32]),
    /// The tile product into `c` `[rows][32]`, overwriting it.
    pub tile: fn(tile: DotTile<'_>, c: &mut [f32]),
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
