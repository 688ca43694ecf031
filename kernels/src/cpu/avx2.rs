//! AVX2 with FMA: tiles of up to 6 rows by 16 columns, twice per panel.
//!
//! 6 x 2 sums, two registers of B and one broadcast fill 15 of the 16 registers.

use std::arch::x86_64::*;

use super::lanes::{self, Lanes, entry, recompiled, table, tile_entry};
use super::portable;
use super::table::{Columns, Table, Tile};
use super::tiles::{self, Right};

/// Proof that this CPU runs AVX2 and FMA; made only by [`Avx2::detect`].
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Avx2> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2(()))
    }
}

#[derive(Clone, Copy)]
pub(super) struct F32x8(pub(super) __m256);

// Each body is one intrinsic (or its obvious sequence); each is sound on a CPU with AVX2 and FMA.
impl Lanes for F32x8 {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: 8 valid floats and the CPU are the caller's promises.
        F32x8(unsafe { _mm256_loadu_ps(at) })
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { _mm256_storeu_ps(at, self.0) }
    }
    #[inline(always)]
    unsafe fn widen(at: *const u32) -> [Self; 2] {
        // SAFETY: 8 valid words and the CPU are the caller's promises.
        unsafe {
            let words = _mm256_loadu_si256(at.cast());
            let high = _mm256_and_si256(words, _mm256_set1_epi32(0xFFFF_0000_u32.cast_signed()));
            let low = _mm256_slli_epi32::<16>(words);
            [F32x8(_mm256_castsi256_ps(low)), F32x8(_mm256_castsi256_ps(high))]
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the CPU is the caller's promise; so below.
        F32x8(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x8(unsafe { _mm256_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x8(unsafe { _mm256_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x8(unsafe { _mm256_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x8(unsafe { _mm256_div_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x8(unsafe { _mm256_max_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x8(unsafe { _mm256_min_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: see splat.
        F32x8(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: see splat.
        F32x8(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    unsafe fn times_pow2(self, n: Self) -> Self {
        // SAFETY: see splat. A power of two is added to the exponent field.
        F32x8(unsafe {
            let power = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n.0));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self.0), power))
        })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: see splat.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: see splat.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

/// # Safety
/// AVX2, FMA, and a tile that passed `Tile::check`.
#[inline(always)]
unsafe fn tile<W: Right<F32x8>, const ADD: bool>(t: &Tile<'_, W>, c: &mut [f32], ldc: usize) {
    macro_rules! halves {
        ($($m:literal),*) => {
            // SAFETY: exactly the caller's promises; both parts lie within the 32 columns.
            unsafe {
                match t.rows {
                    1 => tiles::tile::<F32x8, W, ADD, 1, 4, 2>(t, 0, c, ldc),
                    2 => tiles::tile::<F32x8, W, ADD, 2, 4, 1>(t, 0, c, ldc),
                    $($m => for part in [0, 1] {
                        tiles::tile::<F32x8, W, ADD, $m, 2, 1>(t, part, c, ldc);
                    },)*
                    rows => unreachable!("a checked tile of {rows} rows"),
                }
            }
        };
    }
    halves!(3, 4, 5, 6);
}

table!(Avx2, F32x8, "avx2,fma", 6, tile);
