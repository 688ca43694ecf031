//! Threads that encode parts of a batch, each in working memory of its own, and the joining of what they wrote.
//!
//! The caller writes the front of the batch right into the result. What the others wrote, and what the caller
//! helped them with, is copied behind it, in order.
//!
//! Invariant: nothing of a batch is left in a crew that the next batch could see, but words in its caches.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kernels::{Queue, Team};

use super::batch::Part;
use super::encode::Scratch;
use super::{Special, Tokenizer};
use crate::Error;

/// Idle crews a tokenizer keeps.
const IDLE: usize = 4;
/// Ids for which a thread keeps room between batches: 4 MiB.
const KEEP: usize = 1 << 20;

/// Threads and their memory.
pub(super) struct Crew {
    /// Absent if one thread is enough or the system refuses more.
    team: Option<Team>,
    hands: Vec<Mutex<Hand>>,
    /// Threads do not come along into a forked process.
    process: u32,
}

/// What belongs to one thread.
struct Hand {
    scratch: Box<Scratch>,
    /// Ids of all parts it did.
    ids: Vec<u32>,
    /// Where in `ids` the texts end.
    ends: Vec<usize>,
    runs: Vec<Run>,
    failed: Option<(usize, Error)>,
}

/// One part that was done: its ids and ends.
#[derive(Clone)]
struct Run {
    part: usize,
    ids: Range<usize>,
    ends: Range<usize>,
}

impl Tokenizer {
    /// A crew for so many threads, an idle one if there is one.
    pub(super) fn crew(&self, threads: usize) -> Crew {
        let mut idle = self.crews.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        idle.retain(|crew| crew.process == process);
        if let Some(at) = idle.iter().rposition(|crew| crew.hands.len() == threads) {
            return idle.remove(at);
        }
        drop(idle);
        let team = if threads > 1 { Team::new(threads).ok() } else { None };
        Crew { team, hands: (0..threads).map(|_| Mutex::new(Hand::new())).collect(), process }
    }

    /// Keeps a crew for later; the oldest makes way.
    pub(super) fn keep(&self, crew: Crew) {
        let mut idle = self.crews.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(crew);
        let old = (idle.len() > IDLE).then(|| idle.remove(0));
        drop(idle);
        drop(old);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // Its threads are another process's; to wait for them would be for ever.
            std::mem::forget(self.team.take());
        }
    }
}

impl Hand {
    fn new() -> Self {
        let scratch = Box::new(Scratch::new());
        Self { scratch, ids: Vec::new(), ends: Vec::new(), runs: Vec::new(), failed: None }
    }

    /// Forgets the last batch.
    fn clear(&mut self) {
        self.ids.clear();
        self.ids.shrink_to(KEEP);
        self.ends.clear();
        self.ends.shrink_to(KEEP);
        self.runs.clear();
        self.failed = None;
    }

    /// Appends a part's ids and ends.
    fn encode<S: AsRef<[u8]>>(
        &mut self,
        tokenizer: &Tokenizer,
        part: &Part,
        texts: &[S],
        special: Special,
    ) -> Result<(), Error> {
        let Self { scratch, ids, ends, .. } = self;
        let Some(bytes) = &part.bytes else {
            for text in &texts[part.texts.clone()] {
                tokenizer.append(scratch, text.as_ref(), special, ids)?;
                ends.push(ids.len());
            }
            return Ok(());
        };
        let text = &texts[part.texts.start].as_ref()[bytes.clone()];
        tokenizer.append(scratch, text, special, ids).map_err(|error| match error {
            Error::SpecialToken { token, offset } => {
                Error::SpecialToken { token, offset: bytes.start + offset }
            }
            other => other,
        })?;
        if part.ends {
            ends.push(ids.len());
        }
        Ok(())
    }
}

impl Crew {
    /// Appends the ids of all parts to `ids`, which is empty, and each text's end among them to `ends`.
    ///
    /// # Errors
    /// That of the first text that fails. Parts behind it that nobody had begun are left out.
    pub(super) fn work<S: AsRef<[u8]> + Sync>(
        &self,
        tokenizer: &Tokenizer,
        parts: &[Part],
        texts: &[S],
        special: Special,
        ids: &mut Vec<u32>,
        ends: &mut Vec<usize>,
    ) -> Result<(), Error> {
        let queue = Queue::groups(parts.len(), self.hands.len(), 1);
        // The first part that failed, so far.
        let failed = AtomicUsize::new(usize::MAX);
        let work = |thread: usize| {
            let mut hand = self.hand(thread);
            while let Some(part) = queue.take(thread).map(|one| one.start) {
                if part > failed.load(Ordering::Relaxed) {
                    continue;
                }
                let (from, ends_from) = (hand.ids.len(), hand.ends.len());
                match hand.encode(tokenizer, &parts[part], texts, special) {
                    Ok(()) => {
                        let run = Run { part, ids: from..hand.ids.len(), ends: ends_from..hand.ends.len() };
                        hand.runs.push(run);
                    }
                    Err(error) => {
                        failed.fetch_min(part, Ordering::Relaxed);
                        if hand.failed.as_ref().is_none_or(|&(first, _)| part < first) {
                            hand.failed = Some((part, error));
                        }
                    }
                }
            }
        };
        std::mem::swap(&mut self.hand(0).ids, ids);
        match &self.team {
            Some(team) if parts.len() > 1 => team.run(work),
            _ => work(0),
        }
        std::mem::swap(&mut self.hand(0).ids, ids);
        let mut hands: Vec<MutexGuard<'_, Hand>> = (0..self.hands.len()).map(|i| self.hand(i)).collect();
        let errors = hands.iter_mut().filter_map(|hand| hand.failed.take());
        let done = match errors.min_by_key(|&(part, _)| part) {
            Some((_, error)) => Err(error),
            None => {
                join(&hands, ids, ends);
                Ok(())
            }
        };
        hands.iter_mut().for_each(|hand| hand.clear());
        done
    }

    fn hand(&self, thread: usize) -> MutexGuard<'_, Hand> {
        self.hands[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts all parts in order: `ids` holds those of the first hand.
fn join(hands: &[MutexGuard<'_, Hand>], ids: &mut Vec<u32>, ends: &mut Vec<usize>) {
    let mut runs: Vec<(usize, &Run)> =
        hands.iter().enumerate().flat_map(|(i, hand)| hand.runs.iter().map(move |run| (i, run))).collect();
    runs.sort_unstable_by_key(|(_, run)| run.part);
    // How much of what the first hand wrote is where it belongs; the rest it did as a helper.
    let (mut front, mut placed) = (0, 0);
    for (hand, run) in &runs {
        if *hand > 0 || run.ids.start != front {
            break;
        }
        (front, placed) = (run.ids.end, placed + 1);
    }
    let helped = ids.split_off(front);
    ids.reserve(helped.len() + hands[1..].iter().map(|hand| hand.ids.len()).sum::<usize>());
    for (i, &(hand, run)) in runs.iter().enumerate() {
        let mut start = run.ids.start;
        if i >= placed {
            start = ids.len();
            ids.extend_from_slice(match hand {
                0 => &helped[run.ids.start - front..run.ids.end - front],
                _ => &hands[hand].ids[run.ids.clone()],
            });
        }
        ends.extend(hands[hand].ends[run.ends.clone()].iter().map(|end| end - run.ids.start + start));
    }
}
