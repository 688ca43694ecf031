//! Encoding: one text, many texts, or only the count.
//!
//! Why a pool of working memory: the word cache makes repeated words cheap, but a tokenizer is shared, so
//! each call borrows a cache of its own from the pool and gives it back; nothing is locked while encoding.
//!
//! Invariant: results do not depend on the cache's contents nor on the number of threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::cache::{self, Cache};
use super::merge::Work;
use super::split::{Pieces, pieces};
use super::{MAX_IDLE, Special, Tokenizer};
use crate::Error;

/// Working memory of one call.
pub(super) struct Scratch {
    cache: Cache,
    work: Work,
    counted: Vec<u32>,
}

impl Scratch {
    fn new() -> Self {
        Self { cache: Cache::new(), work: Work::default(), counted: Vec::new() }
    }
}

/// What lies between and at special tokens.
enum Segment<'a> {
    Text(&'a str),
    Special(u32),
}

impl Tokenizer {
    /// The ids of `text`.
    ///
    /// # Errors
    /// [`Error::SpecialToken`] under [`Special::Refuse`] if `text` contains one.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 8);
        self.encode_into(text, special, &mut ids)?;
        Ok(ids)
    }

    /// Appends the ids of `text` to `ids`; allocates nothing once `ids` and the pool have grown.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; `ids` is then unchanged.
    pub fn encode_into(&self, text: &str, special: Special, ids: &mut Vec<u32>) -> Result<(), Error> {
        self.check(text, special)?;
        self.with_scratch(|scratch| self.encode_with(scratch, text, special, ids));
        Ok(())
    }

    /// The ids of many texts, in their order, computed by `threads` threads (0 counts as 1).
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], for the first text that fails.
    pub fn encode_batch<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        special: Special,
        threads: usize,
    ) -> Result<Vec<Vec<u32>>, Error> {
        for text in texts {
            self.check(text.as_ref(), special)?;
        }
        let mut results = vec![Vec::new(); texts.len()];
        let share = Share::new(texts, &mut results);
        let work = || {
            self.with_scratch(|scratch| {
                while let Some((texts, results)) = share.take() {
                    for (text, ids) in texts.iter().zip(results) {
                        let text = text.as_ref();
                        ids.reserve(text.len() / 3 + 8);
                        self.encode_with(scratch, text, special, ids);
                    }
                }
            });
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(share.parts()) {
                scope.spawn(work);
            }
            work();
        });
        Ok(results)
    }

    /// How many ids [`Tokenizer::encode`] would give, in bounded memory.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn count(&self, text: &str, special: Special) -> Result<usize, Error> {
        self.check(text, special)?;
        Ok(self.with_scratch(|scratch| {
            let mut counted = std::mem::take(&mut scratch.counted);
            let mut total = 0;
            self.segments(text, special, |segment| match segment {
                Segment::Special(_) => total += 1,
                Segment::Text(text) => {
                    let mut rest = pieces(text);
                    loop {
                        counted.clear();
                        let more = self.encode_pieces(scratch, text, &mut rest, 4096, &mut counted);
                        total += counted.len();
                        if !more {
                            break;
                        }
                    }
                }
            });
            scratch.counted = counted;
            total
        }))
    }

    fn check(&self, text: &str, special: Special) -> Result<(), Error> {
        if special == Special::Refuse
            && let Some((offset, token, _)) = self.specials.find(text, 0)
        {
            return Err(Error::SpecialToken { token: token.to_owned(), offset });
        }
        Ok(())
    }

    /// Lends working memory to `job`.
    fn with_scratch<T>(&self, job: impl FnOnce(&mut Scratch) -> T) -> T {
        // The pool holds whole scratches at all times, so a panic elsewhere leaves it sound.
        let pool = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = pool().pop();
        let mut scratch = idle.unwrap_or_else(Scratch::new);
        let result = job(&mut scratch);
        scratch.work.shrink();
        let mut pool = pool();
        if pool.len() < MAX_IDLE {
            pool.push(scratch);
        }
        result
    }

    fn encode_with(&self, scratch: &mut Scratch, text: &str, special: Special, ids: &mut Vec<u32>) {
        self.segments(text, special, |segment| match segment {
            Segment::Special(id) => ids.push(id),
            Segment::Text(text) => {
                self.encode_pieces(scratch, text, &mut pieces(text), usize::MAX, ids);
            }
        });
    }

    /// Calls `each` for every segment. The pattern's look-ahead ends at a segment's end, as it does in
    /// Hugging Face's tokenizers.
    fn segments<'a>(&self, text: &'a str, special: Special, mut each: impl FnMut(Segment<'a>)) {
        let mut from = 0;
        if special == Special::Allow {
            while let Some((at, token, id)) = self.specials.find(text, from) {
                if at > from {
                    each(Segment::Text(&text[from..at]));
                }
                each(Segment::Special(id));
                from = at + token.len();
            }
        }
        if from < text.len() {
            each(Segment::Text(&text[from..]));
        }
    }

    /// Encodes pieces until they end (false) or `ids` holds `enough` (true).
    fn encode_pieces(
        &self,
        scratch: &mut Scratch,
        text: &str,
        rest: &mut Pieces<'_>,
        enough: usize,
        ids: &mut Vec<u32>,
    ) -> bool {
        let bytes = text.as_bytes();
        while let Some((start, end)) = rest.next_range() {
            let key = cache::key(bytes, start, end);
            let hit = key.and_then(|key| scratch.cache.get(key));
            if let Some(found) = hit {
                let old = ids.len();
                ids.extend_from_slice(&found);
                let unused = found.iter().filter(|&&id| id == cache::UNUSED).count();
                ids.truncate(old + cache::MAX_IDS - unused);
            } else {
                let work = &mut scratch.work;
                work.symbols.clear();
                work.symbols.extend(bytes[start..end].iter().map(|&byte| self.byte_ids[byte as usize]));
                self.merges.apply(work);
                ids.extend_from_slice(&work.symbols);
                if let Some(key) = key {
                    scratch.cache.put(key, &work.symbols);
                }
            }
            if ids.len() >= enough {
                return true;
            }
        }
        false
    }
}

/// Deals texts and the places of their results to threads, a few at a time.
struct Share<'a, S> {
    parts: Vec<Mutex<Option<Part<'a, S>>>>,
    next: AtomicUsize,
}

type Part<'a, S> = (&'a [S], &'a mut [Vec<u32>]);

impl<'a, S> Share<'a, S> {
    /// Texts in one part: enough to make taking it cheap, few enough to balance.
    const PART: usize = 16;

    fn new(texts: &'a [S], results: &'a mut [Vec<u32>]) -> Self {
        let parts = texts.chunks(Self::PART).zip(results.chunks_mut(Self::PART));
        Self { parts: parts.map(|part| Mutex::new(Some(part))).collect(), next: AtomicUsize::new(0) }
    }

    fn parts(&self) -> usize {
        self.parts.len()
    }

    fn take(&self) -> Option<Part<'a, S>> {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        self.parts.get(at)?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
