//! The sequences of a cache as slots: who has them, and which texts they still hold.
//!
//! A slot that is let go of keeps its text until somebody else needs the slot, the one let go of
//! longest ago first. So a text that begins like one that is held, or like one that is under way,
//! takes over the keys and values of what they share. Memory is what the slots have, and no more.
//!
//! Invariant: slot s holds the keys and values of the first `cache.len(s)` tokens of `texts[s]`; a
//! free slot has no others.

use crate::Cache;

/// Positions from which taking them over beats computing them: a pass for the rest alone reads all
/// weights once more, at the price of about as many rows.
const WORTHWHILE: usize = 32;

#[derive(Debug)]
pub(super) struct Slots {
    pub(super) cache: Cache,
    pub(super) texts: Vec<Vec<u32>>,
    /// The request that has each slot.
    owners: Vec<Option<u64>>,
    /// When each was let go of; 0 for never.
    released: Vec<u64>,
    clock: u64,
}

/// Positions that another slot is about to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    slot: usize,
    owner: u64,
    positions: usize,
}

/// A slot taken.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) slot: usize,
    /// Positions taken over.
    pub(super) reused: usize,
    /// What to wait for before anything is computed.
    pub(super) promise: Option<Promise>,
}

impl Slots {
    pub(super) fn new(cache: Cache) -> Slots {
        let n = cache.batch();
        Slots { cache, texts: vec![Vec::new(); n], owners: vec![None; n], released: vec![0; n], clock: 0 }
    }

    /// Gives a free slot to `owner`, whose text begins as `prompt` does; `None` while there is none.
    /// Without `reuse` every position is to be computed.
    pub(super) fn take(&mut self, owner: u64, prompt: &[u32], reuse: bool) -> Option<Seat> {
        let free = (0..self.owners.len()).filter(|&slot| self.owners[slot].is_none());
        let oldest = free.min_by_key(|&slot| self.released[slot])?;
        let source = if reuse { self.source(prompt) } else { None };
        // A text that merely goes on loses nothing when it goes on in place.
        let in_place = |&(from, positions): &(usize, usize)| {
            self.owners[from].is_none() && (from == oldest || positions == self.texts[from].len())
        };
        let slot = source.filter(in_place).map_or(oldest, |(from, _)| from);
        let mut seat = Seat { slot, reused: 0, promise: None };
        match source {
            Some((from, positions)) if self.cache.len(from) >= positions => {
                self.take_over(from, slot, positions);
                seat.reused = positions;
            }
            Some((from, positions)) => {
                self.cache.truncate_sequence(slot, 0);
                let owner = self.owners[from].expect("only a text under way lacks positions");
                seat.promise = Some(Promise { slot: from, owner, positions });
            }
            None => self.cache.truncate_sequence(slot, 0),
        }
        self.texts[slot].clear();
        self.texts[slot].extend_from_slice(prompt);
        self.owners[slot] = Some(owner);
        Some(seat)
    }

    /// Takes over into `slot` what was promised, or what is left of it when its owner has gone.
    /// Gives the positions taken over; `None` while they are not there yet.
    pub(super) fn keep(&mut self, slot: usize, promise: Promise) -> Option<usize> {
        let from = promise.slot;
        let there = self.cache.len(from);
        let positions = if there >= promise.positions && self.owners[from] == Some(promise.owner) {
            promise.positions
        } else if self.owners[from] == Some(promise.owner) {
            return None;
        } else {
            let left = self.shared(from, &self.texts[slot]).min(there);
            if left < WORTHWHILE { 0 } else { left }
        };
        self.take_over(from, slot, positions);
        Some(positions)
    }

    /// Lets go of a slot; its text stays for those who begin alike.
    pub(super) fn release(&mut self, slot: usize) {
        self.clock += 1;
        self.released[slot] = self.clock;
        self.owners[slot] = None;
        self.texts[slot].truncate(self.cache.len(slot));
    }

    /// The slot that shares most with `prompt`, and how many positions, if they are worth it. Of
    /// equals the one that has most of them already.
    fn source(&self, prompt: &[u32]) -> Option<(usize, usize)> {
        let shared = (0..self.texts.len()).map(|slot| (slot, self.shared(slot, prompt)));
        shared.filter(|&(_, positions)| positions >= WORTHWHILE).max_by_key(|&(slot, positions)| {
            (positions, self.cache.len(slot).min(positions), std::cmp::Reverse(slot))
        })
    }

    /// Leading tokens that a slot's text and `prompt` share; never the prompt's last, whose logits
    /// are wanted.
    fn shared(&self, slot: usize, prompt: &[u32]) -> usize {
        let pairs = self.texts[slot].iter().zip(&prompt[..prompt.len() - 1]);
        pairs.take_while(|(a, b)| a == b).count()
    }

    fn take_over(&mut self, from: usize, slot: usize, positions: usize) {
        self.cache.truncate_sequence(slot, if from == slot { positions } else { 0 });
        if from != slot {
            self.cache.copy(from, slot, 0..positions);
        }
    }
}
