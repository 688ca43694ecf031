//! The cache of what is too long for the word caches: rulers of dashes, addresses, sentences of scripts that
//! set no blanks.
//!
//! They are few, but to merge one costs as much as to look up a hundred words: in the documentation of
//! Rust crates, lines of slashes alone were nearly half of the time. Direct-mapped; what an entry stands for lies
//! in memory that grows with what was met, and at its bound all is forgotten.
//!
//! Invariant: a hit compares all bytes.

use super::cache::fold;

/// Entries, 48 KiB of them once there is one.
const ENTRIES: usize = 4096;
/// Longest piece.
const BYTES: usize = 256;
/// Most ids of a piece.
const IDS: usize = 128;
/// Bytes of all pieces, and ids of all: 256 KiB and 512 KiB.
const ALL_BYTES: usize = 256 << 10;
const ALL_IDS: usize = 128 << 10;

/// The cache.
pub(super) struct Phrases {
    /// None before the first piece.
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    ids: Vec<u32>,
}

/// Where a piece's bytes and ids begin and how many there are; an empty entry has none.
#[derive(Clone, Copy, Default)]
struct Entry {
    bytes: u32,
    ids: u32,
    length: u16,
    count: u16,
}

impl Phrases {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), bytes: Vec::new(), ids: Vec::new() }
    }

    fn place(piece: &[u8]) -> usize {
        let (words, rest) = piece.as_chunks::<8>();
        let last = rest.iter().fold(piece.len() as u64, |word, &byte| word << 8 | u64::from(byte));
        let hash = words.iter().fold(last, |hash, &word| fold(hash, u64::from_le_bytes(word)));
        (fold(hash, 0) >> (64 - ENTRIES.trailing_zeros())) as usize
    }

    /// The ids of a piece, which is not empty.
    pub(super) fn get(&self, piece: &[u8]) -> Option<&[u32]> {
        let &Entry { bytes, ids, length, count } = self.entries.get(Self::place(piece))?;
        let known = &self.bytes[bytes as usize..][..usize::from(length)];
        (known == piece).then(|| &self.ids[ids as usize..][..usize::from(count)])
    }

    /// Remembers a piece if it fits.
    pub(super) fn put(&mut self, piece: &[u8], ids: &[u32]) {
        if piece.len() > BYTES || ids.len() > IDS {
            return;
        }
        if self.bytes.len() + piece.len() > ALL_BYTES || self.ids.len() + ids.len() > ALL_IDS {
            self.entries.clear();
            self.bytes.clear();
            self.ids.clear();
        }
        self.entries.resize(ENTRIES, Entry::default());
        self.entries[Self::place(piece)] = Entry {
            bytes: self.bytes.len() as u32,
            ids: self.ids.len() as u32,
            length: piece.len() as u16,
            count: ids.len() as u16,
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
        assert!(known > BYTES * 3 / 4, "{known}");
    }

    /// Far more than fits: memory stays, what is found is right, and the newest is there.
    #[test]
    fn it_keeps_to_its_bounds_and_stays_exact() {
        let mut phrases = Phrases::new();
        let piece = |i: u32| format!("{i:0>100}").into_bytes();
        for i in 0..20_000 {
            phrases.put(&piece(i), &[i; 50]);
            assert_eq!(phrases.get(&piece(i)), Some(&[i; 50][..]));
        }
        assert!(phrases.bytes.capacity() <= 2 * ALL_BYTES && phrases.ids.capacity() <= 2 * ALL_IDS);
        let right = |i: u32| phrases.get(&piece(i)).is_none_or(|ids| ids == [i; 50]);
        assert!((0..20_000).all(right));
    }
}
