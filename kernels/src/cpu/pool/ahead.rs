//! Memory that a thread will read after it has waited for the others.
//!
//! A matrix streams at full speed only once enough of its lines are on their way; a thread that begins
//! it cold waits for the first of them, fifty times a decode step. And a thread that waits for another
//! leaves its part of the memory's bandwidth unused. So it asks for what comes next meanwhile.

use std::ops::Range;

use crate::prefetch::prefetch;

/// A cache line.
const LINE: usize = 64;

/// Lines to ask for, as addresses. They are never read through, so nothing need be alive there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ahead {
    at: usize,
    end: usize,
}

impl Ahead {
    /// Of the bytes at these addresses.
    pub(crate) fn new(bytes: Range<usize>) -> Ahead {
        Ahead { at: bytes.start, end: bytes.end }
    }

    /// Asks for the next line; false when all are asked for.
    #[inline(always)]
    pub(crate) fn ask(&mut self) -> bool {
        let left = self.at < self.end;
        if left {
            prefetch(std::ptr::without_provenance::<u8>(self.at));
            self.at += LINE;
        }
        left
    }

    /// One turn of a loop that waits.
    #[inline(always)]
    pub(super) fn pause(&mut self) {
        if !self.ask() {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_asked_for_once_whether_anything_is_there_or_not() {
        for (bytes, lines) in [(0, 0), (1, 1), (64, 1), (65, 2), (6400, 100)] {
            let mut ahead = Ahead::new(4096..4096 + bytes);
            assert_eq!((0..200).filter(|_| ahead.ask()).count(), lines, "{bytes} bytes");
            ahead.pause();
        }
    }
}
