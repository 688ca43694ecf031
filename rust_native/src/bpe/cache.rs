//! A word cache of fixed size: pieces of up to 15 bytes whose encoding has up to four ids.
//!
//! Why: natural text repeats its words, and a hit is one cache line instead of a merge. Direct-mapped and
//! overwritten on conflict, so memory is bounded whatever the text.
//!
//! Invariant: a key holds the whole piece and its length; a hit is exact, never a matter of hashing.

/// Number of entries, 32 bytes each: 1 MiB.
const ENTRIES: usize = 1 << 15;
/// Longest piece that has a key.
pub(super) const MAX_BYTES: usize = 15;
/// Most ids an entry holds.
pub(super) const MAX_IDS: usize = 4;
/// Fills the unused places of an entry; no vocabulary reaches this id.
pub(super) const UNUSED: u32 = u32::MAX;

/// A piece of 1 to 15 bytes, zero-padded, its length in the last byte. Never zero.
pub(super) type Key = u128;

/// The key of `text[start..end]`, if that is short enough.
#[inline]
pub(super) fn key(text: &[u8], start: usize, end: usize) -> Option<Key> {
    let length = end - start;
    if length > MAX_BYTES {
        return None;
    }
    let word = match text[start..].first_chunk::<16>() {
        Some(sixteen) => u128::from_le_bytes(*sixteen) & ((1 << (8 * length)) - 1),
        None => {
            let mut padded = [0; 16];
            padded[..length].copy_from_slice(&text[start..end]);
            u128::from_le_bytes(padded)
        }
    };
    Some(word | (length as u128) << 120)
}

/// The cache.
pub(super) struct Cache {
    /// Key, then ids; a key of zero is an empty entry. Plain integers so that the allocation is zero pages.
    entries: Vec<[u64; 4]>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { entries: vec![[0; 4]; ENTRIES] }
    }

    /// The ids of a piece seen before, [`UNUSED`] behind the last.
    #[inline]
    pub(super) fn get(&self, key: Key) -> Option<[u32; MAX_IDS]> {
        let entry = &self.entries[slot(key)];
        let found = u128::from(entry[0]) | u128::from(entry[1]) << 64;
        let [a, b] = [entry[2], entry[3]];
        (found == key).then_some([a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32])
    }

    /// Remembers at most four ids.
    pub(super) fn put(&mut self, key: Key, ids: &[u32]) {
        if ids.len() > MAX_IDS {
            return;
        }
        let id = |i: usize| u64::from(ids.get(i).copied().unwrap_or(UNUSED));
        self.entries[slot(key)] = [key as u64, (key >> 64) as u64, id(0) | id(1) << 32, id(2) | id(3) << 32];
    }
}

/// Folds both halves by multiplication; the product's upper half depends on every bit.
#[inline]
fn slot(key: Key) -> usize {
    let (low, high) = (key as u64, (key >> 64) as u64);
    let product = u128::from(low ^ 0x9E37_79B9_7F4A_7C15) * u128::from(high ^ 0xD6E8_FEB8_6659_FD93);
    let folded = (product as u64) ^ ((product >> 64) as u64);
    (folded >> (64 - ENTRIES.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hold_the_whole_piece() {
        let text = b"abcdefghijklmnopqrstuvwxyz";
        for start in 0..text.len() {
            for end in start + 1..=text.len() {
                let padded = [&text[start..end], &[0; 16]].concat();
                let here = key(text, start, end);
                assert_eq!(here, key(&padded, 0, end - start));
                assert_eq!(here.is_some(), end - start <= 15);
            }
        }
        assert_ne!(key(b"a", 0, 1), key(b"a\0", 0, 2));
        assert_ne!(key(b"\0", 0, 1), key(b"\0\0", 0, 2));
    }

    #[test]
    fn what_goes_in_comes_out_until_overwritten() {
        let mut cache = Cache::new();
        let word = key(b"word", 0, 4).unwrap();
        assert_eq!(cache.get(word), None);
        cache.put(word, &[1, 2, 3, 4, 5]);
        assert_eq!(cache.get(word), None);
        cache.put(word, &[7, 8]);
        assert_eq!(cache.get(word), Some([7, 8, UNUSED, UNUSED]));
    }
}
