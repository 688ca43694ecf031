//! NEON: tiles of up to 6 rows by 16 columns, twice per panel.
//!
//! 6 x 4 sums, four registers of B and a broadcast fill 29 of the 32 registers; bf16's mask makes it
//! 30. The other shapes that fit load more for a multiply-add, or share a panel out in parts that are
//! less than a cache line: 12 rows by two registers, 8 by two. Three registers do not divide a panel.

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use super::lanes::{self, Lanes, entry, recompiled, table, tile_entry};
use super::portable;
use super::table::{Columns, Table, Tile};
use super::tiles::{self, Right};

/// Proof that this CPU runs NEON, its bytes in the order that packed weights assume; made only by
/// [`Neon::detect`].
#[derive(Clone, Copy)]
pub(super) struct Neon(());

impl Neon {
    pub(super) fn detect() -> Option<Neon> {
        (cfg!(target_endian = "little") && is_aarch64_feature_detected!("neon")).then_some(Neon(()))
    }
}

#[derive(Clone, Copy)]
pub(super) struct F32x4(pub(super) float32x4_t);

// Each body is one intrinsic (or its obvious sequence); each is sound on a CPU with NEON.
impl Lanes for F32x4 {
    const N: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: 4 valid floats and the CPU are the caller's promises.
        F32x4(unsafe { vld1q_f32(at) })
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { vst1q_f32(at, self.0) }
    }
    #[inline(always)]
    unsafe fn widen(at: *const u32) -> [Self; 2] {
        // SAFETY: 4 valid words and the CPU are the caller's promises.
        unsafe {
            let words = vld1q_u32(at);
            let high = vandq_u32(words, vdupq_n_u32(0xFFFF_0000));
            let low = vshlq_n_u32::<16>(words);
            [F32x4(vreinterpretq_f32_u32(low)), F32x4(vreinterpretq_f32_u32(high))]
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the CPU is the caller's promise; so below.
        F32x4(unsafe { vdupq_n_f32(x) })
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x4(unsafe { vaddq_f32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x4(unsafe { vsubq_f32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x4(unsafe { vmulq_f32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        // SAFETY: see splat.
        F32x4(unsafe { vdivq_f32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // SAFETY: see splat. Of a NaN and a number the number, as x86 does where `b` is one.
        F32x4(unsafe { vmaxnmq_f32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        // SAFETY: see splat. NaN as for `max`.
        F32x4(unsafe { vminnmq_f32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: see splat.
        F32x4(unsafe { vfmaq_f32(c.0, self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: see splat.
        F32x4(unsafe { vrndnq_f32(self.0) })
    }
    #[inline(always)]
    unsafe fn times_pow2(self, n: Self) -> Self {
        // SAFETY: see splat. A power of two is added to the exponent field.
        F32x4(unsafe {
            let power = vshlq_n_s32::<23>(vcvtq_s32_f32(n.0));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(self.0), power))
        })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: see splat.
        unsafe { vaddvq_f32(self.0) }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: see splat.
        unsafe { vmaxnmvq_f32(self.0) }
    }
}

/// # Safety
/// NEON, and a tile that passed `Tile::check`.
#[inline(always)]
unsafe fn tile<W: Right<F32x4>, const ADD: bool>(t: &Tile<'_, W>, c: &mut [f32], ldc: usize) {
    macro_rules! halves {
        ($($m:literal x $u:literal),*) => {
            // SAFETY: exactly the caller's promises; both parts lie within the 32 columns.
            unsafe {
                match t.rows {
                    1 => tiles::tile::<F32x4, W, ADD, 1, 8, 2>(t, 0, c, ldc),
                    2 => tiles::tile::<F32x4, W, ADD, 2, 8, 1>(t, 0, c, ldc),
                    $($m => for part in [0, 1] {
                        tiles::tile::<F32x4, W, ADD, $m, 4, $u>(t, part, c, ldc);
                    },)*
                    rows => unreachable!("a checked tile of {rows} rows"),
                }
            }
        };
    }
    halves!(3 x 2, 4 x 1, 5 x 1, 6 x 1);
}

table!(Neon, F32x4, "neon", 6, tile);
