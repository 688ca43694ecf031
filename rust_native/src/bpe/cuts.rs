//! Where a long text may be cut so that its parts, encoded apart, give the ids of the whole.
//!
//! A place will do if a piece begins there whatever is around, and if what is before it splits into the same
//! pieces when the text ends there. The pattern never looks behind, so nothing is asked of what follows.
//!
//! - GPT-2: before a whitespace character that something else follows. As the last of its run it begins a piece
//!   (`\s+(?!\S)` leaves it behind, or it is alone), and the whitespace before it is one piece, be it that something
//!   follows or that the text ends (`\s+(?!\S)` both times).
//! - cl100k, Llama 3, o200k: before a blank between a visible ASCII character and something that is not whitespace.
//!   No piece goes on over a blank but whitespace, and look-aheads only end whitespace.
//! - A regular expression: nowhere, because nothing is known of it.
//!
//! Special tokens are found first, and a text between two of them ends where the next begins. So no special token
//! may overlap such a place, nor begin behind the whitespace there.
//!
//! Invariant: ids up to a cut and ids from it on are together those of the text.

use super::classes::{Class, class_at};
use super::{Pattern, Special, Tokenizer};

impl Tokenizer {
    /// The first cut at or after `from` and before `to`.
    pub(super) fn cut(&self, text: &[u8], from: usize, to: usize, special: Special) -> Option<usize> {
        let rule = match self.pattern {
            Pattern::Gpt2 => gpt2,
            Pattern::Cl100k | Pattern::Llama3 | Pattern::O200k => others,
            Pattern::Other(_) => return None,
        };
        let free = |at| special == Special::Ignore || !self.specials.touch(text, at);
        (from.max(1)..to.min(text.len().saturating_sub(1))).find(|&at| rule(text, at) && free(at))
    }
}

fn gpt2(text: &[u8], at: usize) -> bool {
    matches!(text[at], b'\t'..=b'\r' | b' ') && class_at(text, at + 1).0 != Class::Space
}

fn others(text: &[u8], at: usize) -> bool {
    text[at] == b' ' && text[at - 1].is_ascii_graphic() && class_at(text, at + 1).0 != Class::Space
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All texts of up to six characters, one of each kind that the patterns and this file's rules tell apart.
    #[test]
    fn parts_give_the_ids_of_the_whole() {
        let kinds = [" ", "\n", "\t", "a", "s", "'", "1", "!", "é", "\u{a0}"];
        let mut texts = vec![String::new()];
        for _ in 0..6 {
            let longer = |text: &String| kinds.map(|kind| format!("{text}{kind}"));
            texts = texts.iter().flat_map(longer).chain([String::new()]).collect();
        }
        let split = |tokenizer: &Tokenizer, text: &str| tokenizer.pattern.ends(text.as_bytes()).unwrap();
        for pattern in [Pattern::Gpt2, Pattern::Cl100k, Pattern::Llama3, Pattern::O200k] {
            let tokenizer = Tokenizer::gpt2().with_pattern(pattern);
            let mut cuts = 0;
            for text in &texts {
                let mut whole = None;
                let mut from = 0;
                while let Some(at) = tokenizer.cut(text.as_bytes(), from, text.len(), Special::Ignore) {
                    let whole = whole.get_or_insert_with(|| split(&tokenizer, text));
                    let mut parts = split(&tokenizer, &text[..at]);
                    parts.extend(split(&tokenizer, &text[at..]).into_iter().map(|end| at + end));
                    assert_eq!(&parts, whole, "{:?}: {text:?} at {at}", tokenizer.pattern);
                    (from, cuts) = (at + 1, cuts + 1);
                }
            }
            assert!(cuts > 100_000, "{cuts}");
        }
    }

    #[test]
    fn special_tokens_are_not_cut_and_not_cut_off() {
        let end = "<|endoftext|>";
        let tokenizer = Tokenizer::gpt2();
        let cuts = |text: &str, special| {
            let cuts =
                (0..text.len()).filter(|&at| tokenizer.cut(text.as_bytes(), at, at + 1, special) == Some(at));
            cuts.collect::<Vec<_>>()
        };
        let text = format!("a b \n{end} c{end}\nd");
        assert_eq!(cuts(&text, Special::Ignore), [1, 4, 18, 33]);
        for special in [Special::Allow, Special::Refuse] {
            assert_eq!(cuts(&text, special), [1, 18, 33]);
        }
        for at in cuts(&text, Special::Allow) {
            let parts =
                [&text[..at], &text[at..]].map(|part| tokenizer.encode(part, Special::Allow).unwrap());
            assert_eq!(parts.concat(), tokenizer.encode(&text, Special::Allow).unwrap());
        }
    }
}
