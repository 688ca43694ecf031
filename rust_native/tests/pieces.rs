//! The encoder's way of splitting, 64 bytes at a time, gives the pieces of the specification, for every pattern
//! that has one, on every instruction set and wherever blocks and chunks happen to end.
//!
//! That the specification gives the pieces of the pattern is `bpe`'s, `patterns`' and `classes`' business.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use kernels::Isa;
use kernels::text::Scanner;
use proptest::prelude::*;
use rust_native::Pattern;

static SCANNERS: LazyLock<Vec<Scanner>> = LazyLock::new(|| {
    let missing = Isa::ALL.into_iter().filter(|&isa| Scanner::of(isa).is_none());
    missing.for_each(|isa| println!("skipped: this CPU does not scan with {isa}"));
    Isa::ALL.into_iter().filter_map(Scanner::of).collect()
});

/// Those that are scanned by blocks.
const PATTERNS: [Pattern; 4] = [Pattern::Gpt2, Pattern::Cl100k, Pattern::Llama3, Pattern::O200k];

fn check(text: &[u8]) {
    PATTERNS.iter().for_each(|pattern| check_pattern(pattern, text));
}

fn check_pattern(pattern: &Pattern, text: &[u8]) {
    let expected = pattern.ends(text).unwrap();
    for &scanner in SCANNERS.iter() {
        let found = pattern.ends_by_blocks(scanner, text).unwrap();
        if found != expected {
            let at = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
            let start = at.checked_sub(1).map_or(0, |i| expected[i]);
            let shown = String::from_utf8_lossy(&text[start..text.len().min(start + 80)]);
            let (isa, length) = (scanner.isa(), text.len());
            panic!("{pattern:?}, {isa}: {length} bytes, piece {at} at {start}: {shown:?}");
        }
    }
}

/// One character of every kind the rules tell apart, in every width.
const KINDS: [&str; 16] =
    [" ", "\n", "a", "s", "l", "e", "1", "!", "'", "\0", "é", "世", "\u{a0}", "\u{3000}", "٣", "🙂"];

/// What only the later patterns tell apart, and those of [`KINDS`] that matter to them.
const LATER_KINDS: [&str; 20] = [
    " ", "\n", "\r", "\t", "a", "s", "A", "1", "!", "/", "'", "ǅ", "世", "\u{301}", "\u{3000}", "٣", "—",
    "ſ", "ʰ", "\u{a0}",
];

/// All texts of up to so many characters.
fn short(kinds: &[&str], characters: usize) -> Vec<String> {
    let mut texts = vec![String::new()];
    for _ in 0..characters {
        let longer = |text: &String| kinds.iter().map(|kind| format!("{text}{kind}")).collect::<Vec<_>>();
        texts = texts.iter().flat_map(longer).chain([String::new()]).collect();
    }
    texts
}

/// Across the end of a block and across the end of a chunk.
#[test]
fn every_short_text_at_every_edge() {
    let [gpt2, later @ ..] = &PATTERNS;
    check_at_edges(&short(&KINDS, 4), std::slice::from_ref(gpt2));
    check_at_edges(&short(&LATER_KINDS, 4), later);
}

/// Begun at each place of a block, and at each from which it reaches over the end of a chunk.
#[test]
fn every_shorter_text_at_every_place() {
    let [gpt2, later @ ..] = &PATTERNS;
    for (kinds, patterns) in [(&KINDS[..], std::slice::from_ref(gpt2)), (&LATER_KINDS, later)] {
        let texts = short(kinds, 3);
        for room in (0..67).chain(2042..2049) {
            let filler = &"ab ".repeat(room)[..room];
            for (i, text) in texts.iter().enumerate() {
                let text = format!("{filler}{text}{}", ["", "b", " b", "  b!"][(i + room) % 4]);
                patterns.iter().for_each(|pattern| check_pattern(pattern, text.as_bytes()));
            }
        }
    }
}

/// Alone, twice, and beside characters of every class; these many at a time, so that blocks end anywhere.
#[test]
fn every_code_point_once_and_twice() {
    let all: Vec<char> = (0..=char::MAX as u32).filter_map(char::from_u32).collect();
    for some in all.chunks(997) {
        let mut text = String::new();
        for c in some {
            let twice = format!("{c}{c}");
            check(&twice.as_bytes()[..c.len_utf8()]);
            check(twice.as_bytes());
            text += &format!("{twice}a{c}B'{c} {twice}\n{twice}1!{c}/{c}世{c}A{c}\u{301}{c}");
        }
        check(text.as_bytes());
    }
}

/// Texts that an earlier state of the scanners split differently.
#[test]
fn texts_that_were_split_wrongly() {
    for text in ["—s", "s's's", "A'S'M", "\u{41000}a", "\u{3000}\nsǅs"] {
        check(text.as_bytes());
        for room in 0..130 {
            check(format!("{}{text}", "s".repeat(room)).as_bytes());
        }
    }
    check(&[228, 128, 128, 196, 128, 0, 0]);
    let digits: String = (0..600).map(|i| if i % 7 == 3 { " " } else { &"1111"[..1 + i % 4] }).collect();
    check(digits.as_bytes());
}

fn check_at_edges(texts: &[String], patterns: &[Pattern]) {
    let check = |text: &str| patterns.iter().for_each(|pattern| check_pattern(pattern, text.as_bytes()));
    let behind = ["", "b", " b", "  b!"];
    let mut before: Vec<String> = [0, 61, 62, 63, 64].map(|length| "x".repeat(length)).to_vec();
    before.extend([62, 63].map(|length| " ".repeat(length)));
    for (i, text) in texts.iter().enumerate() {
        for before in &before {
            check(&format!("{before}{text}{}", behind[i % 4]));
        }
        if i % 16 == 0 {
            for length in [2044, 2045, 2046, 2047] {
                let before = &"ab ".repeat(length)[..length];
                check(&format!("{before}{text}{}", behind[i / 16 % 4]));
            }
        }
    }
}

/// Runs as long as many blocks, behind and before characters that they may belong to.
#[test]
fn long_runs_of_what_later_patterns_take_together() {
    let runs = [
        "\n", " \n", "\t", "\r\n", "/", "!/", "1", "٣", "A", "世A", "世", "\u{301}", "!\u{301}", "\u{3000}",
        "'s", "'",
    ];
    for run in runs {
        for bytes in [200, 1000, 2040, 2046, 2047, 2048, 2049, 4099, 9001] {
            let run = run.repeat(bytes / run.len());
            for before in ["", "a", "A", "!", " ", "\n", "— ", "世"] {
                for behind in ["", "a", "A", "\n", " x", "!"] {
                    check(format!("{before}{run}{behind}").as_bytes());
                }
            }
        }
    }
}

/// What goes on over the edges of blocks and chunks: runs of every length up to some, behind a character that
/// they may belong to, before one that they may belong to.
#[test]
fn every_run_over_an_edge() {
    let runs = [
        "\n", " ", "\r\n", "/", "\n/", " \n", "1", "٣", "1٣", "A", "aA", "世A", "\u{301}", "'s", "!",
        "\u{3000}",
    ];
    let edges = ["a", "A", "世", "1", "!", " ", "\n", "\u{301}", "'", "—"];
    for run in runs {
        for (count, room) in (1..=70).map(|count| (count, 64)).chain([(1, 2048), (5, 2048), (66, 2048)]) {
            let run = run.repeat(count);
            for before in edges {
                for (i, behind) in edges.into_iter().enumerate() {
                    // Its end walks over the edge.
                    let room = room - 3 + (count + i) % 7;
                    let filler = "b ".repeat(room.saturating_sub(before.len() + run.len()));
                    check(format!("{filler}{before}{run}{behind}x").as_bytes());
                    check(format!("{before}{run}{behind}").as_bytes());
                }
            }
        }
    }
}

/// Apostrophes and what may be a contraction's letters, behind and before every class, over the edge of a block.
#[test]
fn contractions_over_an_edge() {
    let letters = ["s", "S", "ſ", "t", "r", "e", "E", "v", "l", "L", "m", "d", "x", "'", "\u{301}", "世"];
    let behind = ["", "a", "A", "'s", " ", "!"];
    for before in ["", "a", "A", " ", "1", "!", "\n", "世", "\u{301}", "'s"] {
        for (first, second) in letters.iter().flat_map(|first| letters.map(|second| (first, second))) {
            let rooms = (58..67).chain([2043, 2044, 2045, 2046, 2047]);
            for (i, (room, behind)) in rooms.flat_map(|room| behind.map(|behind| (room, behind))).enumerate()
            {
                let filler = &["b ", "b"][i % 2].repeat(room)[..room];
                check(format!("{filler}{before}'{first}{second}{behind}").as_bytes());
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
                   ‏صِف خَلقَ خَودٍ كَمِثلِ الشَمسِ إِذ بَزَغَت — 12٣٤ हिन्दी पाठ 한국어 문장입니다.\n\n Ça va ? « Oui »… 👩‍👩‍👧 🇩🇪\u{2003}\u{2003}x\r\n\
                   使用Python编写HTTP服务 don’t CAFE\u{301}S ❤️ ////\n/// {\n    \n    }\t12345678 WE'LL it's's \n \n  y\n \n";
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
    for pattern in &PATTERNS {
        let expected: Vec<_> = pattern.ends(replaced.as_bytes()).unwrap().into_iter().map(original).collect();
        assert_eq!(pattern.ends(text).unwrap(), expected, "{pattern:?}: {text:x?}");
    }
}

#[test]
fn truncated_and_impossible_bytes() {
    for text in ["aé世🙂 \u{3000}\u{10FFFF}", "世A\u{301}'ſǅ—\r/\u{3000}\n٣१!𐐀"].map(str::as_bytes)
    {
        for from in 0..text.len() {
            for to in from..=text.len() {
                for before in [0, 60, 61, 62, 63, 2045, 2046] {
                    let spaced = [&b"a ".repeat(before)[..before], &text[from..to]].concat();
                    check_bytes(&spaced);
                    check_bytes(&[&spaced[..], b" x"].concat());
                    check_bytes(&[&spaced[..], &text[from..to]].concat());
                }
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

    /// Few kinds at a time, so that rules meet: three of them, and letters between.
    #[test]
    fn mixtures_of_few_kinds(
        kinds in prop::array::uniform3(prop::sample::select(LATER_KINDS.to_vec())),
        parts in prop::collection::vec((0..4_usize, 1..5_usize), 0..1200),
    ) {
        let [a, b, c] = kinds;
        let text: String = parts.iter().map(|&(kind, count)| [a, b, c, "s"][kind].repeat(count)).collect();
        check(text.as_bytes());
    }

    /// Any characters of a script, each of which has some of the classes in its own way.
    #[test]
    fn scripts(parts in prop::collection::vec(prop_oneof![
        "[a-zA-Z' ]{1,9}", "[ -~\n\r\t]{1,9}", "[À-ÿĀ-ſ]{1,9}", "[Ͱ-ϿЀ-ӿ ]{1,9}", "[ऀ-ॿ ]{1,9}", "[\u{e00}-\u{e7f}]{1,9}",
        "[\u{600}-\u{6ff} ]{1,9}", "[一-丏Ａ-Ｚ０-９　]{1,9}", "[\u{2000}-\u{206f}]{1,5}", "[\u{1f440}-\u{1f64f}\u{fe0f}\u{200d}]{1,5}",
        "[\u{10400}-\u{1044f}]{1,5}", "\\PC{1,4}",
    ], 0..300)) {
        check(parts.concat().as_bytes());
    }

    #[test]
    fn any_bytes(text in prop::collection::vec(
        prop_oneof![any::<u8>(), 0x7E..=0xFF_u8, Just(b' '), Just(b'a'), 0xE0..=0xF5_u8], 0..300,
    )) {
        check_bytes(&text);
    }
}
