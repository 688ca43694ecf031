//! `gpt2 encode`, `decode`, `init` and `vocabulary`.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use rust_native::{Checkpoint, Config};

use crate::ranks::write_ranks;
use crate::{fails, gpt2, prints};

#[test]
fn encode_and_decode_text() {
    prints(&["encode", "Hello, world!"], b"", b"15496 11 995 0\n");
    prints(&["encode"], b"Hello, world!", b"15496 11 995 0\n");
    prints(&["encode", ""], b"", b"\n");
    prints(&["encode"], b"", b"\n");
    prints(&["decode", "15496", "11", "995", "0"], b"", b"Hello, world!");
    prints(&["decode", "15496,11,995", "0"], b"", b"Hello, world!");
    prints(&["decode"], b"15496 11,\n995 0\n", b"Hello, world!");
    prints(&["decode"], b"", b"");
    let first_of_two = gpt2(&["encode", "é"], b"").stdout;
    assert_eq!(gpt2(&["decode"], &first_of_two).stdout, "é".as_bytes());
    prints(&["decode", "127"], b"", &[0xC3]);
}

#[test]
fn files_are_one_line_each() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("a"), "Hello\n").unwrap();
    fs::write(path("b"), "").unwrap();
    prints(&["encode", "--file", &path("a"), &path("b")], b"", b"15496 198\n\n");
    prints(&["encode", "--file", "-"], b"Hello", b"15496\n");
    fs::write(path("ids"), "15496 198").unwrap();
    prints(&["decode", "--file", &path("ids")], b"", b"Hello\n");
    fails(&["encode", "--file", &path("none")], b"", &["none: cannot open", "check the path"]);
}

#[test]
fn jsonl_both_ways() {
    let texts = "{\"text\":\"Hello\"}\n\n{\"text\": \"<|endoftext|>é\", \"other\": 1}\n{\"text\":\"\"}";
    let ids = "{\"ids\":[15496]}\n{\"ids\":[50256,2634]}\n{\"ids\":[]}\n";
    prints(&["encode", "--jsonl"], texts.as_bytes(), ids.as_bytes());
    prints(&["encode", "--jsonl", "--threads", "2"], texts.as_bytes(), ids.as_bytes());
    let back = "{\"text\":\"Hello\"}\n{\"text\":\"<|endoftext|>é\"}\n{\"text\":\"\"}\n";
    prints(&["decode", "--jsonl"], ids.as_bytes(), back.as_bytes());
    let many: String = (0..10_000).map(|i| format!("{{\"text\":\"line {i}\"}}\n")).collect();
    let encoded = gpt2(&["encode", "--jsonl", "--threads", "2"], many.as_bytes()).stdout;
    prints(&["decode", "--jsonl"], &encoded, many.as_bytes());
}

#[test]
fn special_tokens_as_asked() {
    let end = "<|endoftext|>";
    prints(&["encode", "--special", "allow", end], b"", b"50256\n");
    prints(&["encode", "--special", "ignore", end], b"", b"27 91 437 1659 5239 91 29\n");
    fails(&["encode", "--special", "refuse", &format!("a {end}")], b"", &["`<|endoftext|>` at byte 2"]);
}

#[test]
fn bad_input_is_one_line() {
    fails(&["encode"], b"good \xFF bad", &["standard input: invalid UTF-8 at byte 5"]);
    let printed = fails(
        &["encode", "--jsonl"],
        b"{\"text\":\"Hello\"}\n{\"text\":\"\xFF\"}\n",
        &["standard input: line 2", "invalid UTF-8 at byte 26"],
    );
    assert_eq!(printed, b"{\"ids\":[15496]}\n");
    fails(&["encode", "--jsonl"], b"{\"ids\":[1]}\n", &["line 1", "{\"text\": …}", "missing field"]);
    fails(&["decode", "--jsonl"], b"\n{\"ids\":[-1]}\n", &["line 2", "{\"ids\": […]}"]);
    fails(&["decode", "15496", "x"], b"", &["\"x\" is not a token id"]);
    fails(&["decode", "50257"], b"", &["token id 50257 is outside the vocabulary of 50257 ids"]);
    fails(&["decode", "99999999999"], b"", &["is not a token id"]);
    let empty = tempfile::tempdir().unwrap();
    let dir = empty.path().to_str().unwrap();
    fails(&["encode", "--tokenizer", dir, "x"], b"", &["neither vocab.json with merges.txt"]);
    assert_eq!(gpt2(&["encode", "a", "--jsonl"], b"").status.code(), Some(2));
    assert_eq!(gpt2(&["nonsense"], b"").status.code(), Some(2));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpt2"))
        .arg("encode")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all("word ".repeat(100_000).as_bytes()).unwrap();
    drop(stdin);
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(error, "");
}

#[test]
fn init_writes_a_model_and_vocabulary() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new").join("model");
    let text = dir.to_str().unwrap();
    let output = gpt2(&["init", "--dir", text, "--size", "tiny", "--seed", "5"], b"");
    assert!(output.status.success());
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["path"], dir.join("model.safetensors").to_str().unwrap());
    assert_eq!(line["parameters"], Config::tiny().parameters());
    assert_eq!(line["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(Checkpoint::open(&dir).unwrap().config(), &Config::tiny());
    prints(&["encode", "--tokenizer", text, "Hello"], b"", b"15496\n");
    fails(&["init", "--dir", text, "--size", "tiny"], b"", &["is already there", "--force"]);
    let again = gpt2(&["init", "--dir", text, "--size", "tiny", "--seed", "5", "--force"], b"");
    assert_eq!(again.stdout, output.stdout);
    let small = parent.path().join("small");
    let text = small.to_str().unwrap();
    assert!(gpt2(&["init", "--dir", text, "--size", "tiny", "--vocab-size", "99"], b"").status.success());
    assert_eq!(Checkpoint::open(&small).unwrap().config().vocab_size, 99);
    assert!(!small.join("vocab.json").exists());
    fails(&["init", "--dir", text, "--vocab-size", "99"], b"", &["only goes with --size tiny"]);
}

/// A tokenizer from a file, and written anew from it.
#[test]
fn another_tokenizer_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let tiktoken = path("cl100k_base.tiktoken");
    write_ranks(dir.path(), "cl100k_base.tiktoken", tiktoken_rs::cl100k_base_singleton(), 100_256);
    prints(&["encode", "--tokenizer", &tiktoken, "Hello, world!"], b"", b"9906 11 1917 0\n");
    prints(&["decode", "--tokenizer", &tiktoken, "9906 11 1917 0"], b"", b"Hello, world!");
    fails(&["decode", "--tokenizer", &tiktoken, "100256"], b"", &["token id 100256", "that have a token"]);
    prints(&["vocabulary", "--tokenizer", &tiktoken, "--dir", &path("written")], b"", b"");
    let json = path("written/tokenizer.json");
    prints(
        &["encode", "--tokenizer", &json, "Hello, world!<|endofprompt|>"],
        b"",
        b"9906 11 1917 0 100276\n",
    );
    fs::write(path("other.tiktoken"), "IQ== 0\n").unwrap();
    fails(
        &["encode", "--tokenizer", &path("other.tiktoken"), "x"],
        b"",
        &["other.tiktoken: file: not r50k_base"],
    );
    fails(&["encode", "--tokenizer", &path("none.json"), "x"], b"", &["none.json: cannot read"]);
}

#[test]
fn vocabulary_writes_four_files() {
    let dir = tempfile::tempdir().unwrap();
    prints(&["vocabulary", "--dir", dir.path().to_str().unwrap()], b"", b"");
    for name in ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"] {
        assert!(dir.path().join(name).is_file(), "{name}");
    }
}
