//! Byte-level BPE: text to token ids and back, for any vocabulary, merges and pattern.
//!
//! Encoding: special tokens are found first (if allowed); the text between them is split into pieces by
//! the [`Pattern`], and the bytes of each piece are merged by rank. Every byte has a token, so every text
//! encodes and decoding the ids gives the same bytes. How that is made fast is told in README.md beside
//! this file.
//!
//! Invariant: ids equal those of Hugging Face's tokenizers for the same vocabulary and the same treatment
//! of special tokens, and those of tiktoken for the same ranks.

#![forbid(unsafe_code)]

mod alphabet;
mod batch;
mod blocks;
mod cache;
pub mod class_ranges;
pub mod classes;
mod crew;
mod cuts;
mod decode;
mod encode;
mod gpt2;
mod load;
mod merge;
mod merges;
mod pairs;
mod pattern;
mod phrases;
mod pieces;
mod ranks;
mod regexes;
pub mod split;
mod split_cl100k;
mod split_o200k;
mod text;
mod tokenizer_json;
mod train;
mod vocabulary;
mod write;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, OnceLock};

use kernels::Isa;
use kernels::text::{Job, Scan, Scanner};

pub use self::batch::BatchEncoder;
use self::cache::Key;
use self::crew::Crew;
pub use self::decode::StreamDecoder;
pub use self::encode::Encoder;
use self::encode::Scratch;
use self::merge::{Merger, SHORT, Work};
use self::merges::Merges;
pub use self::pattern::Pattern;
pub use self::regexes::Regexes;
pub use self::train::{TrainOptions, Trainer};
use self::vocabulary::Vocabulary;

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
    /// Token `id` is `bytes[starts[id]..starts[id + 1]]`; an id between special tokens may have none.
    starts: Vec<u32>,
    pattern: Pattern,
    merges: Merges,
    /// Merges as pairs of ids, in rank order; for writing the vocabulary.
    pairs: Vec<(u32, u32)>,
    /// Short tokens by spelling: those that merging their bytes gives, or, if a piece that is a token is
    /// not merged in any case (`whole_first`), all.
    vocabulary: Vocabulary,
    whole_first: bool,
    /// With `whole_first`, the longer tokens that merging their bytes does not give. Hardly ever any.
    whole: HashMap<Box<[u8]>, u32>,
    specials: Specials,
    /// Instruction set of the loops over text.
    scanner: Scanner,
    /// Tokens in the form decoding reads; made when first needed.
    slots: OnceLock<Vec<decode::Slot>>,
    /// Idle working memory with its word caches; as many as calls ever ran at once, at most [`MAX_IDLE`].
    idle: Mutex<Vec<Box<Scratch>>>,
    /// Idle threads of batches, each with such memory.
    crews: Mutex<Vec<Crew>>,
}

/// Bounds what [`Tokenizer::idle`] keeps, about 10 MiB each.
const MAX_IDLE: usize = 64;

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("ids", &self.vocabulary_size())
            .field("pattern", &self.pattern)
            .field("merges", &self.merges.len())
            .field("specials", &self.specials.list)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Puts together checked parts: token bytes by id, merges in rank order as (left, right, result), and
    /// special tokens. The loaders uphold: ids are below [`merges::MAX_IDS`] - 1 and every byte has one.
    /// With `trusted`, merging the bytes of any token that is not special is known to give that token, or
    /// [`Tokenizer::with_whole_tokens`] follows. The pattern is GPT-2's.
    fn new(
        bytes: Vec<u8>,
        starts: Vec<u32>,
        byte_ids: [u32; 256],
        merges: &[(u32, u32, u32)],
        specials: Vec<(String, u32)>,
        trusted: bool,
    ) -> Self {
        let scanner = Scanner::best();
        let (merges, pairs) =
            (Merges::new(merges, byte_ids), merges.iter().map(|&(left, right, _)| (left, right)).collect());
        let specials = Specials::new(specials);
        let spelled =
            Spelled { bytes: &bytes, starts: &starts, merges: &merges, specials: &specials, trusted };
        let vocabulary = Vocabulary::new(&scanner.run(spelled));
        Self {
            bytes,
            starts,
            pattern: Pattern::Gpt2,
            merges,
            pairs,
            vocabulary,
            whole_first: false,
            whole: HashMap::new(),
            specials,
            scanner,
            slots: OnceLock::new(),
            idle: Mutex::new(Vec::new()),
            crews: Mutex::new(Vec::new()),
        }
    }

    /// With another pattern than GPT-2's. Nothing must have been encoded yet.
    fn with_pattern(mut self, pattern: Pattern) -> Self {
        self.pattern = pattern;
        self
    }

    /// A piece that is a token as a whole is that token, whatever its merges are: tiktoken's rule, and
    /// `ignore_merges` in Hugging Face's files. The tokenizer was made with `trusted`.
    fn with_whole_tokens(mut self) -> Self {
        self.whole_first = true;
        self.whole = self.scanner.run(Unmerged { tokenizer: &self, work: &mut Work::default() });
        self
    }

    /// The same tokenizer with another instruction set for its loops over text than the best, or `None`
    /// where this CPU lacks it. Ids are the same with each; this is for tests and for comparing.
    pub fn with_isa(mut self, isa: Isa) -> Option<Self> {
        self.scanner = Scanner::of(isa)?;
        Some(self)
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.scanner.isa()
    }

    /// How text is split into pieces.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// The token that a piece is as a whole although merging it gives others; only for pieces longer than
    /// the vocabulary's.
    #[inline]
    fn whole(&self, piece: &[u8]) -> Option<u32> {
        if self.whole.is_empty() { None } else { self.whole.get(piece).copied() }
    }

    fn merger<'a>(&'a self, work: &'a mut Work) -> Merger<'a> {
        Merger { merges: &self.merges, starts: &self.starts, work }
    }

    /// Number of ids, special tokens included; ids run from 0 to this minus 1. Some between the special
    /// tokens may be of no token.
    pub fn vocabulary_size(&self) -> usize {
        self.starts.len() - 1
    }

    /// The bytes of one token, or `None` for an id that has none.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let id = usize::try_from(id).ok()?;
        let (start, end) = (*self.starts.get(id)?, *self.starts.get(id.checked_add(1)?)?);
        (start < end).then(|| &self.bytes[start as usize..end as usize])
    }

    /// Which bytes of the text each of some consecutive ids stands for, counted from the first one's first
    /// byte. An id outside the vocabulary stands for none.
    pub fn byte_ranges(&self, ids: &[u32]) -> impl Iterator<Item = Range<usize>> {
        ids.iter().scan(0, |end, &id| {
            let start = *end;
            *end += self.token_bytes(id).unwrap_or_default().len();
            Some(start..*end)
        })
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
        self.specials.has(id)
    }
}

/// Finds the tokens of 16 bytes and more that merging their bytes does not give.
struct Unmerged<'a> {
    tokenizer: &'a Tokenizer,
    work: &'a mut Work,
}

impl Job for Unmerged<'_> {
    type Output = HashMap<Box<[u8]>, u32>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Self::Output {
        let (mut found, mut ids) = (HashMap::new(), Vec::new());
        for id in 0..self.tokenizer.vocabulary_size() as u32 {
            let token = self.tokenizer.token_bytes(id).unwrap_or_default();
            if token.len() <= cache::MAX_BYTES || self.tokenizer.is_special(id) {
                continue;
            }
            ids.clear();
            self.tokenizer.merger(self.work).piece(scan, token, &mut ids);
            if ids != [id] {
                found.insert(token.into(), id);
            }
        }
        found
    }
}

/// Lists the short tokens that merging their own bytes gives, with their keys.
struct Spelled<'a> {
    bytes: &'a [u8],
    starts: &'a [u32],
    merges: &'a Merges,
    specials: &'a Specials,
    trusted: bool,
}

impl Job for Spelled<'_> {
    type Output = Vec<(Key, u32)>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Vec<(Key, u32)> {
        let mut found = Vec::with_capacity(self.starts.len());
        for (id, place) in self.starts.windows(2).enumerate() {
            let (id, token) = (id as u32, &self.bytes[place[0] as usize..place[1] as usize]);
            let Some(key) = Key::of_piece(token).filter(|_| !token.is_empty()) else { continue };
            let mut ids = [0; SHORT];
            let merged = |ids: &mut [u32]| self.merges.short(scan, token, ids) == 1 && ids[0] == id;
            if !self.specials.has(id) && (self.trusted || merged(&mut ids)) {
                found.push((key, id));
            }
        }
        found
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
    /// The first two bytes of all special tokens, where these are the same for all.
    pair: Option<[u8; 2]>,
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
        let mut pairs = list.iter().map(|(token, _)| token.as_bytes().first_chunk().copied());
        let pair = pairs.next().flatten().filter(|&first| pairs.all(|other| other == Some(first)));
        Self { list, by_length, first, pair }
    }

    /// Whether an id is that of a special token.
    fn has(&self, id: u32) -> bool {
        self.list.binary_search_by_key(&id, |&(_, special)| special).is_ok()
    }

    /// Whether a special token stands across byte `at` or begins at it or at the next one.
    fn touch(&self, text: &[u8], at: usize) -> bool {
        let longest = self.by_length.first().map_or(0, |&i| self.list[i].0.len());
        (at.saturating_sub(longest)..text.len().min(at + 2))
            .filter(|&from| self.first[text[from] as usize])
            .any(|from| {
                let mut tokens = self.list.iter().map(|(token, _)| token.as_bytes());
                tokens.any(|token| text[from..].starts_with(token) && from + token.len() > at)
            })
    }

    /// The first special token at or after byte `from`, the longest of several at one place: its start,
    /// spelling and id.
    fn find(&self, scanner: Scanner, text: &[u8], from: usize) -> Option<(usize, &str, u32)> {
        if self.list.is_empty() {
            return None;
        }
        let mut at = from;
        loop {
            at = match self.pair {
                Some([first, second]) => scanner.find_pair(text, at, first, second)?,
                None => at + text.get(at..)?.iter().position(|&byte| self.first[byte as usize])?,
            };
            for &i in &self.by_length {
                let (token, id) = &self.list[i];
                if text[at..].starts_with(token.as_bytes()) {
                    return Some((at, token, *id));
                }
            }
            at += 1;
        }
    }
}
