//! Training: from text to a vocabulary of its own, so that small ones exist without a download.
//!
//! Text is split into pieces by GPT-2's pattern and equal pieces are counted; then, beginning with the single
//! bytes, the pair of neighbouring tokens that occurs most often becomes a token, until there are as many as
//! asked for. Memory grows with the different pieces and not with the text, which is read in blocks.
//!
//! Source of the algorithm: Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword
//! Units", ACL 2016, on bytes as in Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
//!
//! Invariant: merges, their order and all ids are those of Hugging Face's `BpeTrainer` with the same sizes,
//! special tokens, the 256 bytes as alphabet and GPT-2's pre-tokenizer: special tokens first, then the bytes in
//! GPT-2's order, then a token for each merge. (Theirs counts in 32 bits; ours goes on where that ends.) The
//! order in which texts come, and the way they are cut into blocks, change nothing.

use std::collections::HashMap;
use std::io::Read;

use kernels::text::Scanner;

use super::alphabet::{self, ID_ORDER};
use super::pairs::Pairs;
use super::pieces::{self, Gpt2};
use super::{Tokenizer, merges};
use crate::Error;

/// Bytes of a text that are read at a time; more only where one piece is longer.
const BLOCK: usize = 1 << 20;

/// What a vocabulary shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainOptions {
    /// Number of ids, special tokens and the 256 bytes included. The vocabulary is smaller where the text has
    /// no more pairs to merge.
    pub vocabulary_size: usize,
    /// How often a pair must occur in the text to be merged; 0 counts as 1.
    pub min_frequency: u64,
    /// Special tokens, which get the ids from 0. Their spelling inside text is trained on like any other text.
    pub special: Vec<String>,
}

impl Default for TrainOptions {
    /// 30,000 ids, pairs that occur twice, no special token.
    fn default() -> Self {
        Self { vocabulary_size: 30_000, min_frequency: 2, special: Vec::new() }
    }
}

/// Counts the pieces of texts and makes vocabularies of them, of any number of sizes.
///
/// ```
/// use rust_native::{Special, TrainOptions, Trainer};
///
/// let mut trainer = Trainer::new();
/// trainer.feed("low lower lowest");
/// let options = TrainOptions { vocabulary_size: 259, ..TrainOptions::default() };
/// let tokenizer = trainer.train(&options)?;
/// assert_eq!(tokenizer.token_bytes(257), Some(&b"low"[..]));
/// assert_eq!(tokenizer.encode("low", Special::Ignore)?, [257]);
/// # Ok::<(), rust_native::Error>(())
/// ```
pub struct Trainer {
    scanner: Scanner,
    /// The pieces and how often each was seen.
    words: HashMap<Vec<u8>, u64>,
    bytes: u64,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("bytes", &self.bytes)
            .field("words", &self.words.len())
            .finish_non_exhaustive()
    }
}

impl Default for Trainer {
    fn default() -> Self {
        Self::new()
    }
}

impl Trainer {
    /// A trainer that has seen no text.
    pub fn new() -> Self {
        Self { scanner: Scanner::best(), words: HashMap::new(), bytes: 0 }
    }

    /// Bytes of text seen.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Different pieces seen.
    pub fn words(&self) -> usize {
        self.words.len()
    }

    /// Counts the pieces of one text. No piece reaches from one text into the next.
    pub fn feed(&mut self, text: &str) {
        self.count(text.as_bytes(), true);
    }

    /// [`Trainer::feed`] of all that a reader gives, in memory that does not grow with it. `name` is for the
    /// messages: a path, or what else the reader is.
    ///
    /// # Errors
    /// [`Error::Io`] for what cannot be read, [`Error::Utf8`] for what is not UTF-8. What came before the place
    /// has been counted by then.
    pub fn read(&mut self, name: &str, reader: impl Read) -> Result<(), Error> {
        self.read_blocks(name, reader, BLOCK)
    }

    fn read_blocks(&mut self, name: &str, mut reader: impl Read, block: usize) -> Result<(), Error> {
        // The front of `held`, `valid` bytes, is known to be UTF-8; it begins at byte `offset` of the text.
        let (mut held, mut valid, mut offset) = (Vec::new(), 0, 0);
        loop {
            // As much again as was too little for one piece, so that a long one is not looked at too often.
            let wanted = block.max(held.len());
            let mut part = reader.by_ref().take(wanted as u64);
            let ended = part.read_to_end(&mut held).map_err(|e| Error::io(name, "read", e))? < wanted;
            match str::from_utf8(&held[valid..]) {
                Ok(text) => valid += text.len(),
                // A character that goes on in the next block.
                Err(error) if error.error_len().is_none() && !ended => valid += error.valid_up_to(),
                Err(error) => {
                    let offset = offset + valid + error.valid_up_to();
                    return Err(Error::Utf8 { input: name.to_owned(), offset });
                }
            }
            let counted = self.count(&held[..valid], ended);
            if ended {
                return Ok(());
            }
            held.drain(..counted);
            (valid, offset) = (valid - counted, offset + counted);
        }
    }

    /// Counts the pieces of the front of a text and returns how many bytes they are. Unless it is the whole
    /// text, pieces that what follows could change are left out.
    fn count(&mut self, text: &[u8], whole: bool) -> usize {
        // A piece ends where its last character's neighbour says so. An apostrophe looks further ahead, at two
        // bytes.
        const AHEAD: usize = 2;
        let mut start = 0;
        for end in pieces::ends(self.scanner, Gpt2, text) {
            if !whole && end + AHEAD > text.len() {
                break;
            }
            let word = &text[start..end];
            match self.words.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(self.words.insert(word.to_vec(), 1)),
            }
            start = end;
        }
        self.bytes += start as u64;
        start
    }

    /// The vocabulary of what was counted.
    ///
    /// # Errors
    /// [`Error::Argument`] for a size that cannot be, a special token that is empty, given twice or spelled like
    /// a token of the text, and where there is no text.
    pub fn train(&self, options: &TrainOptions) -> Result<Tokenizer, Error> {
        options.check()?;
        if self.words.is_empty() {
            let remedy = "give a text or a file that is not empty";
            return Err(Error::argument("text", "empty, so there is nothing to learn from", remedy));
        }
        let (mut tokens, mut byte_ids) = (Tokens::default(), [0; 256]);
        for name in &options.special {
            tokens.push(name.as_bytes())?;
        }
        for byte in ID_ORDER {
            byte_ids[usize::from(byte)] = tokens.push(&[byte])?;
        }
        let specials = options.spelled_in_bytes();
        let words = self.words.iter().map(|(word, &count)| (word.as_slice(), count));
        let (mut pairs, mut merges) = (Pairs::new(words, &byte_ids)?, Vec::new());
        while tokens.len() < options.vocabulary_size {
            let Some((pair, places)) = pairs.take(options.min_frequency.max(1)) else { break };
            let merged = [tokens.get(pair.0), tokens.get(pair.1)].concat();
            if let Some(name) = specials.get(merged.as_slice()) {
                return Err(special(name, "spelled like a word of the text"));
            }
            let id = tokens.push(&merged)?;
            pairs.merge(pair, &places, id);
            merges.push((pair.0, pair.1, id));
        }
        let specials = options.special.iter().cloned().zip(0..).collect();
        Ok(Tokenizer::new(tokens.bytes, tokens.starts, byte_ids, &merges, specials, false))
    }
}

impl TrainOptions {
    /// What can be known before there is a text; [`Trainer::train`] begins with it.
    ///
    /// # Errors
    /// [`Error::Argument`] for a size that cannot be, and for a special token that is empty, given twice or
    /// spelled like a byte.
    pub fn check(&self) -> Result<(), Error> {
        let (size, least) = (self.vocabulary_size, 256 + self.special.len());
        if size < least {
            let found = format!("{size} ids, but the bytes and special tokens alone are {least}");
            return Err(Error::argument("vocabulary size", found, format!("ask for {least} or more")));
        }
        if size >= merges::MAX_IDS {
            let remedy = format!("ask for {} or fewer", merges::MAX_IDS - 1);
            return Err(Error::argument("vocabulary size", format!("{size} ids"), remedy));
        }
        for (i, name) in self.special.iter().enumerate() {
            if name.is_empty() {
                let remedy = "leave it out or give it a spelling";
                return Err(Error::argument("special token", "empty", remedy));
            }
            if self.special[..i].contains(name) {
                return Err(special(name, "given twice"));
            }
            if alphabet::bytes_of(name).is_ok_and(|bytes| bytes.len() == 1) {
                return Err(special(name, "spelled like a byte in vocabulary files"));
            }
        }
        Ok(())
    }

    /// What each special token would stand for in a vocabulary file if it were not special. A merge that makes
    /// one of these would make a special token out of ordinary text.
    fn spelled_in_bytes(&self) -> HashMap<Vec<u8>, &str> {
        self.special.iter().filter_map(|name| Some((alphabet::bytes_of(name).ok()?, name.as_str()))).collect()
    }
}

fn special(name: &str, found: &str) -> Error {
    let found = format!("{name:?} is {found}");
    Error::argument("special token", found, "give each once, spelled as no text is, such as <|name|>")
}

/// Token bytes by id.
struct Tokens {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { bytes: Vec::new(), starts: vec![0] }
    }
}

impl Tokens {
    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn get(&self, id: u32) -> &[u8] {
        let id = id as usize;
        &self.bytes[self.starts[id] as usize..self.starts[id + 1] as usize]
    }

    /// Adds a token and returns its id.
    fn push(&mut self, token: &[u8]) -> Result<u32, Error> {
        self.bytes.extend_from_slice(token);
        let end = u32::try_from(self.bytes.len()).map_err(|_| {
            let found = "so many long tokens that they exceed 4 GiB";
            Error::argument("vocabulary size", found, "ask for fewer ids, or split the text's longest words")
        })?;
        self.starts.push(end);
        Ok(self.starts.len() as u32 - 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "it's we'll 'r 're'  \n x\u{3000}\u{3000}y 世界🙂 'v've a'l'll\n\n   \u{a0}12٣ !?'s it's x";

    #[test]
    fn how_a_text_is_cut_into_blocks_changes_nothing() {
        let text = TEXT.repeat(3);
        let mut whole = Trainer::new();
        whole.feed(&text);
        assert_eq!(whole.bytes(), text.len() as u64);
        for block in (1..text.len() + 2).chain([BLOCK]) {
            let mut blocks = Trainer::new();
            blocks.read_blocks("text", text.as_bytes(), block).unwrap();
            assert_eq!(blocks.words, whole.words, "{block}");
            assert_eq!(blocks.bytes(), whole.bytes(), "{block}");
        }
    }

    #[test]
    fn what_is_not_utf_8_is_found_in_any_block() {
        for (bad, at) in [(&b"\xFF x"[..], 0), (b"\xE4\xB8 x", 0), (b"x \xF0\x9F\x99", 2)] {
            let text = [TEXT.as_bytes(), bad].concat();
            for block in 1..text.len() + 2 {
                match Trainer::new().read_blocks("some.txt", &text[..], block) {
                    Err(Error::Utf8 { input, offset }) => {
                        assert_eq!((input.as_str(), offset), ("some.txt", TEXT.len() + at), "{block}");
                    }
                    other => panic!("{block}: {other:?}"),
                }
            }
        }
    }
}
