//! Damaged, incomplete and foreign vocabularies are refused with the place and the remedy.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use rust_native::{Error, Special, Tokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The entries of GPT-2's vocab.json for the 256 bytes.
static BYTES: LazyLock<serde_json::Map<String, Value>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    Tokenizer::gpt2().write_vocabulary(dir.path()).unwrap();
    let text = fs::read_to_string(dir.path().join("vocab.json")).unwrap();
    let mut vocabulary: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    vocabulary.retain(|_, id| id.as_u64() < Some(256));
    vocabulary
});

/// The 256 byte tokens, three merges and the special token.
struct Small {
    vocabulary: serde_json::Map<String, Value>,
    merges: Vec<String>,
}

impl Small {
    fn new() -> Self {
        let mut vocabulary = BYTES.clone();
        for (i, token) in ["ab", "abc", "Ġa", "<|endoftext|>"].into_iter().enumerate() {
            vocabulary.insert(token.into(), json!(256 + i));
        }
        let merges = ["a b", "ab c", "Ġ a"].map(str::to_owned).to_vec();
        Self { vocabulary, merges }
    }

    fn write(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("vocab.json"), Value::Object(self.vocabulary.clone()).to_string()).unwrap();
        let lines: String = self.merges.iter().map(|merge| format!("{merge}\n")).collect();
        fs::write(dir.path().join("merges.txt"), format!("#version: 0.2\n{lines}")).unwrap();
        dir
    }

    fn tokenizer_json(&self) -> Value {
        let level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
        });
        json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": [added(259, "<|endoftext|>")],
            "pre_tokenizer": level, "post_processor": level, "decoder": level,
            "model": {"type": "BPE", "vocab": self.vocabulary, "merges": self.merges},
        })
    }
}

/// A special token as Hugging Face writes it.
fn added(id: usize, content: &str) -> Value {
    json!({"id": id, "content": content, "special": true, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false})
}

fn contains(result: Result<Tokenizer, Error>, words: &[&str]) {
    let error = result.expect_err(words[0]).to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

fn refused(small: &Small, words: &[&str]) {
    contains(Tokenizer::from_dir(small.write().path()), words);
}

#[test]
fn a_small_vocabulary_loads_in_all_spellings() {
    let small = Small::new();
    let tokenizer = Tokenizer::from_dir(small.write().path()).unwrap();
    let ids = tokenizer.encode("abc ac<|endoftext|>", Special::Allow).unwrap();
    let space = tokenizer.encode(" ", Special::Allow).unwrap()[0];
    assert_eq!(ids[..2], [257, 258]);
    assert_eq!(*ids.last().unwrap(), 259);
    assert!(space < 256 && tokenizer.is_special(259) && !tokenizer.is_special(258));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut value = small.tokenizer_json();
    for newer in [false, true] {
        if newer {
            let pair = |merge: &String| json!(merge.split(' ').collect::<Vec<_>>());
            value["model"]["merges"] = small.merges.iter().map(pair).collect();
        }
        fs::write(&path, value.to_string()).unwrap();
        let other = Tokenizer::from_dir(dir.path()).unwrap();
        assert_eq!(other.encode("abc ac<|endoftext|>", Special::Allow).unwrap(), ids);
        let theirs = tokenizers::Tokenizer::from_file(&path).unwrap();
        assert_eq!(theirs.encode("abc ac<|endoftext|>", false).unwrap().get_ids(), ids);
    }
}

#[test]
fn broken_merges_name_the_line() {
    let with = |merges: &[&str], words: &[&str]| {
        let merges = merges.iter().map(|&m| m.to_owned()).collect();
        refused(&Small { merges, ..Small::new() }, words);
    };
    with(&["a b", "ab c", "Ġ"], &["merges.txt", "line 4", "not two tokens", "truncated"]);
    with(&["a b", "", "Ġ a"], &["line 3", "not two tokens"]);
    with(&["a b c"], &["line 2", "not two tokens"]);
    with(&["a b", "ab c", "a b", "Ġ a"], &["line 4", "the same merge as line 2"]);
    with(&["a b", "ab d", "Ġ a"], &["line 3", "\"abd\" is not in the vocabulary"]);
    with(&["a b", "ab €", "Ġ a"], &["line 3", "\"€\" is not in the vocabulary"]);
    with(&["a b", "ab c"], &["ends at line 3", "\"Ġa\" (id 258) has no merge", "truncated"]);
    with(&[], &["ends at line 0", "has no merge"]);
    let dir = Small::new().write();
    fs::write(dir.path().join("merges.txt"), b"a b\nab \xFF\n").unwrap();
    contains(Tokenizer::from_dir(dir.path()), &["merges.txt", "invalid UTF-8 at byte 7"]);
}

#[test]
fn broken_vocabularies_name_the_token() {
    let with = |change: &dyn Fn(&mut serde_json::Map<String, Value>), words: &[&str]| {
        let mut small = Small::new();
        change(&mut small.vocabulary);
        refused(&small, words);
    };
    with(&|v| drop(v.remove("!")), &["vocab.json", "id 0 of 260 has no token"]);
    with(&|v| drop(v.insert("abc".into(), json!(256))), &["id 256, which is also that of \"ab\""]);
    with(&|v| drop(v.insert("abc".into(), json!("x"))), &["\"abc\"", "ids are integers"]);
    with(&|v| drop(v.insert("abc".into(), json!(-1))), &["\"abc\"", "ids are integers"]);
    with(&|v| drop(v.insert("abc".into(), json!(1_u64 << 40))), &["\"abc\"", "below 2,097,151"]);
    with(&|v| drop(v.insert("a b".into(), json!(260))), &["\"a b\"", "byte alphabet"]);
    with(
        &|v| {
            let id = v.remove("!").unwrap();
            v.insert("!!".into(), id);
        },
        &["token \"!\": missing; byte 0x21 could not be encoded"],
    );
    let dir = Small::new().write();
    for (text, word) in
        [("[]", "not a JSON object"), ("{", "not valid JSON"), (r#"{"a":1,"a":2}"#, "given twice")]
    {
        fs::write(dir.path().join("vocab.json"), text).unwrap();
        contains(Tokenizer::from_dir(dir.path()), &["vocab.json", word]);
    }
    let empty = tempfile::tempdir().unwrap();
    contains(Tokenizer::from_dir(empty.path()), &["neither vocab.json", "gpt2 vocabulary"]);
}

#[test]
fn other_kinds_of_tokenizer_json_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let with = |pointer: &str, value: Value, words: &[&str]| {
        let mut whole = Small::new().tokenizer_json();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        whole.pointer_mut(parent).unwrap()[field] = value;
        fs::write(&path, whole.to_string()).unwrap();
        contains(Tokenizer::from_tokenizer_json(&path), words);
    };
    with("/model/type", json!("WordPiece"), &["tokenizer.json", "model", "type WordPiece"]);
    with("/model/type", json!("Unigram"), &["type Unigram", "only byte-level BPE"]);
    with("/model/dropout", json!(0.1), &["model.dropout", "0.1"]);
    with("/model/unk_token", json!("<unk>"), &["model.unk_token"]);
    with("/model/end_of_word_suffix", json!("</w>"), &["model.end_of_word_suffix"]);
    with("/model/byte_fallback", json!(true), &["model.byte_fallback"]);
    with("/model/ignore_merges", json!(1), &["model.ignore_merges", "true or false"]);
    with("/model/merges", json!([["a"]]), &["merge 0", "two tokens"]);
    with("/model/merges", json!([["a", "b"], ["a", "b"]]), &["merge 1", "the same merge as merge 0"]);
    with("/model/merges", json!("a b"), &["model.merges", "not a list"]);
    with("/model/vocab", json!([]), &["model.vocab", "not an object"]);
    with("/normalizer", json!({"type": "NFC"}), &["normalizer", "type NFC"]);
    with("/pre_tokenizer", json!({"type": "Whitespace"}), &["pre_tokenizer", "type Whitespace"]);
    with("/pre_tokenizer", Value::Null, &["pre_tokenizer", "none"]);
    with("/pre_tokenizer/add_prefix_space", json!(true), &["add_prefix_space"]);
    with("/post_processor", json!({"type": "BertProcessing"}), &["post_processor", "type BertProcessing"]);
    let sequence =
        json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "RobertaProcessing"}]});
    with("/post_processor", sequence, &["post_processor", "type RobertaProcessing", "TemplateProcessing"]);
    with("/decoder", json!({"type": "WordPiece"}), &["decoder", "type WordPiece"]);
    with("/truncation", json!({"max_length": 5}), &["truncation"]);
    with("/padding", json!({"strategy": "x"}), &["padding"]);
    with("/added_tokens/0/lstrip", json!(true), &["added token 0", "lstrip is true"]);
    with("/added_tokens/0/id", json!(5), &["special id 5, but the vocabulary says 259"]);
    with("/added_tokens/0/content", json!(""), &["added token 0", "non-empty"]);
    let same = added(259, "<|endoftext|>");
    with("/added_tokens", json!([same, same]), &["added token 1", "given twice"]);
    fs::write(&path, "nope").unwrap();
    contains(Tokenizer::from_tokenizer_json(&path), &["not valid JSON"]);
    fs::write(&path, "[]").unwrap();
    contains(Tokenizer::from_tokenizer_json(&path), &["not an object"]);
    contains(Tokenizer::from_tokenizer_json(Path::new("/nonexistent/t.json")), &["cannot read"]);
}

/// A pre-tokenizer of these steps and `ByteLevel` without a pattern of its own.
fn splits(steps: &[Value]) -> Value {
    let last =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    json!({"type": "Sequence", "pretokenizers": steps.iter().chain([&last]).collect::<Vec<_>>()})
}

fn split(regex: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
}

/// What a file with this pre-tokenizer is, to us and to Hugging Face.
fn both(change: impl Fn(&mut Value)) -> (Tokenizer, tokenizers::Tokenizer) {
    let mut value = Small::new().tokenizer_json();
    change(&mut value);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    fs::write(&path, value.to_string()).unwrap();
    (Tokenizer::from_path(&path).unwrap(), tokenizers::Tokenizer::from_file(&path).unwrap())
}

/// Patterns nobody has a scanner for: pieces and ids as Hugging Face's.
#[test]
fn any_pattern_splits_as_hugging_face_does() {
    let texts = [
        "",
        "abc",
        "abc abc",
        "ab1c22ab",
        "a\nabc\n\nab c",
        "xabx abcab",
        "Ab'S aB\u{301}c世界 12345",
        "abc<|endoftext|>abc ab",
        "  abc  ",
        "\r\n\tabc.",
        "aaaa",
        &"abc ".repeat(1500),
        &"ab".repeat(3000),
        &format!("{}\n{}", "x".repeat(3000), "abc ".repeat(700)),
    ];
    let qwen = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let literal =
        json!({"type": "Split", "pattern": {"String": "a."}, "behavior": "Isolated", "invert": true});
    let whole =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let sequences = [
        splits(&[]),
        splits(&[split(qwen)]),
        splits(&[split(r"\d"), split(r"[a-z]+|\s+$")]),
        splits(&[split("^a|b$")]),
        splits(&[split(r"(?<=b)c|\bx")]),
        splits(&[split("b*")]),
        splits(&[literal]),
        json!({"type": "Sequence", "pretokenizers": [split("b"), whole]}),
    ];
    for sequence in sequences {
        let (ours, theirs) = both(|value| value["pre_tokenizer"] = sequence.clone());
        for text in texts {
            let expected = theirs.encode(text, false).unwrap();
            assert_eq!(
                ours.encode(text, Special::Allow).unwrap(),
                expected.get_ids(),
                "{sequence}: {text:?}"
            );
            assert_eq!(ours.count(text, Special::Allow).unwrap(), expected.get_ids().len());
        }
    }
}

#[test]
fn known_patterns_are_known_in_every_spelling() {
    let llama = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let mut removed = split(llama);
    removed["behavior"] = json!("Removed");
    removed["invert"] = json!(true);
    let gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    for (step, name) in [(split(llama), "Llama3"), (removed, "Llama3"), (split(gpt2), "Gpt2")] {
        let (ours, theirs) = both(|value| {
            value["pre_tokenizer"] = splits(std::slice::from_ref(&step));
            value["post_processor"] = json!({"type": "Sequence", "processors": [value["decoder"], {
                "type": "TemplateProcessing", "pair": [],
                "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [259], "tokens": ["<|endoftext|>"]}},
            }]});
        });
        assert_eq!(format!("{:?}", ours.pattern()), name);
        for text in ["abc's ABC'S 12345\n\n  ", "<|endoftext|>abc"] {
            let expected = theirs.encode(text, false).unwrap();
            assert_eq!(ours.encode(text, Special::Allow).unwrap(), expected.get_ids(), "{text:?}");
        }
    }
}

#[test]
fn other_pre_tokenizers_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let with = |value: Value, words: &[&str]| {
        let mut whole = Small::new().tokenizer_json();
        whole["pre_tokenizer"] = value;
        fs::write(&path, whole.to_string()).unwrap();
        contains(Tokenizer::from_path(&path), words);
    };
    let (first, second) = ("pre_tokenizer.pretokenizers[0]", "pre_tokenizer.pretokenizers[1]");
    with(
        splits(&[json!({"type": "Digits", "individual_digits": true})]),
        &[first, "type Digits", "a Sequence of Splits"],
    );
    with(json!({"type": "Sequence", "pretokenizers": [split("a")]}), &[first, "type Split", "ends with it"]);
    with(json!({"type": "Sequence", "pretokenizers": []}), &["pretokenizers: empty"]);
    with(json!({"type": "Sequence"}), &["pre_tokenizer.pretokenizers", "not a list"]);
    with(split("a"), &["pre_tokenizer: type Split", "a Sequence of Splits"]);
    let mut merged = split("a");
    merged["behavior"] = json!("MergedWithNext");
    with(splits(&[split("a"), merged]), &[second, "behavior: MergedWithNext", "only Isolated"]);
    let mut removed = split("a");
    (removed["behavior"], removed["invert"]) = (json!("Removed"), json!(true));
    with(splits(&[removed]), &[first, "behavior: Removed"]);
    let mut nothing = split("a");
    nothing["pattern"] = json!({});
    with(splits(&[nothing]), &[first, "pattern: neither Regex nor String"]);
    with(splits(&[split("a"), split("(b")]), &[second, "a pattern that does not compile", "fancy-regex"]);
    let mut spaced = splits(&[]);
    spaced["pretokenizers"][0]["add_prefix_space"] = json!(true);
    with(spaced, &["pretokenizers[0].add_prefix_space", "only false"]);
}

/// `ignore_merges`: a piece that is a token is not merged, of whatever length; other pieces are.
#[test]
fn pieces_are_looked_up_first_where_the_file_says_so() {
    let long = "abc".repeat(900);
    let tokens = ["zab", "abcabcabcabcabcabc", &"abc".repeat(14), &long, "bc"];
    let (ours, theirs) = both(|value| {
        value["model"]["ignore_merges"] = json!(true);
        for (i, token) in tokens.iter().enumerate() {
            value["model"]["vocab"][*token] = json!(260 + i);
        }
    });
    let more = tokens.iter().flat_map(|token| [token.to_string(), format!("{token} {token}ab {token}")]);
    for text in more.chain(["abcabc zab".to_owned(), "<|endoftext|>zab".to_owned()]) {
        let expected = theirs.encode(text.as_str(), false).unwrap();
        for _ in 0..2 {
            assert_eq!(ours.encode(&text, Special::Allow).unwrap(), expected.get_ids(), "{text:?}");
        }
    }
    for (i, token) in tokens.iter().enumerate() {
        assert_eq!(ours.encode(token, Special::Ignore).unwrap(), [260 + i as u32]);
    }
}

/// Ids between the special tokens that nothing uses, as cl100k has: fine where the vocabulary has the special
/// tokens too; a hole among the others is damage.
#[test]
fn holes_are_allowed_among_the_special_tokens_only() {
    let far = |value: &mut Value| value["added_tokens"].as_array_mut().unwrap().push(added(270, "<|far|>"));
    let (ours, theirs) = both(|value| {
        far(value);
        value["model"]["vocab"]["<|far|>"] = json!(270);
    });
    assert_eq!((ours.vocabulary_size(), ours.token_bytes(265)), (271, None));
    let ids = ours.encode("abc<|far|>", Special::Allow).unwrap();
    assert_eq!(theirs.encode("abc<|far|>", false).unwrap().get_ids(), ids);
    assert_eq!(ours.decode_lossy(&ids).unwrap(), "abc<|far|>");
    assert!(matches!(ours.decode_bytes(&[265]), Err(Error::UnknownId { id: 265, .. })));
    // Hugging Face gives this one 260, whatever the file says.
    let (dir, mut value) = (tempfile::tempdir().unwrap(), Small::new().tokenizer_json());
    far(&mut value);
    fs::write(dir.path().join("tokenizer.json"), value.to_string()).unwrap();
    contains(Tokenizer::from_path(dir.path()), &["id 260 of 271 has no token"]);
    value["model"]["vocab"]["<|far|>"] = json!(270);
    value["model"]["merges"] = json!([["a", "b"], ["ab", "c"], ["Ġ", "a"], ["", "a"]]);
    fs::write(dir.path().join("tokenizer.json"), value.to_string()).unwrap();
    contains(Tokenizer::from_path(dir.path()), &["merge 3", "\"\" is not in the vocabulary"]);
    let mut small = Small::new();
    small.vocabulary.insert("abcab".into(), json!(265));
    small.merges.push("abc ab".into());
    refused(&small, &["id 260 of 266 has no token"]);
}

/// A folder with all three files: `tokenizer.json` says how text is split, the others do not.
#[test]
fn a_folder_is_read_by_its_tokenizer_json() {
    let small = Small::new();
    let dir = small.write();
    let mut value = small.tokenizer_json();
    value["pre_tokenizer"] = splits(&[split("b")]);
    fs::write(dir.path().join("tokenizer.json"), value.to_string()).unwrap();
    let ours = Tokenizer::from_path(dir.path()).unwrap();
    assert_eq!(ours.encode("abc", Special::Ignore).unwrap().len(), 3);
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert_eq!(Tokenizer::from_path(dir.path()).unwrap().encode("abc", Special::Ignore).unwrap(), [257]);
}

/// A pattern that gives up leaves the ids as they were, and says which it is.
#[test]
fn a_pattern_that_gives_up_is_an_error() {
    let (ours, _) = both(|value| value["pre_tokenizer"] = splits(&[split("(?:a+a+)+(?!a)x")]));
    let text = format!("abc<|endoftext|>{}", "a".repeat(60));
    let mut ids = vec![7];
    let error = ours.encode_into(&text, Special::Allow, &mut ids).unwrap_err();
    assert!(matches!(&error, Error::Pattern { pattern, .. } if pattern.starts_with("(?:a+")), "{error}");
    assert!(error.to_string().contains("split the text"), "{error}");
    assert_eq!(ids, [7]);
    assert!(ours.count(&text, Special::Allow).is_err());
    assert!(ours.encode_batch(&["abc", &text], Special::Allow, 2).is_err());
    assert_eq!(ours.encode("abc", Special::Allow).unwrap(), [257]);
}

/// Several special tokens, one the beginning of another and beside ordinary text: as Hugging Face's.
#[test]
fn overlapping_special_tokens_match_longest_first() {
    let mut value = Small::new().tokenizer_json();
    for (i, token) in ["<|e", "<|end", "世", "<|endoftext|>s"].into_iter().enumerate() {
        value["added_tokens"].as_array_mut().unwrap().push(added(260 + i, token));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    fs::write(&path, value.to_string()).unwrap();
    let ours = Tokenizer::from_tokenizer_json(&path).unwrap();
    let theirs = tokenizers::Tokenizer::from_file(&path).unwrap();
    for text in ["<|endoftext|>", "<|endoftext|>s", "<|endof", "<|e<|end", "aé<|x", "<|en é é"] {
        let expected = theirs.encode(text, false).unwrap();
        assert_eq!(ours.encode(text, Special::Allow).unwrap(), expected.get_ids(), "{text:?}");
    }
}

/// Random merge tables: equal to Hugging Face's on the same file.
fn random_table() -> impl Strategy<Value = (Vec<(usize, usize)>, Vec<String>)> {
    let picks = prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..30);
    let texts = prop::collection::vec("[abc ]{0,70}", 1..8);
    (picks, texts).prop_map(|(picks, texts)| {
        let picks = picks.iter().map(|(a, b)| (a.index(1 << 16), b.index(1 << 16))).collect();
        (picks, texts)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_merges_encode_alike((picks, texts) in random_table()) {
        let mut small = Small::new();
        small.vocabulary.retain(|_, id| id.as_u64() < Some(256));
        small.merges.clear();
        let mut tokens: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        for (left, right) in picks {
            let (left, right) = (&tokens[left % tokens.len()], &tokens[right % tokens.len()]);
            let (merge, joined) = (format!("{left} {right}"), format!("{left}{right}"));
            if joined.len() > 40 || small.merges.contains(&merge) {
                continue;
            }
            if !small.vocabulary.contains_key(&joined) {
                let id = small.vocabulary.len();
                small.vocabulary.insert(joined.clone(), json!(id));
                tokens.push(joined);
            }
            small.merges.push(merge);
        }
        let mut value = small.tokenizer_json();
        value["added_tokens"] = json!([]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        fs::write(&path, value.to_string()).unwrap();
        let ours = Tokenizer::from_tokenizer_json(&path).unwrap();
        let theirs = tokenizers::Tokenizer::from_file(&path).unwrap();
        for text in texts {
            let expected = theirs.encode(text.as_str(), false).unwrap();
            prop_assert_eq!(ours.encode(&text, Special::Allow).unwrap(), expected.get_ids());
        }
    }

    #[test]
    fn mutated_files_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let small = Small::new();
        let dir = small.write();
        fs::write(dir.path().join("tokenizer.json"), small.tokenizer_json().to_string()).unwrap();
        for name in ["vocab.json", "merges.txt", "tokenizer.json"] {
            let path = dir.path().join(name);
            let whole = fs::read(&path).unwrap();
            let mut bytes = whole.clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            fs::write(&path, &bytes).unwrap();
            let loaded = match name {
                "tokenizer.json" => Tokenizer::from_tokenizer_json(&path),
                _ => Tokenizer::from_dir(dir.path()),
            };
            // Damage that still describes a vocabulary gives a tokenizer that loses no byte.
            if let Ok(tokenizer) = loaded {
                let ids = tokenizer.encode("abc ab", Special::Ignore).unwrap();
                prop_assert_eq!(tokenizer.decode_bytes(&ids).unwrap(), b"abc ab");
            }
            fs::write(&path, whole).unwrap();
        }
    }
}
