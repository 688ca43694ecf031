//! Splitting by any regular expression, for patterns without a scanner of their own.
//!
//! Why `fancy-regex`: patterns of this trade look ahead, and it is the engine that tiktoken runs too. Its
//! mode for Oniguruma's dialect is on, and `^` and `$` stand at lines, because the files were written for
//! that engine. It backtracks, within a bound; a text that exceeds it is refused.
//!
//! All ends of a text's pieces are found before the first piece is encoded: a regular expression may look
//! anywhere, so a part of the text would not do, and what is refused is refused before there are ids.
//!
//! Invariant: pieces are what Hugging Face's `Split` with `Isolated` gives, matches and what lies between.

use std::str;

use fancy_regex::{Regex, RegexBuilder};

use crate::Error;

/// Regular expressions, each of which splits the pieces of the one before.
#[derive(Debug)]
pub struct Regexes(Vec<Regex>);

impl Regexes {
    /// Compiles them; the error has the number of the one that does not compile, and the reason.
    pub(super) fn new(sources: Vec<String>) -> Result<Self, (usize, String)> {
        let compile = |(number, source): (usize, String)| {
            let mut builder = RegexBuilder::new(&source);
            let compiled = builder.oniguruma_mode(true).multi_line(true).build();
            compiled.map_err(|error| (number, one_line(&error)))
        };
        sources.into_iter().enumerate().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The regular expressions as given.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Regex::as_str)
    }

    /// Replaces `ends` by the ends of the pieces of a text.
    pub(super) fn ends(&self, text: &[u8], ends: &mut Vec<usize>) -> Result<(), Error> {
        match str::from_utf8(text) {
            Ok(text) => self.ends_of_text(text, ends),
            Err(_) => self.ends_of_bytes(text, ends),
        }
    }

    fn ends_of_text(&self, text: &str, ends: &mut Vec<usize>) -> Result<(), Error> {
        ends.clear();
        if !text.is_empty() {
            ends.push(text.len());
        }
        for regex in &self.0 {
            let mut start = 0;
            for end in std::mem::take(ends) {
                // Each piece by itself: nothing sees beyond what an earlier expression has cut.
                for found in regex.find_iter(&text[start..end]) {
                    let found = found.map_err(|error| Error::Pattern {
                        pattern: regex.as_str().to_owned(),
                        cause: one_line(&error),
                    })?;
                    for place in [start + found.start(), start + found.end()] {
                        if place > ends.last().copied().unwrap_or(0) {
                            ends.push(place);
                        }
                    }
                }
                if end > ends.last().copied().unwrap_or(0) {
                    ends.push(end);
                }
                start = end;
            }
        }
        Ok(())
    }

    /// Bytes that are not UTF-8 are split as the text in which each of them is U+FFFD.
    #[cold]
    fn ends_of_bytes(&self, text: &[u8], ends: &mut Vec<usize>) -> Result<(), Error> {
        let (mut replaced, mut behind) = (String::with_capacity(text.len()), Vec::new());
        for chunk in text.utf8_chunks() {
            replaced.push_str(chunk.valid());
            for _ in chunk.invalid() {
                replaced.push(char::REPLACEMENT_CHARACTER);
                behind.push(replaced.len());
            }
        }
        self.ends_of_text(&replaced, ends)?;
        let longer = char::REPLACEMENT_CHARACTER.len_utf8() - 1;
        for end in ends {
            *end -= longer * behind.partition_point(|place| place <= end);
        }
        Ok(())
    }
}

/// What `fancy-regex` says, without line breaks: an error is one line.
fn one_line(error: &fancy_regex::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(sources: &[&str], text: &[u8]) -> Vec<usize> {
        let regexes = Regexes::new(sources.iter().map(|&source| source.to_owned()).collect()).unwrap();
        let mut ends = vec![7];
        regexes.ends(text, &mut ends).unwrap();
        ends
    }

    #[test]
    fn matches_and_what_lies_between_are_pieces() {
        assert_eq!(split(&[r"\d+"], b"ab12c3"), [2, 4, 5, 6]);
        assert_eq!(split(&[r"\d*"], b"ab12"), [1, 2, 4]);
        assert!(split(&[r"\d"], b"").is_empty());
        assert_eq!(split(&[], b"ab"), [2]);
        assert_eq!(split(&[r"[a-z]+", "b"], b"abc1b"), [1, 2, 3, 4, 5]);
        // The second sees the first one's pieces: nothing before the b.
        assert_eq!(split(&["a", "(?<=a)b"], b"abc"), [1, 3]);
        assert_eq!(split(&["x$"], b"x\nx"), [1, 2, 3]);
    }

    #[test]
    fn bytes_that_are_no_text_count_as_one_symbol_each() {
        assert_eq!(split(&[r"\w+"], b"ab\xFF\xFEc\xE4\xB8d"), [2, 4, 5, 7, 8]);
        assert_eq!(split(&["\u{FFFD}"], b"a\xFF\xFF"), [1, 2, 3]);
    }

    #[test]
    fn what_backtracks_too_much_is_an_error() {
        let regexes = Regexes::new(vec![r"(?:a+a+)+(?!a)b".to_owned()]).unwrap();
        let error = regexes.ends("a".repeat(60).as_bytes(), &mut Vec::new()).unwrap_err();
        assert!(matches!(&error, Error::Pattern { pattern, .. } if pattern.starts_with("(?:a+")), "{error}");
        assert_eq!(Regexes::new(vec!["a".to_owned(), "(".to_owned()]).unwrap_err().0, 1);
    }
}
