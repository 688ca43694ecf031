//! Scanning text 64 bytes at a time: classes of bytes as bit masks, masks as lists of positions.
//!
//! A caller writes its loop once as a [`Job`], generic over [`Scan`], and [`Scanner::run`] compiles
//! and runs it inside a function for which the chosen instruction set is enabled: not only the few
//! operations below are vector code then, the caller's own loop gets that set's bit instructions too.
//! `portable` is the specification; the others are tested against it.
//!
//! Nothing in here knows what the classes are for.

mod portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use crate::Isa;
use crate::prefetch::prefetch;

/// Bytes of a block: one bit each in a `u64`.
pub const BLOCK: usize = 64;

/// Classes of a block's bytes, the first byte in the lowest bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// `A` to `Z` and `a` to `z`.
    pub letters: u64,
    /// `A` to `Z`.
    pub capitals: u64,
    /// `0` to `9`.
    pub digits: u64,
    /// Tab, line feed, vertical tab, form feed, carriage return, blank.
    pub spaces: u64,
    /// Line feed and carriage return.
    pub lines: u64,
    /// The blank alone.
    pub blanks: u64,
    /// The apostrophe.
    pub quotes: u64,
    /// Bytes from 0x80 on: parts of characters beyond ASCII.
    pub high: u64,
}

/// The operations an instruction set provides. Values of the types that implement it are proofs that
/// this CPU has the set, and only [`Scanner`] hands them out.
pub trait Scan: Copy {
    /// The classes of 64 bytes. Those that a caller leaves unread cost it nothing.
    fn classes(self, block: &[u8; BLOCK]) -> Classes;

    /// Which of 64 bytes equal `byte`.
    fn equal(self, block: &[u8; BLOCK], byte: u8) -> u64;

    /// Which of 64 bytes are `first` to `last`, both included; `first` is at most `last`.
    fn within(self, block: &[u8; BLOCK], first: u8, last: u8) -> u64;

    /// Writes `base` plus the place of each set bit, ascending, to the front of `places` and returns how
    /// many there are. What is behind them may be overwritten. `base` is at most 65,472.
    fn places(self, bits: u64, base: u16, places: &mut [u16; BLOCK]) -> usize;

    /// The smallest of all values, `u32::MAX` for none.
    fn smallest(self, rows: &[[u32; 16]]) -> u32;

    /// Which of two words of 16 bytes, the lowest quarter first, equals a third; the two differ.
    fn which(self, two: &[[u32; 4]; 2], word: &[u64; 2]) -> Option<usize>;

    /// Eight numbers of 16 bits, the first in the lower half of the first word.
    #[inline(always)]
    fn widen(self, words: &[u32; 4]) -> [u32; 8] {
        std::array::from_fn(|i| words[i / 2] >> (16 * (i % 2)) & 0xFFFF)
    }

    /// Asks for the cache line at `at`, which is about to be read. A hint: it changes nothing, whatever the
    /// address.
    #[inline(always)]
    fn fetch<T>(self, at: *const T) {
        prefetch(at);
    }

    /// Runs `job` in a function of its own with the set enabled: for the rare branches of a [`Job`],
    /// which then stay out of its loop.
    fn apart<J: Job>(self, job: J) -> J::Output;
}

/// Work that scans text. `run` and everything it should share the instruction set with are to be
/// `#[inline(always)]`: a function that stays a call is compiled for the lowest common CPU.
pub trait Job {
    /// What comes out.
    type Output;

    /// Does the work.
    fn run<S: Scan>(self, scan: S) -> Self::Output;
}

/// An instruction set this CPU has, for scanning text.
#[derive(Clone, Copy, Debug)]
pub struct Scanner(Set);

#[derive(Clone, Copy, Debug)]
enum Set {
    Portable(portable::Portable),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
}

impl Scanner {
    /// The fastest set this CPU and operating system run.
    pub fn best() -> Scanner {
        let mut sets = Isa::ALL.into_iter().rev().filter_map(Scanner::of);
        sets.next().unwrap_or(Scanner(Set::Portable(portable::Portable)))
    }

    /// The scanner of one set, or `None` where the CPU lacks it. The sets scanning needs are a little
    /// more than the ones arithmetic needs: AVX2 with BMI2, AVX-512 with BW, VL and VBMI2.
    pub fn of(isa: Isa) -> Option<Scanner> {
        match isa {
            Isa::Portable => Some(Scanner(Set::Portable(portable::Portable))),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::Neon::detect().map(|proof| Scanner(Set::Neon(proof))),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::Avx2::detect().map(|proof| Scanner(Set::Avx2(proof))),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::Avx512::detect().map(|proof| Scanner(Set::Avx512(proof))),
            #[cfg(not(target_arch = "aarch64"))]
            Isa::Neon => None,
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => None,
        }
    }

    /// Which set this is.
    pub fn isa(self) -> Isa {
        match self.0 {
            Set::Portable(_) => Isa::Portable,
            #[cfg(target_arch = "aarch64")]
            Set::Neon(_) => Isa::Neon,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) => Isa::Avx512,
        }
    }

    /// Runs `job` with this set enabled.
    pub fn run<J: Job>(self, job: J) -> J::Output {
        match self.0 {
            Set::Portable(scan) => scan.apart(job),
            #[cfg(target_arch = "aarch64")]
            Set::Neon(scan) => scan.apart(job),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(scan) => scan.apart(job),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(scan) => scan.apart(job),
        }
    }

    /// Where `first` directly followed by `second` occurs first at or after `from`.
    pub fn find_pair(self, text: &[u8], from: usize, first: u8, second: u8) -> Option<usize> {
        let rest = text.get(from..)?;
        self.run(FindPair { rest, first, second }).map(|at| from + at)
    }
}

/// [`Scan::places`], eight at a time whether or not there are that many: their number is then no
/// branch. An exhausted mask has 64 trailing zeros; what that gives is behind the last place.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn eights(mut bits: u64, base: u16, places: &mut [u16; BLOCK]) -> usize {
    let count = bits.count_ones() as usize;
    for eight in places.chunks_exact_mut(8) {
        for place in eight {
            *place = base.wrapping_add(bits.trailing_zeros() as u16);
            bits &= bits.wrapping_sub(1);
        }
        if bits == 0 {
            break;
        }
    }
    count
}

struct FindPair<'a> {
    rest: &'a [u8],
    first: u8,
    second: u8,
}

impl Job for FindPair<'_> {
    type Output = Option<usize>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Option<usize> {
        let Self { rest, first, second } = self;
        let (blocks, tail) = rest.as_chunks::<BLOCK>();
        for (k, block) in blocks.iter().enumerate() {
            // A pair over the block's edge: the last byte is kept where it is `first`, and looked at.
            let after = scan.equal(block, second) >> 1 | 1 << (BLOCK - 1);
            let mut found = scan.equal(block, first) & after;
            while found != 0 {
                let at = k * BLOCK + found.trailing_zeros() as usize;
                if rest.get(at + 1) == Some(&second) {
                    return Some(at);
                }
                found &= found - 1;
            }
        }
        let from = rest.len() - tail.len();
        tail.windows(2).position(|pair| pair == [first, second]).map(|at| from + at)
    }
}
