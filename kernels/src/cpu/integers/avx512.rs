//! AVX-512 with VNNI: int8 tiles of up to 14 rows by two registers, int4 of up to 12.
//!
//! int4 keeps a float for every element besides the group's whole sums: up to 9 rows, 2 x 9 floats,
//! 9 sums, the weights' two registers and their mask leave room; 12 rows take half a panel at a
//! time. A row's four bytes are broadcast from memory by the multiplying instruction itself.

use std::arch::x86_64::*;

use super::super::avx512::F32x16;
use super::super::lanes::recompiled;
use super::vector::{self, Words, integers};
use super::{Integers, WordTile, encode, portable};

/// Proof that this CPU runs AVX-512F and VNNI; made only by [`Avx512Vnni::detect`].
#[derive(Clone, Copy)]
pub(crate) struct Avx512Vnni(());

impl Avx512Vnni {
    pub(crate) fn detect() -> Option<Avx512Vnni> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni"))
            .then_some(Avx512Vnni(()))
    }
}

#[derive(Clone, Copy)]
struct W16(__m512i);

// Each body is one intrinsic (or its obvious sequence); each is sound on a CPU with AVX-512 VNNI.
impl Words for W16 {
    type Floats = F32x16;
    const N: usize = 16;

    #[inline(always)]
    unsafe fn load(at: *const u32) -> Self {
        // SAFETY: 16 valid words and the CPU are the caller's promises.
        W16(unsafe { _mm512_loadu_si512(at.cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut i32) {
        // SAFETY: as for `load`.
        unsafe { _mm512_storeu_si512(at.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        // SAFETY: the CPU is the caller's promise; so below.
        W16(unsafe { _mm512_set1_epi32(x) })
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: see splat.
        W16(unsafe { _mm512_add_epi32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn dot(self, b: Self, a: Self) -> Self {
        // SAFETY: see splat.
        W16(unsafe { _mm512_dpbusd_epi32(self.0, b.0, a.0) })
    }
    #[inline(always)]
    unsafe fn dot_nibbles(self, b: Self, a: Self) -> Self {
        // SAFETY: see splat.
        unsafe { self.dot(b, a) }
    }
    #[inline(always)]
    unsafe fn low(self) -> Self {
        // SAFETY: see splat.
        W16(unsafe { _mm512_and_si512(self.0, _mm512_set1_epi8(15)) })
    }
    #[inline(always)]
    unsafe fn high(self) -> Self {
        // SAFETY: see splat. What crosses from the next byte is masked away.
        unsafe { W16(_mm512_srli_epi32::<4>(self.0)).low() }
    }
    #[inline(always)]
    unsafe fn to_floats(self) -> F32x16 {
        // SAFETY: see splat.
        F32x16(unsafe { _mm512_cvtepi32_ps(self.0) })
    }
}

/// # Safety
/// AVX-512 VNNI, and a tile that passed `WordTile::check_int8`.
#[inline(always)]
unsafe fn int8(t: &WordTile<'_>, c: &mut [i32]) {
    macro_rules! rows {
        ($($m:literal x $u:literal),*) => {
            // SAFETY: exactly the caller's promises.
            unsafe {
                match t.rows {
                    $($m => vector::int8::<W16, $m, 2, $u>(t, 0, c),)*
                    rows => unreachable!("a checked tile of {rows} rows"),
                }
            }
        };
    }
    rows!(1 x 4, 2 x 4, 3 x 2, 4 x 2, 5 x 1, 6 x 1, 7 x 1, 8 x 1, 9 x 1, 10 x 1, 11 x 1, 12 x 1, 13 x 1, 14 x 1);
}

/// # Safety
/// AVX-512 VNNI, and a tile that passed `WordTile::check_int4`.
#[inline(always)]
unsafe fn int4(t: &WordTile<'_>, c: &mut [f32]) {
    macro_rules! rows {
        ($($whole:literal),*; $($halves:literal),*) => {
            // SAFETY: exactly the caller's promises; both parts lie within the 32 columns.
            unsafe {
                match t.rows {
                    $($whole => vector::int4::<W16, $whole, 2>(t, 0, c),)*
                    $($halves => for part in [0, 1] {
                        vector::int4::<W16, $halves, 1>(t, part, c);
                    },)*
                    rows => unreachable!("a checked tile of {rows} rows"),
                }
            }
        };
    }
    rows!(1, 2, 3, 4, 5, 6, 7, 8, 9; 10, 11, 12);
}

integers!(Avx512Vnni, "avx512-vnni", "avx512f,avx512vnni", 14 int8, 12 int4);
