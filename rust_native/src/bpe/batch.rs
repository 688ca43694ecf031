//! Many texts, or one long one, over several threads.
//!
//! Why a [`BatchEncoder`] that is kept: a batch of short texts takes a few milliseconds, in which starting threads
//! and meeting every word anew would be most of the work. Its threads and their word caches wait for the next
//! batch; one that is dropped leaves them to the next of the same size, so [`Tokenizer::encode_batch`] has them too.
//!
//! Texts are dealt in parts of about equal bytes, in order, to whoever is free; a long text is several parts
//! ([`cuts`](super::cuts)). All ids go into one vector, while the batch goes on ([`crew`](super::crew)): an allocation a
//! text is what two threads would wait for.
//!
//! Invariant: ids are in the order of the texts, and an error is that of the first text that fails, whatever the
//! threads did.

use std::ops::Range;

use kernels::ask_for_huge_pages;

use super::crew::{Crew, Ids};
use super::{Special, Tokenizer};
use crate::Error;

/// Bytes in one part at least and at most: little beside a batch, much beside taking it.
const LEAST: usize = 16 << 10;
const MOST: usize = 1 << 20;
/// Parts a thread, between these bounds.
const PARTS: usize = 64;
/// What a text counts beside its bytes, so that empty ones are dealt out too.
const TEXT: usize = 16;

/// Texts that are encoded in one go, or a part of one text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) texts: Range<usize>,
    /// Of the only text, if not all of it.
    pub(super) bytes: Option<Range<usize>>,
    /// Whether the last text ends here.
    pub(super) ends: bool,
}

/// A tokenizer with threads of its own that stay between calls: the way to encode batch after batch.
pub struct BatchEncoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Absent only while the encoder is dropped.
    crew: Option<Crew>,
    threads: usize,
}

impl std::fmt::Debug for BatchEncoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchEncoder").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// An encoder of batches on `threads` threads, the caller's among them (0 counts as 1). Where the system
    /// refuses threads, the caller does the work alone. Idle threads spin for a tenth of a millisecond, then sleep.
    pub fn batch_encoder(&self, threads: usize) -> BatchEncoder<'_> {
        let threads = threads.max(1);
        BatchEncoder { tokenizer: self, crew: Some(self.crew(threads)), threads }
    }

    /// The ids of many texts, in their order, computed by `threads` threads (0 counts as 1).
    /// [`Tokenizer::encode_joined`] spares a vector a text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], for the first text that fails.
    pub fn encode_batch<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        special: Special,
        threads: usize,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_ref().as_bytes()).collect();
        let (ids, starts) = self.encode_joined(&texts, special, threads)?;
        Ok(starts.windows(2).map(|place| ids[place[0]..place[1]].to_vec()).collect())
    }

    /// The ids of many texts one after the other, and where each text's begin: see
    /// [`BatchEncoder::encode_into`].
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], for the first text that fails.
    pub fn encode_joined<S: AsRef<[u8]> + Sync>(
        &self,
        texts: &[S],
        special: Special,
        threads: usize,
    ) -> Result<(Vec<u32>, Vec<usize>), Error> {
        let (mut ids, mut starts) = (Vec::new(), Vec::new());
        self.batch_encoder(threads).encode_into(texts, special, &mut ids, &mut starts)?;
        Ok((ids, starts))
    }
}

impl BatchEncoder<'_> {
    /// The ids of many texts one after the other, and where each text's begin: those of text `i` are
    /// `ids[starts[i]..starts[i + 1]]`. Both vectors are emptied first and keep their memory. One long text is
    /// worked on by all threads too. Texts need not be UTF-8 (see [`Encoder::encode_bytes_into`]).
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], for the first text that fails; both vectors are then empty.
    ///
    /// [`Encoder::encode_bytes_into`]: super::Encoder::encode_bytes_into
    pub fn encode_into<S: AsRef<[u8]> + Sync>(
        &mut self,
        texts: &[S],
        special: Special,
        ids: &mut Vec<u32>,
        starts: &mut Vec<usize>,
    ) -> Result<(), Error> {
        let Self { tokenizer, threads, .. } = *self;
        let crew = self.crew.get_or_insert_with(|| tokenizer.crew(threads));
        ids.clear();
        starts.clear();
        let bytes = texts.iter().map(|text| text.as_ref().len()).sum();
        let parts = tokenizer.parts(texts, bytes, special, threads);
        if ids.capacity() < bytes / 3 + 8 {
            ids.reserve(bytes / 3 + 8);
            ask_for_huge_pages(ids);
        }
        starts.reserve(texts.len() + 1);
        starts.push(0);
        let mut result = Ids { ids: std::mem::take(ids), ends: std::mem::take(starts) };
        let done = crew.work(tokenizer, &parts, texts, special, &mut result);
        Ids { ids: *ids, ends: *starts } = result;
        if done.is_err() {
            ids.clear();
            starts.clear();
        }
        done
    }
}

impl Drop for BatchEncoder<'_> {
    fn drop(&mut self) {
        if let Some(crew) = self.crew.take() {
            self.tokenizer.keep(crew);
        }
    }
}

impl Tokenizer {
    /// Deals texts of `bytes` bytes in all; one thread has one part.
    fn parts<S: AsRef<[u8]>>(
        &self,
        texts: &[S],
        bytes: usize,
        special: Special,
        threads: usize,
    ) -> Vec<Part> {
        let whole = |texts| Part { texts, bytes: None, ends: true };
        if threads == 1 || bytes + TEXT * texts.len() < 2 * LEAST {
            return vec![whole(0..texts.len())];
        }
        let size = (bytes / (PARTS * threads)).clamp(LEAST, MOST);
        let (mut parts, mut first, mut filled) = (Vec::new(), 0, 0);
        for (i, text) in texts.iter().enumerate() {
            let text = text.as_ref();
            if text.len() > 2 * size {
                if first < i {
                    parts.push(whole(first..i));
                }
                self.cut_up(text, i, size, special, &mut parts);
                (first, filled) = (i + 1, 0);
                continue;
            }
            filled += text.len() + TEXT;
            if filled >= size {
                parts.push(whole(first..i + 1));
                (first, filled) = (i + 1, 0);
            }
        }
        if first < texts.len() {
            parts.push(whole(first..texts.len()));
        }
        parts
    }

    /// Parts of a long text, the `i`-th: each ends at the first cut after `size` bytes.
    fn cut_up(&self, text: &[u8], i: usize, size: usize, special: Special, parts: &mut Vec<Part>) {
        let mut from = 0;
        while let Some(at) = self.cut(text, from + size, text.len().saturating_sub(size), special) {
            parts.push(Part { texts: i..i + 1, bytes: Some(from..at), ends: false });
            from = at;
        }
        parts.push(Part { texts: i..i + 1, bytes: Some(from..text.len()), ends: true });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_in_order_and_cover_all_texts_once() {
        let tokenizer = Tokenizer::gpt2();
        let long = "one word after the other ".repeat(20_000);
        let mut texts = vec!["short".to_owned(); 5000];
        texts[100] = long.clone();
        texts.push(long);
        texts.extend(vec![String::new(); 5000]);
        let bytes = texts.iter().map(String::len).sum();
        for threads in [2, 3, 100] {
            let parts = tokenizer.parts(&texts, bytes, Special::Allow, threads);
            assert!(parts.len() > 20 && parts.iter().all(|part| !part.texts.is_empty()));
            let (mut text, mut byte) = (0, 0);
            for part in &parts {
                let all = part.texts.start..part.texts.end;
                assert_eq!(all.start, text);
                match &part.bytes {
                    Some(bytes) => {
                        assert_eq!((bytes.start, all.len()), (byte, 1));
                        assert_eq!(part.ends, bytes.end == texts[text].len());
                        byte = if part.ends { 0 } else { bytes.end };
                    }
                    None => assert!(part.ends && byte == 0),
                }
                text = if part.ends { all.end } else { all.start };
            }
            assert_eq!((text, byte), (texts.len(), 0));
        }
        let none: [&str; 0] = [];
        assert_eq!(tokenizer.parts(&none, 0, Special::Allow, 1).len(), 1);
    }
}
