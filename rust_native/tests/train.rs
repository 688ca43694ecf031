//! A trained vocabulary is the one that Hugging Face's trainer makes of the same texts, and works.

use proptest::prelude::*;
use rust_native::{Error, Special, Tokenizer, TrainOptions, Trainer};
use serde_json::Value;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerImpl};

type Theirs = TokenizerImpl<BPE, NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>;

fn options(vocabulary_size: usize, min_frequency: u64, special: &[&str]) -> TrainOptions {
    let special = special.iter().map(|&token| token.to_owned()).collect();
    TrainOptions { vocabulary_size, min_frequency, special }
}

fn trainer(texts: &[&str]) -> Trainer {
    let mut trainer = Trainer::new();
    texts.iter().for_each(|text| trainer.feed(text));
    trainer
}

/// What Hugging Face's trainer makes of the same.
fn theirs(texts: &[&str], options: &TrainOptions) -> Theirs {
    let special = options.special.iter().map(|token| AddedToken::from(token.as_str(), true));
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(options.vocabulary_size)
        .min_frequency(options.min_frequency)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special.collect())
        .build();
    let mut tokenizer = Theirs::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.train(&mut trainer, texts.iter()).unwrap();
    tokenizer
}

/// Trains both, compares merges and ids, loads what was written, and encodes the texts with all of them; the
/// number of merges.
fn check(texts: &[&str], options: &TrainOptions) -> usize {
    let ours = trainer(texts).train(options).unwrap();
    let theirs = theirs(texts, options);
    let dir = tempfile::tempdir().unwrap();
    ours.write_vocabulary(dir.path()).unwrap();
    let written = std::fs::read_to_string(dir.path().join("tokenizer.json")).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    let model = serde_json::to_value(theirs.get_model()).unwrap();
    assert_eq!(written["model"]["merges"], model["merges"], "{options:?}");
    assert_eq!(written["model"]["vocab"], model["vocab"], "{options:?}");
    let loaded = Tokenizer::from_dir(dir.path()).unwrap();
    for text in texts {
        let ids = ours.encode(text, Special::Allow).unwrap();
        assert_eq!(ids, theirs.encode(*text, false).unwrap().get_ids(), "{text:?}");
        assert_eq!(ids, loaded.encode(text, Special::Allow).unwrap(), "{text:?}");
        assert_eq!(loaded.decode_lossy(&ids).unwrap(), *text);
    }
    model["merges"].as_array().unwrap().len()
}

const PROSE: [&str; 3] = [
    include_str!("../README.md"),
    include_str!("../src/bpe/README.md"),
    include_str!("../src/bpe/encode.rs"),
];

const SCRIPTS: &str = "Съешь же ещё этих мягких французских булок, да выпей чаю. 日本語のテキスト、そして全角の　空白。\
    صِف خَلقَ خَودٍ كَمِثلِ الشَمسِ إِذ بَزَغَت — 12٣٤ हिन्दी पाठ 한국어 문장입니다.\n\n Ça va ? « Oui »… 👩‍👩‍👧 🇩🇪\r\n\
    そして日本語、そして空白。 Да, чаю этих булок; हिन्दी पाठ है। 한국어 문장 👩‍👩‍👦\u{a0}\u{3000}\u{2003}x \0\0\u{7f}";

const END: &str = "<|endoftext|>";

#[test]
fn prose_and_code() {
    for (size, least, special) in [
        (256, 0, &[][..]),
        (257, 0, &[END]),
        (258, 2, &[END]),
        (300, 1, &[]),
        (1000, 2, &["<pad>", END, "<a b>"]),
    ] {
        assert_eq!(check(&PROSE, &options(size, least, special)), size - 256 - special.len());
    }
    // No pair is left that occurs so often.
    for (size, least) in [(20_000, 3), (20_000, 20)] {
        assert!((100..10_000).contains(&check(&PROSE, &options(size, least, &[]))));
    }
}

#[test]
fn many_scripts() {
    let long = SCRIPTS.repeat(5);
    for (size, least) in [(280, 0), (500, 2), (5000, 1), (5000, 6)] {
        assert!(check(&[SCRIPTS, &long, "", " ", PROSE[1]], &options(size, least, &[END])) > 20);
    }
}

/// Everything occurs equally often: only the order of ids decides.
#[test]
fn ties() {
    let letters = || "azbycx'!1 é世".chars();
    let pairs: String = letters().flat_map(|a| letters().map(move |b| format!("{a}{b}\n"))).collect();
    let triples: String = letters()
        .flat_map(|a| letters().flat_map(move |b| letters().map(move |c| format!("{a}{b}{c} "))))
        .collect();
    let backwards: String = triples.chars().rev().collect();
    for text in [&pairs, &triples, &backwards] {
        for least in [0, 1, 2] {
            for size in [260, 300, 2000] {
                assert!(check(&[text], &options(size, least, &[])) >= 3);
            }
        }
    }
}

/// Runs, in which a pair overlaps itself, alone and interrupted; a text without a pair.
#[test]
fn runs_and_repetitions() {
    let runs: String = (1..70).map(|n| "a".repeat(n) + "\n" + &" ".repeat(n % 7)).collect();
    let mixed: String =
        (1..40).map(|n| "ab".repeat(n) + &"a".repeat(n % 5) + &"ba".repeat(n % 3) + " ").collect();
    let ruler = "=".repeat(1000) + &"-=".repeat(300) + &"\n".repeat(129) + "x" + &"aab".repeat(77);
    let (blanks, digits) = (" ".repeat(255) + "x", "1213141".repeat(90));
    for text in [&runs, &mixed, &ruler, &blanks, &digits] {
        for (size, least) in [(257, 0), (263, 0), (700, 1), (700, 2), (700, 40)] {
            assert!(check(&[text], &options(size, least, &[END])) <= size - 257);
        }
    }
    assert!(check(&[&runs, &mixed, &ruler], &options(400, 1, &[])) > 20);
    assert_eq!(check(&["a", "b", "a"], &options(400, 1, &[])), 0);
}

/// Not quadratic in the length of a word: a merge that went through the whole word would take minutes here.
#[test]
fn a_word_of_a_megabyte() {
    let mut state = 1_u32;
    let mut letter = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    let word: String = (0..1 << 20).map(&mut letter).collect();
    let tokenizer = trainer(&[&word, &"a".repeat(1 << 20)]).train(&options(5000, 2, &[])).unwrap();
    assert_eq!(tokenizer.vocabulary_size(), 5000);
    let ids = tokenizer.encode(&word, Special::Refuse).unwrap();
    assert_eq!(tokenizer.decode_bytes(&ids).unwrap(), word.as_bytes());
    assert!(ids.len() < word.len() / 2);
}

#[test]
fn what_cannot_be_names_the_argument() {
    let fails = |text: &str, of: &TrainOptions, which: &str, says: &str| match trainer(&[text]).train(of) {
        Err(Error::Argument { argument, found, .. }) => {
            assert_eq!(argument, which);
            assert!(found.contains(says), "{found}");
        }
        other => panic!("{other:?}"),
    };
    fails("x", &options(0, 0, &[]), "vocabulary size", "0 ids");
    fails("x", &options(257, 0, &["<a>", "<b>"]), "vocabulary size", "alone are 258");
    fails("x", &options(1 << 21, 0, &[]), "vocabulary size", "2097152");
    fails("", &options(300, 0, &[]), "text", "empty");
    fails("x", &options(300, 0, &[""]), "special token", "empty");
    fails("a cat, the cat", &options(300, 0, &["cat"]), "special token", "\"cat\" is spelled like a word");
    fails("a cat, the cat", &options(300, 0, &["Ġcat"]), "special token", "\"Ġcat\" is spelled like a word");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn small_alphabets_train_alike(
        texts in prop::collection::vec(
            prop_oneof!["[ab]{0,40}", "[abc ]{0,80}", "[a '\n1]{0,60}", "[é世a ]{0,30}"], 1..12,
        ),
        size in 257..340_usize,
        least in 0..4_u64,
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        if texts.iter().any(|text| !text.is_empty()) {
            check(&texts, &options(size, least, &[END]));
        }
    }
}
