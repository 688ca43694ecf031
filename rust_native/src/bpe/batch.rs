//! Many texts over several threads.
//!
//! Texts are dealt in small parts, so that one long text does not leave the others waiting, and each
//! thread has an encoder of its own. Results are in the order of the texts whatever the threads did.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Encoder, Special, Tokenizer};
use crate::Error;

/// Texts in one part: enough to make taking it cheap, few enough to balance.
const PART: usize = 16;

impl Tokenizer {
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
        let special = self.check_all(texts.iter().map(|text| text.as_ref().as_bytes()), special)?;
        let mut results = vec![Vec::new(); texts.len()];
        let share = Share::new(texts.chunks(PART).zip(results.chunks_mut(PART)));
        share.work(self, threads, |encoder, texts, results| {
            for (text, ids) in texts.iter().zip(results) {
                let text = text.as_ref();
                ids.reserve(text.len() / 3 + 8);
                encoder.encode_into(text, special, ids)?;
            }
            Ok(())
        })?;
        Ok(results)
    }

    /// The ids of many texts one after the other, and where each text's begin: those of text `i` are
    /// `ids[starts[i]..starts[i + 1]]`. For who keeps or counts them: nothing is allocated a text. Texts need not
    /// be UTF-8 (see [`Encoder::encode_bytes_into`]); threads as in [`Tokenizer::encode_batch`].
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], for the first text that fails.
    pub fn encode_joined<S: AsRef<[u8]> + Sync>(
        &self,
        texts: &[S],
        special: Special,
        threads: usize,
    ) -> Result<(Vec<u32>, Vec<usize>), Error> {
        let special = self.check_all(texts.iter().map(AsRef::as_ref), special)?;
        // Ids and the end of each text among them, a part; one thread has one part and nothing to join.
        let part = if threads > 1 { PART } else { texts.len().max(1) };
        let mut results = vec![(Vec::new(), Vec::new()); texts.len().div_ceil(part)];
        let share = Share::new(texts.chunks(part).zip(&mut results));
        share.work(self, threads, |encoder, texts, (ids, ends)| {
            ids.reserve(texts.iter().map(|text| text.as_ref().len()).sum::<usize>() / 3 + 8);
            ends.reserve(texts.len());
            for text in texts {
                encoder.encode_bytes_into(text.as_ref(), special, ids)?;
                ends.push(ids.len());
            }
            Ok(())
        })?;
        let mut starts = Vec::with_capacity(texts.len() + 1);
        starts.push(0);
        let mut parts = results.into_iter();
        let (mut ids, ends) = parts.next().unwrap_or_default();
        starts.extend(ends);
        ids.reserve_exact(parts.as_slice().iter().map(|(ids, _)| ids.len()).sum());
        for (more, ends) in parts {
            starts.extend(ends.into_iter().map(|end| ids.len() + end));
            ids.extend_from_slice(&more);
        }
        Ok((ids, starts))
    }

    /// Refuses what is to be refused, and what is left of the choice: nothing is refused any more.
    fn check_all<'t>(
        &self,
        mut texts: impl Iterator<Item = &'t [u8]>,
        special: Special,
    ) -> Result<Special, Error> {
        texts.try_for_each(|text| self.check(text, special))?;
        Ok(if special == Special::Refuse { Special::Ignore } else { special })
    }
}

/// Deals texts and the places of their results to threads, a few texts at a time.
struct Share<'a, S, R> {
    parts: Vec<Mutex<Option<Part<'a, S, R>>>>,
    next: AtomicUsize,
}

type Part<'a, S, R> = (&'a [S], R);

impl<'a, S: Sync, R: Send> Share<'a, S, R> {
    fn new(parts: impl Iterator<Item = Part<'a, S, R>>) -> Self {
        Self { parts: parts.map(|part| Mutex::new(Some(part))).collect(), next: AtomicUsize::new(0) }
    }

    /// Has up to `threads` threads `encode` part after part, each with an encoder of its own.
    fn work(
        &self,
        tokenizer: &Tokenizer,
        threads: usize,
        encode: impl Fn(&mut Encoder<'_>, &'a [S], R) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let work = || -> Result<(), Error> {
            let mut encoder = tokenizer.encoder();
            while let Some((texts, results)) = self.take() {
                encode(&mut encoder, texts, results)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads.min(self.parts.len())).map(|_| scope.spawn(work)).collect();
            let mine = work();
            others.into_iter().fold(mine, |all, other| {
                all.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })
    }

    fn take(&self) -> Option<Part<'a, S, R>> {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        self.parts.get(at)?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
