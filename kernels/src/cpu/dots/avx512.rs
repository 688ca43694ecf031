//! AVX-512 with BF16: tiles of up to 14 rows by two registers.
//!
//! `vdpbf16ps` adds two products of neighbouring inputs to each of 16 sums. A panel holds one input
//! a row of words, so two rows are interleaved in registers, four cheap operations for up to 28
//! products of pairs: the layout stays the one that a single row widens fastest.

use std::arch::x86_64::*;

use super::super::lanes::recompiled;
use super::super::table::{PANEL, Word};
use super::super::tiles::AHEAD;
use super::{DotTile, Dots, portable};
use crate::prefetch::prefetch;

/// Proof that this CPU runs AVX-512 F, BW and BF16; made only by [`Avx512Bf16::detect`].
#[derive(Clone, Copy)]
pub(super) struct Avx512Bf16(());

impl Avx512Bf16 {
    pub(super) fn detect() -> Option<Avx512Bf16> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16");
        all.then_some(Avx512Bf16(()))
    }

    /// The kernels this token vouches for.
    pub(super) fn dots(self) -> &'static Dots {
        &DOTS
    }
}

/// The twelve letters in which a CPU says who made it.
pub(super) fn vendor() -> [u8; 12] {
    let leaf = __cpuid(0);
    let mut name = [0; 12];
    for (letters, word) in name.chunks_exact_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
        letters.copy_from_slice(&word.to_le_bytes());
    }
    name
}

/// Five rows wait for the weights and gain next to nothing; eight would gain a quarter, from twelve
/// on it is nearly half. The limit leaves a decode step of eight texts, and one of one text with
/// eight guessed tokens behind it, in f32: what is guessed is then verified as it would be computed.
/// Tiles of 6, 7, 8 or 12 rows at most were never faster.
static DOTS: Dots = Dots {
    name: "avx512-bf16",
    least: 10,
    rows: 14,
    narrow: recompiled!("avx512f,avx512bw,avx512bf16", portable::narrow, (row: &[f32], pairs: &mut [u32])),
    tile: |t: DotTile<'_>, c: &mut [f32]| {
        t.check(DOTS.rows, c);
        // SAFETY: DOTS leaves this file only through a token, made only by `detect`; the lengths
        // were just checked.
        unsafe { tile(&t, c) }
    },
};

/// # Safety
/// A tile that passed `DotTile::check`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn tile(t: &DotTile<'_>, c: &mut [f32]) {
    macro_rules! rows {
        ($($m:literal)*) => {
            // SAFETY: exactly the caller's promise.
            unsafe {
                match t.rows {
                    $($m => rows::<$m>(t, c),)*
                    rows => unreachable!("a checked tile of {rows} rows"),
                }
            }
        };
    }
    rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// # Safety
/// A tile of `M` rows that passed `DotTile::check`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn rows<const M: usize>(t: &DotTile<'_>, c: &mut [f32]) {
    // SAFETY: `check` proved ceil(k/2) M words of A, k rows of 16 words of B and M rows of 32
    // floats of C. A prefetch may name any address.
    unsafe {
        let (mut a, mut b) = (t.a.as_ptr(), t.b.as_ptr());
        let mut sums = [[_mm512_setzero_ps(); 2]; M];
        for _ in 0..t.k / 2 {
            let ahead = b.wrapping_byte_add(AHEAD);
            prefetch(ahead);
            prefetch(ahead.wrapping_byte_add(64));
            let first = _mm512_loadu_si512(b.cast());
            step(a, first, _mm512_loadu_si512(b.add(u32::WORDS).cast()), &mut sums);
            a = a.add(M);
            b = b.add(2 * u32::WORDS);
        }
        if t.k % 2 == 1 {
            step(a, _mm512_loadu_si512(b.cast()), _mm512_setzero_si512(), &mut sums);
        }
        for (m, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                _mm512_storeu_ps(c.as_mut_ptr().add(m * PANEL + j * u32::WORDS), sum);
            }
        }
    }
}

/// Adds two inputs to the sums, whose weights are the halves of `first` and `second`.
///
/// # Safety
/// `M` words at `a`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn step<const M: usize>(a: *const u32, first: __m512i, second: __m512i, sums: &mut [[__m512; 2]; M]) {
    const HIGH: __mmask32 = 0xAAAA_AAAA;
    let low = _mm512_mask_blend_epi16(HIGH, first, _mm512_slli_epi32::<16>(second));
    let high = _mm512_mask_blend_epi16(HIGH, _mm512_srli_epi32::<16>(first), second);
    for (m, [left, right]) in sums.iter_mut().enumerate() {
        // SAFETY: m < M.
        let pair = pairs(_mm512_set1_epi32(unsafe { *a.add(m) }.cast_signed()));
        *left = _mm512_dpbf16_ps(*left, pairs(low), pair);
        *right = _mm512_dpbf16_ps(*right, pairs(high), pair);
    }
}

/// The same bits as pairs of bf16.
#[inline]
#[target_feature(enable = "avx512f")]
fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of any value.
    unsafe { std::mem::transmute(words) }
}
