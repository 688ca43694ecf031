//! Word caches: pieces seen before and their ids.
//!
//! Why: natural text repeats its words, and a hit is one cache line instead of a merge. There are two:
//! [`Words`] for pieces of up to 15 bytes with few ids, which is nearly all of English and of code, and
//! [`Long`] for pieces of up to 31 bytes with up to 22 ids, which is longer words of the other scripts, and for what the
//! first, at its bound, has no room for. What is longer still is the business of `phrases`.
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

/// Two entries on one cache line: both keys, then the ids of each and their number, as a [`Form`] has them.
pub(super) type Pair = [[[u32; 4]; 2]; 2];

/// How 16 bytes hold ids and their number. There are no more ids than it has room for, or the last that it holds
/// is repeated.
pub(super) trait Form: Copy {
    /// Ids it has room for.
    const IDS: usize;

    /// The first ids of a piece and how many there are.
    fn pack(ids: [u32; 8], count: usize) -> [u32; 4];

    /// The ids that an entry holds and how many a piece has.
    fn unpack(entry: [u32; 4]) -> ([u32; 8], usize);

    /// Writes the ids, and more than are needed, so that up to [`Form::IDS`] is no branch; how many count.
    fn write<S: Scan>(self, scan: S, entry: &[u32; 4], room: &mut [u32; MAX_IDS]) -> usize;
}

/// Seven ids below 2^16, as in GPT-2's vocabulary: most words of most scripts are no more.
#[derive(Clone, Copy)]
pub(super) struct Seven;

impl Form for Seven {
    const IDS: usize = 7;

    fn pack(ids: [u32; 8], count: usize) -> [u32; 4] {
        std::array::from_fn(|i| ids[2 * i] | (if i < 3 { ids[2 * i + 1] } else { count as u32 }) << 16)
    }

    fn unpack(entry: [u32; 4]) -> ([u32; 8], usize) {
        let half = |i: usize| entry[i / 2] >> (16 * (i % 2)) & 0xFFFF;
        (std::array::from_fn(|i| half(i.min(Self::IDS - 1))), half(7) as usize)
    }

    #[inline(always)]
    fn write<S: Scan>(self, scan: S, entry: &[u32; 4], room: &mut [u32; MAX_IDS]) -> usize {
        let count = (entry[3] >> 16) as usize;
        let (first, rest) = room.split_at_mut(8);
        first.copy_from_slice(&scan.widen(entry));
        if count > Self::IDS {
            first[7] = first[6];
            rest.fill(first[6]);
        }
        count
    }
}

/// Four ids of any vocabulary.
#[derive(Clone, Copy)]
pub(super) struct Four;

impl Four {
    /// Bits of an id; above them, in an entry's first, is the number of its ids.
    const COUNT: u32 = 24;
}

impl Form for Four {
    const IDS: usize = 4;

    fn pack(ids: [u32; 8], count: usize) -> [u32; 4] {
        [ids[0] | (count as u32) << Self::COUNT, ids[1], ids[2], ids[3]]
    }

    fn unpack(entry: [u32; 4]) -> ([u32; 8], usize) {
        let ids = entry.map(|id| id & ((1 << Self::COUNT) - 1));
        (std::array::from_fn(|i| ids[i.min(Self::IDS - 1)]), (entry[0] >> Self::COUNT) as usize)
    }

    #[inline(always)]
    fn write<S: Scan>(self, _: S, entry: &[u32; 4], room: &mut [u32; MAX_IDS]) -> usize {
        let count = (entry[0] >> Self::COUNT) as usize;
        let (first, rest) = room.split_at_mut(4);
        first.copy_from_slice(&entry.map(|id| id & ((1 << Self::COUNT) - 1)));
        if count > Self::IDS {
            rest.fill(first[3]);
        }
        count
    }
}

/// The cache of short pieces: pairs of entries, the newer first.
pub(super) struct Words {
    lines: Buffer,
    /// Entries are of the form [`Seven`], otherwise [`Four`].
    pub(super) seven: bool,
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

impl<'a> View<'a> {
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

    /// The ids of a piece, as its entry has them.
    #[inline(always)]
    pub(super) fn get<S: Scan>(self, scan: S, place: u16, key: &Key) -> Option<&'a [u32; 4]> {
        let [keys, ids] = self.pairs.get(usize::from(place))?;
        // Chosen without a branch: which of the two it is cannot be predicted.
        ids.get(scan.which(keys, &key.0)?)
    }
}

impl Words {
    /// Numbers of pairs, as powers of two: 16 KiB, 256 KiB, 2 MiB, 4 MiB. A step is paid once and by a text that needs it;
    /// the last two are whole huge pages, which cost two faults instead of a thousand.
    const SIZES: [u32; 4] = [8, 12, 15, 16];

    /// An empty one for a vocabulary of so many ids.
    pub(super) fn new(ids: usize) -> Self {
        Self::of(Self::SIZES[0], ids <= 1 << 16)
    }

    fn of(bits: u32, seven: bool) -> Self {
        Self { lines: Buffer::zeroed(16 << bits), seven, shift: 64 - bits, used: 0 }
    }

    #[inline(always)]
    pub(super) fn view(&self) -> View<'_> {
        View { pairs: self.lines.words().as_chunks().0.as_chunks().0.as_chunks().0, shift: self.shift }
    }

    /// How many lines there are; with their number keys change their places.
    pub(super) fn pairs(&self) -> usize {
        1 << (64 - self.shift)
    }

    /// Remembers a piece that is not there, if its ids fit: at most as many as the form holds, or up to 15 of which
    /// the last that it holds and later ones are the same. Whether they did. What makes way may go to `long`.
    pub(super) fn put(&mut self, key: Key, ids: &[u32], long: &mut Long) -> bool {
        if self.seven { self.put_as::<Seven>(key, ids, long) } else { self.put_as::<Four>(key, ids, long) }
    }

    #[inline]
    fn put_as<F: Form>(&mut self, key: Key, ids: &[u32], long: &mut Long) -> bool {
        let Some(&last) = ids.last() else { return false };
        if ids.len() >= MAX_IDS || ids.len() > F::IDS && ids[F::IDS - 1..].iter().any(|&id| id != last) {
            return false;
        }
        if self.used > self.pairs() / 2 {
            self.grow::<F>(long);
        }
        let mut first = [last; 8];
        let held = ids.len().min(F::IDS);
        first[..held].copy_from_slice(&ids[..held]);
        self.insert::<F>(key, F::pack(first, ids.len()), long);
        true
    }

    /// Puts an entry first; the second one of its pair is forgotten, or, once this table is as large as it gets, goes to
    /// `long`.
    fn insert<F: Form>(&mut self, key: Key, ids: [u32; 4], long: &mut Long) {
        let place = self.view().place(key);
        let pairs = self.lines.words_mut().as_chunks_mut().0.as_chunks_mut().0.as_chunks_mut().0;
        let [keys, both]: &mut Pair = &mut pairs[usize::from(place)];
        if keys[1] == [0; 4] {
            self.used += 1;
        } else if self.shift == 64 - Self::SIZES[3] {
            let (held, count) = F::unpack(both[1]);
            let all: [u32; MAX_IDS] = std::array::from_fn(|i| held[i.min(7)]);
            long.put(Long::key_of_short(Key::of_words(keys[1])), &all[..count]);
        }
        *keys = [key.words(), keys[0]];
        *both = [ids, both[0]];
    }

    /// The next size, with the same entries, unless there is none.
    #[cold]
    fn grow<F: Form>(&mut self, long: &mut Long) {
        let Some(bits) = Self::SIZES.into_iter().find(|bits| 64 - bits < self.shift) else { return };
        let small = std::mem::replace(self, Self::of(bits, self.seven));
        for [keys, ids] in small.view().pairs {
            // The older first, so that the order stays.
            for (&key, &ids) in keys.iter().zip(ids).rev().filter(|(key, _)| **key != [0; 4]) {
                self.insert::<F>(Key::of_words(key), ids, long);
            }
        }
    }
}

/// The cache of longer pieces, and of what [`Words`] had no room for: pairs of entries, the newer first, two lines each.
pub(super) struct Long {
    /// 31 bytes and the length; how many ids; the ids.
    lines: Buffer,
    /// 64 minus the number of bits of an entry's index.
    shift: u32,
    used: usize,
}

impl Long {
    /// Numbers of pairs of 256 bytes, as powers of two: 4 KiB, 32 KiB, 256 KiB, 2 MiB, 4 MiB.
    const SIZES: [u32; 5] = [4, 7, 10, 13, 14];
    /// Most ids an entry holds.
    pub(super) const MAX_IDS: usize = 22;
    /// Where in an entry their number stands, before them.
    const COUNT: usize = 8;

    pub(super) fn new() -> Self {
        Self::of(Self::SIZES[0])
    }

    fn of(bits: u32) -> Self {
        Self { lines: Buffer::zeroed(64 << bits), shift: 64 - bits, used: 0 }
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

    /// Where a key's pair is.
    #[inline(always)]
    fn place(&self, key: [u64; 4]) -> usize {
        (fold(fold(key[0], key[1]), fold(key[2], key[3])) >> self.shift) as usize
    }

    /// [`Long::key`] of a piece that has a [`Key`].
    fn key_of_short(key: Key) -> [u64; 4] {
        let [low, high] = key.0;
        [low, high & (u64::MAX >> 8), 0, high >> 56 << 56]
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
        let pair: &[[u32; 32]; 2] = &self.lines.words().as_chunks().0.as_chunks().0[self.place(key)];
        let entry = pair.iter().find(|entry| {
            let found = Self::key_of(entry);
            let other = |i: usize| found[i] ^ key[i];
            other(0) | other(1) | other(2) | other(3) == 0
        })?;
        ids[..Self::MAX_IDS].copy_from_slice(&entry[Self::COUNT + 1..][..Self::MAX_IDS]);
        Some(entry[Self::COUNT] as usize)
    }

    /// Remembers a piece if its ids fit and it is not there; the second one of its pair is forgotten.
    pub(super) fn put(&mut self, key: [u64; 4], ids: &[u32]) {
        if ids.len() > Self::MAX_IDS {
            return;
        }
        if self.used > (self.lines.len() / 32) / 4 {
            self.grow();
        }
        let place = self.place(key);
        let pair: &mut [[u32; 32]; 2] =
            &mut self.lines.words_mut().as_chunks_mut().0.as_chunks_mut().0[place];
        if pair.iter().any(|entry| Self::key_of(entry) == key) {
            return;
        }
        self.used += usize::from(pair[1][Self::COUNT] == 0);
        pair[1] = pair[0];
        let entry = &mut pair[0];
        for (two, word) in entry.as_chunks_mut().0.iter_mut().zip(key) {
            *two = [word as u32, (word >> 32) as u32];
        }
        entry[Self::COUNT] = ids.len() as u32;
        entry[Self::COUNT + 1..][..ids.len()].copy_from_slice(ids);
    }

    /// As [`Words::grow`], but sooner: what is lost is merged again.
    #[cold]
    fn grow(&mut self) {
        let Some(bits) = Self::SIZES.into_iter().find(|bits| 64 - bits < self.shift) else { return };
        let small = std::mem::replace(self, Self::of(bits));
        let pairs: &[[[u32; 32]; 2]] = small.lines.words().as_chunks().0.as_chunks().0;
        for pair in pairs {
            for entry in pair.iter().rev().filter(|entry| entry[Self::COUNT] != 0) {
                let count = entry[Self::COUNT] as usize;
                self.put(Self::key_of(entry), &entry[Self::COUNT + 1..][..count]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kernels::Isa;
    use kernels::text::{Job, Scanner};

    use super::*;

    fn key(piece: &[u8]) -> Key {
        Key::of_piece(piece).unwrap()
    }

    struct Get<'a>(&'a Words, Key);

    impl Job for Get<'_> {
        type Output = Option<Vec<u32>>;

        #[inline(always)]
        fn run<S: Scan>(self, scan: S) -> Self::Output {
            let (view, mut room) = (self.0.view(), [u32::MAX; MAX_IDS]);
            let entry = view.get(scan, view.place(self.1), &self.1)?;
            let count = if self.0.seven {
                Seven.write(scan, entry, &mut room)
            } else {
                Four.write(scan, entry, &mut room)
            };
            Some(room[..count].to_vec())
        }
    }

    fn get(words: &Words, piece: &[u8]) -> Option<Vec<u32>> {
        let found: Vec<_> = Isa::ALL
            .into_iter()
            .filter_map(Scanner::of)
            .map(|scanner| scanner.run(Get(words, key(piece))))
            .collect();
        assert!(found.iter().all(|one| *one == found[0]));
        found[0].clone()
    }

    /// What a longer cache knows of a piece.
    fn get_long(long: &Long, piece: &[u8]) -> Option<Vec<u32>> {
        let mut ids = [0; Long::MAX_IDS];
        let count = long.get(Long::key(piece, piece.len()).unwrap(), &mut ids)?;
        Some(ids[..count].to_vec())
    }

    /// Vocabularies on both sides of what [`Seven`] can name.
    const VOCABULARIES: [usize; 2] = [1 << 16, (1 << 16) + 1];

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
        let words = Words::new(1);
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
            if length <= MAX_BYTES {
                assert_eq!(exact, Some(Long::key_of_short(key(&text[..length]))));
            }
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        for ids in VOCABULARIES {
            let (mut words, mut long) = (Words::new(ids), Long::new());
            let last = ids as u32 - 1;
            assert_eq!(get(&words, b"word"), None);
            for count in 1..=20 {
                let held = if words.seven { Seven::IDS } else { Four::IDS };
                let (different, same): (Vec<u32>, Vec<u32>) =
                    (0..count).map(|i| (last - i, last - i.min(held as u32 - 1))).unzip();
                let (a, b) = (format!("d{count}"), format!("s{count}"));
                let fits = words.put(key(a.as_bytes()), &different, &mut long);
                assert_eq!(fits, different.len() <= held);
                assert_eq!(get(&words, a.as_bytes()), fits.then_some(different));
                let fits = words.put(key(b.as_bytes()), &same, &mut long);
                assert_eq!(fits, same.len() < MAX_IDS);
                assert_eq!(get(&words, b.as_bytes()), fits.then_some(same));
            }
        }

        let mut long = Long::new();
        for count in 1..=40_u32 {
            let (piece, put) = (format!("piece {count:02}"), (1..=count).collect::<Vec<_>>());
            let key = Long::key(piece.as_bytes(), 8).unwrap();
            long.put(key, &put);
            long.put(key, &[7]);
            assert_eq!(
                get_long(&long, piece.as_bytes()),
                if count <= 22 { Some(put) } else { Some(vec![7]) }
            );
        }
    }

    /// What repeats stays, however many.
    #[test]
    fn longer_words_are_mostly_there() {
        let (mut long, mut ids) = (Long::new(), [0; Long::MAX_IDS]);
        let key = |i: u32| Long::key(format!("a long word {i:05}").as_bytes(), 17).unwrap();
        for count in [4, 32, 256, 2048, 8192] {
            (0..count).for_each(|i| long.put(key(i), &[i; 5]));
            let found =
                (0..count).filter(|&i| long.get(key(i), &mut ids) == Some(5) && ids[..5] == [i; 5]).count();
            assert!(found as u32 * 10 >= count * 9, "{found} of {count}");
        }
        (0..100_000).for_each(|i| long.put(key(i), &[i; 5]));
        assert_eq!(long.lines.len(), 64 << Long::SIZES[4]);
        assert!((0..100_000).all(|i| long.get(key(i), &mut ids).is_none_or(|count| ids[..count] == [i; 5])));
    }

    /// Far more words than fit: memory stays, what is found is right, the newest is there, and what was forgotten last
    /// is among the longer ones.
    #[test]
    fn it_grows_to_its_bound_and_stays_exact() {
        for ids in VOCABULARIES {
            let (mut words, mut long) = (Words::new(ids), Long::new());
            let word = |i: u32| format!("w{i}").into_bytes();
            let put = |i: u32| vec![i % 60_000, i / 60_000, 1];
            for i in 0..400_000 {
                words.put(key(&word(i)), &put(i), &mut long);
                if i % 100 == 0 {
                    assert_eq!(get(&words, &word(i)), Some(put(i)));
                }
                if i == 500 {
                    assert!((0..=i).filter(|&i| get(&words, &word(i)).is_some()).count() > 450);
                }
            }
            assert_eq!(words.view().pairs.len(), 1 << Words::SIZES[3]);
            let (mut here, mut there) = (0, 0);
            for i in 0..400_000 {
                let found = get(&words, &word(i));
                here += usize::from(found.is_some());
                assert!(found.is_none_or(|ids| ids == put(i)));
                let found = get_long(&long, &word(i));
                there += usize::from(found.is_some());
                assert!(found.is_none_or(|ids| ids == put(i)));
            }
            assert!(here > 60_000 && there > 16_000, "{here} {there}");
        }
    }
}
