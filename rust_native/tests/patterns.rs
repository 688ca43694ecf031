//! Patterns beside GPT-2's: pieces equal what the regular expressions say, ids equal tiktoken's and Hugging
//! Face's, with the published vocabularies.
//!
//! The crate tiktoken-rs carries these; the files of ranks are made anew from it, and have the published
//! digests, or they would not load.

mod peers;

use std::fs;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fancy_regex::Regex;
use kernels::Isa;
use kernels::text::Scanner;
use peers::{LLAMA3_PATTERN, write_ranks};
use proptest::prelude::*;
use rust_native::{Error, Pattern, Special, Tokenizer};
use tempfile::TempDir;
use tiktoken_rs::CoreBPE;
use tokenizers::pattern::Pattern as _;
use tokenizers::utils::SysRegex;

/// As tiktoken has them.
const R50K: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";
const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
const O200K: &str = tiktoken_rs::O200K_BASE_PAT_STR;

/// A pattern with a scanner, and the regular expression that it stands for.
struct Case {
    pattern: Pattern,
    regex: Regex,
    /// The same in Oniguruma's dialect.
    oniguruma: SysRegex,
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let case = |pattern, literal: &str| {
        // In Oniguruma `$` ends a line, and `+` behind braces repeats.
        let dialect = literal.replace("++$", r"++\z").replace("{1,3}+", "{1,3}");
        let oniguruma = SysRegex::new(&dialect).unwrap();
        Case { pattern, regex: Regex::new(literal).unwrap(), oniguruma }
    };
    vec![
        case(Pattern::Gpt2, R50K),
        case(Pattern::Cl100k, CL100K),
        case(Pattern::Llama3, LLAMA3_PATTERN),
        case(Pattern::O200k, O200K),
    ]
});

static SCANNERS: LazyLock<Vec<Scanner>> =
    LazyLock::new(|| Isa::ALL.into_iter().filter_map(Scanner::of).collect());

impl Case {
    fn check(&self, text: &str) {
        let expected: Vec<usize> = self.regex.find_iter(text).map(|found| found.unwrap().end()).collect();
        self.check_ends(text, &expected);
    }

    /// One character at a time, and by blocks on every instruction set.
    fn check_ends(&self, text: &str, expected: &[usize]) {
        let ends = self.pattern.ends(text.as_bytes()).unwrap();
        assert_eq!(ends, expected, "{:?}: {text:?}", self.pattern);
        for &scanner in SCANNERS.iter() {
            let ends = self.pattern.ends_by_blocks(scanner, text.as_bytes()).unwrap();
            assert_eq!(ends, expected, "{:?}, {}: {text:?}", self.pattern, scanner.isa());
        }
    }

    fn check_oniguruma(&self, text: &str) {
        let found = (&self.oniguruma).find_matches(text).unwrap();
        let expected: Vec<usize> = found.iter().map(|&((_, end), _)| end).filter(|&end| end > 0).collect();
        self.check_ends(text, &expected);
    }
}

/// All texts of up to `length` characters of a pool.
fn texts(pool: &[char], length: usize) -> Vec<String> {
    let mut texts = vec![String::new()];
    for _ in 0..length {
        let longer = |text: &String| pool.iter().map(|c| format!("{text}{c}")).collect::<Vec<_>>();
        texts = texts.iter().flat_map(longer).chain([String::new()]).collect();
    }
    texts
}

/// One character or more of every class the patterns know, and those with a rule of their own.
const KINDS: [char; 20] = [
    ' ', '\n', '\r', '\t', '\u{a0}', 'a', 's', 'A', 'ǅ', 'ʰ', '世', '\u{301}', '1', '!', '/', '\'', 'ſ', '٣',
    '—', '\u{3000}',
];

#[test]
fn every_short_text() {
    let words = ['a', 'B', '世', '\u{301}', ' ', '\'', 's', '!', '\n'];
    let (all, words) = (texts(&KINDS, 4), texts(&words, 5));
    for case in CASES.iter() {
        all.iter().chain(&words).for_each(|text| case.check(text));
        all.iter().for_each(|text| case.check_oniguruma(text));
    }
}

#[test]
fn every_contraction() {
    let letters = ['s', 'S', 'ſ', 't', 'T', 'r', 'R', 'v', 'e', 'E', 'm', 'l', 'L', 'd', 'x', 'K', 'ß', '\''];
    for text in texts(&letters, 2) {
        for before in ["", "a", "A", " ", "1", "!", "\n", "\u{301}", "世"] {
            for behind in ["", "a", "A", "'s", " "] {
                let text = format!("{before}'{text}{behind}");
                for case in CASES.iter() {
                    case.check(&text);
                    case.check_oniguruma(&text);
                }
            }
        }
    }
}

/// Every code point, and where it can be in use beside one of every class.
#[test]
fn every_code_point() {
    let all: Vec<char> = (0..=char::MAX as u32).filter_map(char::from_u32).collect();
    for block in all.chunks(4096) {
        let mut text: String = block.iter().collect();
        if block.iter().any(|c| c.is_alphanumeric())
            || u32::from(block[0]) < 0x3_4000
            || block.contains(&'\u{e0001}')
        {
            text.extend(block.iter().flat_map(|c| {
                format!("{c}a {c}B'{c}\n{c}{c}1!{c} 世{c}\u{301}{c}").chars().collect::<Vec<_>>()
            }));
        }
        for case in CASES.iter() {
            case.check(&text);
            case.check_oniguruma(&text);
        }
    }
}

/// A published vocabulary: ours from its file, and tiktoken's.
struct Peer {
    ours: Vec<Tokenizer>,
    theirs: &'static CoreBPE,
}

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fn peer(name: &str, theirs: &'static CoreBPE, ranks: u32) -> Peer {
    let path = write_ranks(DIR.path(), name, theirs, ranks);
    let load = |isa| Tokenizer::from_tiktoken(&path).unwrap().with_isa(isa);
    Peer { ours: Isa::ALL.into_iter().filter_map(load).collect(), theirs }
}

static P50K: LazyLock<Peer> =
    LazyLock::new(|| peer("p50k_base.tiktoken", tiktoken_rs::p50k_base_singleton(), 50_281));
static CL100K_BASE: LazyLock<Peer> =
    LazyLock::new(|| peer("cl100k_base.tiktoken", tiktoken_rs::cl100k_base_singleton(), 100_256));
static O200K_BASE: LazyLock<Peer> =
    LazyLock::new(|| peer("o200k_base.tiktoken", tiktoken_rs::o200k_base_singleton(), 199_998));

fn peers() -> [&'static Peer; 3] {
    [&P50K, &CL100K_BASE, &O200K_BASE]
}

impl Peer {
    fn check(&self, text: &str) {
        let plain = self.theirs.encode_ordinary(text);
        let special = self.theirs.encode_with_special_tokens(text);
        for ours in &self.ours {
            let ids = ours.encode(text, Special::Ignore).unwrap();
            assert_eq!(ids, plain, "{} {:?}: {text:?}", ours.isa(), ours.pattern());
            assert_eq!(ours.count(text, Special::Ignore).unwrap(), ids.len());
            assert_eq!(ours.decode_bytes(&ids).unwrap(), text.as_bytes());
            assert_eq!(ours.encode(text, Special::Allow).unwrap(), special, "{text:?}");
        }
    }
}

#[test]
fn published_files_are_known() {
    let r50k = write_ranks(DIR.path(), "r50k_base.tiktoken", tiktoken_rs::r50k_base_singleton(), 50_256);
    let ours = Tokenizer::from_path(&r50k).unwrap();
    let embedded = Tokenizer::gpt2();
    assert_eq!(ours.vocabulary_size(), embedded.vocabulary_size());
    assert!((0..50_257).all(|id| ours.token_bytes(id) == embedded.token_bytes(id)));
    let text = include_str!("patterns.rs");
    assert_eq!(ours.encode(text, Special::Allow).unwrap(), embedded.encode(text, Special::Allow).unwrap());

    let [p50k, cl100k, o200k] = peers().map(|peer| &peer.ours[0]);
    assert_eq!([p50k, cl100k, o200k].map(Tokenizer::vocabulary_size), [50_281, 100_277, 200_019]);
    assert_eq!(cl100k.special_id("<|endofprompt|>"), Some(100_276));
    assert_eq!(o200k.encode("<|endoftext|>", Special::Allow).unwrap(), [199_999]);
    assert_eq!(cl100k.decode_bytes(&[15_339, 100_257]).unwrap(), b"hello<|endoftext|>");
    // Ids between the special ones have no token.
    for unused in [100_256, 100_261, 100_275, 100_277] {
        let error = cl100k.decode_bytes(&[15_339, unused]).unwrap_err();
        assert!(matches!(error, Error::UnknownId { id, .. } if id == unused), "{error}");
        assert_eq!(cl100k.token_bytes(unused), None);
    }

    let other = DIR.path().join("other.tiktoken");
    fs::write(&other, fs::read_to_string(&r50k).unwrap() + "\n").unwrap();
    let error = Tokenizer::from_path(&other).unwrap_err().to_string();
    assert!(error.contains("other.tiktoken: file: not r50k_base") && error.contains("from_ranks"), "{error}");
}

/// Each token's own bytes, as a text and among others.
#[test]
fn every_token() {
    for peer in peers() {
        let ours = &peer.ours[peer.ours.len() - 1];
        let (mut encoder, mut ids) = (ours.encoder(), Vec::new());
        for id in 0..ours.vocabulary_size() as u32 {
            let Some(Ok(token)) = ours.token_bytes(id).map(str::from_utf8) else { continue };
            ids.clear();
            encoder.encode_into(token, Special::Ignore, &mut ids).unwrap();
            assert_eq!(ids, peer.theirs.encode_ordinary(token), "{token:?}");
        }
        let all: String = (0..ours.vocabulary_size() as u32)
            .filter_map(|id| str::from_utf8(ours.token_bytes(id)?).ok())
            .collect();
        peer.check(&all);
    }
}

/// All short texts one behind the other, so that blocks and chunks end anywhere in them, and each alone.
#[test]
fn every_short_text_has_tiktokens_ids() {
    let texts = texts(&KINDS, 3);
    for between in ["b", " b", "!\u{301}b", "\n1"] {
        peers().into_iter().for_each(|peer| peer.check(&texts.join(between)));
    }
    for peer in peers() {
        texts.iter().for_each(|text| peer.check(text));
    }
}

#[test]
fn every_code_point_has_tiktokens_ids() {
    let all: Vec<char> = (0..=char::MAX as u32).filter_map(char::from_u32).collect();
    for peer in peers() {
        for block in all.chunks(8192) {
            let text: String = block.iter().flat_map(|&c| [c, ' ', c, c, '\'', c]).collect();
            for ours in &peer.ours {
                let ids = ours.encode(&text, Special::Ignore).unwrap();
                assert_eq!(ids, peer.theirs.encode_ordinary(&text), "{:?} {:?}", ours.pattern(), block[0]);
            }
        }
    }
}

/// Natural text in several scripts, begun at 70 places and ended at 70, longer than a chunk.
#[test]
fn text_cut_at_seventy_places() {
    let scripts = "Съешь же ещё ЭТИХ мягких французских булок, да выпей чаю. 日本語のテキスト、そして全角の　空白。\
                   ‏صِف خَلقَ خَودٍ كَمِثلِ الشَمسِ إِذ بَزَغَت — 12٣٤567 हिन्दी पाठ 한국어 문장입니다.\n\n Ça va ? « Oui »… 👩‍👩‍👧 \
                   🇩🇪\r\n\tcamelCase XMLHttpRequest it's WE'LL //// {\n    }\n"
        .repeat(12);
    let code = include_str!("../src/bpe/encode.rs");
    for peer in peers() {
        for text in [&scripts, code] {
            for cut in 0..70 {
                let (from, to) = (text.floor_char_boundary(cut), text.floor_char_boundary(text.len() - cut));
                for part in [&text[from..], &text[..to]] {
                    let expected = peer.theirs.encode_ordinary(part);
                    for ours in &peer.ours {
                        assert_eq!(ours.encode(part, Special::Ignore).unwrap(), expected, "{from} {to}");
                    }
                }
            }
        }
    }
}

#[test]
fn long_pieces() {
    for peer in peers() {
        for text in [
            "a".repeat(20_000),
            "A".repeat(20_000) + "'s",
            "世A".repeat(7_000),
            " ".repeat(20_000) + "x",
            "\n".repeat(20_001) + "x",
            "\n".repeat(9_000) + &" ".repeat(9_000),
            "!".repeat(9_000) + &"\r\n".repeat(9_000) + "/",
            "1234567890".repeat(1_000),
            "\u{301}".repeat(9_000),
            "ab".repeat(1024) + "c",
            " ".to_owned() + &"ab".repeat(1023) + "c'll",
        ] {
            peer.check(&text);
        }
    }
}

/// Bytes that are no text are split as if each were U+FFFD, and come back.
#[test]
fn bytes_that_are_no_text() {
    let text = "a'S É\u{301}世🙂 \u{10FFFF}12".as_bytes();
    for case in CASES.iter() {
        let regex = Pattern::new(&format!(
            "(?:{})",
            case.regex.as_str().replace("++$", r"++\z").replace("{1,3}+", "{1,3}")
        ))
        .unwrap();
        assert!(matches!(regex, Pattern::Other(_)));
        for from in 0..text.len() {
            for to in from..=text.len() {
                let bytes = [&text[from..to], b" x", &text[from..to]].concat();
                assert_eq!(case.pattern.ends(&bytes).unwrap(), regex.ends(&bytes).unwrap(), "{bytes:x?}");
            }
        }
    }
    for peer in peers() {
        for from in 0..text.len() {
            for ours in &peer.ours {
                let (mut ids, bytes) = (Vec::new(), &text[from / 2..text.len() - from.div_ceil(2)]);
                ours.encoder().encode_bytes_into(bytes, Special::Allow, &mut ids).unwrap();
                assert_eq!(ours.decode_bytes(&ids).unwrap(), bytes);
            }
        }
    }
}

/// What ours writes is what Hugging Face's tokenizers read, and ours too.
#[test]
fn written_files_mean_the_same() {
    let texts = [
        include_str!("patterns.rs"),
        "It's WE'LL'S 12345 é\u{301}世A ÇA<|endoftext|>\n\n  x \n  ",
        "\r\n \n",
    ];
    for (peer, name) in peers().into_iter().zip(["p50k", "cl100k", "o200k"]) {
        let (ours, dir) = (&peer.ours[0], DIR.path().join(name));
        ours.write_vocabulary(&dir).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        let again = Tokenizer::from_path(&dir).unwrap();
        let theirs = tokenizers::Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
        for text in texts {
            let ids = ours.encode(text, Special::Allow).unwrap();
            assert_eq!(again.encode(text, Special::Allow).unwrap(), ids, "{name}");
            assert_eq!(theirs.encode_fast(text, false).unwrap().get_ids(), ids, "{name}");
        }
        assert_eq!(format!("{:?}", again.pattern()), format!("{:?}", ours.pattern()));
        assert!((0..ours.vocabulary_size() as u32).all(|id| again.token_bytes(id) == ours.token_bytes(id)));
    }
}

/// Characters that have hurt tokenizers before.
fn nasty() -> impl Strategy<Value = String> {
    let pool = prop_oneof![
        6 => "[a-zA-Z]{1,8}",
        4 => "[ \t\n\r]{1,6}",
        3 => "[0-9]{1,5}",
        3 => "'(s|t|re|ve|m|ll|d|S|RE|Ll|ſ|x|')?",
        2 => "[!-/:-@\\[-`{-~]{1,5}",
        1 => Just("<|endoftext|>".to_owned()),
        1 => Just("<|endofprompt|>".to_owned()),
        2 => "[\u{a0}\u{1680}\u{2000}-\u{200b}\u{2028}\u{2029}\u{3000}\u{feff}\u{85}\u{1c}-\u{1f}]{1,3}",
        3 => "[\u{300}-\u{36f}\u{903}\u{20dd}]{1,3}",
        2 => "[世界日本語テキスト한국어ªʰ]{1,6}",
        2 => "[Ⅷ½²٣०৪๓𝟘𐒠①]{1,5}",
        2 => "[éÉßñøČǅᾈ]{1,5}",
        2 => "[абвгдЖЯ]{1,6}",
        2 => "[العربية]{1,6}",
        2 => "(🙂|👩‍👩‍👧|🏳️‍🌈|🇩🇪|👍🏽){1,3}",
        1 => "\\PC{1,4}",
        1 => any::<char>().prop_map(String::from),
        1 => "[a-zA-Z]{40,80}",
    ];
    prop::collection::vec(pool, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nasty_texts(text in nasty()) {
        for case in CASES.iter() {
            case.check(&text);
            case.check_oniguruma(&text);
        }
        peers().into_iter().for_each(|peer| peer.check(&text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Ranks in any order, which training never gives: tokens that no merge reaches, tokens whose parts have
    /// higher ranks than they, and more than one way to split each.
    #[test]
    fn any_ranks(
        tokens in prop::collection::hash_set("[abc]{2,6}|[ab]{16,40}", 0..60),
        texts in prop::collection::vec("[abc]{1,150}|[ab]{16,40}", 1..8),
    ) {
        let mut ranks: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        ranks.extend(tokens.iter().map(|token| token.as_bytes().to_vec()));
        // The bytes between the others, so that a byte's rank says nothing either.
        let middle = ranks.len() / 2;
        ranks.rotate_left(middle);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ranks");
        let lines = ranks.iter().enumerate().map(|(rank, token)| format!("{} {rank}\n", STANDARD.encode(token)));
        fs::write(&path, lines.collect::<String>()).unwrap();
        let ours = Tokenizer::from_ranks(&path, Pattern::Cl100k, &[("<|x|>", 9999)]).unwrap();
        let encoder = ranks.into_iter().zip(0..).collect();
        let theirs = CoreBPE::new(encoder, [("<|x|>".to_owned(), 9999)].into_iter().collect(), CL100K).unwrap();
        for text in texts.iter().chain(&tokens) {
            let ids = ours.encode(text, Special::Ignore).unwrap();
            prop_assert_eq!(&ids, &theirs.encode_ordinary(text));
        }
        let all = texts.join(" ") + "<|x|>";
        prop_assert_eq!(ours.encode(&all, Special::Allow).unwrap(), theirs.encode_with_special_tokens(&all));
    }
}

#[test]
fn damaged_ranks_name_the_line() {
    let path = DIR.path().join("damaged");
    let whole: Vec<String> = (0..=255_u8).map(|byte| format!("{} {byte}", STANDARD.encode([byte]))).collect();
    let with = |more: &[&str], specials: &[(&str, u32)], words: &[&str]| {
        let lines: Vec<&str> = whole.iter().map(String::as_str).chain(more.iter().copied()).collect();
        fs::write(&path, lines.join("\r\n") + "\n").unwrap();
        let result = Tokenizer::from_ranks(&path, Pattern::O200k, specials);
        if words.is_empty() {
            return drop(result.unwrap());
        }
        let error = result.unwrap_err().to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{word:?} is not in: {error}"));
    };
    with(&["YWI= 256", ""], &[("<|x|>", 257)], &[]);
    with(&["YWI= 257"], &[("<|x|>", 256)], &[]);
    with(&["YWI=256"], &[], &["damaged: line 257", "not a token and its rank"]);
    with(&["YWI= 256 1"], &[], &["line 257", "not a token and its rank"]);
    with(&["YW= 256"], &[], &["line 257", "no base64"]);
    with(&[" 256"], &[], &["line 257", "a token of 0 bytes"]);
    with(&["YWI= -1"], &[], &["line 257", "rank is no number"]);
    with(&["YWI= 99999999"], &[], &["line 257", "below 2,097,151"]);
    with(&["YWI= 255"], &[], &["line 257", "rank 255 is given twice"]);
    with(&["YQ== 256"], &[], &["another rank"]);
    with(&["YWI= 257"], &[], &["rank 256", "no token", "truncated"]);
    with(&[], &[("<|x|>", 255)], &["special token \"<|x|>\"", "in use already"]);
    with(&[], &[("a", 256)], &["special token \"a\"", "in use already"]);
    fs::write(&path, whole[1..].join("\n")).unwrap();
    let error = Tokenizer::from_ranks(&path, Pattern::Gpt2, &[]).unwrap_err().to_string();
    assert!(error.contains("no token for byte 0x00"), "{error}");
}
