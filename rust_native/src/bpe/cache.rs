//! Word caches: pieces seen before and their ids.
//!
//! Why: natural text repeats its words, and a hit is one cache line instead of a merge. There are two:
//! [`Words`] for pieces of up to 15 bytes with few ids, which is nearly all of English and of code, and
//! [`Long`] for pieces of up to 31 bytes with up to 22 ids, which is most of the other scripts. What is longer
//! still is the business of `phrases`.
//!
//! Both have bounds that the text does not move, and both begin small and grow as they fill: the first line of a
//! new encoder should not pay for memory that it never uses.
//!
//! Invariant: a key holds the whole piece and its length; a hit is exact, never a matter of hashing.

use kernels::Buffer;
use kernels::text::Scan;

/// Longest piece that has a [`Key`].
pub(super) const MAX_BYTES: usize = 15;
/// Ids [`Words`] gives at once, of which some count.
pub(super) const MAX_IDS: usize = 16;
/// Room for what either cache writes at once.
pub(super) const ROOM: usize = 24;

/// A piece of 1 to 15 bytes, zero-padded, its length in the last byte. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(16))]
pub(super) struct Key([u64; 2]);

/// By length: which of the first and the last eight of 16 bytes belong to a piece, and what is added to the last. A
/// longer piece is given a key that no piece has and no empty entry either, so it is never found.
static ROWS: [[u64; 32]; 3] = {
    let mut rows = [[0; 32], [0; 32], [1; 32]];
    let mut length = 0;
    while length <= MAX_BYTES {
        let mask = (1_u128 << (8 * length)) - 1;
        rows[0][length] = mask as u64;
        rows[1][length] = (mask >> 64) as u64;
        rows[2][length] = (length as u64) << 56;
        length += 1;
    }
    rows
};

impl Key {
    /// What is in place of the key of a piece that is too long.
    pub(super) const NONE: Self = Self([0, 1]);

    /// The key of the first `length` of 16 bytes, below 32; [`Key::NONE`] if it is beyond [`MAX_BYTES`].
    #[inline(always)]
    pub(super) fn of(bytes: &[u8; 16], length: usize) -> Self {
        let (word, [low, high, top]) = (u128::from_le_bytes(*bytes), &ROWS);
        let row = length % 32;
        Self([word as u64 & low[row], (word >> 64) as u64 & high[row] | top[row]])
    }

    /// The key of a whole piece, if it is short enough.
    pub(super) fn of_piece(piece: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        bytes.get_mut(..piece.len()).filter(|_| piece.len() <= MAX_BYTES)?.copy_from_slice(piece);
        Some(Self::of(&bytes, piece.len()))
    }

    /// As an entry holds it.
    fn words(self) -> [u32; 4] {
        let [low, high] = self.0;
        [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
    }

    fn of_words([a, b, c, d]: [u32; 4]) -> Self {
        Self([u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32])
    }

    /// One product, whose upper bits depend on all of a key.
    #[inline(always)]
    pub(super) fn hash(self) -> u64 {
        (self.0[0] ^ self.0[1].rotate_left(29)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// Folds both halves of a product, which depends on every bit of both factors.
#[inline(always)]
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9E37_79B9_7F4A_7C15) * u128::from(b ^ 0xD6E8_FEB8_6659_FD93);
    product as u64 ^ (product >> 64) as u64
}

/// Two entries on one cache line: both keys, then the ids of each. The number of an entry's ids is above its
/// first, see [`COUNT`].
pub(super) type Pair = [[[u32; 4]; 2]; 2];

/// Bits of an id; above them, in an entry's first, is the number of its ids.
const COUNT: u32 = 24;

/// The cache of short pieces: pairs of entries, the newer first.
pub(super) struct Words {
    lines: Buffer,
    /// 64 minus the number of bits of a pair's index.
    shift: u32,
    used: usize,
}

/// A look at [`Words`] that a loop can keep in registers.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pairs: &'a [Pair],
    shift: u32,
}

impl View<'_> {
    /// Where a key is, if it is there.
    #[inline(always)]
    pub(super) fn place(self, key: Key) -> u16 {
        (key.hash() >> self.shift) as u16
    }

    /// The address of a place's line, to ask for it.
    #[inline(always)]
    pub(super) fn line(self, place: u16) -> *const Pair {
        self.pairs.as_ptr().wrapping_add(usize::from(place))
    }

    /// The ids of a piece: how many, and the first four. There are no more, or the fourth is repeated.
    #[inline(always)]
    pub(super) fn get<S: Scan>(self, scan: S, place: u16, key: &Key) -> Option<(usize, [u32; 4])> {
        let [keys, ids] = self.pairs.get(usize::from(place))?;
        // Chosen without a branch: which of the two it is cannot be predicted.
        let four = ids[scan.which(keys, &key.0)?];
        Some(((four[0] >> COUNT) as usize, four.map(|id| id & ((1 << COUNT) - 1))))
    }
}

/// Writes four ids, and the fourth repeated where there are more than four. More than are needed are written, so
/// that up to four is no branch.
#[inline(always)]
pub(super) fn write(room: &mut [u32; MAX_IDS], count: usize, four: [u32; 4]) {
    let (first, rest) = room.split_at_mut(4);
    first.copy_from_slice(&four);
    if count > 4 {
        rest.fill(four[3]);
    }
}

impl Words {
    /// Numbers of pairs, as powers of two: 16 KiB, 256 KiB, 2 MiB, 4 MiB. A step is paid once and by a text that needs it;
    /// the last two are whole huge pages, which cost two faults instead of a thousand.
    const SIZES: [u32; 4] = [8, 12, 15, 16];

    pub(super) fn new() -> Self {
        Self::of(Self::SIZES[0])
    }

    fn of(bits: u32) -> Self {
        Self { lines: Buffer::zeroed(16 << bits), shift: 64 - bits, used: 0 }
    }

    #[inline(always)]
    pub(super) fn view(&self) -> View<'_> {
        View { pairs: self.lines.words().as_chunks().0.as_chunks().0.as_chunks().0, shift: self.shift }
    }

    /// How many lines there are; with their number keys change their places.
    pub(super) fn pairs(&self) -> usize {
        1 << (64 - self.shift)
    }

    /// Remembers a piece that is not there, if its ids fit: at most four, or up to 15 of which the fourth and
    /// later ones are the same. Whether they did.
    pub(super) fn put(&mut self, key: Key, ids: &[u32]) -> bool {
        let Some(&last) = ids.last() else { return false };
        if ids.len() >= MAX_IDS || ids.len() > 4 && ids[3..].iter().any(|&id| id != last) {
            return false;
        }
        if self.used > self.pairs() / 2 {
            self.grow();
        }
        let mut four = [last; 4];
        four[..ids.len().min(4)].copy_from_slice(&ids[..ids.len().min(4)]);
        four[0] |= (ids.len() as u32) << COUNT;
        self.insert(key, four);
        true
    }

    /// Puts an entry first; the second one of its pair is forgotten.
    fn insert(&mut self, key: Key, ids: [u32; 4]) {
        let place = self.view().place(key);
        let pairs = self.lines.words_mut().as_chunks_mut().0.as_chunks_mut().0.as_chunks_mut().0;
        let [keys, both]: &mut Pair = &mut pairs[usize::from(place)];
        self.used += usize::from(keys[1] == [0; 4]);
        *keys = [key.words(), keys[0]];
        *both = [ids, both[0]];
    }

    /// The next size, with the same entries, unless there is none.
    #[cold]
    fn grow(&mut self) {
        let Some(bits) = Self::SIZES.into_iter().find(|bits| 64 - bits < self.shift) else { return };
        let small = std::mem::replace(self, Self::of(bits));
        for [keys, ids] in small.view().pairs {
            // The older first, so that the order stays.
            for (&key, &ids) in keys.iter().zip(ids).rev().filter(|(key, _)| **key != [0; 4]) {
                self.insert(Key::of_words(key), ids);
            }
        }
    }
}

/// The cache of longer pieces: direct-mapped, two lines an entry.
pub(super) struct Long {
    /// 31 bytes and the length; how many ids; the ids.
    lines: Buffer,
    /// 64 minus the number of bits of an entry's index.
    shift: u32,
    used: usize,
}

impl Long {
    /// Numbers of entries of 128 bytes, as powers of two: 4 KiB, 32 KiB, 256 KiB, 2 MiB.
    const SIZES: [u32; 4] = [5, 8, 11, 14];
    /// Most ids an entry holds.
    pub(super) const MAX_IDS: usize = 22;
    /// Where in an entry their number stands, before them.
    const COUNT: usize = 8;

    pub(super) fn new() -> Self {
        Self::of(Self::SIZES[0])
    }

    fn of(bits: u32) -> Self {
        Self { lines: Buffer::zeroed(32 << bits), shift: 64 - bits, used: 0 }
    }

    /// The key of the first `length` bytes of a text, if they are few enough.
    #[inline(always)]
    pub(super) fn key(text: &[u8], length: usize) -> Option<[u64; 4]> {
        if length >= 32 {
            return None;
        }
        let mut padded = [0; 32];
        let bytes = match text.first_chunk::<32>() {
            Some(bytes) => bytes,
            None => {
                padded[..length].copy_from_slice(&text[..length]);
                &padded
            }
        };
        let rows = [length.min(MAX_BYTES), length.max(16) - 16];
        let mut key = [0; 4];
        for (i, (word, eight)) in key.iter_mut().zip(bytes.as_chunks().0).enumerate() {
            *word = u64::from_le_bytes(*eight) & ROWS[i % 2][rows[i / 2]];
        }
        // The mask of 15 bytes stands for that of 16 too.
        key[1] |= if length > 15 { u64::from(bytes[15]) << 56 } else { 0 };
        key[3] |= (length as u64) << 56;
        Some(key)
    }

    fn place(&self, key: [u64; 4]) -> usize {
        (fold(fold(key[0], key[1]), fold(key[2], key[3])) >> self.shift) as usize
    }

    /// The key of an entry.
    #[inline(always)]
    fn key_of(entry: &[u32; 32]) -> [u64; 4] {
        std::array::from_fn(|i| u64::from(entry[2 * i]) | u64::from(entry[2 * i + 1]) << 32)
    }

    /// Writes the ids of a piece to the front of `ids`, if it is known, and returns how many there are; the
    /// places behind them, up to [`Long::MAX_IDS`], are written over.
    #[inline(always)]
    pub(super) fn get(&self, key: [u64; 4], ids: &mut [u32]) -> Option<usize> {
        let entry = &self.lines.words().as_chunks().0[self.place(key)];
        let found = Self::key_of(entry);
        let other = |i: usize| found[i] ^ key[i];
        if other(0) | other(1) | other(2) | other(3) != 0 {
            return None;
        }
        ids[..Self::MAX_IDS].copy_from_slice(&entry[Self::COUNT + 1..][..Self::MAX_IDS]);
        Some(entry[Self::COUNT] as usize)
    }

    /// Remembers a piece if its ids fit.
    pub(super) fn put(&mut self, key: [u64; 4], ids: &[u32]) {
        if ids.len() > Self::MAX_IDS {
            return;
        }
        if self.used > (self.lines.len() / 32) / 8 {
            self.grow();
        }
        let place = self.place(key);
        let entry: &mut [u32; 32] = &mut self.lines.words_mut().as_chunks_mut().0[place];
        self.used += usize::from(entry[Self::COUNT] == 0);
        for (two, word) in entry.as_chunks_mut().0.iter_mut().zip(key) {
            *two = [word as u32, (word >> 32) as u32];
        }
        entry[Self::COUNT] = ids.len() as u32;
        entry[Self::COUNT + 1..][..ids.len()].copy_from_slice(ids);
    }

    /// As [`Words::grow`], but sooner: of a direct-mapped table that is half full a fifth is lost, and what is lost is merged
    /// again.
    #[cold]
    fn grow(&mut self) {
        let Some(bits) = Self::SIZES.into_iter().find(|bits| 64 - bits < self.shift) else { return };
        let small = std::mem::replace(self, Self::of(bits));
        for entry in small.lines.words().as_chunks().0.iter().filter(|entry| entry[Self::COUNT] != 0) {
            let count = entry[Self::COUNT] as usize;
            self.put(Self::key_of(entry), &entry[Self::COUNT + 1..][..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use kernels::text::{Job, Scanner};

    use super::*;

    fn key(piece: &[u8]) -> Key {
        Key::of_piece(piece).unwrap()
    }

    struct Get<'a>(&'a Words, Key);

    impl Job for Get<'_> {
        type Output = Option<(usize, [u32; 4])>;

        #[inline(always)]
        fn run<S: Scan>(self, scan: S) -> Self::Output {
            let view = self.0.view();
            view.get(scan, view.place(self.1), &self.1)
        }
    }

    fn get(words: &Words, piece: &[u8]) -> Option<(usize, [u32; 4])> {
        Scanner::best().run(Get(words, key(piece)))
    }

    #[test]
    fn keys_hold_the_whole_piece_and_nothing_else() {
        let text: &[u8; 40] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN";
        for start in 0..20 {
            for length in 1..=MAX_BYTES {
                let sixteen = text[start..].first_chunk().unwrap();
                assert_eq!(Key::of(sixteen, length), key(&text[start..start + length]));
            }
        }
        assert_eq!(Key::of_piece(&text[..16]), None);
        for length in 16..32 {
            assert_eq!(Key::of(text.first_chunk().unwrap(), length), Key::NONE);
        }
        let words = Words::new();
        assert_eq!(Scanner::best().run(Get(&words, Key::NONE)), None);
        assert_ne!(key(b"a"), key(b"a\0"));
        assert_ne!(key(b"\0"), key(b"\0\0"));
        for length in 1..=32 {
            let padded = [&text[..length], &[0; 40]].concat();
            let exact = Long::key(&text[..length], length);
            assert_eq!(Long::key(text, length), exact);
            assert_eq!(Long::key(&padded, length), exact);
            assert_eq!(exact.is_some(), length < 32);
            assert!(exact.is_none() || Long::key(&padded, length + 1) != exact);
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut words = Words::new();
        assert_eq!(get(&words, b"word"), None);
        words.put(key(b"word"), &[7, 8]);
        let (count, ids) = get(&words, b"word").unwrap();
        assert_eq!(ids[..count], [7, 8]);
        words.put(key(b"five"), &[1, 2, 3, 4, 5]);
        assert_eq!(get(&words, b"five"), None);
        words.put(key(b"same"), &[9; 15]);
        assert_eq!(get(&words, b"same"), Some((15, [9; 4])));
        words.put(key(b"line"), &[1, 2, 3, 4, 4, 4]);
        assert_eq!(get(&words, b"line"), Some((6, [1, 2, 3, 4])));
        let mut room = [0; MAX_IDS];
        write(&mut room, 3, [1, 2, 3, 4]);
        assert_eq!(room[..5], [1, 2, 3, 4, 0]);
        write(&mut room, 7, [1, 2, 3, 4]);
        assert_eq!(room[..7], [1, 2, 3, 4, 4, 4, 4]);
        words.put(key(b"more"), &[9; 16]);
        assert_eq!(get(&words, b"more"), None);

        let mut long = Long::new();
        let mut ids = [0; 40];
        for count in 1..=40_u32 {
            let (key, put) = (format!("piece {count:02}"), (1..=count).collect::<Vec<_>>());
            let key = Long::key(key.as_bytes(), 8).unwrap();
            long.put(key, &put);
            let found = long.get(key, &mut ids);
            assert_eq!(found.is_some(), count <= 22, "{count}");
            assert!(found.is_none_or(|n| ids[..n] == put));
        }
    }

    /// What repeats stays, however many: an eighth of a direct-mapped table loses a sixteenth.
    #[test]
    fn longer_words_are_mostly_there() {
        let (mut long, mut ids) = (Long::new(), [0; Long::MAX_IDS]);
        let key = |i: u32| Long::key(format!("a long word {i:05}").as_bytes(), 17).unwrap();
        for count in [4, 32, 256, 2048] {
            (0..count).for_each(|i| long.put(key(i), &[i; 5]));
            let found =
                (0..count).filter(|&i| long.get(key(i), &mut ids) == Some(5) && ids[..5] == [i; 5]).count();
            assert!(found as u32 * 10 >= count * 8, "{found} of {count}");
        }
        assert_eq!(long.lines.len(), 32 << Long::SIZES[3]);
        (0..100_000).for_each(|i| long.put(key(i), &[i; 5]));
        assert_eq!(long.lines.len(), 32 << Long::SIZES[3]);
        assert!((0..100_000).all(|i| long.get(key(i), &mut ids).is_none_or(|count| ids[..count] == [i; 5])));
    }

    /// Far more words than fit: memory stays, what is found is right, and the newest is there.
    #[test]
    fn it_grows_to_its_bound_and_stays_exact() {
        let mut words = Words::new();
        let word = |i: u32| format!("w{i}").into_bytes();
        for i in 0..400_000 {
            words.put(key(&word(i)), &[i, 1]);
            assert_eq!(get(&words, &word(i)), Some((2, [i, 1, 1, 1])));
            if i == 500 {
                assert!((0..=i).filter(|&i| get(&words, &word(i)).is_some()).count() > 450);
            }
        }
        assert_eq!(words.view().pairs.len(), 1 << Words::SIZES[3]);
        let known = |i: &u32| get(&words, &word(*i)).is_some_and(|found| found == (2, [*i, 1, 1, 1]));
        let found = (0..400_000).filter(known).count();
        assert!(found > 60_000, "{found}");
        assert!((0..400_000).all(|i| get(&words, &word(i)).is_none_or(|(_, ids)| ids[0] == i)));
    }
}
