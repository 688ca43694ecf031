//! `gpt2 generate`.

use std::fs;
use std::ops::ControlFlow;
use std::process::Command;

use rust_native::{Checkpoint, Config, GenerateOptions, Gpt2, Options, Special, Tokenizer, init};

use crate::{fails, gpt2, prints};

/// A tiny model in a folder of its own.
fn tiny(vocab_size: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { n_positions: 64, ..Config::tiny_with_vocabulary(vocab_size) };
    init::write_model(dir.path(), &config, 1).unwrap();
    dir
}

fn json(arguments: &[&str]) -> serde_json::Value {
    let output = gpt2(arguments, b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn generate_streams_what_the_library_generates() {
    let dir = tiny(50257);
    let model = dir.path().to_str().unwrap();
    let prompt = Tokenizer::gpt2().encode("Hello there", Special::Allow).unwrap();
    let loaded = Gpt2::load(&Checkpoint::open(dir.path()).unwrap(), &Options::default()).unwrap();
    let options = GenerateOptions { max_new_tokens: 9, ..GenerateOptions::default() };
    let expected = loaded.generate(&[&prompt], &options, |_, _, _| ControlFlow::Continue(())).unwrap();
    let text = Tokenizer::gpt2().decode_lossy(&expected[0].ids).unwrap();
    let base = ["generate", "--model", model, "--max-new-tokens", "9", "Hello there"];
    prints(&base, b"", format!("{text}\n").as_bytes());
    let output = gpt2(&base, b"");
    let speed = String::from_utf8(output.stderr).unwrap();
    assert!(speed.starts_with("9 tokens in ") && speed.contains("tokens per second"), "{speed}");

    let line = json(&[&base[..], &["--json"]].concat());
    assert_eq!(line["ids"], serde_json::json!(expected[0].ids));
    assert_eq!(line["prompt_ids"], serde_json::json!(prompt));
    assert_eq!(line["text"], text);
    assert_eq!(line["finish"], "length");
    let logprobs = line["logprobs"].as_array().unwrap();
    assert!(logprobs.len() == 9 && logprobs.iter().all(|p| p.as_f64().unwrap() < 0.0));

    let piped = gpt2(&["generate", "--model", model, "--max-new-tokens", "9", "-"], b"Hello there");
    assert_eq!(piped.stdout, format!("{text}\n").as_bytes());
    let uncached = json(&[&base[..], &["--json", "--no-cache", "--threads", "1"]].concat());
    assert_eq!(uncached["ids"], line["ids"]);
    let as_ids: Vec<String> = prompt.iter().map(ToString::to_string).collect();
    let given = ["generate", "--model", model, "--max-new-tokens", "9", "--prompt-ids"];
    let given = json(&[&given[..], &[&as_ids.join(","), "--json"]].concat());
    assert_eq!(given["ids"], line["ids"]);

    let folder = dir.path().join("packed");
    for (round, mapped) in [("first", false), ("second", true)] {
        let output = gpt2(&[&base[..], &["--packed", folder.to_str().unwrap()]].concat(), b"");
        assert_eq!(output.stdout, format!("{text}\n").as_bytes(), "{round}");
        let speed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(speed.contains(" mapped)"), mapped, "{speed}");
    }

    let stop = line["ids"][0].to_string();
    let stopped = json(&[&base[..], &["--json", "--stop", &stop]].concat());
    assert_eq!((&stopped["finish"], stopped["ids"].as_array().unwrap().len()), (&"stop".into(), 1));
}

#[test]
fn drawing_is_seeded_and_beams_search() {
    let dir = tiny(50257);
    let base = ["generate", "--model", dir.path().to_str().unwrap(), "--json", "Hello"];
    let draw =
        |seed: &str, more: &[&str]| json(&[&base[..], &["--seed", seed], more].concat())["ids"].clone();
    assert_eq!(draw("1", &["--temperature", "1"]), draw("1", &["--temperature", "1"]));
    assert_ne!(draw("1", &["--temperature", "1"]), draw("2", &["--temperature", "1"]));
    let greedy = json(&base)["ids"].clone();
    assert_eq!(draw("1", &["--temperature", "0"]), greedy);
    assert_eq!(draw("1", &["--top-k", "1"]), greedy);
    let penalised = draw("1", &["--repetition-penalty", "100"]);
    let mut ids: Vec<u64> = penalised.as_array().unwrap().iter().flat_map(|id| id.as_u64()).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{penalised}");
    let sum = |line: serde_json::Value| -> f64 {
        line["logprobs"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum()
    };
    // This model repeats itself, so its text is easily guessed.
    let guessed = json(&[&base[..], &["--lookup", "6"]].concat());
    assert_eq!(guessed["ids"], greedy);
    let of = |name: &str| guessed["lookup"][name].as_u64().unwrap();
    assert!(0 < of("accepted") && of("accepted") <= of("proposed"), "{guessed}");
    for other in [&["--temperature", "1"][..], &["--num-beams", "2"], &["--no-cache"]] {
        let output = gpt2(&[&base[..], &["--lookup", "6"], other].concat(), b"");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{other:?}");
        assert!(error.contains("--lookup") && error.contains(other[0]), "{error}");
    }
    let beams = json(&[&base[..], &["--num-beams", "4"]].concat());
    assert!(sum(beams) >= sum(json(&base)) - 1e-3);
    assert_ne!(json(&[&base[..], &["--theta-hat", "-30"]].concat())["logprobs"], json(&base)["logprobs"]);
}

#[test]
fn pinned_threads_write_the_same_text() {
    let dir = tiny(50257);
    let model = dir.path().to_str().unwrap();
    let base = ["generate", "--model", model, "--max-new-tokens", "5", "--threads", "1", "Once"];
    let pinned = [&base[..], &["--pin"]].concat();
    if cfg!(not(target_os = "linux")) {
        eprintln!("skipped: threads can be pinned on Linux only");
        fails(&pinned, b"", &["on Linux only"]);
        return;
    }
    let output = gpt2(&pinned, b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("threads=1 pinned"), "{said}");
    prints(&base, b"", &output.stdout);
    fails(
        &[&pinned[..6], &["5000", "--pin", "x"]].concat(),
        b"",
        &["5000 threads cannot be pinned", "allowed"],
    );
}

#[test]
fn generate_without_a_vocabulary_prints_ids() {
    let dir = tiny(300);
    let model = dir.path().to_str().unwrap();
    let base = ["generate", "--model", model, "--max-new-tokens", "5", "--prompt-ids", "1,2"];
    let line = json(&[&base[..], &["--json"]].concat());
    assert_eq!(line["text"], serde_json::Value::Null);
    let ids: Vec<String> = line["ids"].as_array().unwrap().iter().map(ToString::to_string).collect();
    prints(&base, b"", format!("{}\n", ids.join(" ")).as_bytes());
    fails(&["generate", "--model", model, "Hello"], b"", &["no vocabulary", "--prompt-ids"]);
    Tokenizer::gpt2().write_vocabulary(dir.path()).unwrap();
    fails(&["generate", "--model", model, "Hello"], b"", &["50257 ids, the model only 300"]);
}

#[test]
fn requests_that_cannot_be_met() {
    let dir = tiny(50257);
    let model = dir.path().to_str().unwrap();
    let with = |more: &[&str], input: &[u8], words: &[&str]| {
        fails(&[&["generate", "--model", model], more].concat(), input, words);
    };
    with(&["", "--max-new-tokens", "2"], b"", &["prompt 0 is empty"]);
    with(&["x", "--max-new-tokens", "64"], b"", &["64 new ones exceed the context of 64"]);
    with(&[&"word ".repeat(70)], b"", &["exceed the context of 64"]);
    with(&["--prompt-ids", "50257"], b"", &["50257 is outside the vocabulary"]);
    with(&["--prompt-ids", "1;2"], b"", &["\"1;2\" is not a token id"]);
    with(&["--stop", "the", "x"], b"", &["--stop the"]);
    with(&["--top-p", "7", "x"], b"", &["top_p = 7"]);
    with(&["--lookup", "0", "x"], b"", &["lookup tokens = 0"]);
    with(&["--special", "refuse", "a<|endoftext|>"], b"", &["at byte 1"]);
    with(&["-"], b"ab\xFF", &["standard input: invalid UTF-8 at byte 2"]);
    fails(&["generate", "--model", "/nonexistent", "x"], b"", &["/nonexistent/config.json: cannot read"]);
    assert_eq!(gpt2(&["generate", "--model", model], b"").status.code(), Some(2));
    let weights = dir.path().join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    with(&["x"], b"", &["model.safetensors", "truncated"]);
}

#[test]
fn the_default_model_lives_in_the_cache_folder() {
    let cache = tempfile::tempdir().unwrap();
    let run = |cache: &std::path::Path| {
        Command::new(env!("CARGO_BIN_EXE_gpt2"))
            .args(["generate", "--max-new-tokens", "3", "--json", "x"])
            .env("ASSAY_CACHE_DIR", cache)
            .output()
            .unwrap()
    };
    // A small model under the default's name, so that the test does not write half a gigabyte.
    init::write_model(&cache.path().join("gpt2-seed0"), &Config::tiny(), 0).unwrap();
    let output = run(cache.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = cache.path().join("file");
    fs::write(&file, "").unwrap();
    let output = run(&file.join("below"));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("cannot create") && error.lines().count() == 1, "{error}");
}
