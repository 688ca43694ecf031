//! The specification: one byte at a time.

use super::{BLOCK, Classes, Job, Scan};

/// The classes of each byte, one bit in each of a word's bytes, so that eight neighbours fit into one word.
static LANES: [u64; 256] = {
    let mut lanes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        lanes[byte] = b.is_ascii_alphabetic() as u64
            | (b.is_ascii_digit() as u64) << 8
            | (matches!(b, b'\t'..=b'\r' | b' ') as u64) << 16
            | ((b == b' ') as u64) << 24
            | ((b == b'\'') as u64) << 32
            | (!b.is_ascii() as u64) << 40
            | (matches!(b, b'\n' | b'\r') as u64) << 48
            | (b.is_ascii_uppercase() as u64) << 56;
        byte += 1;
    }
    lanes
};

/// Every CPU has this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

impl Scan for Portable {
    #[inline(always)]
    fn classes(self, block: &[u8; BLOCK]) -> Classes {
        let mut found = Classes::default();
        for (k, eight) in block.as_chunks::<8>().0.iter().enumerate() {
            let lanes = (0..8).fold(0, |lanes, i| lanes | LANES[usize::from(eight[i])] << i);
            let lane = |class: u32| (lanes >> (8 * class) & 0xFF) << (8 * k);
            found.letters |= lane(0);
            found.digits |= lane(1);
            found.spaces |= lane(2);
            found.blanks |= lane(3);
            found.quotes |= lane(4);
            found.high |= lane(5);
            found.lines |= lane(6);
            found.capitals |= lane(7);
        }
        found
    }

    #[inline(always)]
    fn equal(self, block: &[u8; BLOCK], byte: u8) -> u64 {
        block.iter().enumerate().fold(0, |bits, (i, &b)| bits | u64::from(b == byte) << i)
    }

    #[inline(always)]
    fn within(self, block: &[u8; BLOCK], first: u8, last: u8) -> u64 {
        let is = |b: u8| b.wrapping_sub(first) <= last.wrapping_sub(first);
        block.iter().enumerate().fold(0, |bits, (i, &b)| bits | u64::from(is(b)) << i)
    }

    #[inline(always)]
    fn places(self, mut bits: u64, base: u16, places: &mut [u16; BLOCK]) -> usize {
        let count = bits.count_ones() as usize;
        for place in &mut places[..count] {
            *place = base + bits.trailing_zeros() as u16;
            bits &= bits - 1;
        }
        count
    }

    #[inline(always)]
    fn smallest(self, rows: &[[u32; 16]]) -> u32 {
        rows.iter().flatten().copied().min().unwrap_or(u32::MAX)
    }

    #[inline(always)]
    fn which(self, two: &[[u32; 4]; 2], word: &[u64; 2]) -> Option<usize> {
        let half = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let other = |at: usize| {
            let [a, b, c, d] = two[at];
            half(a, b) ^ word[0] | half(c, d) ^ word[1]
        };
        // An index instead of a jump: which of the two it is may follow no pattern.
        let at = usize::from(other(0) != 0);
        (other(at) == 0).then_some(at)
    }

    #[inline(always)]
    fn fetch<T>(self, _: *const T) {}

    #[inline(never)]
    fn apart<J: Job>(self, job: J) -> J::Output {
        job.run(self)
    }
}
