//! AVX-512 with BF16: tiles of up to 14 rows by two registers.
//!
//! `vdpbf16ps` adds two products of neighbouring inputs to each of 16 sums. A panel holds one input
//! a row of words, so two rows are interleaved in registers, two cheap operations for up to 28
//! products of pairs: the layout stays the one that a single row widens fastest. They leave columns j
//! and j + 16 side by side, in each 128 bits two of them in one register and two in the other, which
//! is put right once for a tile. (Shifts and blends, which keep the order, take four; a panel that
//! lay in pairs would take none, and gain another 2 to 3 %.) A tile's rows lie
//! beside each other 16 pairs at a time, a register as it was rounded: nothing is transposed, and a
//! single pointer reaches all of them.

use std::arch::x86_64::*;

use super::super::table::{PANEL, Word};
use super::super::tiles::AHEAD;
use super::{DotTile, Dots};
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
    narrow: |row: &[f32], pairs: &mut [u32], apart: usize| {
        // SAFETY: DOTS leaves this file only through a token, made only by `detect`; so below.
        unsafe { narrow(row, pairs, apart) }
    },
    panel: |rows: &[f32], words: &mut [u32]| {
        // SAFETY: as for `narrow`.
        unsafe { panel(rows, words) }
    },
    tile: |t: DotTile<'_>, c: &mut [f32], ldc: usize| {
        t.check(DOTS.rows, c, ldc);
        // SAFETY: as for `narrow`; the lengths were just checked.
        unsafe { tile(&t, c, ldc) }
    },
};

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn narrow(row: &[f32], pairs: &mut [u32], apart: usize) {
    for (i, inputs) in row.chunks(PANEL).enumerate() {
        let words = &mut pairs[i * apart..][..u32::WORDS];
        // What the row lacks of 32 inputs is zero.
        let there = u32::MAX >> (PANEL - inputs.len());
        // SAFETY: the masks leave `inputs.len()` floats to load; 16 words to store are a slice.
        unsafe {
            let low = _mm512_maskz_loadu_ps(there as u16, inputs.as_ptr());
            let high = _mm512_maskz_loadu_ps((there >> 16) as u16, inputs.as_ptr().wrapping_add(PANEL / 2));
            _mm512_storeu_si512(words.as_mut_ptr().cast(), word(_mm512_cvtne2ps_pbh(high, low)));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn panel(rows: &[f32], words: &mut [u32]) {
    assert_eq!(words.len() * PANEL, rows.len() * u32::WORDS);
    for (row, words) in rows.chunks_exact(PANEL).zip(words.chunks_exact_mut(u32::WORDS)) {
        // SAFETY: 32 floats to load, 16 words to store.
        unsafe {
            let (low, high) = (halves(row.as_ptr()), halves(row.as_ptr().add(u32::WORDS)));
            let both = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
            _mm512_storeu_si512(words.as_mut_ptr().cast(), both);
        }
    }
}

/// 16 numbers as bf16, each in the low half of a word.
///
/// # Safety
/// 16 floats at `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn halves(at: *const f32) -> __m512i {
    // SAFETY: the caller's promise; both are 32 bytes of any value.
    unsafe {
        let halves: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(_mm512_loadu_ps(at)));
        _mm512_cvtepu16_epi32(halves)
    }
}

/// # Safety
/// A tile that passed `DotTile::check`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn tile(t: &DotTile<'_>, c: &mut [f32], ldc: usize) {
    macro_rules! rows {
        ($($m:literal)*) => {
            // SAFETY: exactly the caller's promise.
            unsafe {
                match t.rows {
                    $($m => rows::<$m>(t, c, ldc),)*
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
unsafe fn rows<const M: usize>(t: &DotTile<'_>, c: &mut [f32], ldc: usize) {
    // SAFETY: `check` proved ceil(k/32) M 16 words of A, k rows of 16 words of B and M rows of 32
    // floats of C, `ldc` apart. A prefetch may name any address.
    unsafe {
        let (mut a, mut b) = (t.a.as_ptr(), t.b.as_ptr());
        let mut sums = [[_mm512_setzero_ps(); 2]; M];
        let mut left = t.k / 2;
        while left > 0 {
            let pairs = left.min(u32::WORDS);
            for i in 0..pairs {
                let ahead = b.wrapping_byte_add(AHEAD);
                prefetch(ahead);
                prefetch(ahead.wrapping_byte_add(64));
                let first = _mm512_loadu_si512(b.cast());
                step(a.add(i), first, _mm512_loadu_si512(b.add(u32::WORDS).cast()), &mut sums);
                b = b.add(2 * u32::WORDS);
            }
            left -= pairs;
            a = a.add(if pairs == u32::WORDS { M * u32::WORDS } else { pairs });
        }
        if t.k % 2 == 1 {
            step(a, _mm512_loadu_si512(b.cast()), _mm512_setzero_si512(), &mut sums);
        }
        for (m, [left, right]) in sums.into_iter().enumerate() {
            let c = c.as_mut_ptr().add(m * ldc);
            _mm512_storeu_ps(c, _mm512_shuffle_ps::<0b10_00_10_00>(left, right));
            _mm512_storeu_ps(c.add(PANEL / 2), _mm512_shuffle_ps::<0b11_01_11_01>(left, right));
        }
    }
}

/// Adds two inputs to the sums, whose weights are the halves of `first` and `second`: in each 128 bits
/// of `left` columns j, j + 16, j + 1 and j + 17, of `right` the next four.
///
/// # Safety
/// `M` words at `a`, 16 apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn step<const M: usize>(a: *const u32, first: __m512i, second: __m512i, sums: &mut [[__m512; 2]; M]) {
    let (here, there) = (_mm512_unpacklo_epi16(first, second), _mm512_unpackhi_epi16(first, second));
    for (m, [left, right]) in sums.iter_mut().enumerate() {
        // SAFETY: m < M.
        let pair = pairs(_mm512_set1_epi32(unsafe { *a.add(m * u32::WORDS) }.cast_signed()));
        *left = _mm512_dpbf16_ps(*left, pairs(here), pair);
        *right = _mm512_dpbf16_ps(*right, pairs(there), pair);
    }
}

/// The same bits as pairs of bf16.
#[inline]
#[target_feature(enable = "avx512f")]
fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of any value.
    unsafe { std::mem::transmute(words) }
}

/// Pairs of bf16 as the words they are.
#[inline]
#[target_feature(enable = "avx512f")]
fn word(pairs: __m512bh) -> __m512i {
    // SAFETY: as for `pairs`.
    unsafe { std::mem::transmute(pairs) }
}
