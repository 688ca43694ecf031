//! Ids equal those of Hugging Face's tokenizers and of tiktoken, on every instruction set; the embedded
//! vocabulary is the published one.

mod peers;

use peers::{GPT2, OURS};
use proptest::prelude::*;
use rust_native::bpe::split::{ends, pieces};
use rust_native::{Error, Special, Tokenizer};
use sha2::{Digest, Sha256};

fn ours(text: &str) -> Vec<u32> {
    let mut every = GPT2.every.iter().map(|path| (path.isa(), path.encode(text, Special::Allow).unwrap()));
    let (_, ids) = every.next().unwrap();
    every.for_each(|(isa, other)| assert_eq!(ids, other, "{isa}: {text:?}"));
    ids
}

/// Compares one text in every way it can be encoded and decoded.
fn check(text: &str) {
    let ids = ours(text);
    assert_eq!(ids, GPT2.hugging_face(text), "{text:?}");
    assert_eq!(OURS.count(text, Special::Allow).unwrap(), ids.len());
    assert_eq!(OURS.decode_bytes(&ids).unwrap(), text.as_bytes());
    let plain = OURS.encode(text, Special::Ignore).unwrap();
    assert_eq!(plain, GPT2.tiktoken(text), "{text:?}");
    assert_eq!(OURS.count(text, Special::Ignore).unwrap(), plain.len());
    assert_eq!(OURS.decode_lossy(&plain).unwrap(), text);
    match OURS.encode(text, Special::Refuse) {
        Ok(ids) => assert_eq!(ids, plain),
        Err(Error::SpecialToken { token, offset }) => assert!(text[offset..].starts_with(&token)),
        Err(other) => panic!("{other}"),
    }
}

/// The pieces by Hugging Face's pre-tokenizer.
fn their_pieces(text: &str) -> Vec<&str> {
    let mut start = 0;
    let piece = |end| &text[std::mem::replace(&mut start, end)..end];
    GPT2.ends(text).into_iter().map(piece).collect()
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
    // Known by their bytes; with a space more, read like anybody's.
    let published = Tokenizer::from_path(dir.path()).unwrap();
    let (vocabulary, merges) = (dir.path().join("vocab.json"), dir.path().join("merges.txt"));
    let text = std::fs::read_to_string(&vocabulary).unwrap();
    std::fs::write(&vocabulary, text.clone() + " ").unwrap();
    let two_files = Tokenizer::from_vocabulary_and_merges(&vocabulary, &merges).unwrap();
    std::fs::write(&vocabulary, text).unwrap();
    let one_file = Tokenizer::from_path(&dir.path().join("tokenizer.json")).unwrap();
    let text = "It's 3 o'clock<|endoftext|> – naïve 🙂\n\n  done";
    for other in [published, two_files, one_file] {
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
        let runs: String = block.iter().flat_map(|&c| [c, c, c, ' ', ' ']).collect();
        for text in [&joined, &spaced, &runs] {
            assert_eq!(pieces(text).collect::<Vec<_>>(), their_pieces(text), "{:?}", block[0]);
            assert_eq!(ours(text), GPT2.hugging_face(text), "{:?}", block[0]);
        }
    }
}

/// Every code point alone.
#[test]
fn every_code_point_alone() {
    let mut encoders: Vec<_> = GPT2.every.iter().map(Tokenizer::encoder).collect();
    let mut ids = Vec::new();
    for c in (0..=char::MAX as u32).filter_map(char::from_u32) {
        let text = String::from(c);
        let expected = GPT2.tiktoken(&text);
        for encoder in &mut encoders {
            ids.clear();
            encoder.encode_into(&text, Special::Ignore, &mut ids).unwrap();
            assert_eq!(ids, expected, "{c:?}");
        }
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
        assert_eq!(ours(text), GPT2.hugging_face(text), "{text:?}");
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

/// Natural text in several scripts, begun at 70 places and ended at 70: whole files do not find mistakes at
/// the edges of what is looked at together.
#[test]
fn text_cut_at_seventy_places() {
    let code = include_str!("../src/bpe/encode.rs");
    let scripts = include_str!("../src/bpe/split.rs").to_owned()
        + &"Съешь же ещё этих мягких французских булок, да выпей чаю. 日本語のテキスト、そして全角の　空白。\
            ‏صِف خَلقَ خَودٍ كَمِثلِ الشَمسِ إِذ بَزَغَت — 12٣٤ हिन्दी पाठ 한국어 문장입니다.\n\n Ça va ? « Oui »… 👩‍👩‍👧 🇩🇪\r\n"
            .repeat(12);
    for text in [code, &scripts] {
        for cut in 0..70 {
            let (from, to) = (text.floor_char_boundary(cut), text.floor_char_boundary(text.len() - cut));
            for part in [&text[from..], &text[..to]] {
                assert_eq!(ours(part), GPT2.tiktoken(part), "from {from} to {to}");
            }
        }
        check(text);
    }
}

/// What a full or a foreign cache could spoil: the same encoder over many texts, in another order too.
#[test]
fn caches_change_nothing() {
    let words: Vec<String> = (0..90_000_u32)
        .map(|i| {
            format!(
                " {}{}",
                ["w", "привет", "語", "-", "x y"][i as usize % 5].repeat(1 + i as usize % 3),
                i * 7919 % 90_007
            )
        })
        .collect();
    let expected: Vec<Vec<u32>> = words.iter().map(|word| GPT2.tiktoken(word)).collect();
    for tokenizer in GPT2.every.iter() {
        let (mut encoder, mut ids) = (tokenizer.encoder(), Vec::new());
        for i in (0..words.len()).chain((0..words.len()).rev()) {
            ids.clear();
            encoder.encode_into(&words[i], Special::Refuse, &mut ids).unwrap();
            assert_eq!(ids, expected[i], "{:?} on {}", words[i], tokenizer.isa());
        }
        drop(encoder);
        let whole: Vec<u32> = expected.concat();
        assert_eq!(tokenizer.encode(&words.concat(), Special::Refuse).unwrap(), whole);
    }
}

/// Bytes that are no text: nothing is lost, and each piece is merged as it would be alone.
fn check_bytes(bytes: &[u8]) {
    let mut expected: Option<Vec<u32>> = None;
    for tokenizer in GPT2.every.iter() {
        let (mut encoder, mut ids, mut alone) = (tokenizer.encoder(), Vec::new(), Vec::new());
        encoder.encode_bytes_into(bytes, Special::Allow, &mut ids).unwrap();
        assert_eq!(encoder.count_bytes(bytes, Special::Allow).unwrap(), ids.len());
        assert_eq!(tokenizer.decode_bytes(&ids).unwrap(), bytes);
        let mut start = 0;
        for end in ends(bytes) {
            encoder.encode_bytes_into(&bytes[start..end], Special::Ignore, &mut alone).unwrap();
            start = end;
        }
        if !bytes.windows(2).any(|pair| pair == b"<|") {
            assert_eq!(ids, alone, "{bytes:x?}");
        }
        assert_eq!(expected.get_or_insert_with(|| ids.clone()), &ids, "{}", tokenizer.isa());
        if let Ok(text) = str::from_utf8(bytes) {
            assert_eq!(ids, GPT2.hugging_face(text));
        }
    }
}

#[test]
fn truncated_and_impossible_bytes() {
    let text = "a é世🙂\u{10FFFF} x<|endoftext|>".as_bytes();
    for from in 0..text.len() {
        for to in from..=text.len() {
            check_bytes(&text[from..to]);
        }
    }
    for byte in 0x80..=0xFF {
        for count in [1, 3, 64, 70, 5000] {
            check_bytes(&vec![byte; count]);
        }
    }
}

#[test]
fn the_first_so_many_ids() {
    let mut encoder = OURS.encoder();
    let long = "It's 3 o'clock – naïve 🙂\n\n  done".repeat(300) + &"ab".repeat(3000) + "<|endoftext|> x";
    for text in ["", "<|endoftext|>", "a<|endoftext|><|endoftext|>b", "世界 it's", &long] {
        let all = ours(text);
        for limit in (0..all.len() + 2).step_by(1 + all.len() / 40).chain([all.len(), usize::MAX]) {
            let mut ids = vec![7];
            let bytes = encoder.encode_up_to(text, Special::Allow, limit, &mut ids).unwrap();
            let kept = limit.min(all.len());
            assert_eq!(ids[1..], all[..kept], "{limit}");
            assert_eq!(OURS.decode_bytes(&ids[1..]).unwrap(), text.as_bytes()[..bytes], "{limit}");
        }
    }
    assert!(encoder.encode_up_to("<|endoftext|>", Special::Refuse, 1, &mut Vec::new()).is_err());
}

#[test]
fn byte_ranges_are_where_the_tokens_stand() {
    let text = "It's 3 o'clock<|endoftext|> – naïve 🙂\n\n  done";
    let ids = ours(text);
    let ranges: Vec<_> = OURS.byte_ranges(&ids).collect();
    assert_eq!(ranges.len(), ids.len());
    let mut at = 0;
    for (id, range) in ids.iter().zip(ranges) {
        assert_eq!(range.start, at);
        assert_eq!(OURS.token_bytes(*id).unwrap(), &text.as_bytes()[range.clone()]);
        at = range.end;
    }
    assert_eq!(at, text.len());
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
        // Tokens that fill a window, alone and between others.
        "-".repeat(70_000),
        "ÃÂ".repeat(40_000),
        format!("{}{random}", ["=", "*", "_", "#", "."].map(|run| run.repeat(500)).concat().repeat(20)),
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
        let (ids, starts) = OURS.encode_joined(&texts, Special::Allow, threads).unwrap();
        assert_eq!((starts[0], starts.len()), (0, texts.len() + 1));
        let split: Vec<_> = starts.windows(2).map(|place| &ids[place[0]..place[1]]).collect();
        assert_eq!(split, expected);
    }
    let none: [&str; 0] = [];
    assert_eq!(OURS.encode_joined(&none, Special::Allow, 2).unwrap(), (Vec::new(), vec![0]));
    assert!(OURS.encode_joined(&["a", "<|endoftext|>"], Special::Refuse, 2).is_err());
    assert_eq!(OURS.encode_batch(&none, Special::Allow, 2).unwrap(), Vec::<Vec<u32>>::new());
    assert!(OURS.encode_batch(&["a", "<|endoftext|>"], Special::Refuse, 2).is_err());
}

/// Several parts a thread, and a text that is several of them.
#[test]
fn long_texts_are_shared_out_and_put_together() {
    let lines: String = (0..20_000)
        .map(|i| format!("line {i} it's {} 世界\n\n  <|endoftext|> \n", "x".repeat(i % 40)))
        .collect();
    let (third, word) = (lines.floor_char_boundary(lines.len() / 3), "a".repeat(100_000));
    let texts = [lines.as_str(), "short", "", &lines[..third], &word, ""];
    for tokenizer in GPT2.every.iter() {
        for special in [Special::Allow, Special::Ignore] {
            let expected: Vec<_> =
                texts.iter().map(|text| tokenizer.encode(text, special).unwrap()).collect();
            for threads in [1, 2, 5] {
                let mut encoder = tokenizer.batch_encoder(threads);
                let (mut ids, mut starts) = (vec![1, 2, 3], vec![4]);
                for _ in 0..2 {
                    encoder.encode_into(&texts, special, &mut ids, &mut starts).unwrap();
                    let split: Vec<_> = starts.windows(2).map(|place| &ids[place[0]..place[1]]).collect();
                    assert_eq!(split, expected, "{} {threads}", tokenizer.isa());
                }
            }
        }
    }
}

/// Of several texts that are refused the first is named, whichever thread came to it when.
#[test]
fn the_first_text_that_fails_is_the_error() {
    let mut texts: Vec<String> = (0..20_000).map(|i| format!("text {i} of some length")).collect();
    // Each refused text has its special token at a place of its own.
    for (at, i) in [2, 900, 9_000, 9_999, 10_001, 19_998].into_iter().enumerate() {
        texts[i] = format!("{}<|endoftext|>", "x".repeat(100 * (at + 1)));
    }
    let long = format!("{}<|endoftext|>", "some words ".repeat(50_000));
    for threads in [1, 2, 3, 16] {
        let mut encoder = OURS.batch_encoder(threads);
        let (mut ids, mut starts) = (vec![1], vec![2]);
        for _ in 0..20 {
            for (from, first) in [(0, 100), (3, 200), (901, 300), (9_001, 400), (10_000, 500), (10_002, 600)]
            {
                let error = encoder.encode_into(&texts[from..], Special::Refuse, &mut ids, &mut starts);
                let Err(Error::SpecialToken { offset, .. }) = error else { panic!("{error:?}") };
                assert_eq!((offset, ids.len(), starts.len()), (first, 0, 0), "{threads} threads from {from}");
            }
        }
        let error = encoder.encode_into(&[&long], Special::Refuse, &mut ids, &mut starts);
        assert!(matches!(error, Err(Error::SpecialToken { offset: 550_000, .. })), "{error:?}");
        encoder.encode_into(&texts[3..900], Special::Refuse, &mut ids, &mut starts).unwrap();
        assert_eq!((starts.len(), starts[897]), (898, ids.len()));
    }
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
        prop_assert_eq!(whole, GPT2.tokenizers.decode(&ids, false).unwrap());
    }
}
