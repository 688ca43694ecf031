//! The pre-tokenizer of cl100k and of Llama 3, one character at a time. This file is the specification; `blocks`
//! does the same 64 bytes at a time and is tested against it.
//!
//! The pattern, as Hugging Face's files spell it: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|`
//! ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`, read as a scanner:
//! - letters take one character before them along, whatever it is but a number or the end of a line;
//! - numbers come in threes;
//! - other characters take one blank before them and the ends of lines behind them along;
//! - whitespace ends with its last end of a line, or leaves its last character behind.
//!
//! tiktoken spells it with `\s++$` before the last three: whitespace at the end of the text is then one
//! piece, whatever it holds. All else is the same; a test compares both with their regular expressions.
//!
//! Invariant: as in [`split`](super::split), pieces are never empty and nothing looks behind.

use super::classes::{Class, class_at};
use super::split::run_end;

/// Where the piece that begins at `start` (before the end) ends. With `TAIL`, whitespace up to the end of the
/// text is one piece.
#[inline(always)]
pub(super) fn piece_end<const TAIL: bool>(text: &[u8], start: usize) -> usize {
    let (class, length) = class_at(text, start);
    let next = start + length;
    let after = (next < text.len()).then(|| class_at(text, next));
    match (class, after) {
        (Class::Letter, _) => run_end(text, next, Class::Letter),
        (Class::Number, _) => numbers_end(text, next),
        (Class::Other, _) if text[start] == b'\'' && contraction(&text[next..]) > 0 => {
            next + contraction(&text[next..])
        }
        (_, Some((Class::Letter, length))) if !ends_line(text[start]) => {
            run_end(text, next + length, Class::Letter)
        }
        (Class::Other, _) => skip(text, run_end(text, next, Class::Other), ends_line),
        (_, Some((Class::Other, length))) if text[start] == b' ' => {
            skip(text, run_end(text, next + length, Class::Other), ends_line)
        }
        (Class::Space, _) => space_end::<TAIL>(text, start),
    }
}

/// Whether a byte is `[\r\n]`.
#[inline]
pub(super) fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The end of the bytes from `at` on that `belongs` takes.
#[inline]
pub(super) fn skip(text: &[u8], at: usize, belongs: impl Fn(u8) -> bool) -> usize {
    at + text[at..].iter().take_while(|&&byte| belongs(byte)).count()
}

/// The end of a piece of numbers whose first one ends at `at`: three at most.
#[inline]
pub(super) fn numbers_end(text: &[u8], mut at: usize) -> usize {
    for _ in 0..2 {
        match (at < text.len()).then(|| class_at(text, at)) {
            Some((Class::Number, length)) => at += length,
            _ => break,
        }
    }
    at
}

/// The end of the piece of whitespace that begins at `start`.
#[inline]
pub(super) fn space_end<const TAIL: bool>(text: &[u8], start: usize) -> usize {
    let (mut at, mut last, mut line) = (start, start, None);
    while at < text.len() {
        let (class, length) = class_at(text, at);
        if class != Class::Space {
            return line.unwrap_or(if last > start { last } else { at });
        }
        last = at;
        at += length;
        if ends_line(text[last]) {
            line = Some(at);
        }
    }
    if TAIL { at } else { line.unwrap_or(at) }
}

/// Length of the contraction in either case that follows an apostrophe, 0 for none. The long s is an s:
/// without case both are one letter.
#[inline]
pub(super) fn contraction(rest: &[u8]) -> usize {
    let lower = |i: usize| rest.get(i).map_or(0, u8::to_ascii_lowercase);
    match (lower(0), lower(1)) {
        (b's' | b't' | b'm' | b'd', _) => 1,
        (b'r' | b'v', b'e') | (b'l', b'l') => 2,
        (0xC5, 0xBF) => 2,
        _ => 0,
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
            ("it's WE'LL a'ſo '", &["it", "'s", " WE", "'LL", " a", "'ſ", "o", " '"]),
            ("'x \tx(x", &["'x", " ", "\tx", "(x"]),
            ("12345a", &["123", "45", "a"]),
            ("a !!\r\n\r\nb", &["a", " !!\r\n\r\n", "b"]),
            ("a \n \n  b", &["a", " \n \n", " ", " b"]),
            ("a  1", &["a", " ", " ", "1"]),
        ];
        for &(text, expected) in cases {
            let mut ends = vec![0];
            while ends[ends.len() - 1] < text.len() {
                ends.push(piece_end::<false>(text.as_bytes(), ends[ends.len() - 1]));
            }
            let pieces: Vec<_> = ends.windows(2).map(|place| &text[place[0]..place[1]]).collect();
            assert_eq!(pieces, expected, "{text:?}");
        }
        assert_eq!(piece_end::<false>(b" \n ", 0), 2);
        assert_eq!(piece_end::<true>(b" \n ", 0), 3);
    }
}
