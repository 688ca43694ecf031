//! Pre-tokenizers 64 bytes at a time: class masks in, starts of pieces out.
//!
//! A bit stands for a byte; all bytes of a character have its class. This file makes the masks and, from bits
//! that say where a piece begins, the list of places. What comes between is a pattern's own: [`gpt2`], and
//! [`later`] for cl100k, Llama 3 and o200k. Nothing is carried between chunks: pieces from a piece's start on
//! do not depend on what was before it, so the next chunk begins where the last complete piece ended.
//!
//! Source of the idea: Langdale and Lemire, "Parsing gigabytes of JSON per second", VLDB Journal 28 (2019).
//!
//! Invariant: the pieces are those of the pattern's scanner that takes one character at a time.

mod characters;
mod gpt2;
mod later;

use kernels::text::{BLOCK, Classes, Scan};

use super::classes::Class;
pub(super) use later::End;

/// Bytes looked at in one go. What belongs to a chunk stays in the first-level cache, and the rest of the
/// last piece, looked at again in the next chunk, is a small part of it.
pub(super) const CHUNK: usize = 2048;
const WORDS: usize = CHUNK / BLOCK;

/// Working memory for one chunk: a bit a byte. The word behind the last takes what reaches beyond.
pub(super) struct Blocks {
    /// By [`Class`]. The row of [`Class::Other`] takes bits that nobody reads.
    classes: [[u64; WORDS + 1]; 4],
    blanks: [u64; WORDS],
    quotes: [u64; WORDS],
    high: [u64; WORDS],
    /// Where there are characters beyond ASCII: all but their first bytes, and the bits of their
    /// [`Kind`](super::classes::Kind).
    inner: [u64; WORDS + 1],
    planes: [[u64; WORDS + 1]; 4],
    begins: [u64; WORDS + 1],
    /// Starts of pieces, then the end of the last; [`Scan::places`] writes up to a block behind it.
    pub(super) starts: [u16; CHUNK + BLOCK + 1],
    more: later::More,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            classes: [[0; WORDS + 1]; 4],
            blanks: [0; WORDS],
            quotes: [0; WORDS],
            high: [0; WORDS],
            inner: [0; WORDS + 1],
            planes: [[0; WORDS + 1]; 4],
            begins: [0; WORDS + 1],
            starts: [0; CHUNK + BLOCK + 1],
            more: later::More::new(),
        }
    }

    /// Lists the pieces at the front of a text, where `end` knows the end of the piece that begins at a place
    /// of it. Gives what [`Blocks::fill_gpt2`] does.
    #[inline(always)]
    pub(super) fn list(&mut self, text: &[u8], mut end: impl FnMut(usize) -> usize) -> usize {
        let (mut at, mut count) = (0, 0);
        self.starts[0] = 0;
        while at < text.len() {
            at = end(at);
            if at > CHUNK {
                break;
            }
            count += 1;
            self.starts[count] = at as u16;
        }
        count
    }

    /// The pieces that begin where `begins` says, as a list. The last one is complete if the chunk ends with
    /// the text, and otherwise left to the next chunk.
    #[inline(always)]
    fn list_begins<S: Scan>(&mut self, scan: S, chunk: &[u8], ends: bool) -> usize {
        let mut count = 0;
        for (k, &bits) in self.begins[..chunk.len().div_ceil(BLOCK)].iter().enumerate() {
            if let Some(places) = self.starts[count..].first_chunk_mut() {
                count += scan.places(bits, (k * BLOCK) as u16, places);
            }
        }
        if ends {
            self.starts[count] = chunk.len() as u16;
            count
        } else {
            count - 1
        }
    }

    /// Classes of ASCII bytes; whether there are others. `more` keeps what else a pattern asks of a block.
    #[inline(always)]
    fn classify<S: Scan>(
        &mut self,
        scan: S,
        chunk: &[u8],
        more: impl Fn(&mut Self, usize, &Classes, &[u8; BLOCK]),
    ) -> bool {
        let (blocks, tail) = chunk.as_chunks::<BLOCK>();
        let mut high = 0;
        for (k, block) in blocks.iter().enumerate() {
            high |= self.classify_block(scan, k, block, &more);
        }
        let mut words = blocks.len();
        if !tail.is_empty() {
            let mut block = [0; BLOCK];
            block[..tail.len()].copy_from_slice(tail);
            high |= self.classify_block(scan, words, &block, &more);
            words += 1;
        }
        for class in &mut self.classes {
            class[words] = 0;
        }
        high != 0
    }

    #[inline(always)]
    fn classify_block<S: Scan>(
        &mut self,
        scan: S,
        k: usize,
        block: &[u8; BLOCK],
        more: impl Fn(&mut Self, usize, &Classes, &[u8; BLOCK]),
    ) -> u64 {
        let found = scan.classes(block);
        self.classes[Class::Letter as usize][k] = found.letters;
        self.classes[Class::Number as usize][k] = found.digits;
        self.classes[Class::Space as usize][k] = found.spaces;
        self.blanks[k] = found.blanks;
        self.quotes[k] = found.quotes;
        self.high[k] = found.high;
        more(self, k, &found, block);
        found.high
    }

    /// Moves beginnings that fell on the last byte of a whitespace character to its first.
    #[cold]
    fn move_to_characters(&mut self, words: usize) {
        for k in 0..words {
            let mut bits = self.begins[k] & self.inner[k];
            self.begins[k] ^= bits;
            while bits != 0 {
                let mut at = k * BLOCK + bits.trailing_zeros() as usize;
                while bit(&self.inner, at) {
                    at -= 1;
                }
                self.begins[at / BLOCK] |= 1 << (at % BLOCK);
                bits &= bits - 1;
            }
        }
    }

    /// A contraction that is a piece: its letters do not begin one, what follows them does. It stands where an
    /// apostrophe begins a piece; `find` gives the length of what follows that, 0 for none.
    #[inline(always)]
    fn contractions(&mut self, text: &[u8], length: usize, find: impl Fn(&[u8]) -> usize) {
        for k in 0..length.div_ceil(BLOCK) {
            let mut quotes = self.quotes[k] & self.begins[k];
            while quotes != 0 {
                let letters = k * BLOCK + quotes.trailing_zeros() as usize + 1;
                quotes &= quotes - 1;
                let count = find(&text[letters..]);
                if count > 0 {
                    self.begins[letters / BLOCK] &= !(1 << (letters % BLOCK));
                    let after = letters + count;
                    if after < length {
                        self.begins[after / BLOCK] |= 1 << (after % BLOCK);
                    }
                }
            }
        }
    }
}

/// The bit of a byte.
#[inline]
fn bit(mask: &[u64], at: usize) -> bool {
    mask[at / BLOCK] >> (at % BLOCK) & 1 == 1
}
