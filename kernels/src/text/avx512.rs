//! AVX-512 with BW, VL and VBMI2: a block is one register, a class one comparison into a mask register,
//! and a mask's places are one compression of the numbers 0 to 63.

use std::arch::x86_64::*;

use super::{BLOCK, Classes, Job, Scan, avx2};

/// Proof that this CPU has the set; made only by [`Avx512::detect`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Avx512> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        all.then_some(Avx512(()))
    }
}

impl Scan for Avx512 {
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
        // SAFETY: as above.
        unsafe { write_places(bits, base, places) };
        bits.count_ones() as usize
    }

    #[inline(always)]
    fn smallest(self, rows: &[[u32; 16]]) -> u32 {
        // SAFETY: as above.
        unsafe { smallest(rows) }
    }

    #[inline(always)]
    fn which(self, two: &[[u32; 4]; 2], word: &[u64; 2]) -> Option<usize> {
        // SAFETY: as above.
        unsafe { avx2::which(two, word) }
    }

    #[inline(always)]
    fn widen(self, words: &[u32; 4]) -> [u32; 8] {
        // SAFETY: as above.
        unsafe { avx2::widen(words) }
    }

    #[inline(always)]
    fn apart<J: Job>(self, job: J) -> J::Output {
        apart(self, job)
    }
}

/// A function of its own. Two functions, because rustc 1.95 forgets `inline(never)` where there is a `target_feature`.
#[inline(never)]
fn apart<J: Job>(scan: Avx512, job: J) -> J::Output {
    // SAFETY: as above.
    unsafe { enabled(scan, job) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
fn enabled<J: Job>(scan: Avx512, job: J) -> J::Output {
    job.run(scan)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load(block: &[u8; BLOCK]) -> __m512i {
    // SAFETY: the block has 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

/// Bytes from `first` to `first + last`.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn range(bytes: __m512i, first: u8, last: u8) -> u64 {
    let offset = _mm512_sub_epi8(bytes, _mm512_set1_epi8(first as i8));
    _mm512_cmple_epu8_mask(offset, _mm512_set1_epi8(last as i8))
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn same(bytes: __m512i, byte: u8) -> u64 {
    _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8))
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn classes(block: &[u8; BLOCK]) -> Classes {
    let bytes = load(block);
    let blanks = same(bytes, b' ');
    Classes {
        letters: range(_mm512_or_si512(bytes, _mm512_set1_epi8(0x20)), b'a', 25),
        capitals: range(bytes, b'A', 25),
        digits: range(bytes, b'0', 9),
        spaces: range(bytes, b'\t', 4) | blanks,
        lines: same(bytes, b'\n') | same(bytes, b'\r'),
        blanks,
        quotes: same(bytes, b'\''),
        high: _mm512_movepi8_mask(bytes),
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
    same(load(block), byte)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn within(block: &[u8; BLOCK], first: u8, last: u8) -> u64 {
    range(load(block), first, last)
}

/// 0, 1, … 63.
static COUNT: [u8; BLOCK] = {
    let mut count = [0; BLOCK];
    let mut i = 0;
    while i < BLOCK {
        count[i] = i as u8;
        i += 1;
    }
    count
};

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
#[inline]
fn write_places(bits: u64, base: u16, places: &mut [u16; BLOCK]) {
    let packed = _mm512_maskz_compress_epi8(bits, load(&COUNT));
    let base = _mm512_set1_epi16(base as i16);
    let low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(packed));
    let high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(packed));
    let at = places.as_mut_ptr().cast::<__m512i>();
    // SAFETY: 64 places of two bytes are two registers; the stores need no alignment.
    unsafe {
        _mm512_storeu_si512(at, _mm512_add_epi16(low, base));
        _mm512_storeu_si512(at.add(1), _mm512_add_epi16(high, base));
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn smallest(rows: &[[u32; 16]]) -> u32 {
    let mut least = _mm512_set1_epi32(-1);
    for row in rows {
        // SAFETY: a row has 64 readable bytes; the load needs no alignment.
        least = _mm512_min_epu32(least, unsafe { _mm512_loadu_si512(row.as_ptr().cast()) });
    }
    _mm512_reduce_min_epu32(least)
}
