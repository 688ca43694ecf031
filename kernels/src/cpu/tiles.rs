//! The vector tile product, written once over a register type and over what B is stored in.
//!
//! bf16 costs a shift and a mask per register of words, and nothing else differs from f32. All
//! `inline(always)`, as in `lanes`, and for the same reason.

use super::lanes::Lanes;
use super::table::{PANEL, Tile, Word};
use crate::prefetch::prefetch;

/// Bytes ahead that a streaming tile asks for.
pub(super) const AHEAD: usize = 8192;

/// How a row of the right operand comes into registers. Tiles of fewer than 32 columns are parts
/// of a panel: part p of registers `0..NV` covers the columns that `column` says.
///
/// # Safety
/// `load` needs the register type's instruction set, and a whole row of the panel at `row`.
pub(super) trait Right<V: Lanes>: Word {
    /// The first column of register `j` of `nv`.
    fn column(nv: usize, part: usize, j: usize) -> usize;
    unsafe fn load<const NV: usize>(row: *const Self, part: usize) -> [V; NV];
}

impl<V: Lanes> Right<V> for f32 {
    #[inline(always)]
    fn column(nv: usize, part: usize, j: usize) -> usize {
        (part * nv + j) * V::N
    }
    #[inline(always)]
    unsafe fn load<const NV: usize>(row: *const f32, part: usize) -> [V; NV] {
        // SAFETY: register j ends within the 32 floats of the row; zero needs no memory.
        unsafe {
            let mut out = [V::splat(0.0); NV];
            for (j, register) in out.iter_mut().enumerate() {
                *register = V::load(row.add(<f32 as Right<V>>::column(NV, part, j)));
            }
            out
        }
    }
}

/// Registers `0..nv/2` are the low halves of as many registers of words, the rest their high halves.
impl<V: Lanes> Right<V> for u32 {
    #[inline(always)]
    fn column(nv: usize, part: usize, j: usize) -> usize {
        let words = nv / 2;
        (part * words + j % words) * V::N + j / words * Self::WORDS
    }
    #[inline(always)]
    unsafe fn load<const NV: usize>(row: *const u32, part: usize) -> [V; NV] {
        // SAFETY: register j of words ends within the 16 words of the row; zero needs no memory.
        unsafe {
            let mut out = [V::splat(0.0); NV];
            for j in 0..NV / 2 {
                [out[j], out[NV / 2 + j]] = V::widen(row.add(<u32 as Right<V>>::column(NV, part, j)));
            }
            out
        }
    }
}

/// A tile of `M` rows by `NV` registers, `U` sums in flight per element.
///
/// A tile of few rows has too few independent sums to hide the latency of a multiply-add, so it
/// keeps `U` of them, for k = 0..U mod U, and it reads B faster than the prefetcher alone brings
/// it, so it asks ahead. With `ADD` the first sum of each element begins with what C holds.
///
/// # Safety
/// The CPU has V's instruction set; A, B and C are valid for the tile as `Tile::check` says.
#[inline(always)]
pub(super) unsafe fn tile<
    V: Lanes,
    W: Right<V>,
    const ADD: bool,
    const M: usize,
    const NV: usize,
    const U: usize,
>(
    t: &Tile<'_, W>,
    part: usize,
    c: &mut [f32],
    ldc: usize,
) {
    // SAFETY: `check` at the table's door proved (k-1)*lda + M <= a.len(),
    // (k-1)*ldb + WORDS <= b.len() and (M-1)*ldc + 32 <= c.len(); the parts' columns end within
    // 32. A prefetch may name any address. The CPU is the caller's promise.
    unsafe {
        let (mut a, mut b) = (t.a.as_ptr(), t.b.as_ptr());
        let mut sums = [[[V::splat(0.0); NV]; M]; U];
        if ADD {
            for (m, row) in sums[0].iter_mut().enumerate() {
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = V::load(c.as_ptr().add(m * ldc + W::column(NV, part, j)));
                }
            }
        }
        for _ in 0..t.k / U {
            for sums in &mut sums {
                if M <= 8 {
                    let next = b.wrapping_add(part * W::WORDS / 2).wrapping_byte_add(AHEAD);
                    prefetch(next);
                    if NV * V::N == PANEL && size_of::<W>() * W::WORDS > 64 {
                        prefetch(next.wrapping_byte_add(64));
                    }
                }
                step::<V, W, M, NV>(a, b, part, sums);
                a = a.wrapping_add(t.lda);
                b = b.wrapping_add(t.ldb);
            }
        }
        for _ in 0..t.k % U {
            step::<V, W, M, NV>(a, b, part, &mut sums[0]);
            a = a.wrapping_add(t.lda);
            b = b.wrapping_add(t.ldb);
        }
        for m in 0..M {
            for j in 0..NV {
                let mut sum = sums[0][m][j];
                for other in &sums[1..] {
                    sum = sum.add(other[m][j]);
                }
                sum.store(c.as_mut_ptr().add(m * ldc + W::column(NV, part, j)));
            }
        }
    }
}

/// Adds one k to the sums.
///
/// # Safety
/// As [`tile`]: `M` floats at `a`, a row of the panel at `b`.
#[inline(always)]
unsafe fn step<V: Lanes, W: Right<V>, const M: usize, const NV: usize>(
    a: *const f32,
    b: *const W,
    part: usize,
    sums: &mut [[V; NV]; M],
) {
    // SAFETY: the caller's promise, word for word.
    unsafe {
        let right: [V; NV] = W::load(b, part);
        for (m, row) in sums.iter_mut().enumerate() {
            let left = V::splat(*a.add(m));
            for (sum, &r) in row.iter_mut().zip(&right) {
                *sum = left.fma(r, *sum);
            }
        }
    }
}
