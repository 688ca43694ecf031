//! GPT-2's printable spelling of bytes, used by vocab.json, merges.txt and tokenizer.json.
//!
//! The 188 bytes that print as themselves in Latin-1 stand for themselves; the other 68 are moved, in
//! ascending order, to U+0100 and above. Source: `bytes_to_unicode` in openai/gpt-2, `src/encoder.py`.

/// Whether a byte is spelled as itself.
const fn prints(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// Byte to character.
const CHARS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let mut byte = 0;
    let mut moved = 0x100_u32;
    while byte < 256 {
        chars[byte] = if prints(byte as u8) {
            byte as u8 as char
        } else {
            moved += 1;
            match char::from_u32(moved - 1) {
                Some(c) => c,
                None => unreachable!(),
            }
        };
        byte += 1;
    }
    chars
};

/// The bytes in the order of GPT-2's first 256 ids: those that print as themselves, then the moved ones.
pub(super) const ID_ORDER: [u8; 256] = {
    let mut order = [0; 256];
    let mut at = 0;
    let mut pass = 0;
    while pass < 2 {
        let mut byte = 0;
        while byte < 256 {
            if prints(byte as u8) == (pass == 0) {
                order[at] = byte as u8;
                at += 1;
            }
            byte += 1;
        }
        pass += 1;
    }
    order
};

/// Spells bytes in GPT-2's alphabet.
pub(super) fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| CHARS[byte as usize]).collect()
}

/// The bytes a spelling stands for, or its first character that is not in the alphabet.
pub(super) fn bytes_of(spelling: &str) -> Result<Vec<u8>, char> {
    spelling.chars().map(|c| byte_of(c).ok_or(c)).collect()
}

fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0..=0xFF => prints(code as u8).then_some(code as u8),
        code @ 0x100..0x144 => Some(ID_ORDER[(code - 0x100) as usize + 188]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_spelling_and_back() {
        for byte in 0..=255 {
            let spelling = spell(&[byte]);
            assert_eq!(bytes_of(&spelling), Ok(vec![byte]));
        }
        assert_eq!(spell(b" a\n"), "ĠaĊ");
        assert_eq!(bytes_of("a b"), Err(' '));
        assert_eq!(bytes_of("\u{144}"), Err('\u{144}'));
        let mut sorted = ID_ORDER;
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &byte)| i == byte as usize));
    }
}
