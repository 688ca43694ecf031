//! AVX-512F: tiles of up to 14 rows by two 512-bit registers.
//!
//! 14 x 2 sums, two registers of B and one broadcast fill 31 of the 32 registers. Fewer rows keep
//! several sums per element, see [`tiles::tile`].

use std::arch::x86_64::*;

use super::lanes::{self, Lanes, entry, recompiled, table, tile_entry};
use super::portable;
use super::table::{Columns, Table, Tile};
use super::tiles::{self, Right};

/// Proof that this CPU runs AVX-512F; made only by [`Avx512::detect`].
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Avx512> {
        is_x86_feature_detected!("avx512f").then_some(Avx512(()))
    }
}

#[derive(Clone, Copy)]
pub(super) struct F32x16(pub(super) __m512);

// Each body is one intrinsic (or its obvious sequence); each is sound on a CPU with AVX-512F.
impl Lanes for F32x16 {
    const N: usize = 16;

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: 16 valid floats and the CPU are the caller's promises.
        F32x16(unsafe { _mm512_loadu_ps(at) })
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { _mm512_storeu_ps(at, self.0) }
    }
    #[inline(always)]
    unsafe fn widen(at: *const u32) -> [Self; 2] {
        // SAFETY: 16 valid words and the CPU are the caller's promises.
        unsafe {
            let words = _mm512_loadu_si512(at.cast());
            let high = _mm512_and_si512(words, _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed()));
            let low = _mm512_slli_epi32::<16>(words);
            [F32x16(_mm512_castsi512_ps(low)), F32x16(_mm512_castsi512_ps(high))]
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the CPU is the caller's promise; so below.
        F32x16(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x16(unsafe { _mm512_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x16(unsafe { _mm512_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x16(unsafe { _mm512_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x16(unsafe { _mm512_div_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x16(unsafe { _mm512_max_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x16(unsafe { _mm512_min_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: see splat.
        F32x16(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: see splat.
        F32x16(unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(self.0) })
    }
    #[inline(always)]
    unsafe fn times_pow2(self, n: Self) -> Self {
        // SAFETY: see splat.
        F32x16(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: see splat.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: see splat.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
}

/// # Safety
/// AVX-512F, and a tile that passed `Tile::check`.
#[inline(always)]
unsafe fn tile<W: Right<F32x16>, const ADD: bool>(t: &Tile<'_, W>, c: &mut [f32], ldc: usize) {
    macro_rules! rows {
        ($($m:literal x $u:literal),*) => {
            // SAFETY: exactly the caller's promises.
            unsafe {
                match t.rows {
                    $($m => tiles::tile::<F32x16, W, ADD, $m, 2, $u>(t, 0, c, ldc),)*
                    rows => unreachable!("a checked tile of {rows} rows"),
                }
            }
        };
    }
    rows!(1 x 4, 2 x 4, 3 x 2, 4 x 2, 5 x 1, 6 x 1, 7 x 1, 8 x 1, 9 x 1, 10 x 1, 11 x 1, 12 x 1, 13 x 1, 14 x 1);
}

table!(Avx512, F32x16, "avx512f", 14, tile);
