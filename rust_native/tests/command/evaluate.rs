//! `gpt2 evaluate`, and `--precision` where a model runs.

use rust_native::{Config, init};

use crate::{fails, gpt2};

fn tiny(vocab_size: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { n_positions: 64, ..Config::tiny_with_vocabulary(vocab_size) };
    init::write_model(dir.path(), &config, 1).unwrap();
    dir
}

fn lines(arguments: &[&str], input: &[u8]) -> Vec<serde_json::Value> {
    let output = gpt2(arguments, input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_lower_precision_is_evaluated_over_the_page_that_comes_with_it() {
    let dir = tiny(50257);
    let model = dir.path().to_str().unwrap();
    let seen = lines(&["evaluate", "--model", model, "--json"], b"");
    let names: Vec<&str> = seen.iter().filter_map(|line| line["precision"].as_str()).collect();
    assert_eq!(names, ["bf16", "int8", "int4"]);
    let figures = |name: &str| seen.iter().map(|line| line[name].as_f64().unwrap()).collect::<Vec<_>>();
    for name in ["max_difference", "max_deviation", "mean_divergence", "max_divergence"] {
        let found = figures(name);
        assert!(found[0] > 0.0 && found.is_sorted(), "{name}: {found:?}");
    }
    assert!(figures("bytes_per_token").is_sorted_by(|a, b| a > b));
    assert!(figures("tokens").iter().all(|&tokens| tokens > 1000.0));

    let output = gpt2(&["evaluate", "--model", model, "--precision", "int8"], b"");
    let table = String::from_utf8(output.stdout).unwrap();
    for words in ["windows of 64, one every 32", "int8", "divergence from f32, mean, nats", "perplexity"] {
        assert!(table.contains(words), "{words}: {table}");
    }
}

#[test]
fn a_cache_in_bf16_is_evaluated_alone_and_with_lower_precisions() {
    let dir = tiny(300);
    let base = ["evaluate", "--model", dir.path().to_str().unwrap(), "--cache", "bf16"];
    let seen = lines(&[&base[..], &["--json"]].concat(), b"");
    let names: Vec<&str> = seen.iter().filter_map(|line| line["precision"].as_str()).collect();
    assert_eq!(names, ["f32", "bf16", "int8", "int4"]);
    assert!(seen.iter().all(|line| line["cache"] == "bf16"));
    let divergence = |line: &serde_json::Value| line["mean_divergence"].as_f64().unwrap();
    assert!(divergence(&seen[0]) > 0.0);
    let wide = lines(&["evaluate", "--model", base[2], "--precision", "f32", "--json"], b"");
    assert_eq!((wide[0]["cache"].as_str(), divergence(&wide[0])), (Some("f32"), 0.0));
    let output = gpt2(&[&base[..], &["--precision", "f32"]].concat(), b"");
    let table = String::from_utf8(output.stdout).unwrap();
    let row = table.lines().find(|line| line.starts_with("keys and values in"));
    assert!(row.is_some_and(|row| row.ends_with(" bf16")), "{table}");
}

#[test]
fn a_text_of_ones_own_or_ids_from_a_seed() {
    let dir = tiny(50257);
    let model = dir.path().to_str().unwrap();
    let of = |more: &[&str], input: &[u8]| {
        let base = ["evaluate", "--model", model, "--precision", "bf16", "--json"];
        lines(&[&base[..], more].concat(), input)
    };
    let file = dir.path().join("text.txt");
    std::fs::write(&file, "Once upon a time there was a bell.").unwrap();
    let read = of(&["--text", file.to_str().unwrap()], b"");
    assert_eq!(read[0]["tokens"], 8);
    assert_eq!(of(&["--text", "-"], b"Once upon a time there was a bell."), read);
    assert_eq!(of(&["--text", "-", "--window", "4", "--stride", "1"], b"a b c d e f")[0]["windows"], 3);

    let nameless = tiny(300);
    let model = nameless.path().to_str().unwrap();
    let seen = lines(&["evaluate", "--model", model, "--precision", "int4", "--json"], b"");
    assert_eq!(seen[0]["tokens"], 63);
    let base = ["evaluate", "--model", model, "--precision", "int4"];
    fails(&[&base[..], &["--text", "-"]].concat(), b"x", &["no vocabulary", "vocab.json"]);
}

#[test]
fn what_cannot_be_evaluated() {
    let dir = tiny(50257);
    let base = ["evaluate", "--model", dir.path().to_str().unwrap(), "--precision", "int8"];
    let with = |more: &[&str], input: &[u8], words: &[&str]| {
        fails(&[&base[..], more].concat(), input, words);
    };
    with(&["--text", "-"], b"", &["text: 0 tokens", "at least two"]);
    with(&["--text", "-"], b"a", &["text: 1 tokens"]);
    with(&["--text", "-"], b"ab\xFF", &["standard input: invalid UTF-8 at byte 2"]);
    with(&["--text", "/nonexistent/text"], b"", &["/nonexistent/text: cannot open"]);
    with(&["--window", "65"], b"", &["window: 65; use 2 to 64"]);
    with(&["--stride", "64"], b"", &["stride: 64; use 1 to 63"]);
}

#[test]
fn an_unknown_precision_is_a_wrong_command_line_that_names_the_nearest() {
    for verb in [&["evaluate"][..], &["generate", "x"]] {
        let output = gpt2(&[verb, &["--precision", "int"]].concat(), b"");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        for words in ["'int'", "f32, bf16, int8, int4", "a similar value exists"] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}

#[test]
fn text_is_generated_with_a_cache_in_bf16() {
    let dir = tiny(50257);
    let base = ["generate", "--model", dir.path().to_str().unwrap(), "--max-new-tokens", "5", "Hello"];
    let output = gpt2(&[&base[..], &["--cache", "bf16", "--num-beams", "2"]].concat(), b"");
    let speed = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && speed.contains("(f32 ") && speed.ends_with(" cache=bf16)\n"),
        "{speed}"
    );
    for (wrong, words) in [
        (&["--cache", "int8"][..], &["'int8'", "[possible values: f32, bf16]"][..]),
        (&["--cache", "bf16", "--no-cache"], &["--cache", "--no-cache", "cannot be used with"]),
    ] {
        let output = gpt2(&[&base[..], wrong].concat(), b"");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn text_is_generated_in_every_precision() {
    let dir = tiny(50257);
    let base = ["generate", "--model", dir.path().to_str().unwrap(), "--max-new-tokens", "5", "Hello"];
    for precision in ["f32", "bf16", "int8", "int4"] {
        let output = gpt2(&[&base[..], &["--precision", precision]].concat(), b"");
        let speed = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && speed.contains(&format!("({precision} ")), "{speed}");
    }
}
