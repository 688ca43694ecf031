//! Where the encoder gets its pieces from, chunk by chunk: one way for each kind of pattern.
//!
//! Why a trait: the encoder's loop is compiled once for each way, so GPT-2's has nothing of the others in it.
//!
//! Invariant: whatever the way, the pieces are those that [`Pattern`](super::Pattern) gives for the whole text.

use kernels::text::Scan;

use super::blocks::Blocks;
use super::{split, split_cl100k, split_o200k};

/// A way to find pieces.
pub(super) trait Pieces {
    /// As [`Blocks::fill`], for what follows `from` in a text, where a piece begins.
    fn fill<S: Scan>(&self, scan: S, blocks: &mut Blocks, text: &[u8], from: usize) -> usize;

    /// The end of the piece that begins at `from`, whatever its length.
    fn end(&self, text: &[u8], from: usize) -> usize;
}

/// GPT-2's pattern, 64 bytes at a time.
pub(super) struct ByBlocks;

impl Pieces for ByBlocks {
    #[inline(always)]
    fn fill<S: Scan>(&self, scan: S, blocks: &mut Blocks, text: &[u8], from: usize) -> usize {
        blocks.fill(scan, &text[from..])
    }

    #[inline(always)]
    fn end(&self, text: &[u8], from: usize) -> usize {
        split::piece_end(text, from)
    }
}

/// The other patterns with scanners, one character at a time. Which one is asked once a chunk.
#[derive(Clone, Copy)]
pub(super) enum OneByOne {
    Cl100k,
    Llama3,
    O200k,
}

impl Pieces for OneByOne {
    #[inline(always)]
    fn fill<S: Scan>(&self, _: S, blocks: &mut Blocks, text: &[u8], from: usize) -> usize {
        let rest = &text[from..];
        match self {
            Self::Cl100k => blocks.list(rest, |at| split_cl100k::piece_end::<true>(rest, at)),
            Self::Llama3 => blocks.list(rest, |at| split_cl100k::piece_end::<false>(rest, at)),
            Self::O200k => blocks.list(rest, |at| split_o200k::piece_end(rest, at)),
        }
    }

    #[inline(always)]
    fn end(&self, text: &[u8], from: usize) -> usize {
        match self {
            Self::Cl100k => split_cl100k::piece_end::<true>(text, from),
            Self::Llama3 => split_cl100k::piece_end::<false>(text, from),
            Self::O200k => split_o200k::piece_end(text, from),
        }
    }
}

/// Ends that were found before.
pub(super) struct Known<'a>(pub(super) &'a [usize]);

impl Known<'_> {
    fn behind(&self, place: usize) -> &[usize] {
        &self.0[self.0.partition_point(|&end| end <= place)..]
    }
}

impl Pieces for Known<'_> {
    #[inline(always)]
    fn fill<S: Scan>(&self, _: S, blocks: &mut Blocks, text: &[u8], from: usize) -> usize {
        let mut ends = self.behind(from).iter();
        blocks.list(&text[from..], |_| ends.next().map_or(text.len(), |&end| end) - from)
    }

    #[inline(always)]
    fn end(&self, text: &[u8], from: usize) -> usize {
        self.behind(from).first().copied().unwrap_or(text.len())
    }
}
