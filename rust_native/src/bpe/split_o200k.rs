//! The pre-tokenizer of o200k, one character at a time. This file is the specification; `blocks` does the same 64
//! bytes at a time and is tested against it.
//!
//! With `F` for the front of a word, `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, `B` for its back,
//! `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`, `P` for what may stand before it, `[^\r\n\p{L}\p{N}]`, and `C` for
//! `(?i:'s|'t|'re|'ve|'m|'ll|'d)`, the pattern is
//! `P?F*B+C?|P?F+B*C?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
//!
//! What has no case is both front and back, and marks are `P` as well, so the first two alternatives take
//! turns by backtracking. Read closely: from where a word begins, let the run of `F` end at `e`.
//! - A small letter at `e`: the word is that run and the `B` from `e` on.
//! - Otherwise `B+` gets what the run gives back: the word ends behind the run's last character without
//!   case; where there is one, the first alternative has matched.
//! - Otherwise the run is capitals alone, and the second alternative takes it.
//!
//! `P` is taken before it is left out, and the first alternative is tried both ways before the second is. So
//! a mark that begins a piece is `P` where the first alternative goes on behind it, and otherwise it is a
//! word of its own, `B+`, which the second alternative never sees.
//!
//! Invariant: as in [`split`](super::split), pieces are never empty and nothing looks behind.

use super::classes::{Class, class_at, kind_at};
use super::split::run_end;
use super::split_cl100k::{contraction, ends_line, numbers_end, skip, space_end};

/// Which alternative takes a word, without `P` and `C`, and where the word ends.
enum Word {
    First(usize),
    Second(usize),
    None,
}

/// Where the piece that begins at `start` (before the end) ends.
#[inline(always)]
pub(super) fn piece_end(text: &[u8], start: usize) -> usize {
    let (kind, length) = kind_at(text, start);
    let next = start + length;
    let class = kind.class();
    let word = match class {
        Class::Letter => word(text, start),
        Class::Number => return numbers_end(text, next),
        _ if ends_line(text[start]) => Word::None,
        _ => word(text, next),
    };
    match word {
        Word::First(end) => return contracted(text, end),
        _ if kind.mark() => return contracted(text, next),
        Word::Second(end) => return contracted(text, end),
        Word::None => {}
    }
    let tail = |byte| ends_line(byte) || byte == b'/';
    if class != Class::Space {
        return skip(text, run_end(text, next, Class::Other), tail);
    }
    match (next < text.len()).then(|| class_at(text, next)) {
        Some((Class::Other, length)) if text[start] == b' ' => {
            skip(text, run_end(text, next + length, Class::Other), tail)
        }
        _ => space_end::<false>(text, start),
    }
}

/// The word that begins at `start`.
#[inline]
fn word(text: &[u8], start: usize) -> Word {
    let (mut at, mut shared) = (start, None);
    while at < text.len() {
        let (kind, length) = kind_at(text, at);
        if kind.front() {
            at += length;
            if kind.back() {
                shared = Some(at);
            }
        } else if kind.back() {
            return Word::First(back_end(text, at + length));
        } else {
            break;
        }
    }
    match shared {
        Some(end) => Word::First(end),
        None if at > start => Word::Second(at),
        None => Word::None,
    }
}

/// The end of the back of a word from `at` on.
#[inline]
fn back_end(text: &[u8], mut at: usize) -> usize {
    while at < text.len() {
        let (kind, length) = kind_at(text, at);
        if !kind.back() {
            break;
        }
        at += length;
    }
    at
}

/// The end of a word that ends at `end`, with its contraction.
#[inline]
fn contracted(text: &[u8], end: usize) -> usize {
    match text.get(end) {
        Some(b'\'') => match contraction(&text[end + 1..]) {
            0 => end,
            length => end + 1 + length,
        },
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use super::piece_end;

    /// One rule a line; that all texts are split alike is `tests/patterns.rs`' business.
    #[test]
    fn examples_of_each_rule() {
        let cases: &[(&str, &[&str])] = &[
            ("Hello world", &["Hello", " world"]),
            ("it's WE'LL", &["it's", " WE'LL"]),
            ("camelCaseXML", &["camel", "Case", "XML"]),
            ("HTMLPage", &["HTMLPage"]),
            ("世A世B", &["世A世", "B"]),
            ("\u{301}A", &["\u{301}", "A"]),
            ("\u{301}a", &["\u{301}a"]),
            ("!\u{301}'s", &["!\u{301}'s"]),
            ("12345a", &["123", "45", "a"]),
            ("a ://\r\n/b", &["a", " ://\r\n/", "b"]),
            ("a \n \n  b", &["a", " \n \n", " ", " b"]),
            ("\n ", &["\n", " "]),
        ];
        for &(text, expected) in cases {
            let mut ends = vec![0];
            while ends[ends.len() - 1] < text.len() {
                ends.push(piece_end(text.as_bytes(), ends[ends.len() - 1]));
            }
            let pieces: Vec<_> = ends.windows(2).map(|place| &text[place[0]..place[1]]).collect();
            assert_eq!(pieces, expected, "{text:?}");
        }
    }
}
