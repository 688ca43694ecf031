//! Ids equal those of Hugging Face's tokenizers; the embedded vocabulary is the published one.

use std::sync::LazyLock;

use proptest::prelude::*;
use rust_native::bpe::split::pieces;
use rust_native::{Error, Special, Tokenizer};
use sha2::{Digest, Sha256};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Ours, embedded.
static OURS: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::gpt2);

/// Hugging Face's, from the `tokenizer.json` that ours writes.
static THEIRS: LazyLock<tokenizers::Tokenizer> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    OURS.write_vocabulary(dir.path()).unwrap();
    tokenizers::Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap()
});

/// What Hugging Face's tokenizers give, special tokens recognised.
fn theirs(text: &str) -> Vec<u32> {
    THEIRS.encode_fast(text, false).unwrap().get_ids().to_vec()
}

fn ours(text: &str) -> Vec<u32> {
    OURS.encode(text, Special::Allow).unwrap()
}

/// Compares one text in every way it can be encoded and decoded.
fn check(text: &str) {
    let ids = ours(text);
    assert_eq!(ids, theirs(text), "{text:?}");
    assert_eq!(OURS.count(text, Special::Allow).unwrap(), ids.len());
    assert_eq!(OURS.decode_bytes(&ids).unwrap(), text.as_bytes());
    let plain = OURS.encode(text, Special::Ignore).unwrap();
    assert_eq!(OURS.count(text, Special::Ignore).unwrap(), plain.len());
    assert_eq!(OURS.decode_lossy(&plain).unwrap(), text);
    match OURS.encode(text, Special::Refuse) {
        Ok(ids) => assert_eq!(ids, plain),
        Err(Error::SpecialToken { token, offset }) => assert!(text[offset..].starts_with(&token)),
        Err(other) => panic!("{other}"),
    }
}

/// The pieces by Hugging Face's pre-tokenizer.
fn their_pieces(text: &str) -> Vec<String> {
    let mut split = PreTokenizedString::from(text);
    THEIRS.get_pre_tokenizer().unwrap().pre_tokenize(&mut split).unwrap();
    let splits = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits.into_iter().map(|(_, (start, end), _)| text[start..end].to_owned()).collect()
}

#[test]
fn embedded_vocabulary_is_the_published_one() {
    let dir = tempfile::tempdir().unwrap();
    OURS.write_vocabulary(dir.path()).unwrap();
    let digest = |name: &str| {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    assert_eq!(digest("merges.txt"), "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5");
    assert_eq!(digest("vocab.json"), "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783");
    assert_eq!(OURS.vocabulary_size(), 50257);
    assert_eq!(OURS.special_id("<|endoftext|>"), Some(50256));
}

#[test]
fn loaded_vocabularies_equal_the_embedded_one() {
    let dir = tempfile::tempdir().unwrap();
    OURS.write_vocabulary(dir.path()).unwrap();
    let two_files = Tokenizer::from_dir(dir.path()).unwrap();
    let one_file = Tokenizer::from_tokenizer_json(&dir.path().join("tokenizer.json")).unwrap();
    let text = "It's 3 o'clock<|endoftext|> – naïve 🙂\n\n  done";
    for other in [two_files, one_file] {
        assert_eq!(other.vocabulary_size(), OURS.vocabulary_size());
        assert_eq!(other.encode(text, Special::Allow).unwrap(), ours(text));
        for id in 0..50257 {
            assert_eq!(other.token_bytes(id), OURS.token_bytes(id));
        }
        let again = tempfile::tempdir().unwrap();
        other.write_vocabulary(again.path()).unwrap();
        for name in ["vocab.json", "merges.txt", "tokenizer.json"] {
            let read = |dir: &tempfile::TempDir| std::fs::read(dir.path().join(name)).unwrap();
            assert_eq!(read(&again), read(&dir), "{name}");
        }
    }
}

#[test]
fn known_ids() {
    assert_eq!(ours("Hello, world!"), [15496, 11, 995, 0]);
    assert!(ours("").is_empty());
    assert_eq!(ours("<|endoftext|>"), [50256]);
    let spelled = OURS.encode("<|endoftext|>", Special::Ignore).unwrap();
    assert_eq!(spelled, [27, 91, 437, 1659, 5239, 91, 29]);
}

/// Every code point in contexts where a wrong class shows in the split, and encoded.
#[test]
fn every_code_point() {
    let all: Vec<char> = (0..=char::MAX as u32).filter_map(char::from_u32).collect();
    for block in all.chunks(4096) {
        let joined: String = block.iter().collect();
        let spaced: String = block.iter().flat_map(|&c| [' ', c, 'a', c]).collect();
        for text in [&joined, &spaced] {
            assert_eq!(pieces(text).collect::<Vec<_>>(), their_pieces(text), "{:?}", block[0]);
        }
        assert_eq!(ours(&joined), theirs(&joined), "{:?}", block[0]);
    }
}

/// All texts of up to four characters over one representative of each rule's cases.
#[test]
fn every_short_text() {
    let pool = [' ', '\n', 'a', 's', '1', '!', '\'', '世', '\u{a0}', '\t'];
    let mut texts = vec![String::new()];
    for _ in 0..4 {
        texts = texts
            .iter()
            .flat_map(|text| pool.iter().map(move |c| format!("{text}{c}")))
            .chain([String::new()])
            .collect();
    }
    for text in &texts {
        assert_eq!(pieces(text).collect::<Vec<_>>(), their_pieces(text), "{text:?}");
        assert_eq!(ours(text), theirs(text), "{text:?}");
    }
}

#[test]
fn special_tokens_in_awkward_places() {
    let end = "<|endoftext|>";
    for text in [
        format!("{end}{end}"),
        format!("a {end} b"),
        format!("  {end}  "),
        format!("<{end}>"),
        format!("<|endoftext|{end}"),
        format!("'{end}s"),
        format!("\n\n{end}\n\nx"),
        "<|endoftext".to_owned(),
        "<|ENDOFTEXT|>".to_owned(),
        format!("é{end}世"),
    ] {
        check(&text);
    }
    match OURS.encode("ab <|endoftext|>", Special::Refuse) {
        Err(Error::SpecialToken { offset: 3, .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// Long pieces: correct, and not quadratic (a textbook loop would take hours here).
#[test]
fn long_pieces() {
    let mut state = 1_u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    let random: String = (0..100_000).map(|_| letter()).collect();
    for text in [
        "a".repeat(100_000),
        " ".repeat(100_000),
        " ".repeat(100_000) + "x",
        "\n".repeat(50_001) + "x",
        "^".repeat(100_000),
        "1234567890".repeat(10_000),
        "世界".repeat(20_000),
        random,
    ] {
        check(&text);
    }
    let million = "ab".repeat(500_000);
    let ids = OURS.encode(&million, Special::Refuse).unwrap();
    assert_eq!(OURS.decode_bytes(&ids).unwrap(), million.as_bytes());
}

#[test]
fn batches_keep_order_with_any_number_of_threads() {
    let texts: Vec<String> = (0..997).map(|i| format!("text {i} it's {} 世界", "x".repeat(i % 40))).collect();
    let expected: Vec<_> = texts.iter().map(|text| ours(text)).collect();
    for threads in [0, 1, 2, 3, 16] {
        assert_eq!(OURS.encode_batch(&texts, Special::Allow, threads).unwrap(), expected);
    }
    let none: [&str; 0] = [];
    assert_eq!(OURS.encode_batch(&none, Special::Allow, 2).unwrap(), Vec::<Vec<u32>>::new());
    assert!(OURS.encode_batch(&["a", "<|endoftext|>"], Special::Refuse, 2).is_err());
}

#[test]
fn encode_into_appends() {
    let mut ids = vec![7];
    OURS.encode_into("Hello", Special::Allow, &mut ids).unwrap();
    assert_eq!(ids, [7, 15496]);
    assert!(OURS.encode_into("<|endoftext|>", Special::Refuse, &mut ids).is_err());
    assert_eq!(ids, [7, 15496]);
}

#[test]
fn unknown_ids_are_errors() {
    assert!(matches!(OURS.decode_bytes(&[50257]), Err(Error::UnknownId { id: 50257, .. })));
    assert!(matches!(OURS.decode_lossy(&[u32::MAX]), Err(Error::UnknownId { .. })));
    let mut stream = OURS.stream_decoder();
    assert!(stream.push(50257).is_err());
    assert_eq!(stream.push(15496).unwrap(), "Hello");
}

/// Characters that have hurt tokenizers before.
fn nasty() -> impl Strategy<Value = String> {
    let pool = prop_oneof![
        6 => "[a-zA-Z]{1,8}",
        4 => "[ \t\n\r]{1,6}",
        3 => "[0-9]{1,5}",
        3 => "'(s|t|re|ve|m|ll|d|S|x|')?",
        2 => "[!-/:-@\\[-`{-~]{1,5}",
        2 => Just("<|endoftext|>".to_owned()),
        1 => Just("<|endof".to_owned()),
        2 => "[\u{a0}\u{1680}\u{2000}-\u{200b}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}\u{85}\u{1c}-\u{1f}\u{180e}]{1,3}",
        2 => "[\u{300}-\u{36f}]{1,3}",
        2 => "[世界日本語テキスト한국어]{1,6}",
        2 => "[Ⅷ½²٣०৪๓𝟘𐒠①]{1,3}",
        2 => "[éÉßñøČ]{1,5}",
        2 => "[абвгдЖ]{1,6}",
        2 => "[العربية]{1,6}",
        2 => "(🙂|👩‍👩‍👧|🏳️‍🌈|🇩🇪|👍🏽){1,3}",
        1 => "[\u{0}-\u{8}\u{7f}]{1,3}",
        1 => "\\PC{1,4}",
        1 => any::<char>().prop_map(String::from),
        1 => "[a-z]{40,80}",
    ];
    prop::collection::vec(pool, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn nasty_texts_encode_alike(text in nasty()) {
        check(&text);
        if !text.contains("<|endoftext|>") {
            prop_assert_eq!(pieces(&text).collect::<Vec<_>>(), their_pieces(&text));
        }
    }

    #[test]
    fn streams_equal_the_whole(ids in prop::collection::vec(prop_oneof![0..256_u32, 0..50257_u32], 0..40)) {
        let mut stream = OURS.stream_decoder();
        let mut text = String::new();
        for &id in &ids {
            text.push_str(stream.push(id).unwrap());
        }
        text.push_str(stream.finish());
        let whole = OURS.decode_lossy(&ids).unwrap();
        prop_assert_eq!(&text, &whole);
        prop_assert_eq!(whole, THEIRS.decode(&ids, false).unwrap());
    }
}
