//! The pre-tokenizer 64 bytes at a time: class masks in, starts of pieces out.
//!
//! A bit stands for a byte; all bytes of a character have its class. With `x'` for "the byte before has x",
//! a piece begins at a byte whose class differs from the one before, unless a blank stands before it: of a class in
//! two bits `(A^A' | B^B') & !blank'`; and at the last character of a whitespace run that something follows,
//! `S & !S-after`. A contraction is two bits changed. Nothing is carried between chunks: pieces
//! from a piece's start on do not depend on what was before it, so the next chunk begins where the last
//! complete piece ended.
//!
//! Source of the idea: Langdale and Lemire, "Parsing gigabytes of JSON per second", VLDB Journal 28 (2019).
//!
//! Invariant: the pieces are those of [`split`](super::split).

use kernels::text::{BLOCK, Job, Scan, Scanner};

use super::classes::{self, Class};
use super::split::{contraction, piece_end};

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
    /// All but the first bytes of whitespace characters beyond ASCII, where there are any.
    inner: [u64; WORDS + 1],
    begins: [u64; WORDS + 1],
    /// Starts of pieces, then the end of the last; [`Scan::places`] writes up to a block behind it.
    pub(super) starts: [u16; CHUNK + BLOCK + 1],
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            classes: [[0; WORDS + 1]; 4],
            blanks: [0; WORDS],
            quotes: [0; WORDS],
            high: [0; WORDS],
            inner: [0; WORDS + 1],
            begins: [0; WORDS + 1],
            starts: [0; CHUNK + BLOCK + 1],
        }
    }

    /// Splits the front of a text that is not empty and returns how many complete pieces were found: piece
    /// `i` is from `starts[i]` to `starts[i + 1]`. None means that the first is longer than a chunk.
    #[inline(always)]
    pub(super) fn fill<S: Scan>(&mut self, scan: S, text: &[u8]) -> usize {
        let chunk = &text[..text.len().min(CHUNK)];
        let words = chunk.len().div_ceil(BLOCK);
        let high = self.classify(scan, chunk);
        let wide = high && self.classify_beyond_ascii(text, words);
        self.begin(chunk.len());
        if wide {
            self.move_to_characters(words);
        }
        self.contractions(text, chunk.len());
        let mut count = 0;
        for (k, &bits) in self.begins[..words].iter().enumerate() {
            if let Some(places) = self.starts[count..].first_chunk_mut() {
                count += scan.places(bits, (k * BLOCK) as u16, places);
            }
        }
        if chunk.len() == text.len() {
            self.starts[count] = chunk.len() as u16;
            count
        } else {
            count - 1
        }
    }

    /// As [`Blocks::fill`], where `end` knows the end of the piece that begins at a place of the text.
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

    /// Classes of ASCII bytes; whether there are others.
    #[inline(always)]
    fn classify<S: Scan>(&mut self, scan: S, chunk: &[u8]) -> bool {
        let (blocks, tail) = chunk.as_chunks::<BLOCK>();
        let mut high = 0;
        for (k, block) in blocks.iter().enumerate() {
            high |= self.classify_block(scan, k, block);
        }
        let mut words = blocks.len();
        if !tail.is_empty() {
            let mut block = [0; BLOCK];
            block[..tail.len()].copy_from_slice(tail);
            high |= self.classify_block(scan, words, &block);
            words += 1;
        }
        for class in &mut self.classes {
            class[words] = 0;
        }
        high != 0
    }

    #[inline(always)]
    fn classify_block<S: Scan>(&mut self, scan: S, k: usize, block: &[u8; BLOCK]) -> u64 {
        let found = scan.classes(block);
        self.classes[Class::Letter as usize][k] = found.letters;
        self.classes[Class::Number as usize][k] = found.digits;
        self.classes[Class::Space as usize][k] = found.spaces;
        self.blanks[k] = found.blanks;
        self.quotes[k] = found.quotes;
        self.high[k] = found.high;
        found.high
    }

    /// Adds the characters beyond ASCII; whether one of them is whitespace.
    #[inline(always)]
    fn classify_beyond_ascii(&mut self, text: &[u8], words: usize) -> bool {
        self.inner[..=words].fill(0);
        let (mut wide, mut spilled) = (false, 0);
        for k in 0..words {
            let mut high = self.high[k] & !spilled;
            spilled = 0;
            while high != 0 {
                let at = high.trailing_zeros() as usize;
                let (class, length) = classes::beyond_ascii(text, k * BLOCK + at);
                let ones = (1_u64 << length) - 1;
                let span = ones << at;
                high &= !span;
                self.classes[class as usize][k] |= span;
                if at + length > BLOCK {
                    spilled = ones >> (BLOCK - at);
                    self.classes[class as usize][k + 1] |= spilled;
                }
                if class == Class::Space {
                    wide = true;
                    self.inner[k] |= span & (span << 1);
                    self.inner[k + 1] |= spilled;
                }
            }
        }
        wide
    }

    /// Where pieces begin in the first `length` bytes, contractions aside.
    #[inline(always)]
    fn begin(&mut self, length: usize) {
        let last = (length - 1) / BLOCK;
        let end = 1 << ((length - 1) % BLOCK);
        let [_, letters, numbers, spaces] = &self.classes;
        // A class is two bits: letters 1, numbers 2, whitespace 3, all else 0. It differs where one of them does.
        let (mut low, mut high, mut blanks) = (0, 0, 0);
        for k in 0..=last {
            let (space, blank) = (spaces[k], self.blanks[k]);
            let (first, second) = (letters[k] | space, numbers[k] | space);
            let differs = first ^ (first << 1 | low) | second ^ (second << 1 | high);
            // What ends with the chunk counts as followed by whitespace: at the text's end that is the
            // rule, elsewhere the run is looked at again.
            let limit = if k == last { end } else { 0 };
            let after = space >> 1 | spaces[k + 1] << (BLOCK - 1) | limit;
            self.begins[k] = differs & !(blank << 1 | blanks) | space & !after;
            let carry = BLOCK - 1;
            (low, high, blanks) = (first >> carry, second >> carry, blank >> carry);
        }
        // Before the first byte there is nothing, which is no class.
        self.begins[0] |= 1;
        self.begins[last] &= end | (end - 1);
    }

    /// Moves beginnings that fell on the last byte of a whitespace character to its first.
    #[cold]
    fn move_to_characters(&mut self, words: usize) {
        for k in 0..words {
            let mut bits = self.begins[k] & self.inner[k];
            self.begins[k] ^= bits;
            while bits != 0 {
                let mut at = k * BLOCK + bits.trailing_zeros() as usize;
                while self.inner[at / BLOCK] >> (at % BLOCK) & 1 == 1 {
                    at -= 1;
                }
                self.begins[at / BLOCK] |= 1 << (at % BLOCK);
                bits &= bits - 1;
            }
        }
    }

    /// A contraction is one piece: its letters do not begin one, what follows them does. It stands where an
    /// apostrophe begins a piece.
    #[inline(always)]
    fn contractions(&mut self, text: &[u8], length: usize) {
        for k in 0..length.div_ceil(BLOCK) {
            let mut quotes = self.quotes[k] & self.begins[k];
            while quotes != 0 {
                let letters = k * BLOCK + quotes.trailing_zeros() as usize + 1;
                quotes &= quotes - 1;
                let count = contraction(&text[letters..]);
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

/// The ends of all pieces, found chunk by chunk.
pub(super) fn ends(scanner: Scanner, text: &[u8]) -> Vec<usize> {
    scanner.run(Ends { text })
}

struct Ends<'a> {
    text: &'a [u8],
}

impl Job for Ends<'_> {
    type Output = Vec<usize>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Vec<usize> {
        let (mut blocks, mut ends, mut from) = (Box::new(Blocks::new()), Vec::new(), 0);
        while from < self.text.len() {
            match blocks.fill(scan, &self.text[from..]) {
                0 => ends.push(piece_end(self.text, from)),
                count => ends.extend(blocks.starts[1..=count].iter().map(|&end| from + usize::from(end))),
            }
            from = ends.last().copied().unwrap_or(self.text.len());
        }
        ends
    }
}
