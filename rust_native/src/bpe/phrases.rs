//! The cache of what is too long for the word caches: rulers of dashes, addresses, sentences of scripts that
//! set no blanks.
//!
//! They are few, but to merge one costs as much as to look up a hundred words: in the documentation of
//! Rust crates, lines of slashes alone were nearly half of the time. Direct-mapped; an entry has room for
//! the longest piece, and memory that was never written is never paid for.
//!
//! Invariant: a hit compares all bytes.

use super::cache::fold;

/// Entries.
const ENTRIES: usize = 512;
/// Longest piece.
const BYTES: usize = 256;
/// Most ids.
const IDS: usize = 128;

/// The cache; about 400 KiB where all of it is in use.
pub(super) struct Phrases {
    bytes: Vec<u8>,
    ids: Vec<u32>,
    /// Bytes and ids of each entry, both 0 where it is empty.
    lengths: Vec<[u16; 2]>,
}

impl Phrases {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; ENTRIES * BYTES], ids: vec![0; ENTRIES * IDS], lengths: vec![[0; 2]; ENTRIES] }
    }

    fn place(piece: &[u8]) -> usize {
        let (words, rest) = piece.as_chunks::<8>();
        let last = rest.iter().fold(piece.len() as u64, |word, &byte| word << 8 | u64::from(byte));
        let hash = words.iter().fold(last, |hash, &word| fold(hash, u64::from_le_bytes(word)));
        (fold(hash, 0) >> (64 - ENTRIES.trailing_zeros())) as usize
    }

    /// The ids of a piece.
    pub(super) fn get(&self, piece: &[u8]) -> Option<&[u32]> {
        let place = Self::place(piece);
        let [bytes, ids] = self.lengths[place].map(usize::from);
        let known = &self.bytes[place * BYTES..][..bytes];
        (bytes > 0 && known == piece).then(|| &self.ids[place * IDS..][..ids])
    }

    /// Remembers a piece if it fits.
    pub(super) fn put(&mut self, piece: &[u8], ids: &[u32]) {
        if piece.len() <= BYTES && ids.len() <= IDS {
            let place = Self::place(piece);
            self.lengths[place] = [piece.len() as u16, ids.len() as u16];
            self.bytes[place * BYTES..][..piece.len()].copy_from_slice(piece);
            self.ids[place * IDS..][..ids.len()].copy_from_slice(ids);
        }
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
        assert!(known > BYTES / 2, "{known}");
    }
}
