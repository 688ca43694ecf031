//! GPT-2's pre-tokenizer: text into pieces that merges never cross. This file is the specification, one
//! character at a time; `blocks` does the same 64 bytes at a time and is tested against it.
//!
//! The pattern, `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, read as a
//! scanner. Its alternatives begin with disjoint characters, except that
//! - an apostrophe begins a contraction or a run of other characters, contraction first;
//! - a space begins a run of whatever non-space class follows it, or else a whitespace run;
//! - a whitespace run before something else leaves its last character behind (`\s+(?!\S)`), unless it has
//!   only one.
//!
//! The pattern never looks behind, so pieces from any piece's start on are those of the rest alone.
//!
//! Invariant: the pieces are non-empty and concatenate to the text.

use super::classes::{Class, class_at};

/// The pieces of a text.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    text: &'a str,
    at: usize,
}

/// Splits `text` as GPT-2's pattern does.
pub fn pieces(text: &str) -> Pieces<'_> {
    Pieces { text, at: 0 }
}

/// The ends of the pieces of bytes that need not be UTF-8; each byte that is not counts as a symbol.
pub fn ends(text: &[u8]) -> impl Iterator<Item = usize> {
    let next = |&at: &usize| (at < text.len()).then(|| piece_end(text, at));
    std::iter::successors(next(&0), next)
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let start = self.at;
        if start >= self.text.len() {
            return None;
        }
        self.at = piece_end(self.text.as_bytes(), start);
        Some(&self.text[start..self.at])
    }
}

/// Where the piece that begins at `start` (before the end) ends.
pub(super) fn piece_end(text: &[u8], start: usize) -> usize {
    let (class, length) = class_at(text, start);
    let next = start + length;
    match class {
        Class::Space if text[start] == b' ' && next < text.len() => match class_at(text, next) {
            (Class::Space, _) => space_end(text, start, next),
            (class, length) => run_end(text, next + length, class),
        },
        Class::Space => space_end(text, start, next),
        Class::Other if text[start] == b'\'' => match contraction(&text[next..]) {
            0 => run_end(text, next, class),
            length => next + length,
        },
        class => run_end(text, next, class),
    }
}

/// The end of the characters of `class` from `at` on.
pub(super) fn run_end(text: &[u8], mut at: usize, class: Class) -> usize {
    while at < text.len() {
        let (found, length) = class_at(text, at);
        if found != class {
            break;
        }
        at += length;
    }
    at
}

/// The end of the piece made of whitespace from `start`, whose first character ends at `at`.
fn space_end(text: &[u8], start: usize, mut at: usize) -> usize {
    let mut last = start;
    while at < text.len() {
        let (found, length) = class_at(text, at);
        if found != Class::Space {
            return if last > start { last } else { at };
        }
        last = at;
        at += length;
    }
    at
}

/// Length of the contraction that follows an apostrophe, 0 for none.
#[inline]
pub(super) fn contraction(rest: &[u8]) -> usize {
    match rest {
        [b's' | b't' | b'm' | b'd', ..] => 1,
        [b'r' | b'v', b'e', ..] | [b'l', b'l', ..] => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn examples_of_each_rule() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("Hello world", &["Hello", " world"]),
            ("it's we'll I'D '", &["it", "'s", " we", "'ll", " I", "'", "D", " '"]),
            ("x 's", &["x", " '", "s"]),
            ("''s", &["''", "s"]),
            ("a1b22", &["a", "1", "b", "22"]),
            ("a  b", &["a", " ", " b"]),
            ("a\n\nb", &["a", "\n", "\n", "b"]),
            ("a \n b", &["a", " \n", " b"]),
            ("a  ", &["a", "  "]),
            (" ", &[" "]),
            ("\u{3000}\u{3000}x", &["\u{3000}", "\u{3000}", "x"]),
            ("\u{a0}x", &["\u{a0}", "x"]),
            (" !?é٣", &[" !?", "é", "٣"]),
        ];
        for (text, expected) in cases {
            assert_eq!(&pieces(text).collect::<Vec<_>>(), expected, "{text:?}");
        }
    }
}
