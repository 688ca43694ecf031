//! The encoder's way of splitting, 64 bytes at a time, gives the pieces of the specification, on every
//! instruction set and wherever blocks and chunks happen to end.
//!
//! That the specification gives the pieces of the pattern is `bpe`'s and `classes`' business.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use kernels::Isa;
use kernels::text::Scanner;
use proptest::prelude::*;
use rust_native::bpe::split::{ends, ends_by_blocks, pieces};

static SCANNERS: LazyLock<Vec<Scanner>> = LazyLock::new(|| {
    let missing = Isa::ALL.into_iter().filter(|&isa| Scanner::of(isa).is_none());
    missing.for_each(|isa| println!("skipped: this CPU does not scan with {isa}"));
    Isa::ALL.into_iter().filter_map(Scanner::of).collect()
});

fn check(text: &[u8]) {
    let expected: Vec<usize> = ends(text).collect();
    for &scanner in SCANNERS.iter() {
        let found = ends_by_blocks(scanner, text);
        if found != expected {
            let at = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
            let start = at.checked_sub(1).map_or(0, |i| expected[i]);
            let shown = String::from_utf8_lossy(&text[start..text.len().min(start + 80)]);
            panic!("{}: {} bytes, piece {at} at {start}: {shown:?}", scanner.isa(), text.len());
        }
    }
}

/// One character of every kind the rules tell apart, in every width.
const KINDS: [&str; 16] =
    [" ", "\n", "a", "s", "l", "e", "1", "!", "'", "\0", "é", "世", "\u{a0}", "\u{3000}", "٣", "🙂"];

/// All texts of up to four characters, across the end of a block and across the end of a chunk.
#[test]
fn every_short_text_at_every_edge() {
    let mut texts = vec![String::new()];
    for _ in 0..4 {
        let longer = |text: &String| KINDS.map(|kind| format!("{text}{kind}"));
        texts = texts.iter().flat_map(longer).chain([String::new()]).collect();
    }
    let behind = ["", "b", " b", "  b!"];
    let mut before: Vec<String> = [0, 61, 62, 63, 64].map(|length| "x".repeat(length)).to_vec();
    before.extend([62, 63].map(|length| " ".repeat(length)));
    for (i, text) in texts.iter().enumerate() {
        for before in &before {
            check(format!("{before}{text}{}", behind[i % 4]).as_bytes());
        }
        if i % 16 == 0 {
            for length in [2044, 2045, 2046, 2047] {
                check(
                    format!("{}{text}{}", "ab ".repeat(length)[..length].to_owned(), behind[i / 16 % 4])
                        .as_bytes(),
                );
            }
        }
    }
}

/// Natural text, begun and ended at 70 places each: whole files do not find mistakes at edges.
#[test]
fn text_cut_at_seventy_places() {
    let source = |name: &str| {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpe").join(name)).unwrap()
    };
    let scripts = "Съешь же ещё этих мягких французских булок, да выпей чаю. 日本語のテキスト、そして全角の　空白。\
                   ‏صِف خَلقَ خَودٍ كَمِثلِ الشَمسِ إِذ بَزَغَت — 12٣٤ हिन्दी पाठ 한국어 문장입니다.\n\n Ça va ? « Oui »… 👩‍👩‍👧 🇩🇪\u{2003}\u{2003}x\r\n";
    let texts =
        [source("encode.rs"), source("class_ranges.rs"), scripts.repeat(20), "it's we'll I'd ".repeat(400)];
    for text in &texts {
        for cut in 0..70 {
            let (from, to) = (text.floor_char_boundary(cut), text.floor_char_boundary(text.len() - cut));
            check(&text.as_bytes()[from..]);
            check(&text.as_bytes()[..to]);
            check(&text.as_bytes()[cut..text.len() - cut]);
        }
    }
}

#[test]
fn pieces_longer_than_a_chunk() {
    for long in [2047, 2048, 2049, 4096, 70_000] {
        for kind in KINDS {
            let run = kind.repeat(long);
            check(run.as_bytes());
            check(format!("a {run}").as_bytes());
            check(format!("{run} it's {run}x").as_bytes());
        }
    }
}

/// Bytes that are not UTF-8 are split as the text in which each of them is U+FFFD.
fn check_bytes(text: &[u8]) {
    check(text);
    let (mut replaced, mut places) = (String::new(), vec![(0, 0)]);
    let mut at = 0;
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            replaced.push(c);
            at += c.len_utf8();
            places.push((replaced.len(), at));
        }
        for _ in chunk.invalid() {
            replaced.push('\u{FFFD}');
            at += 1;
            places.push((replaced.len(), at));
        }
    }
    let original = |end| places[places.binary_search_by_key(&end, |&(there, _)| there).unwrap()].1;
    let mut end = 0;
    let expected = pieces(&replaced).map(|piece| {
        end += piece.len();
        original(end)
    });
    assert_eq!(ends(text).collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{text:x?}");
}

#[test]
fn truncated_and_impossible_bytes() {
    let text = "aé世🙂 \u{3000}\u{10FFFF}".as_bytes();
    for from in 0..text.len() {
        for to in from..=text.len() {
            for before in [0, 60, 61, 62, 63, 2046] {
                let spaced = [&b"a ".repeat(before)[..before], &text[from..to]].concat();
                check_bytes(&spaced);
                check_bytes(&[&spaced[..], b" x"].concat());
            }
        }
    }
    for byte in 0x80..=0xFF {
        for count in [1, 2, 5, 64, 3000] {
            check_bytes(&vec![byte; count]);
            check_bytes(&[b" ", &vec![byte; count][..], b"'s"].concat());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn mixtures(parts in prop::collection::vec((0..KINDS.len(), 1..5_usize), 0..400)) {
        let text: String = parts.iter().map(|&(kind, count)| KINDS[kind].repeat(count)).collect();
        check(text.as_bytes());
    }

    #[test]
    fn any_bytes(text in prop::collection::vec(
        prop_oneof![any::<u8>(), 0x7E..=0xFF_u8, Just(b' '), Just(b'a'), 0xE0..=0xF5_u8], 0..300,
    )) {
        check_bytes(&text);
    }
}
