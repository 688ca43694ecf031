//! Many texts over several threads.
//!
//! Texts are dealt in small parts, so that one long text does not leave the others waiting, and each
//! thread has an encoder of its own. Results are in the order of the texts whatever the threads did.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Special, Tokenizer};
use crate::Error;

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
        for text in texts {
            self.check(text.as_ref().as_bytes(), special)?;
        }
        // What is left of the choice: nothing is refused any more.
        let special = if special == Special::Refuse { Special::Ignore } else { special };
        let mut results = vec![Vec::new(); texts.len()];
        let share = Share::new(texts, &mut results);
        let work = || -> Result<(), Error> {
            let mut encoder = self.encoder();
            while let Some((texts, results)) = share.take() {
                for (text, ids) in texts.iter().zip(results) {
                    let text = text.as_ref();
                    ids.reserve(text.len() / 3 + 8);
                    encoder.encode_into(text, special, ids)?;
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads.min(share.parts())).map(|_| scope.spawn(work)).collect();
            let mine = work();
            others.into_iter().fold(mine, |all, other| {
                all.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })?;
        Ok(results)
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
