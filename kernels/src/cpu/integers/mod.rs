//! The single-threaded kernels on whole numbers, as one table of functions a path.
//!
//! Notation: column n of W `[K, N]`, row m of X `[M, K]`.
//!
//! **Rows.** `s_m = max_k |x_mk| / 127`, `a_mk = round(x_mk / s_m)`, in -127..=127, once per
//! operation. **int8.** `s_n = max_k |w_kn| / 127`, `q_kn = round(w_kn / s_n)`;
//! `y_mn = s_m s_n sum_k a_mk q_kn`, the sum exact in i32. **int4.** For each 32 inputs g a scale
//! `s_gn` in bf16 and q in -8..=7: `y_mn = s_m sum_g s_gn (sum_{k in g} a_mk q_kn)`, the inner sum
//! exact in i32, the outer in f32 in the order of g.
//!
//! The instruction all this is made for (`vpdpbusd`) adds four products of *unsigned* by signed
//! bytes to an i32. Weights are the unsigned side, stored as `q + ZERO`; then the correction,
//! `-ZERO sum_k a_mk`, is one number a row (and group) whatever the column, and is where the sum
//! starts from: it costs nothing. Activations unsigned would need a sum per column instead, and
//! could not be the operand that is broadcast from memory.
//!
//! Panels, in 32-bit words of four bytes, byte b (the b-th least significant) for k = 4 i + b:
//! int8 `[ceil(K/4)][32]` words, then 32 scales in f32; int4 for each of `ceil(K/32)` groups 16
//! words of scales as [pairs of bf16](super::table::Word) and `[4][32]` words, whose low nibbles
//! are word 2 r of the group and whose high nibbles word 2 r + 1. Inputs past K are zero.
//!
//! Invariant: all paths give the same i32 sums, bit for bit; `portable` is the specification.

pub(crate) mod encode;
pub mod portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vector;

use super::isa::Isa;
use super::table::PANEL;

/// What is added to a weight of int8 to store it.
pub(crate) const ZERO_INT8: i32 = 128;
/// What is added to a weight of int4 to store it.
pub(crate) const ZERO_INT4: i32 = 8;
/// Inputs that share a scale in int4.
pub(crate) const GROUP: usize = 32;
/// Words of four activations in a group.
pub(crate) const GROUP_WORDS: usize = GROUP / 4;
/// Words of scales at the head of a group of an int4 panel.
pub(crate) const SCALE_WORDS: usize = PANEL / 2;
/// Words of one group of an int4 panel: 576 bytes, nine cache lines.
pub(crate) const GROUP_STRIDE: usize = SCALE_WORDS + GROUP_WORDS / 2 * PANEL;
/// The most rows that any path's tile takes.
pub(crate) const MAX_ROWS: usize = 14;
/// The most inputs for which no sum of int8 leaves an i32: 127 * 127 * K < 2^31. What corrections
/// add on the way wraps around and back.
pub(crate) const MAX_INPUTS: usize = 131_072;

/// Rows of activations times one panel.
#[derive(Clone, Copy, Debug)]
pub struct WordTile<'a> {
    /// int8: `[1 + steps][rows]`, the corrections, then words of four activations.
    /// int4: `[steps][1 + 8][rows]`, the same for each group.
    pub a: &'a [i32],
    /// int8: `[steps][32]` words. int4: `[steps][144]` words.
    pub b: &'a [u32],
    /// Words (int8) or groups (int4) to sum over.
    pub steps: usize,
    /// Rows of the tile, 1 to `Integers::rows_int8` or `rows_int4`.
    pub rows: usize,
}

impl WordTile<'_> {
    /// Panics unless everything an int8 tile reads and writes lies inside its slices.
    pub(crate) fn check_int8(&self, rows_max: usize, c: &[i32]) {
        self.check(rows_max, (1 + self.steps) * self.rows, self.steps * PANEL, c.len());
    }

    /// The same for int4.
    pub(crate) fn check_int4(&self, rows_max: usize, c: &[f32]) {
        let a = self.steps * (1 + GROUP_WORDS) * self.rows;
        self.check(rows_max, a, self.steps * GROUP_STRIDE, c.len());
    }

    fn check(&self, rows_max: usize, a: usize, b: usize, c: usize) {
        assert!((1..=rows_max).contains(&self.rows), "tile of {} rows", self.rows);
        assert!(self.a.len() >= a, "tile operand A too short");
        assert!(self.b.len() >= b, "tile operand B too short");
        assert!(c >= self.rows * PANEL, "tile output too short");
    }
}

/// `(sums, scale, columns, bias, keep, y)`.
pub type FinishInt8 = fn(sums: &[i32], scale: f32, columns: &[u32], bias: &[f32], keep: bool, y: &mut [f32]);

/// The integer kernels of one path.
pub struct Integers {
    /// The name used in identities.
    pub name: &'static str,
    /// Most rows `int8` takes.
    pub rows_int8: usize,
    /// Most rows `int4` takes.
    pub rows_int4: usize,
    /// `q = round(x / s)`, `s = max |x| / 127` being the result; `q` has a multiple of 32 elements,
    /// zero past the end of `x`, and `sums` the sum of each 32. Halves are rounded to even. A row
    /// below 1e-35 becomes zeros, one that is not finite has a scale that is not.
    pub quantise: fn(x: &[f32], q: &mut [i8], sums: &mut [i32]) -> f32,
    /// `c[m][n] = correction[m] + sum_k a_mk b_kn`, 32 columns a row, exact.
    pub int8: fn(tile: WordTile<'_>, c: &mut [i32]),
    /// `c[m][n] = sum_g s_gn (correction[g][m] + sum_{k in g} a_mk b_kn)`.
    pub int4: fn(tile: WordTile<'_>, c: &mut [f32]),
    /// `y = scale columns sums + bias`, or that added to `y` where `keep` says so: a row of 32 sums,
    /// the columns' scales as bits of f32; `bias` and `y` equally long, up to 32.
    pub finish: FinishInt8,
    /// A panel `[K][32]` of floats to an int8 panel.
    pub encode_int8: fn(rows: &[f32], words: &mut [u32]),
    /// A panel `[K][32]` of floats to an int4 panel.
    pub encode_int4: fn(rows: &[f32], words: &mut [u32]),
}

impl Integers {
    /// The integer kernels this machine runs, slowest first.
    pub fn available() -> impl Iterator<Item = &'static Integers> {
        let portable = Some(&portable::INTEGERS);
        #[cfg(target_arch = "x86_64")]
        let vector = [with_avx2(), with_avx_vnni(), with_avx512_vnni()];
        #[cfg(target_arch = "aarch64")]
        let vector = [with_neon(), with_neon_dotprod(), with_neon_i8mm()];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let vector: [Option<&'static Integers>; 0] = [];
        std::iter::once(portable).chain(vector).flatten()
    }

    /// The fastest of those that an instruction set brings along: what a CPU offers for whole
    /// numbers depends on more than its registers' width.
    pub(crate) fn of(isa: Isa) -> &'static Integers {
        let best = match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => with_avx_vnni().or_else(with_avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => with_avx512_vnni().or_else(with_avx_vnni).or_else(with_avx2),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => with_neon_i8mm().or_else(with_neon_dotprod).or_else(with_neon),
            // The specification, and what this architecture has not.
            _ => None,
        };
        best.unwrap_or(&portable::INTEGERS)
    }
}

#[cfg(target_arch = "x86_64")]
fn with_avx2() -> Option<&'static Integers> {
    super::avx2::Avx2::detect().map(super::avx2::Avx2::integers)
}

#[cfg(target_arch = "x86_64")]
fn with_avx_vnni() -> Option<&'static Integers> {
    avx2::vnni::AvxVnni::detect().map(avx2::vnni::AvxVnni::integers)
}

#[cfg(target_arch = "x86_64")]
fn with_avx512_vnni() -> Option<&'static Integers> {
    avx512::Avx512Vnni::detect().map(avx512::Avx512Vnni::integers)
}

#[cfg(target_arch = "aarch64")]
fn with_neon() -> Option<&'static Integers> {
    super::neon::Neon::detect().map(super::neon::Neon::integers)
}

#[cfg(target_arch = "aarch64")]
fn with_neon_dotprod() -> Option<&'static Integers> {
    neon::dotprod::NeonDotprod::detect().map(neon::dotprod::NeonDotprod::integers)
}

#[cfg(target_arch = "aarch64")]
fn with_neon_i8mm() -> Option<&'static Integers> {
    neon::i8mm::NeonI8mm::detect().map(neon::i8mm::NeonI8mm::integers)
}
