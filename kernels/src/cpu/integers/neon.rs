//! NEON, with the best multiply-add of bytes that the CPU has: `usdot` (FEAT_I8MM), `sdot`
//! (FEAT_DotProd), or 16-bit products.
//!
//! `usdot` is what the layout asks for. The other two know signed bytes by signed ones only: they
//! turn a weight of int8 back to signed, which takes 128 off, and [`left_out`] gives a row's sum
//! what that takes from it. One pass over a row's activations for 16 columns costs a sixteenth of the
//! multiply-adds. A weight of int4 is below 16 and signed as it stands.
//!
//! int4 meets four columns at a time: whatever their number, each needs every word of A anew, so it
//! is rows that share what it takes to unpack nibbles. A panel's few KiB stay in the first-level cache
//! while its eight parts pass; one row, which waits for memory, takes it in one pass.
//!
//! The intrinsics of both extensions are not stable in Rust 1.95; each is one instruction here.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::super::lanes::recompiled;
use super::super::neon::{F32x4, Neon};
use super::vector::{self, Words, integers};
use super::{Integers, SCALE_WORDS, WordTile, ZERO_INT8, encode, portable};

/// Products of 16 bits.
const PLAIN: u8 = 0;
/// `sdot`.
const SDOT: u8 = 1;
/// `usdot`.
const USDOT: u8 = 2;

/// Four words, multiplied by `DOT`.
#[derive(Clone, Copy)]
struct W4<const DOT: u8>(int32x4_t);

// Each body is one instruction (or its obvious sequence); each is sound on a CPU with NEON and what
// `DOT` needs.
impl<const DOT: u8> Words for W4<DOT> {
    type Floats = F32x4;
    const N: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const u32) -> Self {
        // SAFETY: 4 valid words and the CPU are the caller's promises.
        W4(unsafe { vld1q_s32(at.cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut i32) {
        // SAFETY: as for `load`.
        unsafe { vst1q_s32(at, self.0) }
    }
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        // SAFETY: the CPU is the caller's promise; so below.
        W4(unsafe { vdupq_n_s32(x) })
    }
    #[inline(always)]
    unsafe fn left(at: *const i32) -> Self {
        // SAFETY: one valid word and the CPU are the caller's promises. The dot products take the
        // first lane for all four, and a load that leaves it at that is the cheaper one.
        unsafe {
            match DOT {
                PLAIN => Self::splat(*at),
                _ => W4(vsetq_lane_s32::<0>(*at, vdupq_n_s32(0))),
            }
        }
    }
    #[inline(always)]
    unsafe fn left_out<const M: usize>(t: &WordTile<'_>) -> [i32; M] {
        match DOT {
            USDOT => [0; M],
            // SAFETY: the caller's promise, word for word.
            _ => unsafe { left_out::<DOT, M>(t) },
        }
    }
    #[inline(always)]
    unsafe fn scales(group: *const u32, column: usize) -> F32x4 {
        // Parts are a loop here, and a shift by 16 or by nothing is no branch in it.
        let shift = if column < SCALE_WORDS { 16 } else { 0 };
        // SAFETY: 4 of the group's scales, by the caller's promise; the CPU as well.
        unsafe {
            let words = vld1q_u32(group.add(column % SCALE_WORDS));
            let shifted = vshlq_u32(words, vdupq_n_s32(shift));
            F32x4(vreinterpretq_f32_u32(vandq_u32(shifted, vdupq_n_u32(0xFFFF_0000))))
        }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: see splat.
        W4(unsafe { vaddq_s32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn dot(self, b: Self, a: Self) -> Self {
        // SAFETY: see splat; the dot products where the type says that the CPU has them.
        unsafe {
            if DOT == USDOT {
                return W4(usdot(self.0, b.0, a.0));
            }
            self.signed(W4(veorq_s32(b.0, vreinterpretq_s32_u8(vdupq_n_u8(0x80)))), a)
        }
    }
    #[inline(always)]
    unsafe fn dot_nibbles(self, b: Self, a: Self) -> Self {
        // SAFETY: see `dot`.
        unsafe {
            match DOT {
                USDOT => W4(usdot(self.0, b.0, a.0)),
                SDOT => W4(sdot(self.0, b.0, a.0)),
                _ => {
                    // Two products of a nibble and a byte fit 16 bits.
                    let [low, high] = products(b.0, a.0);
                    W4(vpadalq_s16(self.0, vpaddq_s16(low, high)))
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn low(self) -> Self {
        // SAFETY: see splat.
        W4(unsafe { vandq_s32(self.0, vreinterpretq_s32_u8(vdupq_n_u8(15))) })
    }
    #[inline(always)]
    unsafe fn high(self) -> Self {
        // SAFETY: see splat.
        W4(unsafe { vreinterpretq_s32_u8(vshrq_n_u8::<4>(vreinterpretq_u8_s32(self.0))) })
    }
    #[inline(always)]
    unsafe fn to_floats(self) -> F32x4 {
        // SAFETY: see splat.
        F32x4(unsafe { vcvtq_f32_s32(self.0) })
    }
}

impl<const DOT: u8> W4<DOT> {
    /// `self + sum of 4 products` in each lane, of signed bytes.
    ///
    /// # Safety
    /// A CPU with NEON and `sdot`, or with NEON alone where `DOT` is `PLAIN`.
    #[inline(always)]
    unsafe fn signed(self, b: Self, a: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            if DOT != PLAIN {
                return W4(sdot(self.0, b.0, a.0));
            }
            let [low, high] = products(b.0, a.0);
            W4(vaddq_s32(self.0, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))))
        }
    }
}

/// The products of 16 signed bytes by as many.
#[target_feature(enable = "neon")]
#[inline]
fn products(b: int32x4_t, a: int32x4_t) -> [int16x8_t; 2] {
    let (b, a) = (vreinterpretq_s8_s32(b), vreinterpretq_s8_s32(a));
    [vmull_s8(vget_low_s8(b), vget_low_s8(a)), vmull_high_s8(b, a)]
}

/// `sums + sum of 4 products` in each lane, signed bytes of `b` by those of the first lane of `a`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn sdot(mut sums: int32x4_t, b: int32x4_t, a: int32x4_t) -> int32x4_t {
    // SAFETY: changes `sums` alone, on a CPU that this function's features say has it.
    unsafe {
        asm!("sdot {c:v}.4s, {b:v}.16b, {a:v}.4b[0]", c = inout(vreg) sums, b = in(vreg) b, a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags));
    }
    sums
}

/// The same for unsigned bytes of `b`.
#[target_feature(enable = "neon,i8mm")]
#[inline]
fn usdot(mut sums: int32x4_t, b: int32x4_t, a: int32x4_t) -> int32x4_t {
    // SAFETY: as for `sdot`.
    unsafe {
        asm!("usdot {c:v}.4s, {b:v}.16b, {a:v}.4b[0]", c = inout(vreg) sums, b = in(vreg) b, a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags));
    }
    sums
}

/// What a `dot` that counts weights as signed leaves out: [`ZERO_INT8`] times the sum of a row's
/// activations.
///
/// # Safety
/// W4's instruction set, and a tile of `M` rows that passed `WordTile::check_int8`.
#[inline(always)]
unsafe fn left_out<const DOT: u8, const M: usize>(t: &WordTile<'_>) -> [i32; M] {
    let (mut left_out, mut sums) = ([0i32; M], [[0; 4]; M]);
    let blocks = t.a[M..(1 + t.steps) * M].chunks_exact(4 * M);
    let rest = blocks.remainder();
    // SAFETY: a block has M registers of words; the CPU is the caller's promise.
    unsafe {
        let ones = vreinterpretq_s32_u8(vdupq_n_u8(1));
        let mut totals = [W4::<DOT>::splat(0); M];
        for block in blocks {
            for (i, total) in totals.iter_mut().enumerate() {
                // Every byte of the left operand is a one: any lane of it is as good.
                *total = total.signed(W4(vld1q_s32(block.as_ptr().add(4 * i))), W4(ones));
            }
        }
        for (sums, total) in sums.iter_mut().zip(totals) {
            total.store(sums.as_mut_ptr());
        }
    }
    // Word i of a block belongs to row i mod M.
    for (i, &sum) in sums.as_flattened().iter().enumerate() {
        left_out[i % M] = left_out[i % M].wrapping_add(ZERO_INT8.wrapping_mul(sum));
    }
    for (i, word) in rest.iter().enumerate() {
        let sum: i32 = word.to_le_bytes().iter().map(|&byte| i32::from(byte.cast_signed())).sum();
        left_out[i % M] = left_out[i % M].wrapping_add(ZERO_INT8.wrapping_mul(sum));
    }
    left_out
}

/// # Safety
/// W4's instruction set, and a tile that passed `WordTile::check_int8`.
#[inline(always)]
unsafe fn int8<const DOT: u8>(t: &WordTile<'_>, c: &mut [i32]) {
    macro_rules! halves {
        ($($m:literal x $u:literal),*) => {
            // SAFETY: exactly the caller's promises; both parts lie within the 32 columns.
            unsafe {
                match t.rows {
                    1 => vector::int8::<W4<DOT>, 1, 8, 2>(t, 0, c),
                    2 => vector::int8::<W4<DOT>, 2, 8, 1>(t, 0, c),
                    $($m => for part in [0, 1] {
                        vector::int8::<W4<DOT>, $m, 4, $u>(t, part, c);
                    },)*
                    rows => unreachable!("a checked tile of {rows} rows"),
                }
            }
        };
    }
    halves!(3 x 1, 4 x 1, 5 x 1, 6 x 1);
}

/// # Safety
/// W4's instruction set, and a tile that passed `WordTile::check_int4`.
#[inline(always)]
unsafe fn int4<const DOT: u8>(t: &WordTile<'_>, c: &mut [f32]) {
    macro_rules! eighths {
        ($($m:literal),*) => {
            // SAFETY: exactly the caller's promises; all parts lie within the 32 columns.
            unsafe {
                match t.rows {
                    1 => vector::int4::<W4<DOT>, 1, 8>(t, 0, c),
                    $($m => for part in 0..8 {
                        vector::int4::<W4<DOT>, $m, 1>(t, part, c);
                    },)*
                    rows => unreachable!("a checked tile of {rows} rows"),
                }
            }
        };
    }
    eighths!(2, 3, 4, 5, 6, 7, 8);
}

/// NEON's own instructions.
pub(super) mod plain {
    use super::*;

    integers!(Neon, "neon", "neon", 6 int8::<PLAIN>, 8 int4::<PLAIN>);
}

/// With signed dot products.
pub(super) mod dotprod {
    use super::*;

    /// Proof that this CPU runs NEON and `sdot`; made only by [`NeonDotprod::detect`].
    #[derive(Clone, Copy)]
    pub(crate) struct NeonDotprod(());

    impl NeonDotprod {
        pub(crate) fn detect() -> Option<NeonDotprod> {
            let all = Neon::detect().is_some() && is_aarch64_feature_detected!("dotprod");
            all.then_some(NeonDotprod(()))
        }
    }

    integers!(NeonDotprod, "neon-dotprod", "neon,dotprod", 6 int8::<SDOT>, 8 int4::<SDOT>);
}

/// With dot products of unsigned by signed bytes.
pub(super) mod i8mm {
    use super::*;

    /// Proof that this CPU runs NEON and `usdot`; made only by [`NeonI8mm::detect`].
    #[derive(Clone, Copy)]
    pub(crate) struct NeonI8mm(());

    impl NeonI8mm {
        pub(crate) fn detect() -> Option<NeonI8mm> {
            let all = Neon::detect().is_some() && is_aarch64_feature_detected!("i8mm");
            all.then_some(NeonI8mm(()))
        }
    }

    integers!(NeonI8mm, "neon-i8mm", "neon,i8mm", 6 int8::<USDOT>, 8 int4::<USDOT>);
}
