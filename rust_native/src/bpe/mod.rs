//! Byte-level BPE as GPT-2 does it: text to token ids and back.
//!
//! Encoding: special tokens are found first (if allowed); the text between them is split into pieces by
//! [`split`], and the bytes of each piece are merged by rank. Every byte has a token, so every text
//! encodes and decoding the ids gives the same bytes.
//!
//! Invariant: ids equal those of Hugging Face's tokenizers for the same vocabulary and the same treatment
//! of special tokens.

#![forbid(unsafe_code)]

mod alphabet;
mod cache;
pub mod class_ranges;
pub mod classes;
mod decode;
mod encode;
mod gpt2;
mod load;
mod merge;
pub mod split;
mod tokenizer_json;
mod write;

use std::sync::Mutex;

pub use self::decode::StreamDecoder;
use self::encode::Scratch;
use self::merge::Merges;

/// What to do with the spelling of a special token, such as `<|endoftext|>`, inside text. There is no
/// default: peers differ silently in this, and text from outside should not be able to end a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// It becomes the special id, as Hugging Face's `encode` does.
    Allow,
    /// It is ordinary text and is spelled out, as tiktoken's `encode_ordinary` does.
    Ignore,
    /// It is an error naming the place, as tiktoken's `encode` does.
    Refuse,
}

/// A byte-level BPE tokenizer. Shared freely between threads; all methods take `&self`.
pub struct Tokenizer {
    /// Bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Token `id` is `bytes[starts[id]..starts[id + 1]]`.
    starts: Vec<u32>,
    /// Id of each single byte.
    byte_ids: [u32; 256],
    merges: Merges,
    /// Merges as pairs of ids, in rank order; for writing the vocabulary.
    pairs: Vec<(u32, u32)>,
    specials: Specials,
    /// Idle working memory with its word caches; as many as calls ever ran at once, at most [`MAX_IDLE`].
    idle: Mutex<Vec<Scratch>>,
}

/// Bounds what [`Tokenizer::idle`] keeps, about 1 MiB each.
const MAX_IDLE: usize = 64;

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("ids", &self.vocabulary_size())
            .field("merges", &self.merges.len())
            .field("specials", &self.specials.list)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Puts together checked parts: token bytes by id, merges in rank order as (left, right, result), and
    /// special tokens. The loaders uphold: ids are below [`merge::MAX_IDS`] - 1 and every byte has one.
    fn new(
        bytes: Vec<u8>,
        starts: Vec<u32>,
        byte_ids: [u32; 256],
        merges: &[(u32, u32, u32)],
        specials: Vec<(String, u32)>,
    ) -> Self {
        Self {
            bytes,
            starts,
            byte_ids,
            merges: Merges::new(merges.iter().copied()),
            pairs: merges.iter().map(|&(left, right, _)| (left, right)).collect(),
            specials: Specials::new(specials),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Number of ids, special tokens included; ids run from 0 to this minus 1.
    pub fn vocabulary_size(&self) -> usize {
        self.starts.len() - 1
    }

    /// The bytes of one token, or `None` for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let id = usize::try_from(id).ok()?;
        let (start, end) = (*self.starts.get(id)?, *self.starts.get(id.checked_add(1)?)?);
        Some(&self.bytes[start as usize..end as usize])
    }

    /// Special tokens and their ids, in order of id.
    pub fn special_tokens(&self) -> impl DoubleEndedIterator<Item = (&str, u32)> {
        self.specials.list.iter().map(|(token, id)| (token.as_str(), *id))
    }

    /// The id of a special token by its spelling.
    pub fn special_id(&self, token: &str) -> Option<u32> {
        self.special_tokens().find(|(known, _)| *known == token).map(|(_, id)| id)
    }

    /// Whether `id` is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_tokens().any(|(_, special)| special == id)
    }
}

/// The special tokens and how to find them.
struct Specials {
    /// In order of id.
    list: Vec<(String, u32)>,
    /// Indices into `list`, longest token first.
    by_length: Vec<usize>,
    /// Which bytes begin a special token.
    first: [bool; 256],
}

impl Specials {
    fn new(mut list: Vec<(String, u32)>) -> Self {
        list.sort_by_key(|&(_, id)| id);
        let mut by_length: Vec<usize> = (0..list.len()).collect();
        by_length.sort_by_key(|&i| std::cmp::Reverse(list[i].0.len()));
        let mut first = [false; 256];
        for (token, _) in &list {
            if let Some(&byte) = token.as_bytes().first() {
                first[byte as usize] = true;
            }
        }
        Self { list, by_length, first }
    }

    /// The first special token at or after byte `from`, the longest of several at one place: its start,
    /// spelling and id.
    fn find(&self, text: &str, from: usize) -> Option<(usize, &str, u32)> {
        if self.list.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        let mut at = from;
        loop {
            at += bytes.get(at..)?.iter().position(|&byte| self.first[byte as usize])?;
            for &i in &self.by_length {
                let (token, id) = &self.list[i];
                if bytes[at..].starts_with(token.as_bytes()) {
                    return Some((at, token, *id));
                }
            }
            at += 1;
        }
    }
}
