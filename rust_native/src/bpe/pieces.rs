//! Where the encoder gets its pieces from, chunk by chunk: one way for each kind of pattern.
//!
//! Why a trait: the encoder's loop is compiled once for each way, so GPT-2's has nothing of the others in it.
//!
//! Invariant: whatever the way, the pieces are those that [`Pattern`](super::Pattern) gives for the whole text.

use kernels::text::{Job, Scan, Scanner};

use super::blocks::{Blocks, End};
use super::{split, split_cl100k, split_o200k};

/// A way to find pieces.
pub(super) trait Pieces {
    /// As [`Blocks::fill_gpt2`], for what follows `from` in a text, where a piece begins.
    fn fill<S: Scan>(&self, scan: S, blocks: &mut Blocks, text: &[u8], from: usize) -> usize;

    /// The end of the piece that begins at `from`, whatever its length.
    fn end(&self, text: &[u8], from: usize) -> usize;
}

/// GPT-2's pattern, 64 bytes at a time.
pub(super) struct Gpt2;

impl Pieces for Gpt2 {
    #[inline(always)]
    fn fill<S: Scan>(&self, scan: S, blocks: &mut Blocks, text: &[u8], from: usize) -> usize {
        blocks.fill_gpt2(scan, &text[from..])
    }

    #[inline(always)]
    fn end(&self, text: &[u8], from: usize) -> usize {
        split::piece_end(text, from)
    }
}

/// The other patterns with scanners, 64 bytes at a time. Which one is asked once a chunk.
#[derive(Clone, Copy)]
pub(super) enum Later {
    Cl100k,
    Llama3,
    O200k,
}

impl Later {
    #[inline]
    fn scalar(self) -> End {
        match self {
            Self::Cl100k => split_cl100k::piece_end::<true>,
            Self::Llama3 => split_cl100k::piece_end::<false>,
            Self::O200k => split_o200k::piece_end,
        }
    }
}

impl Pieces for Later {
    #[inline(always)]
    fn fill<S: Scan>(&self, scan: S, blocks: &mut Blocks, text: &[u8], from: usize) -> usize {
        let (rest, end) = (&text[from..], self.scalar());
        match self {
            Self::O200k => blocks.fill_later::<true, S>(scan, rest, false, end),
            _ => blocks.fill_later::<false, S>(scan, rest, matches!(self, Self::Cl100k), end),
        }
    }

    fn end(&self, text: &[u8], from: usize) -> usize {
        self.scalar()(text, from)
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

/// The ends of all pieces of a text, found chunk by chunk on the instruction set of `scanner`.
pub(super) fn ends(scanner: Scanner, pieces: impl Pieces, text: &[u8]) -> Vec<usize> {
    scanner.run(Ends { pieces, text })
}

struct Ends<'a, P> {
    pieces: P,
    text: &'a [u8],
}

impl<P: Pieces> Job for Ends<'_, P> {
    type Output = Vec<usize>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Vec<usize> {
        let Self { pieces, text } = self;
        let (mut blocks, mut ends, mut from) = (Box::new(Blocks::new()), Vec::new(), 0);
        while from < text.len() {
            match pieces.fill(scan, &mut blocks, text, from) {
                0 => ends.push(pieces.end(text, from)),
                count => ends.extend(blocks.starts[1..=count].iter().map(|&end| from + usize::from(end))),
            }
            from = ends.last().copied().unwrap_or(text.len());
        }
        ends
    }
}
