//! The vocabulary by spelling: a short piece that is a token as a whole.
//!
//! Why: a word met for the first time is most often one token, and finding that is cheaper than merging it.
//! It is right only for tokens that merging their own bytes gives (a vocabulary may hold others, by
//! accident or as special tokens), so only these are entered.
//!
//! Open addressing, linear probing, at most half full: 8 bytes an entry.

use super::cache::Key;

/// Spelling -> id.
pub(super) struct Vocabulary {
    /// 32 bits of the hash, then the id; all ones for an empty slot.
    slots: Vec<u64>,
    shift: u32,
}

const EMPTY: u64 = u64::MAX;

impl Vocabulary {
    /// A table of the given ids; ids are below 2^21.
    pub(super) fn new(tokens: &[(Key, u32)]) -> Self {
        let size = (2 * tokens.len()).next_power_of_two().max(16);
        let mut table = Self { slots: vec![EMPTY; size], shift: 64 - size.trailing_zeros() };
        for &(key, id) in tokens {
            let hash = key.hash();
            let mut at = (hash >> table.shift) as usize;
            while table.slots[at] != EMPTY {
                at = (at + 1) & (size - 1);
            }
            table.slots[at] = hash << 32 | u64::from(id);
        }
        table
    }

    /// Where a piece is looked for first, to ask for it.
    #[inline(always)]
    pub(super) fn line(&self, key: Key) -> *const u64 {
        self.slots.as_ptr().wrapping_add((key.hash() >> self.shift) as usize)
    }

    /// The id of a piece; `is` says whether an id has exactly this spelling.
    pub(super) fn find(&self, key: Key, is: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = key.hash();
        let mut at = (hash >> self.shift) as usize;
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            let id = slot as u32;
            if slot >> 32 == hash & 0xFFFF_FFFF && is(id) {
                return Some(id);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_entered_is_found() {
        let key = |i: u32| Key::of_piece(format!("t{i}").as_bytes()).unwrap();
        let tokens: Vec<_> = (0..5000).map(|i| (key(i), i)).collect();
        let table = Vocabulary::new(&tokens);
        for i in 0..10_000 {
            assert_eq!(table.find(key(i), |id| id == i), (i < 5000).then_some(i));
        }
        assert_eq!(Vocabulary::new(&[]).find(key(1), |_| true), None);
    }
}
