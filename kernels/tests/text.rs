//! Every instruction set scans text as the portable specification does.

use kernels::Isa;
use kernels::text::{BLOCK, Classes, Job, Scan, Scanner};
use proptest::prelude::*;

/// Everything a set says about one block.
struct All<'a> {
    block: &'a [u8; BLOCK],
    byte: u8,
    bits: u64,
    base: u16,
    rows: &'a [[u32; 16]],
}

impl Job for All<'_> {
    type Output = (Classes, [u64; 3], Vec<u16>, u32);

    fn run<S: Scan>(self, scan: S) -> Self::Output {
        let mut places = [u16::MAX; BLOCK];
        let count = scan.places(self.bits, self.base, &mut places);
        let (block, byte) = (self.block, self.byte);
        let (low, high) = (byte.min(0x20), byte.max(0xC3));
        let some = [scan.equal(block, byte), scan.within(block, low, byte), scan.within(block, byte, high)];
        (scan.classes(block), some, places[..count].to_vec(), scan.smallest(self.rows))
    }
}

struct Which {
    two: [[u32; 4]; 2],
    word: [u64; 2],
}

impl Job for &Which {
    type Output = Option<usize>;

    fn run<S: Scan>(self, scan: S) -> Option<usize> {
        scan.which(&self.two, &self.word)
    }
}

fn scanners() -> Vec<Scanner> {
    let found: Vec<Scanner> = Isa::ALL.into_iter().filter_map(Scanner::of).collect();
    for isa in Isa::ALL.into_iter().filter(|isa| !found.iter().any(|one| one.isa() == *isa)) {
        println!("skipped: this CPU does not scan with {isa}");
    }
    assert_eq!(found.last().map(|best| best.isa()), Some(Scanner::best().isa()));
    found
}

/// The definition, in other words than the specification's.
fn by_definition(all: &All<'_>) -> (Classes, [u64; 3], Vec<u16>, u32) {
    let mask = |is: &dyn Fn(u8) -> bool| {
        (0..BLOCK).filter(|&i| is(all.block[i])).fold(0_u64, |bits, i| bits | 1 << i)
    };
    let classes = Classes {
        letters: mask(&|b| b.is_ascii() && char::from(b).is_alphabetic()),
        capitals: mask(&|b| b.is_ascii() && char::from(b).is_uppercase()),
        digits: mask(&|b| b.is_ascii() && char::from(b).is_numeric()),
        spaces: mask(&|b| b.is_ascii() && char::from(b).is_whitespace()),
        lines: mask(&|b| b == 10 || b == 13),
        blanks: mask(&|b| b == 0x20),
        quotes: mask(&|b| b == 0x27),
        high: mask(&|b| b > 127),
    };
    let places = (0..64).filter(|i| all.bits >> i & 1 == 1).map(|i| all.base + i).collect();
    let smallest = all.rows.iter().flatten().fold(u32::MAX, |least, &x| least.min(x));
    let ranges = [all.byte..=all.byte, all.byte.min(0x20)..=all.byte, all.byte..=all.byte.max(0xC3)];
    let some = ranges.map(|range| mask(&|b| range.contains(&b)));
    (classes, some, places, smallest)
}

#[test]
fn every_byte_at_every_place() {
    for byte in 0..=255 {
        for at in 0..BLOCK {
            let mut block = [b'a'; BLOCK];
            block[at] = byte;
            for bits in [0, 1 << at, u64::MAX, u64::MAX << at] {
                let rows = &[[u32::MAX; 16]; 2][..at % 3];
                let all = || All { block: &block, byte, bits, base: 65_472, rows };
                for scanner in scanners() {
                    assert_eq!(scanner.run(all()), by_definition(&all()), "{:?}", scanner.isa());
                }
            }
        }
    }
}

/// Words whose halves are one of three each: equal, half equal and crosswise equal ones among them.
#[test]
fn a_word_is_found_whole_or_not_at_all() {
    let halves = [0_u64, 1 << 63, 0x0123_4567_89AB_CDEF];
    let words: Vec<[u64; 2]> = halves.iter().flat_map(|&low| halves.map(|high| [low, high])).collect();
    for &first in &words {
        for &second in words.iter().filter(|&&second| second != first) {
            for &word in &words {
                let quarters = |[low, high]: [u64; 2]| {
                    [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
                };
                let which = Which { two: [quarters(first), quarters(second)], word };
                for scanner in scanners() {
                    let expected = [first, second].iter().position(|&one| one == word);
                    assert_eq!(scanner.run(&which), expected, "{:?}", scanner.isa());
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn every_set_equals_the_definition(
        block in prop::collection::vec(any::<u8>(), BLOCK),
        byte in any::<u8>(),
        bits in any::<u64>(),
        base in 0..=65_472_u16,
        rows in prop::collection::vec(prop::array::uniform16(any::<u32>()), 0..5),
    ) {
        let block: &[u8; BLOCK] = block.as_slice().try_into().unwrap();
        let all = || All { block, byte, bits, base, rows: &rows };
        for scanner in scanners() {
            prop_assert_eq!(scanner.run(all()), by_definition(&all()), "{:?}", scanner.isa());
        }
    }

    #[test]
    fn pairs_are_found_where_they_are(text in "[ab|<]{0,200}", from in 0..220_usize) {
        for scanner in scanners() {
            for (first, second) in [(b'<', b'|'), (b'a', b'a'), (b'x', b'a')] {
                let expected = (from..text.len()).find(|&at| text.as_bytes()[at..].starts_with(&[first, second]));
                prop_assert_eq!(scanner.find_pair(text.as_bytes(), from, first, second), expected);
            }
        }
    }
}
