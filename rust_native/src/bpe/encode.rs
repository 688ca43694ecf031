//! Encoding: one text, many texts, or only the count.
//!
//! Why a pool of working memory: the word caches make repeated words cheap, but a tokenizer is shared, so
//! each [`Encoder`] borrows caches of its own from the pool and gives them back; nothing is locked while
//! encoding. The loop over pieces finds them in the cache or leaves to [`Miss`]; the two are apart so that
//! the loop fits in registers.
//!
//! Invariant: results do not depend on the caches' contents, on the instruction set nor on the number of
//! threads.

use std::sync::PoisonError;

use kernels::text::{Job, Scan};

use super::blocks::{Blocks, CHUNK};
use super::cache::{self, Key, Long, Wanted, Words};
use super::merge::{Merger, Work};
use super::phrases::Phrases;
use super::split::piece_end;
use super::{MAX_IDLE, Special, Tokenizer};
use crate::Error;

/// Working memory of one encoder.
pub(super) struct Scratch {
    blocks: Blocks,
    words: Words,
    long: Long,
    phrases: Phrases,
    work: Work,
    /// Keys of the pieces of a chunk.
    wanted: [Wanted; CHUNK],
    /// Ids of a chunk: at most one a byte, and the room that a cache's block of ids takes.
    ids: [u32; CHUNK + cache::ROOM],
    counted: Vec<u32>,
    /// Ids of a piece too long for the merge that writes in place.
    found: Vec<u32>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            blocks: Blocks::new(),
            words: Words::new(),
            long: Long::new(),
            phrases: Phrases::new(),
            work: Work::default(),
            wanted: [Wanted::NONE; CHUNK],
            ids: [0; CHUNK + cache::ROOM],
            counted: Vec::new(),
            found: Vec::new(),
        }
    }
}

/// What lies between and at special tokens.
enum Segment<'a> {
    Text(&'a [u8]),
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
        Encoder { tokenizer: self, scratch: Some(idle.unwrap_or_else(|| Box::new(Scratch::new()))) }
    }

    /// The ids of `text`.
    ///
    /// # Errors
    /// [`Error::SpecialToken`] under [`Special::Refuse`] if `text` contains one.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 8);
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
                if at > from && !each(Segment::Text(&text[from..at])) || !each(Segment::Special(id)) {
                    return;
                }
                from = at + token.len();
            }
        }
        if from < text.len() {
            each(Segment::Text(&text[from..]));
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
    /// [`Error::SpecialToken`] under [`Special::Refuse`] if `text` contains one; `ids` is then unchanged.
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
        self.tokenizer.check(text, special)?;
        self.up_to(text, special, usize::MAX, ids);
        Ok(())
    }

    /// Appends the first `limit` ids of `text` to `ids` and returns how many bytes of `text` they stand for;
    /// what follows them is hardly looked at. The last of these bytes may be inside a character.
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
        self.up_to(text.as_bytes(), special, first.saturating_add(limit), ids);
        ids.truncate(first.saturating_add(limit));
        Ok(self.tokenizer.byte_ranges(&ids[first..]).last().map_or(0, |last| last.end))
    }

    /// How many ids `text` has, in memory that does not grow with it.
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
        let mut ids = std::mem::take(&mut scratch.counted);
        let mut total = 0;
        tokenizer.segments(text, special, |segment| {
            match segment {
                Segment::Special(_) => total += 1,
                Segment::Text(mut rest) => {
                    while !rest.is_empty() {
                        ids.clear();
                        let (scratch, ids) = (&mut *scratch, &mut ids);
                        let text = Text { tokenizer, scratch, text: rest, ids, enough: 1 };
                        rest = &rest[tokenizer.scanner.run(text)..];
                        total += ids.len();
                    }
                }
            }
            true
        });
        scratch.counted = ids;
        Ok(total)
    }

    /// Appends ids until the text ends or `ids` holds `enough` or a few more.
    fn up_to(&mut self, text: &[u8], special: Special, enough: usize, ids: &mut Vec<u32>) {
        let (tokenizer, scratch) = (self.tokenizer, self.scratch());
        tokenizer.segments(text, special, |segment| {
            match segment {
                Segment::Special(id) => ids.push(id),
                Segment::Text(text) => {
                    let (scratch, ids) = (&mut *scratch, &mut *ids);
                    tokenizer.scanner.run(Text { tokenizer, scratch, text, ids, enough });
                }
            }
            ids.len() < enough
        });
        scratch.work.shrink();
    }

    fn scratch(&mut self) -> &mut Scratch {
        self.scratch.get_or_insert_with(|| Box::new(Scratch::new()))
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

/// One text without special tokens: appends its ids, chunk by chunk, until it ends or `ids` holds `enough`,
/// and gives the number of bytes done.
struct Text<'a> {
    tokenizer: &'a Tokenizer,
    scratch: &'a mut Scratch,
    text: &'a [u8],
    ids: &'a mut Vec<u32>,
    enough: usize,
}

impl Job for Text<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> usize {
        let Self { tokenizer, scratch, text, ids, enough } = self;
        let mut done = 0;
        while done < text.len() && ids.len() < enough {
            let rest = &text[done..];
            let pieces = scratch.blocks.fill(scan, rest);
            if pieces == 0 {
                let piece = &rest[..piece_end(rest, 0)];
                done += piece.len();
                let merger = tokenizer.merger(&mut scratch.work);
                scan.apart(Piece { merger, piece, ids: &mut *ids });
            } else {
                done += usize::from(scratch.blocks.starts[pieces]);
                let count = chunk(scan, tokenizer, scratch, rest, pieces);
                ids.extend_from_slice(&scratch.ids[..count]);
            }
        }
        done
    }
}

/// Writes the ids of the first pieces that were found in `text` to `scratch.ids`; how many.
#[inline(always)]
fn chunk<S: Scan>(
    scan: S,
    tokenizer: &Tokenizer,
    scratch: &mut Scratch,
    text: &[u8],
    pieces: usize,
) -> usize {
    let Scratch { blocks, words, long, phrases, work, wanted, ids, found, .. } = scratch;
    let starts = &blocks.starts[..=pieces];
    let view = words.view();
    // The text's last bytes, so that 16 can be read from any of them.
    let (edge, mut padded) = (text.len().saturating_sub(16), [0; 32]);
    padded[..text.len() - edge].copy_from_slice(&text[edge..]);
    // All keys first, and their lines asked for: what is looked up is there by then, however long it takes.
    for (wanted, place) in wanted.iter_mut().zip(starts.windows(2)) {
        let (start, length) = (usize::from(place[0]), usize::from(place[1].wrapping_sub(place[0])));
        let bytes = match text.get(start..start + 16) {
            Some(bytes) => bytes.first_chunk(),
            None => padded[start - edge..].first_chunk(),
        };
        *wanted = match bytes {
            Some(bytes) if length <= cache::MAX_BYTES => Wanted::new(Key::of(bytes, length)),
            _ => Wanted::NONE,
        };
        scan.fetch(view.line(wanted));
    }
    let (mut wanted, mut count) = (wanted[..pieces].iter(), 0);
    loop {
        let view = words.view();
        let missed = loop {
            let Some(next) = wanted.next() else { return count };
            let Some((more, four)) = view.get(next) else { break pieces - 1 - wanted.len() };
            let Some(room) = ids[count..].first_chunk_mut() else { break pieces - 1 - wanted.len() };
            cache::write(room, four);
            count += more;
        };
        let start = usize::from(starts[missed]);
        let (text, length) = (&text[start..], usize::from(starts[missed + 1]) - start);
        let ids = &mut ids[count..];
        count += scan.apart(Miss { tokenizer, words, long, phrases, work, found, text, length, ids });
    }
}

/// A piece that is not among the words: writes its ids to the front of `ids` and gives their number.
struct Miss<'a> {
    tokenizer: &'a Tokenizer,
    words: &'a mut Words,
    long: &'a mut Long,
    phrases: &'a mut Phrases,
    work: &'a mut Work,
    found: &'a mut Vec<u32>,
    /// The piece and what follows it.
    text: &'a [u8],
    length: usize,
    ids: &'a mut [u32],
}

impl Job for Miss<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> usize {
        let Self { tokenizer, words, long, phrases, work, found, text, length, ids } = self;
        let piece = &text[..length];
        let Some(long_key) = Long::key(text, length) else {
            if let Some(known) = phrases.get(piece) {
                ids[..known.len()].copy_from_slice(known);
                return known.len();
            }
            found.clear();
            tokenizer.merger(work).piece(scan, piece, found);
            ids[..found.len()].copy_from_slice(found);
            phrases.put(piece, found);
            return found.len();
        };
        if let Some(count) = long.get(long_key, ids) {
            return count;
        }
        let key = Key::of_piece(piece);
        if let Some(key) = key
            && let Some(id) = tokenizer.vocabulary.find(key, |id| tokenizer.token_bytes(id) == Some(piece))
        {
            ids[0] = id;
            words.put(key, &ids[..1]);
            return 1;
        }
        let count = tokenizer.merges.short(scan, piece, ids);
        if !key.is_some_and(|key| words.put(key, &ids[..count])) {
            long.put(long_key, &ids[..count]);
        }
        count
    }
}

/// A piece longer than a chunk: appends its ids.
struct Piece<'a> {
    merger: Merger<'a>,
    piece: &'a [u8],
    ids: &'a mut Vec<u32>,
}

impl Job for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Scan>(mut self, scan: S) {
        self.merger.piece(scan, self.piece, self.ids);
    }
}
