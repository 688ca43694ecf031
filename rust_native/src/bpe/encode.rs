//! Encoding: one text, many texts, or only the count.
//!
//! Why a pool of working memory: the word caches make repeated words cheap, but a tokenizer is shared, so
//! each [`Encoder`] borrows caches of its own from the pool and gives them back; nothing is locked while
//! encoding. The loop over pieces is in `text`.
//!
//! Invariant: results do not depend on the caches' contents, on the instruction set nor on the number of
//! threads.

use std::sync::PoisonError;

use kernels::ask_for_huge_pages;

use super::blocks::{Blocks, CHUNK};
use super::cache::{self, Key, Long, Words};
use super::merge::Work;
use super::phrases::Phrases;
use super::pieces::{Gpt2, Known, Later, Pieces};
use super::text::Text;
use super::{MAX_IDLE, Pattern, Regexes, Special, Tokenizer};
use crate::Error;

/// A chunk, and as many bytes behind it as are looked at from its last.
pub(super) const PADDED: usize = CHUNK + 16;

/// Working memory of one encoder.
pub(super) struct Scratch {
    pub(super) blocks: Blocks,
    pub(super) words: Words,
    pub(super) long: Long,
    pub(super) phrases: Phrases,
    pub(super) work: Work,
    /// Keys of the pieces of a chunk, and their lines among the words.
    pub(super) keys: [Key; CHUNK],
    pub(super) places: [u16; CHUNK],
    /// The end of a text.
    pub(super) padded: [u8; PADDED],
    /// Ids of a chunk: at most one a byte, and the room that a cache's block of ids takes.
    pub(super) ids: [u32; CHUNK + cache::ROOM],
    counted: Vec<u32>,
    /// Ids of a piece too long for the merge that writes in place.
    pub(super) found: Vec<u32>,
    /// Ends of all pieces of a text, where a regular expression finds them.
    ends: Vec<usize>,
}

impl Scratch {
    /// For a vocabulary of so many ids.
    pub(super) fn new(ids: usize) -> Self {
        Self {
            blocks: Blocks::new(),
            words: Words::new(ids),
            long: Long::new(),
            phrases: Phrases::new(),
            work: Work::default(),
            keys: [Key::NONE; CHUNK],
            places: [0; CHUNK],
            padded: [0; PADDED],
            ids: [0; CHUNK + cache::ROOM],
            counted: Vec::new(),
            found: Vec::new(),
            ends: Vec::new(),
        }
    }
}

/// What lies between and at special tokens.
enum Segment<'a> {
    /// The text up to the segment's end, and where the segment begins.
    Text(&'a [u8], usize),
    Special(u32),
}

/// A tokenizer with working memory of its own: the way to encode many texts one after the other.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Absent only while the encoder is dropped.
    scratch: Option<Box<Scratch>>,
}

impl std::fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("tokenizer", self.tokenizer).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// An encoder. Its caches start with what earlier encoders of this tokenizer left in them.
    pub fn encoder(&self) -> Encoder<'_> {
        // The pool holds whole scratches at all times, so a panic elsewhere leaves it sound.
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Encoder { tokenizer: self, scratch: Some(idle.unwrap_or_else(|| self.new_scratch())) }
    }

    pub(super) fn new_scratch(&self) -> Box<Scratch> {
        Box::new(Scratch::new(self.vocabulary_size()))
    }

    /// The ids of `text`.
    ///
    /// # Errors
    /// [`Error::SpecialToken`] under [`Special::Refuse`] if `text` contains one; [`Error::Pattern`] where a
    /// regular expression gives up, which no pattern with a scanner of its own does.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 8);
        ask_for_huge_pages(&mut ids);
        self.encoder().encode_into(text, special, &mut ids)?;
        Ok(ids)
    }

    /// Appends the ids of `text` to `ids`. For many texts one after the other an [`Encoder`] is cheaper.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; `ids` is then unchanged.
    pub fn encode_into(&self, text: &str, special: Special, ids: &mut Vec<u32>) -> Result<(), Error> {
        self.encoder().encode_into(text, special, ids)
    }

    /// How many ids [`Tokenizer::encode`] would give.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn count(&self, text: &str, special: Special) -> Result<usize, Error> {
        self.encoder().count(text, special)
    }

    /// Calls `each` for every segment until it says false. The pattern's look-ahead ends at a segment's
    /// end, as it does in Hugging Face's tokenizers.
    fn segments<'t>(&self, text: &'t [u8], special: Special, mut each: impl FnMut(Segment<'t>) -> bool) {
        let mut from = 0;
        if special == Special::Allow {
            while let Some((at, token, id)) = self.specials.find(self.scanner, text, from) {
                if at > from && !each(Segment::Text(&text[..at], from)) || !each(Segment::Special(id)) {
                    return;
                }
                from = at + token.len();
            }
        }
        if from < text.len() {
            each(Segment::Text(text, from));
        }
    }

    pub(super) fn check(&self, text: &[u8], special: Special) -> Result<(), Error> {
        if special == Special::Refuse
            && let Some((offset, token, _)) = self.specials.find(self.scanner, text, 0)
        {
            return Err(Error::SpecialToken { token: token.to_owned(), offset });
        }
        Ok(())
    }
}

impl Encoder<'_> {
    /// Appends the ids of `text` to `ids`; allocates nothing once `ids` and the caches have grown.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; `ids` is then unchanged.
    pub fn encode_into(&mut self, text: &str, special: Special, ids: &mut Vec<u32>) -> Result<(), Error> {
        self.encode_bytes_into(text.as_bytes(), special, ids)
    }

    /// Appends the ids of bytes that need not be UTF-8. They decode to the same bytes. Where pieces begin
    /// is decided as if each byte that is not part of a character were U+FFFD.
    ///
    /// # Errors
    /// As [`Encoder::encode_into`].
    pub fn encode_bytes_into(
        &mut self,
        text: &[u8],
        special: Special,
        ids: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let tokenizer = self.tokenizer;
        tokenizer.append(self.scratch(), text, special, ids)
    }

    /// Appends the first `limit` ids of `text` to `ids` and returns how many bytes of `text` they stand for;
    /// what follows them is hardly looked at, unless the pattern is a regular expression. The last of these
    /// bytes may be inside a character.
    ///
    /// # Errors
    /// As [`Encoder::encode_into`].
    pub fn encode_up_to(
        &mut self,
        text: &str,
        special: Special,
        limit: usize,
        ids: &mut Vec<u32>,
    ) -> Result<usize, Error> {
        self.tokenizer.check(text.as_bytes(), special)?;
        let first = ids.len();
        let tokenizer = self.tokenizer;
        tokenizer.up_to(self.scratch(), text.as_bytes(), special, first.saturating_add(limit), ids)?;
        ids.truncate(first.saturating_add(limit));
        Ok(self.tokenizer.byte_ranges(&ids[first..]).last().map_or(0, |last| last.end))
    }

    /// How many ids `text` has, in memory that does not grow with it, unless the pattern is a regular
    /// expression.
    ///
    /// # Errors
    /// As [`Encoder::encode_into`].
    pub fn count(&mut self, text: &str, special: Special) -> Result<usize, Error> {
        self.count_bytes(text.as_bytes(), special)
    }

    /// How many ids bytes have that need not be UTF-8.
    ///
    /// # Errors
    /// As [`Encoder::encode_into`].
    pub fn count_bytes(&mut self, text: &[u8], special: Special) -> Result<usize, Error> {
        self.tokenizer.check(text, special)?;
        let (tokenizer, scratch) = (self.tokenizer, self.scratch());
        tokenizer.ready(scratch, text, special)?;
        let mut ids = std::mem::take(&mut scratch.counted);
        let mut total = 0;
        tokenizer.segments(text, special, |segment| {
            match segment {
                Segment::Special(_) => total += 1,
                Segment::Text(text, mut from) => {
                    while from < text.len() {
                        ids.clear();
                        from = tokenizer.some(scratch, text, from, &mut ids, 1);
                        total += ids.len();
                    }
                }
            }
            true
        });
        scratch.counted = ids;
        Ok(total)
    }

    fn scratch(&mut self) -> &mut Scratch {
        self.scratch.get_or_insert_with(|| self.tokenizer.new_scratch())
    }
}

impl Drop for Encoder<'_> {
    fn drop(&mut self) {
        let mut idle = self.tokenizer.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.extend(self.scratch.take());
        }
    }
}

impl Tokenizer {
    /// [`Encoder::encode_bytes_into`] in working memory from elsewhere.
    pub(super) fn append(
        &self,
        scratch: &mut Scratch,
        text: &[u8],
        special: Special,
        ids: &mut Vec<u32>,
    ) -> Result<(), Error> {
        self.check(text, special)?;
        self.up_to(scratch, text, special, usize::MAX, ids)
    }

    /// Appends ids until the text ends or `ids` holds `enough` or a few more.
    fn up_to(
        &self,
        scratch: &mut Scratch,
        text: &[u8],
        special: Special,
        enough: usize,
        ids: &mut Vec<u32>,
    ) -> Result<(), Error> {
        self.ready(scratch, text, special)?;
        self.segments(text, special, |segment| {
            match segment {
                Segment::Special(id) => ids.push(id),
                Segment::Text(text, from) => {
                    self.some(scratch, text, from, ids, enough);
                }
            }
            ids.len() < enough
        });
        scratch.work.shrink();
        Ok(())
    }

    /// Readies `scratch` for [`Tokenizer::some`] of a text: where the pattern is a regular expression, all
    /// pieces are found here, so that one that gives up does so before there are ids.
    #[inline]
    fn ready(&self, scratch: &mut Scratch, text: &[u8], special: Special) -> Result<(), Error> {
        match &self.pattern {
            Pattern::Other(regexes) => self.find_ends(regexes, scratch, text, special),
            _ => Ok(()),
        }
    }

    #[cold]
    fn find_ends(
        &self,
        regexes: &Regexes,
        scratch: &mut Scratch,
        text: &[u8],
        special: Special,
    ) -> Result<(), Error> {
        scratch.ends.clear();
        let (mut ends, mut outcome) = (Vec::new(), Ok(()));
        self.segments(text, special, |segment| {
            if let Segment::Text(text, from) = segment {
                outcome = regexes.ends(&text[from..], &mut ends);
                scratch.ends.extend(ends.iter().map(|end| from + end));
            }
            outcome.is_ok()
        });
        outcome
    }

    /// Appends the ids of `text` from `from` on, where a piece begins, until it ends or `ids` holds `enough`,
    /// and gives the place it got to. Which pattern it is is asked here, once.
    #[inline]
    fn some(
        &self,
        scratch: &mut Scratch,
        text: &[u8],
        from: usize,
        ids: &mut Vec<u32>,
        enough: usize,
    ) -> usize {
        let pieces = match self.pattern {
            Pattern::Gpt2 => return self.by(Gpt2, scratch, text, from, ids, enough),
            Pattern::Cl100k => Later::Cl100k,
            Pattern::Llama3 => Later::Llama3,
            Pattern::O200k => Later::O200k,
            Pattern::Other(_) => {
                let ends = std::mem::take(&mut scratch.ends);
                let done = self.by_apart(Known(&ends), scratch, text, from, ids, enough);
                scratch.ends = ends;
                return done;
            }
        };
        self.by_apart(pieces, scratch, text, from, ids, enough)
    }

    /// Apart, so that GPT-2's way stays short: on a text of one line a call more is to be seen.
    #[inline(never)]
    fn by_apart<P: Pieces>(
        &self,
        pieces: P,
        scratch: &mut Scratch,
        text: &[u8],
        from: usize,
        ids: &mut Vec<u32>,
        enough: usize,
    ) -> usize {
        self.by(pieces, scratch, text, from, ids, enough)
    }

    #[inline(always)]
    fn by<P: Pieces>(
        &self,
        pieces: P,
        scratch: &mut Scratch,
        text: &[u8],
        from: usize,
        ids: &mut Vec<u32>,
        enough: usize,
    ) -> usize {
        self.scanner.run(Text { tokenizer: self, pieces, scratch, text, from, ids, enough })
    }
}
