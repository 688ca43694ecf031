//! NEON: a block is four registers of every fourth byte, and a mask is put together from theirs.

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use super::portable::Portable;
use super::{BLOCK, Classes, Job, Scan, eights};

/// Proof that this CPU has the set; made only by [`Neon::detect`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Neon(());

impl Neon {
    pub(super) fn detect() -> Option<Neon> {
        (cfg!(target_endian = "little") && is_aarch64_feature_detected!("neon")).then_some(Neon(()))
    }
}

impl Scan for Neon {
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
        Portable.which(two, word)
    }

    #[inline(always)]
    fn apart<J: Job>(self, job: J) -> J::Output {
        apart(self, job)
    }
}

/// A function of its own. Two functions, because rustc 1.95 forgets `inline(never)` where there is a `target_feature`.
#[inline(never)]
fn apart<J: Job>(scan: Neon, job: J) -> J::Output {
    // SAFETY: as above.
    unsafe { enabled(scan, job) }
}

#[target_feature(enable = "neon")]
fn enabled<J: Job>(scan: Neon, job: J) -> J::Output {
    job.run(scan)
}

/// Byte `i` of the block in lane `i / 4` of register `i % 4`.
type Quarters = [uint8x16_t; 4];

#[target_feature(enable = "neon")]
#[inline]
fn load(block: &[u8; BLOCK]) -> Quarters {
    // SAFETY: the block has 64 readable bytes; the load needs no alignment.
    let uint8x16x4_t(a, b, c, d) = unsafe { vld4q_u8(block.as_ptr()) };
    [a, b, c, d]
}

/// One bit for each byte of the block, from lanes that are all ones or all zeros.
#[target_feature(enable = "neon")]
#[inline]
fn bits([a, b, c, d]: Quarters) -> u64 {
    // Each step keeps the lowest bits of its first operand below those of its second, so that the
    // low nibble of lane i is the bits 4 i to 4 i + 3, in order.
    let (ab, cd) = (vsliq_n_u8::<1>(a, b), vsliq_n_u8::<1>(c, d));
    let nibbles = vsliq_n_u8::<2>(ab, cd);
    // The middle eight bits of two neighbours, each doubled: the even one's nibble, the odd one's.
    let doubled = vreinterpretq_u16_u8(vsliq_n_u8::<4>(nibbles, nibbles));
    vget_lane_u64::<0>(vreinterpret_u64_u8(vshrn_n_u16::<4>(doubled)))
}

/// Bytes from `first` to `first + last`.
#[target_feature(enable = "neon")]
#[inline]
fn range(bytes: Quarters, first: u8, last: u8) -> u64 {
    bits(bytes.map(|b| vcleq_u8(vsubq_u8(b, vdupq_n_u8(first)), vdupq_n_u8(last))))
}

#[target_feature(enable = "neon")]
#[inline]
fn same(bytes: Quarters, byte: u8) -> u64 {
    bits(bytes.map(|b| vceqq_u8(b, vdupq_n_u8(byte))))
}

#[target_feature(enable = "neon")]
#[inline]
fn classes(block: &[u8; BLOCK]) -> Classes {
    let bytes = load(block);
    let blanks = same(bytes, b' ');
    Classes {
        letters: range(bytes.map(|b| vorrq_u8(b, vdupq_n_u8(0x20))), b'a', 25),
        capitals: range(bytes, b'A', 25),
        digits: range(bytes, b'0', 9),
        spaces: range(bytes, b'\t', 4) | blanks,
        lines: same(bytes, b'\n') | same(bytes, b'\r'),
        blanks,
        quotes: same(bytes, b'\''),
        high: bits(bytes.map(|b| vcgeq_u8(b, vdupq_n_u8(0x80)))),
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
    same(load(block), byte)
}

#[target_feature(enable = "neon")]
#[inline]
fn within(block: &[u8; BLOCK], first: u8, last: u8) -> u64 {
    range(load(block), first, last)
}

#[target_feature(enable = "neon")]
#[inline]
fn smallest(rows: &[[u32; 16]]) -> u32 {
    let mut least = [vdupq_n_u32(u32::MAX); 4];
    for row in rows {
        let (fours, _) = row.as_chunks::<4>();
        for (least, four) in least.iter_mut().zip(fours) {
            // SAFETY: four readable words; the load needs no alignment.
            *least = vminq_u32(*least, unsafe { vld1q_u32(four.as_ptr()) });
        }
    }
    let [a, b, c, d] = least;
    vminvq_u32(vminq_u32(vminq_u32(a, b), vminq_u32(c, d)))
}
