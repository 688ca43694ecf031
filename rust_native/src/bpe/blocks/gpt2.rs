//! GPT-2's pattern from masks.
//!
//! With `x'` for "the byte before has x", a piece begins at a byte whose class differs from the one before,
//! unless a blank stands before it: of a class in two bits `(A^A' | B^B') & !blank'`; and at the last character of
//! a whitespace run that something follows, `S & !S-after`. A contraction is two bits changed.
//!
//! Invariant: the pieces are those of [`split`](crate::bpe::split).

use kernels::text::{BLOCK, Scan};

use super::{Blocks, CHUNK};
use crate::bpe::split::contraction;

impl Blocks {
    /// Splits the front of a text that is not empty and returns how many complete pieces were found: piece
    /// `i` is from `starts[i]` to `starts[i + 1]`. None means that the first is longer than a chunk.
    #[inline(always)]
    pub(in crate::bpe) fn fill_gpt2<S: Scan>(&mut self, scan: S, text: &[u8]) -> usize {
        let chunk = &text[..text.len().min(CHUNK)];
        let words = chunk.len().div_ceil(BLOCK);
        let high = self.classify(scan, chunk, |_, _, _, _| {});
        let wide = high && self.characters::<S, 2>(scan, text, chunk.len());
        self.begin(chunk.len());
        if wide {
            self.move_to_characters(words);
        }
        self.contractions(text, chunk.len(), contraction);
        self.list_begins(scan, chunk, chunk.len() == text.len())
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
}
