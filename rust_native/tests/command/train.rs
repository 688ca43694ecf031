//! `gpt2 train`.

use std::fs;

use serde_json::Value;

use crate::{fails, gpt2, prints};

/// A folder below a temporary one, as an argument.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn has(&self, name: &str) -> bool {
        self.0.path().join(name).exists()
    }
}

#[test]
fn a_trained_vocabulary_encodes_and_decodes() {
    let place = Place::new();
    let (dir, text) = (place.path("new/small"), "low lower lowest ".repeat(9));
    let end = "<|endoftext|>";
    let output =
        gpt2(&["train", "--dir", &dir, "--vocabulary-size", "262", "--special", end], text.as_bytes());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stderr, b"");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["dir"], dir);
    assert_eq!((&line["ids"], &line["bytes"], &line["words"]), (&262.into(), &153.into(), &5.into()));
    for name in ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"] {
        assert!(place.has(&format!("new/small/{name}")), "{name}");
    }
    let ids = gpt2(&["encode", "--tokenizer", &dir, "low lower<|endoftext|>"], b"").stdout;
    let ids = String::from_utf8(ids).unwrap();
    assert!(ids.ends_with(" 0\n") && ids.split(' ').count() < 9, "{ids}");
    prints(&["decode", "--tokenizer", &dir], ids.as_bytes(), b"low lower<|endoftext|>");
}

#[test]
fn files_and_standard_input_are_texts_of_their_own() {
    let place = Place::new();
    let (a, b) = (place.path("a"), place.path("b"));
    fs::write(&a, "xyxy").unwrap();
    fs::write(&b, "").unwrap();
    let out = place.path("out");
    let output = gpt2(&["train", "--vocabulary-size", "257", "--dir", &out, &a, &b, "-"], b"yx");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["bytes"], &line["words"]), (&6.into(), &2.into()));
    prints(&["encode", "--tokenizer", &out, "xyyx"], b"", b"256 88 87\n");
}

#[test]
fn other_special_tokens_are_in_tokenizer_json_alone() {
    let place = Place::new();
    let dir = place.path("out");
    let train = |special: &[&str]| {
        let mut arguments = vec!["train", "--dir", dir.as_str(), "--vocabulary-size", "260", "--force"];
        special.iter().for_each(|token| arguments.extend(["--special", token]));
        assert!(gpt2(&arguments, b"some text, some more text").status.success());
    };
    train(&[]);
    assert!(place.has("out/vocab.json") && place.has("out/merges.txt"));
    train(&["<pad>", "<|endoftext|>", "<mask>"]);
    assert!(!place.has("out/vocab.json") && !place.has("out/merges.txt"));
    prints(&["encode", "--tokenizer", &dir, "<mask><|endoftext|><pad>"], b"", b"2 1 0\n");
    let config: Value =
        serde_json::from_slice(&fs::read(place.path("out/tokenizer_config.json")).unwrap()).unwrap();
    assert_eq!(config["eos_token"], "<|endoftext|>");
}

#[test]
fn what_cannot_be_is_one_line() {
    let place = Place::new();
    let dir = place.path("out");
    let with = |more: &[&str], input: &[u8], words: &[&str]| {
        let arguments = [&["train", "--dir", dir.as_str()][..], more].concat();
        assert_eq!(fails(&arguments, input, words), b"");
        assert!(!place.has("out"));
    };
    with(&["--vocabulary-size", "255"], b"x", &["255 ids", "alone are 256", "ask for 256 or more"]);
    with(&["--vocabulary-size", "256", "--special", "<s>"], b"x", &["256 ids", "alone are 257"]);
    with(&["--vocabulary-size", "2097152"], b"x", &["2097152 ids", "2097151 or fewer"]);
    let sized = |more: &[&str], input: &[u8], words: &[&str]| {
        with(&[&["--vocabulary-size", "400"][..], more].concat(), input, words);
    };
    sized(&[], b"", &["text", "empty", "give a text"]);
    sized(&[], b"good \xFF bad", &["standard input: invalid UTF-8 at byte 5"]);
    sized(&[&place.path("none")], b"", &["none: cannot open", "check the path"]);
    sized(&[&place.path("")], b"", &["cannot read", "check that files and folders"]);
    let special = |token: &str, words: &[&str]| {
        sized(&["--special", token], b"the the", &[&["special token"][..], words].concat());
    };
    special("", &["empty"]);
    special("e", &["\"e\" is spelled like a byte"]);
    special("Ġ", &["spelled like a byte"]);
    special("the", &["\"the\" is spelled like a word of the text", "such as <|name|>"]);
    sized(&["--special", "<s>", "--special", "<s>"], b"x", &["\"<s>\" is given twice"]);
}

#[test]
fn a_vocabulary_is_not_overwritten_unasked_and_a_small_text_is_told() {
    let place = Place::new();
    let dir = place.path("out");
    let arguments = ["train", "--dir", dir.as_str(), "--vocabulary-size", "400"];
    let output = gpt2(&arguments, b"abab");
    assert!(output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("257 ids instead of 400") && told.contains("--min-frequency"), "{told}");
    fails(&arguments, b"abab", &["tokenizer.json is already there", "--force"]);
    assert!(gpt2(&[&arguments[..], &["--force"]].concat(), b"abab").status.success());
}
