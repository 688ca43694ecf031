//! AVX2 with BMI1, BMI2, LZCNT and POPCNT: two halves of 32 bytes.

use std::arch::x86_64::*;

use super::{BLOCK, Classes, Job, Scan, eights};

/// Proof that this CPU has the set; made only by [`Avx2::detect`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Avx2> {
        let all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        all.then_some(Avx2(()))
    }
}

impl Scan for Avx2 {
    #[inline(always)]
    fn classes(self, block: &[u8; BLOCK]) -> Classes {
        // SAFETY: `self` proves that the CPU has the set.
        unsafe { classes(block) }
    }

    #[inline(always)]
    fn equal(self, block: &[u8; BLOCK], byte: u8) -> u64 {
        // SAFETY: as above.
        unsafe { equal(block, byte) }
    }

    #[inline(always)]
    fn within(self, block: &[u8; BLOCK], first: u8, last: u8) -> u64 {
        // SAFETY: as above.
        unsafe { within(block, first, last.wrapping_sub(first)) }
    }

    #[inline(always)]
    fn places(self, bits: u64, base: u16, places: &mut [u16; BLOCK]) -> usize {
        eights(bits, base, places)
    }

    #[inline(always)]
    fn smallest(self, rows: &[[u32; 16]]) -> u32 {
        // SAFETY: as above.
        unsafe { smallest(rows) }
    }

    #[inline(always)]
    fn which(self, two: &[[u32; 4]; 2], word: &[u64; 2]) -> Option<usize> {
        // SAFETY: as above.
        unsafe { which(two, word) }
    }

    #[inline(always)]
    fn widen(self, words: &[u32; 4]) -> [u32; 8] {
        // SAFETY: as above.
        unsafe { widen(words) }
    }

    #[inline(always)]
    fn apart<J: Job>(self, job: J) -> J::Output {
        apart(self, job)
    }
}

/// A function of its own. Two functions, because rustc 1.95 forgets `inline(never)` where there is a `target_feature`.
#[inline(never)]
fn apart<J: Job>(scan: Avx2, job: J) -> J::Output {
    // SAFETY: as above.
    unsafe { enabled(scan, job) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn enabled<J: Job>(scan: Avx2, job: J) -> J::Output {
    job.run(scan)
}

#[target_feature(enable = "avx2")]
#[inline]
fn halves(block: &[u8; BLOCK]) -> [__m256i; 2] {
    let at = block.as_ptr().cast::<__m256i>();
    // SAFETY: the block has 64 readable bytes; the loads need no alignment.
    unsafe { [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))] }
}

#[target_feature(enable = "avx2")]
#[inline]
fn bits(low: __m256i, high: __m256i) -> u64 {
    let (low, high) = (_mm256_movemask_epi8(low) as u32, _mm256_movemask_epi8(high) as u32);
    u64::from(low) | u64::from(high) << 32
}

/// Bytes from `first` to `first + last`, as all ones.
#[target_feature(enable = "avx2")]
#[inline]
fn range(bytes: __m256i, first: u8, last: u8) -> __m256i {
    // Unsigned `<=` by a minimum: AVX2 compares signed bytes only.
    let offset = _mm256_sub_epi8(bytes, _mm256_set1_epi8(first as i8));
    _mm256_cmpeq_epi8(_mm256_min_epu8(offset, _mm256_set1_epi8(last as i8)), offset)
}

#[target_feature(enable = "avx2")]
#[inline]
fn same(bytes: __m256i, byte: u8) -> __m256i {
    _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8))
}

#[target_feature(enable = "avx2")]
#[inline]
fn ends_line(bytes: __m256i) -> __m256i {
    _mm256_or_si256(same(bytes, b'\n'), same(bytes, b'\r'))
}

#[target_feature(enable = "avx2")]
#[inline]
fn classes(block: &[u8; BLOCK]) -> Classes {
    let [low, high] = halves(block);
    let case = _mm256_set1_epi8(0x20);
    let (low_case, high_case) = (_mm256_or_si256(low, case), _mm256_or_si256(high, case));
    let blanks = bits(same(low, b' '), same(high, b' '));
    Classes {
        letters: bits(range(low_case, b'a', 25), range(high_case, b'a', 25)),
        capitals: bits(range(low, b'A', 25), range(high, b'A', 25)),
        digits: bits(range(low, b'0', 9), range(high, b'0', 9)),
        spaces: bits(range(low, b'\t', 4), range(high, b'\t', 4)) | blanks,
        lines: bits(ends_line(low), ends_line(high)),
        blanks,
        quotes: bits(same(low, b'\''), same(high, b'\'')),
        high: bits(low, high),
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
    let [low, high] = halves(block);
    bits(same(low, byte), same(high, byte))
}

#[target_feature(enable = "avx2")]
#[inline]
fn within(block: &[u8; BLOCK], first: u8, last: u8) -> u64 {
    let [low, high] = halves(block);
    bits(range(low, first, last), range(high, first, last))
}

#[target_feature(enable = "avx2")]
#[inline]
fn smallest(rows: &[[u32; 16]]) -> u32 {
    let mut least = _mm256_set1_epi32(-1);
    for row in rows {
        let at = row.as_ptr().cast::<__m256i>();
        // SAFETY: a row has 64 readable bytes; the loads need no alignment.
        let (a, b) = unsafe { (_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))) };
        least = _mm256_min_epu32(least, _mm256_min_epu32(a, b));
    }
    let four = _mm_min_epu32(_mm256_castsi256_si128(least), _mm256_extracti128_si256::<1>(least));
    let two = _mm_min_epu32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    let one = _mm_min_epu32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
    _mm_cvtsi128_si32(one) as u32
}

/// [`Scan::widen`].
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn widen(words: &[u32; 4]) -> [u32; 8] {
    let mut wide = [0; 8];
    // SAFETY: 16 readable and 32 writable bytes; neither needs alignment.
    unsafe {
        let all = _mm256_cvtepu16_epi32(_mm_loadu_si128(words.as_ptr().cast()));
        _mm256_storeu_si256(wide.as_mut_ptr().cast(), all);
    }
    wide
}

/// [`Scan::which`].
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn which(two: &[[u32; 4]; 2], word: &[u64; 2]) -> Option<usize> {
    // SAFETY: 32 and 16 readable bytes; the loads need no alignment.
    let (two, word) =
        unsafe { (_mm256_loadu_si256(two.as_ptr().cast()), _mm_loadu_si128(word.as_ptr().cast())) };
    let halves = _mm256_cmpeq_epi64(two, _mm256_broadcastsi128_si256(word));
    let halves = _mm256_movemask_pd(_mm256_castsi256_pd(halves)) as u32;
    // Bit 0 for the first, bit 2 for the second.
    let whole = halves & halves >> 1 & 0b101;
    (whole != 0).then_some((whole >> 2) as usize)
}
