//! Threads that encode parts of a batch, each in working memory of its own, and the one line in which what they
//! wrote comes into the result.
//!
//! Parts are dealt in order. Who begins the part that the result ends before writes it right there; the others write
//! into memory of their own, and who finishes the next part, or has the result, copies what has become ready behind
//! it. So the copying is done while others encode and from memory still in a core's cache, and what waits is
//! as much as a few parts, whatever the text.
//!
//! Invariant: nothing of a batch is left in a crew that the next batch could see, but words in its caches.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kernels::Team;

use super::batch::Part;
use super::encode::Scratch;
use super::{Special, Tokenizer};
use crate::Error;

/// Idle crews a tokenizer keeps.
const IDLE: usize = 4;
/// Ids for which a part's memory keeps room between batches: 256 KiB.
const KEEP: usize = 64 << 10;

/// Threads and their memory.
pub(super) struct Crew {
    /// Absent if one thread is enough or the system refuses more.
    team: Option<Team>,
    /// One for each thread.
    scratches: Vec<Mutex<Box<Scratch>>>,
    /// Empty memory for parts.
    spare: Mutex<Vec<Ids>>,
    /// Threads do not come along into a forked process.
    process: u32,
}

/// Ids of some texts, and where among them the texts end.
#[derive(Default)]
pub(super) struct Ids {
    pub(super) ids: Vec<u32>,
    pub(super) ends: Vec<usize>,
}

/// Where a batch stands.
struct Line {
    parts: usize,
    /// Parts that somebody has begun.
    begun: usize,
    /// Parts that are in the result; of one that is appended right now, its number.
    joined: usize,
    /// Absent while somebody writes to it.
    result: Option<Ids>,
    /// Parts that are done, until those before them are in the result.
    done: BTreeMap<usize, Ids>,
    spare: Vec<Ids>,
    /// The first part that failed, so far.
    failed: Option<(usize, Error)>,
}

impl Tokenizer {
    /// A crew for so many threads, an idle one if there is one.
    pub(super) fn crew(&self, threads: usize) -> Crew {
        let mut idle = lock(&self.crews);
        let process = std::process::id();
        idle.retain(|crew| crew.process == process);
        if let Some(at) = idle.iter().rposition(|crew| crew.scratches.len() == threads) {
            return idle.remove(at);
        }
        drop(idle);
        let team = if threads > 1 { Team::new(threads).ok() } else { None };
        let scratches = (0..threads).map(|_| Mutex::new(self.new_scratch())).collect();
        Crew { team, scratches, spare: Mutex::new(Vec::new()), process }
    }

    /// Keeps a crew for later; the oldest makes way.
    pub(super) fn keep(&self, crew: Crew) {
        let mut idle = lock(&self.crews);
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

impl Ids {
    /// Puts others behind.
    fn append(&mut self, others: &Self) {
        let base = self.ids.len();
        self.ids.extend_from_slice(&others.ids);
        self.ends.extend(others.ends.iter().map(|end| base + end));
    }

    /// Forgets all, and keeps memory for a part.
    fn clear(&mut self) {
        self.ids.clear();
        self.ids.shrink_to(KEEP);
        self.ends.clear();
        self.ends.shrink_to(KEEP);
    }

    /// Appends a part's.
    fn encode<S: AsRef<[u8]>>(
        &mut self,
        tokenizer: &Tokenizer,
        scratch: &mut Scratch,
        part: &Part,
        texts: &[S],
        special: Special,
    ) -> Result<(), Error> {
        let Self { ids, ends } = self;
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
    /// Appends the ids of all parts to `result`, and each text's end among them.
    ///
    /// # Errors
    /// That of the first text that fails; parts behind it that nobody had begun are left out. `result` then holds
    /// whatever was there.
    pub(super) fn work<S: AsRef<[u8]> + Sync>(
        &self,
        tokenizer: &Tokenizer,
        parts: &[Part],
        texts: &[S],
        special: Special,
        result: &mut Ids,
    ) -> Result<(), Error> {
        let spare = std::mem::take(&mut *lock(&self.spare));
        let line = Mutex::new(Line::new(parts.len(), std::mem::take(result), spare));
        let work = |thread: usize| {
            let mut scratch = lock(&self.scratches[thread]);
            loop {
                let Some((part, first, mut own)) = lock(&line).begin() else { return };
                match own.encode(tokenizer, &mut scratch, &parts[part], texts, special) {
                    Ok(()) => join(&line, part, first, own),
                    Err(error) => lock(&line).fail(part, first, own, error),
                }
            }
        };
        match &self.team {
            Some(team) if parts.len() > 1 => team.run(work),
            _ => work(0),
        }
        let Line { result: joined, mut spare, failed, .. } =
            line.into_inner().unwrap_or_else(PoisonError::into_inner);
        *result = joined.unwrap_or_default();
        spare.truncate(2 * self.scratches.len());
        *lock(&self.spare) = spare;
        failed.map_or(Ok(()), |(_, error)| Err(error))
    }
}

impl Line {
    fn new(parts: usize, result: Ids, spare: Vec<Ids>) -> Self {
        let (begun, joined) = (0, 0);
        Self { parts, begun, joined, result: Some(result), done: BTreeMap::new(), spare, failed: None }
    }

    /// The next part, whether all before it are in the result, and where to write it: the result itself if they are.
    fn begin(&mut self) -> Option<(usize, bool, Ids)> {
        let part = self.begun;
        if part == self.parts || self.failed.is_some() {
            return None;
        }
        self.begun += 1;
        let result = self.result.take_if(|_| part == self.joined);
        Some((part, result.is_some(), result.or_else(|| self.spare.pop()).unwrap_or_default()))
    }

    /// Notes that a part failed; `own` is what it was written to.
    fn fail(&mut self, part: usize, first: bool, own: Ids, error: Error) {
        if first {
            self.result = Some(own);
        }
        if self.failed.as_ref().is_none_or(|&(failed, _)| part < failed) {
            self.failed = Some((part, error));
        }
    }
}

/// Brings a part that is done into the result, which `own` is already if the part was `first`, and behind it those that
/// waited for it. A part for which it is not yet time waits for whoever brings the one before it.
fn join(line: &Mutex<Line>, part: usize, first: bool, own: Ids) {
    let (mut result, mut next) = if first {
        (own, None)
    } else {
        let mut line = lock(line);
        let joined = line.joined;
        let Some(result) = line.result.take_if(|_| joined == part) else {
            line.done.insert(part, own);
            return;
        };
        (result, Some(own))
    };
    loop {
        if let Some(part) = &mut next {
            result.append(part);
            part.clear();
        }
        let mut line = lock(line);
        line.spare.extend(next);
        line.joined += 1;
        let joined = line.joined;
        next = line.done.remove(&joined);
        if next.is_none() {
            line.result = Some(result);
            return;
        }
    }
}

/// What a panic leaves behind is whole: a batch that did not end has a line of its own, and caches are exact at all
/// times.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTS: usize = 9;

    /// Writes part `i`: `i` texts of one id each, then one of none.
    fn write(i: usize, own: &mut Ids) {
        for _ in 0..i {
            own.ids.push(i as u32);
            own.ends.push(own.ids.len());
        }
        own.ends.push(own.ids.len());
    }

    proptest! {
        /// Whoever begins and finishes when: 0 begins a part, any other number finishes one of those begun.
        #[test]
        fn parts_are_joined_in_order_whoever_finishes_when(steps in prop::collection::vec(0..5_usize, 0..60)) {
            let line = Mutex::new(Line::new(PARTS, Ids::default(), Vec::new()));
            let mut begun = Vec::new();
            let finish = |(part, first, mut own): (usize, bool, Ids)| {
                write(part, &mut own);
                join(&line, part, first, own);
            };
            for step in steps {
                if step == 0 {
                    begun.extend(lock(&line).begin());
                } else if !begun.is_empty() {
                    finish(begun.swap_remove(step % begun.len()));
                }
            }
            begun.drain(..).for_each(finish);
            while let Some(last) = { lock(&line).begin() } {
                prop_assert!(last.1, "all before it are in the result");
                finish(last);
            }
            let line = line.into_inner().unwrap();
            prop_assert!(line.done.is_empty() && line.spare.iter().all(|ids| ids.ids.is_empty() && ids.ends.is_empty()));
            let mut expected = Ids::default();
            (0..PARTS).for_each(|part| write(part, &mut expected));
            let result = line.result.unwrap();
            prop_assert_eq!((result.ids, result.ends), (expected.ids, expected.ends));
        }
    }

    #[test]
    fn nothing_begins_after_a_failure_and_the_first_one_counts() {
        let error = |offset| Error::SpecialToken { token: String::new(), offset };
        let mut line = Line::new(PARTS, Ids::default(), Vec::new());
        let begun: Vec<_> = std::iter::from_fn(|| line.begin()).take(3).collect();
        for (part, first, own) in begun.into_iter().rev().filter(|&(part, ..)| part != 1) {
            line.fail(part, first, own, error(part));
            assert!(line.begin().is_none());
        }
        assert!(matches!(line.failed, Some((0, Error::SpecialToken { offset: 0, .. }))));
        assert!(line.result.is_some(), "the result's memory stays");
    }
}
