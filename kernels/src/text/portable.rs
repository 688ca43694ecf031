//! The specification: one byte, one bit at a time.

use super::{BLOCK, Classes, Job, Scan};

/// Every CPU has this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

impl Scan for Portable {
    #[inline(always)]
    fn classes(self, block: &[u8; BLOCK]) -> Classes {
        let mut found = Classes::default();
        for (i, &byte) in block.iter().enumerate() {
            let bit = |is: bool| u64::from(is) << i;
            found.letters |= bit(byte.is_ascii_alphabetic());
            found.digits |= bit(byte.is_ascii_digit());
            found.spaces |= bit(matches!(byte, b'\t'..=b'\r' | b' '));
            found.blanks |= bit(byte == b' ');
            found.quotes |= bit(byte == b'\'');
            found.high |= bit(!byte.is_ascii());
        }
        found
    }

    #[inline(always)]
    fn equal(self, block: &[u8; BLOCK], byte: u8) -> u64 {
        block.iter().enumerate().fold(0, |bits, (i, &b)| bits | u64::from(b == byte) << i)
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
    fn fetch<T>(self, _: &T) {}

    #[inline(never)]
    fn apart<J: Job>(self, job: J) -> J::Output {
        job.run(self)
    }
}
