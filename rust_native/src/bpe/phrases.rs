//! The cache of what is too long for the word caches: rulers of dashes, addresses, sentences of scripts that
//! set no blanks.
//!
//! They are few, but to merge one costs as much as to look up a hundred words: in the documentation of
//! Rust crates, lines of slashes alone were nearly half of the time. Open addressing, linear probing; what an entry
//! stands for lies in memory that grows with what was met, and at a bound all is forgotten.
//!
//! Invariant: a hit compares all bytes.

use super::cache::fold;

/// Places of entries, 128 KiB of them once there is one.
const PLACES: usize = 8192;
/// Longest piece.
const BYTES: usize = 256;
/// Most ids of a piece.
const IDS: usize = 128;
/// Entries, bytes of all pieces and ids of all: 512 KiB and 1 MiB.
const ENTRIES: usize = PLACES / 4 * 3;
const ALL_BYTES: usize = 512 << 10;
const ALL_IDS: usize = 256 << 10;

/// The cache.
pub(super) struct Phrases {
    /// None before the first piece.
    places: Vec<Entry>,
    used: usize,
    bytes: Vec<u8>,
    ids: Vec<u32>,
}

/// Where a piece's bytes and ids begin and how many there are; an empty place has none. And bits of its hash, so that
/// hardly another piece is compared.
#[derive(Clone, Copy, Default)]
struct Entry {
    bytes: u32,
    ids: u32,
    length: u16,
    count: u16,
    hash: u32,
}

impl Phrases {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), used: 0, bytes: Vec::new(), ids: Vec::new() }
    }

    fn hash(piece: &[u8]) -> u64 {
        let (words, rest) = piece.as_chunks::<8>();
        let last = rest.iter().fold(piece.len() as u64, |word, &byte| word << 8 | u64::from(byte));
        let hash = words.iter().fold(last, |hash, &word| fold(hash, u64::from_le_bytes(word)));
        fold(hash, 0)
    }

    /// The place of a piece, or the empty one where it belongs. There is always one that is empty.
    fn find(&self, piece: &[u8], hash: u64) -> usize {
        let mut at = (hash >> (64 - PLACES.trailing_zeros())) as usize;
        loop {
            let entry = &self.places[at];
            let known = &self.bytes[entry.bytes as usize..][..usize::from(entry.length)];
            if entry.length == 0 || entry.hash == hash as u32 && known == piece {
                return at;
            }
            at = (at + 1) % PLACES;
        }
    }

    /// The ids of a piece, which is not empty.
    pub(super) fn get(&self, piece: &[u8]) -> Option<&[u32]> {
        if self.places.is_empty() {
            return None;
        }
        let entry = &self.places[self.find(piece, Self::hash(piece))];
        (entry.length > 0).then(|| &self.ids[entry.ids as usize..][..usize::from(entry.count)])
    }

    /// Remembers a piece that is not there, if it fits.
    pub(super) fn put(&mut self, piece: &[u8], ids: &[u32]) {
        if piece.len() > BYTES || ids.len() > IDS {
            return;
        }
        if self.used == ENTRIES
            || self.bytes.len() + piece.len() > ALL_BYTES
            || self.ids.len() + ids.len() > ALL_IDS
        {
            self.places.clear();
            self.used = 0;
            self.bytes.clear();
            self.ids.clear();
        }
        self.places.resize(PLACES, Entry::default());
        let hash = Self::hash(piece);
        let at = self.find(piece, hash);
        self.used += 1;
        self.places[at] = Entry {
            bytes: self.bytes.len() as u32,
            ids: self.ids.len() as u32,
            length: piece.len() as u16,
            count: ids.len() as u16,
            hash: hash as u32,
        };
        self.bytes.extend_from_slice(piece);
        self.ids.extend_from_slice(ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_exactly() {
        let mut phrases = Phrases::new();
        for length in 1..300 {
            let piece = vec![b'/'; length];
            let ids: Vec<u32> = (0..length as u32 / 2).collect();
            assert_eq!(phrases.get(&piece), None);
            phrases.put(&piece, &ids);
            let fits = length <= BYTES && ids.len() <= IDS;
            assert_eq!(phrases.get(&piece), fits.then_some(&ids[..]));
        }
        let mut known = 0;
        for length in 1..=BYTES {
            if let Some(ids) = phrases.get(&vec![b'/'; length]) {
                assert_eq!(ids.len(), length / 2);
                known += 1;
            }
        }
        assert_eq!(known, BYTES);
    }

    /// Far more than fits: memory stays, what is found is right, and the newest is there.
    #[test]
    fn it_keeps_to_its_bounds_and_stays_exact() {
        let mut phrases = Phrases::new();
        let piece = |i: u32| format!("{i:0>100}").into_bytes();
        for i in 0..20_000 {
            phrases.put(&piece(i), &[i; 50]);
            assert_eq!(phrases.get(&piece(i)), Some(&[i; 50][..]));
            assert!(phrases.used <= ENTRIES);
        }
        assert!(phrases.bytes.capacity() <= 2 * ALL_BYTES && phrases.ids.capacity() <= 2 * ALL_IDS);
        let right = |i: u32| phrases.get(&piece(i)).is_none_or(|ids| ids == [i; 50]);
        assert!((0..20_000).all(right));
    }
}
