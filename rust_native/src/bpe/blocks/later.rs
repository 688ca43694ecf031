//! The patterns of cl100k, Llama 3 and o200k from masks.
//!
//! Letters `L` (for o200k marks are letters), numbers `N`, other characters `O`, whitespace `S`; in it ends of
//! lines `E`, the rest of it `G`, and the blank. With `x'` for "the byte before has x", a piece begins
//! - at letters that nothing takes along: `L & !(L' | G' | A')`. Whitespace that letters follow always begins a
//!   piece, another character `A` where it does so and is alone. o200k: at a capital behind a small letter, too.
//! - at numbers, `N & !N'`, and wherever one began three before;
//! - at others, `O & !O' & !blank'`. They take the ends of lines behind them along, which a carry finds: adding the
//!   first bit of a run to it runs through to its end. For o200k slashes among these are theirs as well.
//! - at whitespace, `S & !S'`; behind the last end of a line in it, `G & E'`; and at its last character if
//!   something follows, `G & !S-after`.
//!
//! What this does not decide has a bit of its own, a doubt, and is settled one character at a time, from the piece
//! before it until both ways agree on a start. Doubts are numbers beyond ASCII; for o200k a mark behind another
//! character, which may go on with it, and a capital behind what has no case, where what follows decides.
//! Nothing looks behind, so two ways that agree on one start agree on all until the next doubt.
//!
//! Invariant: the pieces are those of [`split_cl100k`] and [`split_o200k`].
//!
//! [`split_cl100k`]: crate::bpe::split_cl100k
//! [`split_o200k`]: crate::bpe::split_o200k

use kernels::text::{BLOCK, Scan};

use super::{Blocks, CHUNK, WORDS, bit};
use crate::bpe::classes::Class;
use crate::bpe::split_cl100k::contraction;

/// Where the piece that begins at a place of a text ends, one character at a time.
pub(in crate::bpe) type End = fn(&[u8], usize) -> usize;

/// What these patterns ask of a byte besides its class.
pub(super) struct More {
    lines: [u64; WORDS],
    slashes: [u64; WORDS],
    capitals: [u64; WORDS + 1],
    /// Letters and marks that are neither capital nor small.
    uncased: [u64; WORDS + 1],
    /// First bytes of marks.
    marks: [u64; WORDS + 1],
    doubts: [u64; WORDS + 1],
}

impl More {
    pub(super) fn new() -> Self {
        Self {
            lines: [0; WORDS],
            slashes: [0; WORDS],
            capitals: [0; WORDS + 1],
            uncased: [0; WORDS + 1],
            marks: [0; WORDS + 1],
            doubts: [0; WORDS + 1],
        }
    }

    /// A chunk without characters beyond ASCII.
    #[inline(always)]
    fn clear(&mut self, words: usize) {
        for row in [&mut self.uncased, &mut self.marks, &mut self.doubts] {
            row[..=words].fill(0);
        }
    }
}

/// Masks of the block before.
#[derive(Default)]
struct Before {
    letter: u64,
    number: u64,
    other: u64,
    space: u64,
    blank: u64,
    gap: u64,
    line: u64,
    taken: u64,
    free: u64,
    alone: u64,
    small: u64,
    uncased: u64,
    thirds: u64,
}

/// What is left to do once beginnings are known.
struct Left {
    doubts: bool,
    /// The chunk ends with whitespace behind an end of a line, which may go on to another.
    open: bool,
}

impl Blocks {
    /// As [`Blocks::fill_gpt2`]: o200k with `CASE`, otherwise Llama 3, and with `tail` cl100k. `end` is the same
    /// pattern one character at a time. None can also mean that a first piece of whitespace ends before the
    /// chunk does, but what ends it is behind the chunk.
    #[inline(always)]
    pub(in crate::bpe) fn fill_later<const CASE: bool, S: Scan>(
        &mut self,
        scan: S,
        text: &[u8],
        tail: bool,
        end: End,
    ) -> usize {
        let chunk = &text[..text.len().min(CHUNK)];
        let (length, ends) = (chunk.len(), chunk.len() == text.len());
        let words = length.div_ceil(BLOCK);
        let high = self.classify(scan, chunk, |blocks, k, found, block| {
            blocks.more.lines[k] = found.lines;
            if CASE {
                blocks.more.capitals[k] = found.capitals;
                blocks.more.slashes[k] = scan.equal(block, b'/');
            }
        });
        let wide = high && self.more_characters::<CASE, S>(scan, text, length);
        if !high {
            self.inner[..=words].fill(0);
            self.more.clear(words);
        }
        let left = self.begin_later::<CASE>(length);
        if left.open && !ends {
            self.join_gap(length);
        }
        if wide {
            self.move_to_characters(words);
        }
        if CASE {
            self.words_with_contractions(text, length);
        } else {
            self.contractions(text, length, contraction);
        }
        if tail && ends {
            self.join_tail(length);
        }
        if left.doubts {
            self.settle(text, length, end);
        }
        self.list_begins(scan, chunk, ends)
    }

    /// Adds the characters beyond ASCII; whether one of them is whitespace.
    #[inline(always)]
    fn more_characters<const CASE: bool, S: Scan>(&mut self, scan: S, text: &[u8], length: usize) -> bool {
        let wide = if CASE {
            self.characters::<S, 4>(scan, text, length)
        } else {
            self.characters::<S, 2>(scan, text, length)
        };
        for k in 0..=length.div_ceil(BLOCK) {
            let [low, high, front, back] = self.planes.each_ref().map(|plane| plane[k]);
            self.more.doubts[k] = high & !low & !self.inner[k];
            if CASE {
                self.classes[Class::Letter as usize][k] |= front;
                self.more.capitals[k] |= front & !back;
                self.more.uncased[k] = front & back;
                self.more.marks[k] = front & back & !(low | high | self.inner[k]);
            }
        }
        wide
    }

    /// Where pieces begin in the first `length` bytes, but for contractions and doubts.
    #[inline(always)]
    fn begin_later<const CASE: bool>(&mut self, length: usize) -> Left {
        let last = (length - 1) / BLOCK;
        let end = 1 << ((length - 1) % BLOCK);
        let (mut before, mut open, mut doubts) = (Before::default(), false, 0);
        for k in 0..=last {
            let [_, letters, numbers, spaces] = &self.classes;
            let (letter, number, space) = (letters[k], numbers[k], spaces[k]);
            let (blank, line, inner) = (self.blanks[k], self.more.lines[k], self.inner[k]);
            let (other, gap) = (!(letter | number | space), space & !line);
            // As in `gpt2`.
            let limit = if k == last { end } else { 0 };
            let after = space >> 1 | spaces[k + 1] << (BLOCK - 1) | limit;

            // What others take along behind them.
            let joins = if CASE { line | self.more.slashes[k] } else { line };
            let first = line & up(other, before.other) | joins & (before.taken >> (BLOCK - 1));
            let taken = joins & !joins.wrapping_add(first) | first;
            let free = other & !taken;
            let head = free & !up(free, before.free) & !up(blank, before.blank);
            // A character beyond ASCII with all its bytes, by a carry through them.
            let second = inner & (head << 1 | before.alone >> (BLOCK - 1));
            let alone = head | inner & !inner.wrapping_add(second);

            let mut begins =
                letter & !(up(letter, before.letter) | up(gap, before.gap) | up(alone, before.alone));
            let (mut small, mut uncased) = (0, 0);
            if CASE {
                let capital = self.more.capitals[k];
                uncased = self.more.uncased[k];
                small = letter & !(capital | uncased);
                begins |= capital & up(small, before.small);
                let marks = self.more.marks[k];
                self.more.doubts[k] |=
                    capital & up(uncased, before.uncased) | marks & up(other, before.other);
            }

            let mut thirds = number & !up(number, before.number);
            let shifted = |by: usize| number << by | before.number >> (BLOCK - by);
            let fourth = number & shifted(1) & shifted(2) & shifted(3);
            let mut next = fourth & (thirds << 3 | before.thirds >> (BLOCK - 3));
            while next != 0 {
                thirds |= next;
                next = fourth & next << 3;
            }

            let behind_line = gap & up(line, before.line);
            let spaced = space & !up(space, before.space) & !taken | behind_line | gap & !after;
            self.begins[k] = begins | head | thirds | spaced;
            doubts |= self.more.doubts[k];

            // Whitespace that goes on to another end of a line does not begin a piece behind this one.
            let maybe = behind_line & !up(taken, before.taken);
            let (sum, over) = gap.overflowing_add(maybe);
            let (sum, more) = sum.overflowing_add(u64::from(open));
            open = over || more;
            let mut joined = sum & !gap & line;
            while joined != 0 {
                self.join_gap(k * BLOCK + joined.trailing_zeros() as usize);
                joined &= joined - 1;
            }
            before = Before {
                letter,
                number,
                other,
                space,
                blank,
                gap,
                line,
                taken,
                free,
                alone,
                small,
                uncased,
                thirds,
            };
        }
        self.begins[last] &= end | (end - 1);
        Left { doubts: doubts != 0, open }
    }

    /// The whitespace without ends of lines that ends at `to` begins no piece.
    #[cold]
    fn join_gap(&mut self, to: usize) {
        let (spaces, lines) = (&self.classes[Class::Space as usize], &self.more.lines);
        let mut at = to - 1;
        while at > 0 && bit(spaces, at - 1) && !bit(lines, at - 1) {
            at -= 1;
        }
        self.begins[at / BLOCK] &= !(1 << (at % BLOCK));
    }

    /// Whitespace up to the end of the text is one piece.
    #[inline]
    fn join_tail(&mut self, length: usize) {
        let (mut at, mut first) = (length, None);
        while at > 0 && bit(&self.classes[Class::Space as usize], at - 1) {
            at -= 1;
            if bit(&self.begins, at) {
                self.begins[at / BLOCK] &= !(1 << (at % BLOCK));
                first = Some(at);
            }
        }
        if let Some(at) = first {
            self.begins[at / BLOCK] |= 1 << (at % BLOCK);
        }
    }

    /// o200k's contractions, which end a word: neither they nor their letters begin a piece, what follows
    /// does. One behind another is none, but begins a piece.
    #[inline(always)]
    fn words_with_contractions(&mut self, text: &[u8], length: usize) {
        let (mut before, mut after) = (0, 0);
        for k in 0..length.div_ceil(BLOCK) {
            let letter = self.classes[Class::Letter as usize][k];
            let mut quotes = self.quotes[k] & self.begins[k] & up(letter, before);
            before = letter;
            while quotes != 0 {
                let quote = k * BLOCK + quotes.trailing_zeros() as usize;
                quotes &= quotes - 1;
                let count = contraction(&text[quote + 1..]);
                if count > 0 && quote != after {
                    after = quote + 1 + count;
                    self.clear(quote, after);
                    if after < length {
                        self.begins[after / BLOCK] |= 1 << (after % BLOCK);
                    }
                }
            }
        }
    }

    /// No piece begins from `from` on and before `to`, which may be a few bytes behind the chunk.
    #[inline]
    fn clear(&mut self, from: usize, to: usize) {
        for at in from..to {
            self.begins[at / BLOCK] &= !(1 << (at % BLOCK));
        }
    }

    /// Decides one character at a time where there are doubts.
    #[cold]
    fn settle(&mut self, text: &[u8], length: usize, end: End) {
        let mut settled = 0;
        for k in 0..length.div_ceil(BLOCK) {
            let mut doubts = self.more.doubts[k];
            while doubts != 0 && settled < length {
                let doubt = k * BLOCK + doubts.trailing_zeros() as usize;
                doubts &= doubts - 1;
                if doubt < settled {
                    continue;
                }
                let mut at = self.begin_before(doubt);
                loop {
                    settled = end(text, at).min(length);
                    self.clear(at + 1, settled);
                    if settled == length || settled > doubt && bit(&self.begins, settled) {
                        break;
                    }
                    self.begins[settled / BLOCK] |= 1 << (settled % BLOCK);
                    at = settled;
                }
            }
        }
    }

    /// The last beginning before `at`; at 0 one begins whatever is there.
    fn begin_before(&self, at: usize) -> usize {
        let (mut k, mut bits) = (at / BLOCK, self.begins[at / BLOCK] & ((1 << (at % BLOCK)) - 1));
        while bits == 0 && k > 0 {
            k -= 1;
            bits = self.begins[k];
        }
        k * BLOCK + bits.checked_ilog2().unwrap_or(0) as usize
    }
}

/// Bits of the bytes before.
#[inline(always)]
fn up(now: u64, before: u64) -> u64 {
    now << 1 | before >> (BLOCK - 1)
}
