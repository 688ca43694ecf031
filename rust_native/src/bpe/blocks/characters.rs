//! Characters beyond ASCII: masks of what each is, found in a table of all code points.
//!
//! What the table says of a character are four bits, its [`Kind`]; each has a mask of its own here, a plane. In a text
//! that is UTF-8, where characters begin and how long they are is seen from masks of bytes that may begin one, and from
//! their lengths which bytes must go on with one. So lengths are not looked at one by one: all characters of two bytes
//! of a block are looked up in one loop, all of three in another, without a branch but its end, and spread over their
//! bytes all at once. Any byte that does not fit, and the chunk is read one character at a time instead.
//!
//! Source of the idea: Keiser and Lemire, "Validating UTF-8 in less than one instruction per byte", Software: Practice
//! and Experience 51 (2021).
//!
//! Invariant: both ways give the same planes, those of [`kind_beyond_ascii`].

use kernels::text::{BLOCK, Job, Scan};

use super::Blocks;
use crate::bpe::classes::{Class, kind_beyond_ascii, kind_of_three, kind_of_two};

impl Blocks {
    /// Fills the first planes, and `inner`, for a chunk with characters beyond ASCII at the front of a text, and adds
    /// letters, numbers and whitespace to the classes; whether there is such whitespace.
    #[inline(always)]
    pub(super) fn characters<S: Scan, const PLANES: usize>(
        &mut self,
        scan: S,
        text: &[u8],
        length: usize,
    ) -> bool {
        if !scan.apart(WellFormed::<PLANES> { blocks: &mut *self, text, length }) {
            scan.apart(OneByOne::<PLANES> { blocks: &mut *self, text, length });
        }
        let mut wide = 0;
        for k in 0..=length.div_ceil(BLOCK) {
            let [low, high] = [self.planes[0][k], self.planes[1][k]];
            self.classes[Class::Letter as usize][k] |= low & !high;
            self.classes[Class::Number as usize][k] |= high & !low;
            self.classes[Class::Space as usize][k] |= low & high;
            wide |= low & high;
        }
        wide != 0
    }
}

/// Fills the planes and `inner` of the first `length` bytes of a text, unless it finds that they are not UTF-8, which
/// it says.
struct WellFormed<'a, const PLANES: usize> {
    blocks: &'a mut Blocks,
    text: &'a [u8],
    length: usize,
}

impl<const PLANES: usize> Job for WellFormed<'_, PLANES> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> bool {
        let Self { blocks, text, length } = self;
        let (whole, tail) = text[..length].as_chunks::<BLOCK>();
        let mut padded = [0; BLOCK];
        padded[..tail.len()].copy_from_slice(tail);
        // Of the block before: bytes that must go on with a character, planes of these, and the second bytes of
        // characters of three that have to be in the upper half of what may follow, or in the lower.
        let (mut expected, mut planes, mut upper, mut lower) = (0, [0; PLANES], 0, 0);
        for k in 0..length.div_ceil(BLOCK) {
            let high = blocks.high[k];
            if high == 0 {
                if expected != 0 {
                    return false;
                }
                blocks.inner[k] = 0;
                blocks.planes[..PLANES].iter_mut().for_each(|plane| plane[k] = 0);
                continue;
            }
            let block = whole.get(k).unwrap_or(&padded);
            let two = scan.within(block, 0xC2, 0xDF);
            let three = scan.within(block, 0xE0, 0xEF);
            let four = scan.within(block, 0xF0, 0xF4);
            let inner = scan.within(block, 0x80, 0xBF);
            let low = scan.within(block, 0x80, 0x9F);
            let (longer, all) = (three | four, two | three | four);
            expected |= all << 1 | longer << 2 | four << 3;
            // What begins with E0 and is shorter than three bytes otherwise, and halves of UTF-16's pairs.
            let (e0, ed) = (scan.equal(block, 0xE0), scan.equal(block, 0xED));
            (upper, lower) = (upper | e0 << 1, lower | ed << 1);
            if all | inner != high || expected != inner || upper & low | lower & (inner & !low) != 0 {
                return false;
            }
            (upper, lower) = (e0 >> 63, ed >> 63);
            expected = all >> 63 | longer >> 62 | four >> 61;
            blocks.inner[k] = inner;

            let mut found = [0; PLANES];
            let mut put = |kind: u8, at: u32| {
                for (plane, mask) in found.iter_mut().enumerate() {
                    *mask |= u64::from(kind >> plane & 1) << at;
                }
            };
            let at_block = &text[k * BLOCK..];
            let mut left = two;
            while left != 0 {
                let at = left.trailing_zeros();
                put(kind_of_two(at_block, at as usize), at);
                left &= left - 1;
            }
            left = three;
            while left != 0 {
                let at = left.trailing_zeros();
                put(kind_of_three(at_block, at as usize), at);
                left &= left - 1;
            }
            left = four;
            while left != 0 {
                let at = left.trailing_zeros();
                let (kind, length) = kind_beyond_ascii(at_block, at as usize);
                if length != 4 {
                    return false;
                }
                put(kind.bits(), at);
                left &= left - 1;
            }
            for ((mask, carried), plane) in found.into_iter().zip(&mut planes).zip(&mut blocks.planes) {
                let (all, longer, four) = (mask & all, mask & longer, mask & four);
                plane[k] = *carried | mask | all << 1 | longer << 2 | four << 3;
                *carried = all >> 63 | longer >> 62 | four >> 61;
            }
        }
        let words = length.div_ceil(BLOCK);
        blocks.inner[words] = expected;
        for (plane, carried) in blocks.planes.iter_mut().zip(planes) {
            plane[words] = carried;
        }
        // A last character that goes on behind the chunk has all its bytes.
        let behind = &text[length..];
        let goes_on = |i: usize| behind.get(i).is_some_and(|byte| byte & 0xC0 == 0x80);
        let last = |i: usize| i < 3 && expected >> i & 1 == 1 && !goes_on(i);
        let second =
            behind.first().is_none_or(|byte| !(upper == 1 && *byte < 0xA0 || lower == 1 && *byte >= 0xA0));
        expected == 0 || second && !(0..3).any(last)
    }
}

/// Fills the same, whatever bytes there are.
struct OneByOne<'a, const PLANES: usize> {
    blocks: &'a mut Blocks,
    text: &'a [u8],
    length: usize,
}

impl<const PLANES: usize> Job for OneByOne<'_, PLANES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Scan>(self, _: S) {
        let Self { blocks, text, length } = self;
        let words = length.div_ceil(BLOCK);
        blocks.inner[..=words].fill(0);
        blocks.planes[..PLANES].iter_mut().for_each(|plane| plane[..=words].fill(0));
        let mut spilled = 0;
        for k in 0..words {
            let mut high = blocks.high[k] & !spilled;
            spilled = 0;
            while high != 0 {
                let at = high.trailing_zeros() as usize;
                let (kind, length) = kind_beyond_ascii(text, k * BLOCK + at);
                let ones = (1_u64 << length) - 1;
                let span = ones << at;
                high &= !span;
                if at + length > BLOCK {
                    spilled = ones >> (BLOCK - at);
                }
                let beyond = if at + length > BLOCK { spilled } else { 0 };
                blocks.inner[k] |= span & (span << 1);
                blocks.inner[k + 1] |= beyond;
                for (bit, plane) in blocks.planes[..PLANES].iter_mut().enumerate() {
                    let all = u64::from(kind.bits() >> bit & 1).wrapping_neg();
                    plane[k] |= span & all;
                    plane[k + 1] |= beyond & all;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kernels::Isa;
    use kernels::text::Scanner;
    use proptest::prelude::*;

    use super::super::CHUNK;
    use super::*;

    /// What both ways say of the first `length` bytes of a text: whether it is UTF-8, and the planes and inner bytes.
    type Planes = Vec<[u64; 5]>;
    struct Both<'a>(&'a [u8], usize);

    impl Job for Both<'_> {
        type Output = (bool, Planes, Planes);

        #[inline(always)]
        fn run<S: Scan>(self, scan: S) -> Self::Output {
            let Self(text, length) = self;
            let mut blocks = Box::new(Blocks::new());
            blocks.inner.fill(u64::MAX);
            blocks.planes.iter_mut().for_each(|plane| plane.fill(u64::MAX));
            blocks.classify(scan, &text[..length], |_, _, _, _| {});
            let planes = |blocks: &Blocks| {
                let row = |k: usize| {
                    let [a, b, c, d] = blocks.planes.each_ref().map(|plane| plane[k]);
                    [a, b, c, d, blocks.inner[k]]
                };
                (0..=length.div_ceil(BLOCK)).map(row).collect::<Planes>()
            };
            let well = scan.apart(WellFormed::<4> { blocks: &mut blocks, text, length });
            let first = planes(&blocks);
            scan.apart(OneByOne::<4> { blocks: &mut blocks, text, length });
            (well, first, planes(&blocks))
        }
    }

    fn check(text: &[u8]) {
        let length = text.len().min(CHUNK);
        // The last character of a chunk counts, whole or not.
        let whole = |end: usize| std::str::from_utf8(&text[..end]).is_ok();
        let valid = (length..=text.len().min(length + 3)).any(whole);
        for scanner in Isa::ALL.into_iter().filter_map(Scanner::of) {
            let (well, first, second) = scanner.run(Both(text, length));
            assert_eq!(well, valid, "{:?} {text:x?}", scanner.isa());
            assert!(!well || first == second, "{:?} {text:x?}", scanner.isa());
        }
    }

    const PARTS: [&[u8]; 22] = [
        b"a",
        b" ",
        b"7",
        "é".as_bytes(),
        "ж".as_bytes(),
        "\u{301}".as_bytes(),
        "ก".as_bytes(),
        "ั".as_bytes(),
        "漢".as_bytes(),
        "\u{3000}".as_bytes(),
        "\u{a0}".as_bytes(),
        "٣".as_bytes(),
        "🙂".as_bytes(),
        "𝟘".as_bytes(),
        "\u{d7ff}".as_bytes(),
        "\u{e000}".as_bytes(),
        "\u{800}".as_bytes(),
        "\u{10ffff}".as_bytes(),
        "À".as_bytes(),
        "ᾼ".as_bytes(),
        "ǅ".as_bytes(),
        "\u{7ff}".as_bytes(),
    ];

    /// Each part, and each way to break it, at the edges of blocks and of the chunk and at the end of the text.
    #[test]
    fn edges() {
        for part in PARTS.into_iter().filter(|part| part.len() > 1) {
            for start in (BLOCK - 4..BLOCK + 1).chain(CHUNK - 4..CHUNK + 1) {
                for behind in [&b""[..], b"a", "é".as_bytes(), b"aaaaaaaa"] {
                    for cut in 1..=part.len() {
                        check(&[&vec![b'x'; start], &part[..cut], behind].concat());
                    }
                    for at in 0..part.len() {
                        for byte in [
                            0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC3, 0xE0, 0xED,
                            0xF4, 0xFF,
                        ] {
                            let mut broken = part.to_vec();
                            broken[at] = byte;
                            check(&[&vec![b'x'; start], &broken[..], behind].concat());
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn both_ways_say_the_same(
            parts in prop::collection::vec(0..PARTS.len(), 1..1200),
            breaks in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
        ) {
            let mut text: Vec<u8> = parts.into_iter().flat_map(|part| PARTS[part].to_vec()).collect();
            check(&text);
            for (at, byte) in breaks {
                let at = at.index(text.len());
                text[at] = byte;
            }
            check(&text);
        }
    }
}
