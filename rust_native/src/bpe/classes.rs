//! Which of the pattern's four classes a character belongs to.
//!
//! Why a table of every code point: a scanner that falls back to something slow outside the scripts it
//! knows loses two orders of magnitude on the rest. The build script spreads [`class_ranges`] into a
//! two-stage table (block of 256 code points -> row -> class), so start-up costs nothing.
//!
//! Invariant: equal, on every code point, to the classes of the regular expression engine behind Hugging
//! Face's tokenizers (Oniguruma, Unicode 16); a test compares all of them.
//!
//! [`class_ranges`]: mod@super::class_ranges

/// A class of the pattern `'s|…| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Anything else: punctuation, symbols, marks, controls, unassigned.
    Other = 0,
    /// `\p{L}`.
    Letter = 1,
    /// `\p{N}`.
    Number = 2,
    /// `\s`.
    Space = 3,
}

impl Class {
    const fn of(code: u8) -> Self {
        match code {
            1 => Self::Letter,
            2 => Self::Number,
            3 => Self::Space,
            _ => Self::Other,
        }
    }
}

/// Row of each block of 256 code points.
static ROWS: &[u8; 0x1100] = include_bytes!(concat!(env!("OUT_DIR"), "/class_rows.bin"));
/// The distinct rows, 256 classes each.
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
    let code = c as usize;
    Class::of(CLASSES[(ROWS[code >> 8] as usize) << 8 | code & 255])
}

/// The class and length in bytes of the character that begins at byte `at` of `text`, a character
/// boundary before the end.
#[inline]
pub(super) fn class_at(text: &str, at: usize) -> (Class, usize) {
    match text.as_bytes()[at] {
        byte @ 0..128 => (ASCII[byte as usize], 1),
        _ => beyond_ascii(text, at),
    }
}

fn beyond_ascii(text: &str, at: usize) -> (Class, usize) {
    match text[at..].chars().next() {
        Some(c) => (class(c), c.len_utf8()),
        None => (Class::Other, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_equals_the_big_table() {
        for byte in 0..128_u8 {
            let text = char::from(byte).to_string();
            assert_eq!(class_at(&text, 0), (class(char::from(byte)), 1));
        }
        assert_eq!(class_at("é", 0), (Class::Letter, 2));
        assert_eq!(class_at("\u{3000}", 0), (Class::Space, 3));
        assert_eq!(class_at("𝟘", 0), (Class::Number, 4));
        assert_eq!(class_at("🙂", 0), (Class::Other, 4));
    }
}
