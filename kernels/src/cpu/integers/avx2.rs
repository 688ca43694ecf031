//! 256-bit registers, with AVX-VNNI's multiply-add of bytes or, lacking it, AVX2's of 16 bits.
//!
//! AVX2's own multiply-add of bytes (`vpmaddubsw`) adds two products in 16 bits and saturates:
//! 2 * 255 * 127 does not fit. So bytes are split into even and odd ones, widened, and multiplied
//! as 16 bits, which is exact; nibbles do fit and take it. The split of the weights is shared by
//! a tile's rows, that of the activations by its columns.

use std::arch::x86_64::*;

use super::super::avx2::F32x8;
use super::vector::{self, Words};
use super::{Integers, WordTile, encode, portable};

#[derive(Clone, Copy)]
struct W8<const VNNI: bool>(__m256i);

// Each body is one intrinsic (or its obvious sequence); each is sound on a CPU with AVX2 and, where
// VNNI is true, AVX-VNNI.
impl<const VNNI: bool> Words for W8<VNNI> {
    type Floats = F32x8;
    const N: usize = 8;

    #[inline(always)]
    unsafe fn load(at: *const u32) -> Self {
        // SAFETY: 8 valid words and the CPU are the caller's promises.
        W8(unsafe { _mm256_loadu_si256(at.cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut i32) {
        // SAFETY: as for `load`.
        unsafe { _mm256_storeu_si256(at.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        // SAFETY: the CPU is the caller's promise; so below.
        W8(unsafe { _mm256_set1_epi32(x) })
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: see splat.
        W8(unsafe { _mm256_add_epi32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn dot(self, b: Self, a: Self) -> Self {
        // SAFETY: see splat; dpbusd where the type says that the CPU has it.
        unsafe {
            if VNNI {
                return W8(_mm256_dpbusd_avx_epi32(self.0, b.0, a.0));
            }
            let even = _mm256_madd_epi16(
                _mm256_and_si256(b.0, _mm256_set1_epi16(255)),
                _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(a.0)),
            );
            let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(b.0), _mm256_srai_epi16::<8>(a.0));
            W8(_mm256_add_epi32(self.0, _mm256_add_epi32(even, odd)))
        }
    }
    #[inline(always)]
    unsafe fn dot_nibbles(self, b: Self, a: Self) -> Self {
        // SAFETY: see `dot`.
        unsafe {
            if VNNI {
                return self.dot(b, a);
            }
            let pairs = _mm256_maddubs_epi16(b.0, a.0);
            W8(_mm256_add_epi32(self.0, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))))
        }
    }
    #[inline(always)]
    unsafe fn low(self) -> Self {
        // SAFETY: see splat.
        W8(unsafe { _mm256_and_si256(self.0, _mm256_set1_epi8(15)) })
    }
    #[inline(always)]
    unsafe fn high(self) -> Self {
        // SAFETY: see splat. What crosses from the next byte is masked away.
        unsafe { W8::<VNNI>(_mm256_srli_epi32::<4>(self.0)).low() }
    }
    #[inline(always)]
    unsafe fn to_floats(self) -> F32x8 {
        // SAFETY: see splat.
        F32x8(unsafe { _mm256_cvtepi32_ps(self.0) })
    }
}

/// # Safety
/// W8's instruction set, and a tile that passed `WordTile::check_int8`.
#[inline(always)]
unsafe fn int8<const VNNI: bool>(t: &WordTile<'_>, c: &mut [i32]) {
    macro_rules! halves {
        ($($m:literal),*) => {
            // SAFETY: exactly the caller's promises; both parts lie within the 32 columns.
            unsafe {
                match t.rows {
                    1 if VNNI => vector::int8::<W8<VNNI>, 1, 4, 2>(t, 0, c),
                    1 => vector::int8::<W8<VNNI>, 1, 4, 1>(t, 0, c),
                    2 if VNNI => vector::int8::<W8<VNNI>, 2, 4, 1>(t, 0, c),
                    $($m => for part in [0, 1] {
                        vector::int8::<W8<VNNI>, $m, 2, 1>(t, part, c);
                    },)*
                    rows => unreachable!("a checked tile of {rows} rows"),
                }
            }
        };
    }
    halves!(2, 3, 4, 5, 6);
}

/// # Safety
/// W8's instruction set, and a tile that passed `WordTile::check_int4`.
#[inline(always)]
unsafe fn int4<const VNNI: bool>(t: &WordTile<'_>, c: &mut [f32]) {
    macro_rules! halves {
        ($($m:literal),*) => {
            // SAFETY: exactly the caller's promises; both parts lie within the 32 columns.
            unsafe {
                match t.rows {
                    1 => vector::int4::<W8<VNNI>, 1, 4>(t, 0, c),
                    2 => vector::int4::<W8<VNNI>, 2, 4>(t, 0, c),
                    $($m => for part in [0, 1] {
                        vector::int4::<W8<VNNI>, $m, 2>(t, part, c);
                    },)*
                    rows => unreachable!("a checked tile of {rows} rows"),
                }
            }
        };
    }
    halves!(3, 4);
}

/// AVX2's own instructions.
pub(super) mod plain {
    use super::super::super::avx2::Avx2;
    use super::super::super::lanes::recompiled;
    use super::super::vector::integers;
    use super::*;

    integers!(Avx2, "avx2", "avx2,fma", 4 int8::<false>, 4 int4::<false>);
}

/// With AVX-VNNI.
pub(super) mod vnni {
    use super::super::super::lanes::recompiled;
    use super::super::vector::integers;
    use super::*;

    /// Proof that this CPU runs AVX2, FMA and AVX-VNNI; made only by [`AvxVnni::detect`].
    #[derive(Clone, Copy)]
    pub(crate) struct AvxVnni(());

    impl AvxVnni {
        pub(crate) fn detect() -> Option<AvxVnni> {
            let all = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("avxvnni");
            all.then_some(AvxVnni(()))
        }
    }

    integers!(AvxVnni, "avx-vnni", "avx2,fma,avxvnni", 6 int8::<true>, 4 int4::<true>);
}
