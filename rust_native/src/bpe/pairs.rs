//! Training's inner half: which pair of neighbours is merged next, and where it stands.
//!
//! Words are counted once and stand here once, whatever their count, one behind the other, a place a byte. A
//! token has the place of its first byte and is linked to its neighbours in the word, so that a merge costs
//! what it changes, also in a word of a megabyte. A pair remembers every place where it began; places are
//! never taken out, and one where something else stands meanwhile is passed over.
//!
//! The queue is lazy in the same way. A pair's count only sinks once the merge that made the pair is done, so
//! what is on top is either right, or too high and put back where it belongs.
//!
//! Ties are those of Hugging Face's trainer: of pairs equally frequent, the one whose ids are lower, the left
//! first. A run of one token, `aaa`, counts as two pairs but is merged from the left, once.
//!
//! Invariant: each pair's count is the number of its occurrences, weighted by the counts of their words. The
//! merged tokens are all different: what lies between two borders that no merge has crossed develops as it
//! would alone, so one spelling is never made in two ways.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::Error;

/// Two neighbours, left and right.
pub(super) type PairIds = (u32, u32);

/// No place: a word ends here.
const END: u32 = u32::MAX;
/// No token: the place is inside one.
const INSIDE: u32 = u32::MAX;

/// The words under training.
pub(super) struct Pairs {
    /// By place: the token that begins there.
    tokens: Vec<u32>,
    /// By place: the places of the neighbours in the word.
    before: Vec<u32>,
    after: Vec<u32>,
    /// By place: the word.
    words: Vec<u32>,
    /// By word: how often it occurs.
    weights: Vec<u64>,
    found: HashMap<PairIds, Found>,
    /// Every pair of `found` once, with its count or a higher one.
    queue: BinaryHeap<(u64, Reverse<PairIds>)>,
}

/// A pair's count and the places, ascending, where it stood when it was found.
#[derive(Default)]
struct Found {
    count: u64,
    places: Vec<u32>,
}

impl Pairs {
    /// Words with their counts, all of single bytes.
    ///
    /// # Errors
    /// [`Error::Argument`] if the words are 4 GiB together or more.
    pub(super) fn new<'a>(
        words: impl Iterator<Item = (&'a [u8], u64)>,
        byte_ids: &[u32; 256],
    ) -> Result<Self, Error> {
        let mut pairs = Self {
            tokens: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            words: Vec::new(),
            weights: Vec::new(),
            found: HashMap::new(),
            queue: BinaryHeap::new(),
        };
        for (word, weight) in words {
            if u32::try_from(pairs.tokens.len() + word.len()).is_err() {
                let found = "the different words are 4 GiB or more";
                return Err(Error::argument("text", found, "train on a part of the text"));
            }
            pairs.add(word, weight, byte_ids);
        }
        pairs.queue = pairs.found.iter().map(|(&pair, found)| (found.count, Reverse(pair))).collect();
        Ok(pairs)
    }

    fn add(&mut self, word: &[u8], weight: u64, byte_ids: &[u32; 256]) {
        let first = self.tokens.len() as u32;
        let end = first + word.len() as u32;
        self.tokens.extend(word.iter().map(|&byte| byte_ids[usize::from(byte)]));
        self.before.extend((first..end).map(|place| if place == first { END } else { place - 1 }));
        self.after.extend((first + 1..=end).map(|place| if place == end { END } else { place }));
        self.words.resize(end as usize, self.weights.len() as u32);
        self.weights.push(weight);
        for place in first..end.saturating_sub(1) {
            let pair = (self.tokens[place as usize], self.tokens[place as usize + 1]);
            let found = self.found.entry(pair).or_default();
            found.count += weight;
            found.places.push(place);
        }
    }

    /// Takes out the most frequent pair and its places, or none if no pair occurs at least `least` times.
    pub(super) fn take(&mut self, least: u64) -> Option<(PairIds, Vec<u32>)> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let now = self.found.get(&pair).map_or(0, |found| found.count);
            if now == count {
                // Counts in the queue are never too low, so no other pair has more.
                return if now < least { None } else { Some((pair, self.found.remove(&pair)?.places)) };
            }
            if now > 0 {
                self.queue.push((now, Reverse(pair)));
            } else {
                self.found.remove(&pair);
            }
        }
        None
    }

    /// Replaces the pair by the token `merged`, which is new, at all of its places that [`Pairs::take`] gave.
    pub(super) fn merge(&mut self, (left, right): PairIds, places: &[u32], merged: u32) {
        let mut fresh = Vec::new();
        for &place in places {
            let at = place as usize;
            let second = self.after[at] as usize;
            if self.tokens[at] != left || self.tokens.get(second) != Some(&right) {
                continue;
            }
            let weight = self.weights[self.words[at] as usize];
            let (before, after) = (self.before[at], self.after[second]);
            if before != END {
                let other = self.tokens[before as usize];
                self.lose((other, left), weight);
                self.gain((other, merged), weight, before, &mut fresh);
            }
            if after != END {
                let other = self.tokens[after as usize];
                self.lose((right, other), weight);
                self.gain((merged, other), weight, place, &mut fresh);
                self.before[after as usize] = place;
            }
            self.tokens[at] = merged;
            self.tokens[second] = INSIDE;
            self.after[at] = after;
        }
        for pair in fresh {
            // Zero if the neighbour was merged as well: `ab a` on the way from `abab` to `ab ab`.
            match self.found.get(&pair).map_or(0, |found| found.count) {
                0 => drop(self.found.remove(&pair)),
                count => self.queue.push((count, Reverse(pair))),
            }
        }
    }

    fn gain(&mut self, pair: PairIds, weight: u64, place: u32, fresh: &mut Vec<PairIds>) {
        let found = self.found.entry(pair).or_default();
        if found.places.is_empty() {
            fresh.push(pair);
        }
        found.count += weight;
        found.places.push(place);
    }

    /// One occurrence less. The pair being merged is not in the table any more, and needs no count.
    fn lose(&mut self, pair: PairIds, weight: u64) {
        if let Some(found) = self.found.get_mut(&pair) {
            found.count -= weight;
        }
    }
}
