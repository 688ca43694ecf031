//! Which of the patterns' classes a character belongs to.
//!
//! Why a table of every code point: a scanner that falls back to something slow outside the scripts it
//! knows loses two orders of magnitude on the rest. The build script spreads [`class_ranges`] into a
//! two-stage table (block of 256 code points -> row -> class), so start-up costs nothing. GPT-2's pattern
//! and cl100k's know four classes; o200k's tells capitals from small letters besides, which is a `Kind`.
//!
//! Bytes that are not UTF-8 are [`Class::Other`], each for itself: what they would be replaced with,
//! U+FFFD, is a symbol.
//!
//! Invariant: equal, on every code point, to the classes of the regular expression engines behind Hugging
//! Face's tokenizers (Oniguruma) and behind tiktoken (regex), both of Unicode 16; tests compare all of them.
//!
//! [`class_ranges`]: mod@super::class_ranges

/// A class of the pattern `'s|…| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Anything else: punctuation, symbols, marks, controls, unassigned, bytes that are not UTF-8.
    Other = 0,
    /// `\p{L}`.
    Letter = 1,
    /// `\p{N}`.
    Number = 2,
    /// `\s`.
    Space = 3,
}

impl Class {
    #[inline]
    const fn of(code: u8) -> Self {
        match code & 3 {
            1 => Self::Letter,
            2 => Self::Number,
            3 => Self::Space,
            _ => Self::Other,
        }
    }
}

/// A character's class, and where in a word of o200k's pattern it may stand: the front is capitals, the
/// back small letters, and what has no case, marks among it, belongs to both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind(u8);

impl Kind {
    /// The class in the lower two bits, then [`Kind::front`] and [`Kind::back`].
    #[inline(always)]
    pub(super) fn bits(self) -> u8 {
        self.0
    }

    #[inline]
    pub(super) fn class(self) -> Class {
        Class::of(self.0)
    }

    /// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`.
    #[inline]
    pub(super) fn front(self) -> bool {
        self.0 & 4 != 0
    }

    /// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`.
    #[inline]
    pub(super) fn back(self) -> bool {
        self.0 & 8 != 0
    }

    /// `\p{M}`.
    #[inline]
    pub(super) fn mark(self) -> bool {
        self.0 == 12
    }
}

/// Row of each block of 256 code points.
static ROWS: &[u8; 0x1100] = include_bytes!(concat!(env!("OUT_DIR"), "/class_rows.bin"));
/// The distinct rows, 256 kinds each; the first is that of ASCII and Latin-1.
static CLASSES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/classes.bin"));

/// Classes of ASCII, apart: the scanner's inner loop touches two cache lines.
static ASCII: [Class; 128] = {
    let mut table = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\t'..=b'\r' | b' ' => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
};

/// The class of a character.
pub fn class(c: char) -> Class {
    class_of(c as usize)
}

/// The class of a code point below 0x110000.
#[inline]
fn class_of(code: usize) -> Class {
    kind_of(code).class()
}

#[inline(always)]
fn kind_of(code: usize) -> Kind {
    Kind(CLASSES[(ROWS[code >> 8] as usize) << 8 | code & 255])
}

/// The class and length in bytes of the character that begins at byte `at`, which is before the end of
/// `text` and not inside a character.
#[inline]
pub(super) fn class_at(text: &[u8], at: usize) -> (Class, usize) {
    match text[at] {
        byte @ 0..128 => (ASCII[byte as usize], 1),
        _ => match decode(four(text, at)) {
            Some((code, length)) => (class_of(code), length),
            None => (Class::Other, 1),
        },
    }
}

/// [`class_at`] with the case.
#[inline]
pub(super) fn kind_at(text: &[u8], at: usize) -> (Kind, usize) {
    match text[at] {
        byte @ 0..128 => (Kind(CLASSES[usize::from(byte)]), 1),
        _ => kind_beyond_ascii(text, at),
    }
}

/// [`kind_at`] where the first byte is not ASCII.
#[inline(always)]
pub(super) fn kind_beyond_ascii(text: &[u8], at: usize) -> (Kind, usize) {
    match decode(four(text, at)) {
        Some((code, length)) => (kind_of(code), length),
        None => (Kind(0), 1),
    }
}

/// Kinds below U+0800, apart: one look instead of two.
static TWO: [u8; 0x800] = {
    let (mut table, mut code) = ([0; 0x800], 0);
    while code < table.len() {
        table[code] = CLASSES[(ROWS[code >> 8] as usize) << 8 | code & 255];
        code += 1;
    }
    table
};

/// [`Kind::bits`] of the character of two bytes that begins at byte `at`, where it is known that there is one.
#[inline(always)]
pub(super) fn kind_of_two(text: &[u8], at: usize) -> u8 {
    let [lead, a, _, _] = four(text, at).map(usize::from);
    TWO[(lead & 0x1F) << 6 | a & 0x3F]
}

/// The same of three bytes.
#[inline(always)]
pub(super) fn kind_of_three(text: &[u8], at: usize) -> u8 {
    let [lead, a, b, _] = four(text, at).map(usize::from);
    kind_of((lead & 0x0F) << 12 | (a & 0x3F) << 6 | b & 0x3F).0
}

/// Four bytes from `at` on, zeros behind the end.
#[inline(always)]
fn four(text: &[u8], at: usize) -> [u8; 4] {
    match text[at..].first_chunk::<4>() {
        Some(four) => *four,
        None => {
            let rest = &text[at..];
            let mut padded = [0; 4];
            padded[..rest.len()].copy_from_slice(rest);
            padded
        }
    }
}

/// The code point and length of the character beyond ASCII that these bytes begin with, if they are
/// UTF-8: the table of well-formed sequences, Unicode 16, section 3.9.
#[inline]
fn decode([lead, a, b, c]: [u8; 4]) -> Option<(usize, usize)> {
    let tail = |byte: u8| byte & 0xC0 == 0x80;
    let low = |byte: u8| usize::from(byte & 0x3F);
    match lead {
        0xC2..=0xDF if tail(a) => Some((usize::from(lead & 0x1F) << 6 | low(a), 2)),
        0xE0..=0xEF if tail(a) & tail(b) => {
            let code = usize::from(lead & 0x0F) << 12 | low(a) << 6 | low(b);
            (code >= 0x800 && code & !0x7FF != 0xD800).then_some((code, 3))
        }
        0xF0..=0xF4 if tail(a) & tail(b) & tail(c) => {
            let code = usize::from(lead & 0x07) << 18 | low(a) << 12 | low(b) << 6 | low(c);
            (0x1_0000..0x11_0000).contains(&code).then_some((code, 4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_equals_the_big_table() {
        for byte in 0..128_u8 {
            assert_eq!(class_at(&[byte], 0), (class(char::from(byte)), 1));
            let (kind, length) = kind_at(&[byte], 0);
            assert_eq!((kind.class(), length), (class(char::from(byte)), 1));
            assert_eq!(kind.front(), byte.is_ascii_uppercase());
            assert_eq!(kind.back(), byte.is_ascii_lowercase());
        }
        assert_eq!(class_at("é".as_bytes(), 0), (Class::Letter, 2));
        assert_eq!(class_at("\u{3000}".as_bytes(), 0), (Class::Space, 3));
        assert_eq!(class_at("𝟘".as_bytes(), 0), (Class::Number, 4));
        assert_eq!(class_at("🙂".as_bytes(), 0), (Class::Other, 4));
    }

    /// Every sequence of up to four bytes that begins beyond ASCII, thinned out in the later bytes to both
    /// sides of each limit: taken as a character exactly where the standard library takes it for one.
    #[test]
    fn well_formed_is_what_the_standard_library_says() {
        let later = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xED, 0xFF];
        for lead in 0x80..=0xFF {
            for a in 0..=0xFF {
                for b in later {
                    for c in later {
                        let bytes = [lead, a, b, c];
                        for length in 1..=4 {
                            let text = &bytes[..length];
                            let first = (1..=length).find(|&n| std::str::from_utf8(&text[..n]).is_ok());
                            let (found, taken) = class_at(text, 0);
                            assert_eq!(taken, first.unwrap_or(1), "{text:x?}");
                            let (kind, same) = kind_at(text, 0);
                            assert_eq!((kind.class(), same), (found, taken), "{text:x?}");
                            if first.is_none() {
                                assert_eq!(found, Class::Other, "{text:x?}");
                            }
                        }
                    }
                }
            }
        }
    }
}
