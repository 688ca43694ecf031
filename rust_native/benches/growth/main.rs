//! What grows with a text: the time and the memory that encoding it takes, and instructions a byte.
//!
//! Lengths are asked in turns, a round asks each; shown are medians. Memory is what a process holds at its highest
//! while it encodes, beyond text and ids, which were there before. Instructions are counted by valgrind where it is
//! installed, as the difference between a third pass over a text and a second; it knows no AVX-512, so they are
//! those of the AVX2 path.
//!
//! `cargo bench -p rust_native --bench growth -- [rounds] [--write]`; with `--write` the record goes to results/bpe
//! and its tables into src/bpe/README.md.

#[path = "../../../kernels/benches/page/mod.rs"]
mod page;
mod table;
#[path = "../texts/mod.rs"]
mod texts;

use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use rust_native::{Encoder, Special, Tokenizer};

use table::Row;
use texts::{cut, english_and_code, letters, words};

const LENGTHS: [usize; 5] = [64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];
/// Length of a text whose instructions are counted.
const COUNTED: usize = 256 << 10;
/// What the process calls itself with, under valgrind: a text's name and a number of passes.
const PASSES: &str = "--passes";

fn main() {
    // Cargo itself passes `--bench`.
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = given.iter().position(|word| word == PASSES) {
        return pass(&given[at + 1], given[at + 2].parse().expect("a number of passes"));
    }
    let rounds = given.iter().find_map(|word| word.parse().ok()).unwrap_or(7);
    let source = given.iter().any(|word| word == "--write").then(|| page::record("bpe"));
    let tokenizer = Tokenizer::gpt2();
    let mut rows = Vec::new();
    for (name, text) in texts() {
        rows.extend(seconds(&tokenizer, name, &text, rounds));
        rows.extend(memory(name, &text));
    }
    rows.extend(instructions());
    print!("{}", table::write(&rows));
    if let Some(source) = source {
        let splice = |text: &str| table::splice(text, &rows, &source.to_string_lossy());
        page::keep(&source, &table::write(&rows), "rust_native/src/bpe/README.md", splice);
    }
}

/// Texts as long as the longest length: words, and what has been somebody's cliff.
fn texts() -> [(&'static str, String); 4] {
    let longest = LENGTHS[LENGTHS.len() - 1];
    [
        ("words", words("etaoinshrdlucmfwypvbgkqjxz", " ", longest)),
        ("one piece of random letters", letters(longest)),
        ("one letter", "a".repeat(longest)),
        ("blanks", " ".repeat(longest)),
    ]
}

fn encode(encoder: &mut Encoder, text: &str, ids: &mut Vec<u32>) {
    ids.clear();
    encoder.encode_into(black_box(text), Special::Ignore, ids).expect("ordinary text");
    black_box(ids);
}

fn seconds(tokenizer: &Tokenizer, name: &str, text: &str, rounds: usize) -> Vec<Row> {
    let (mut encoder, mut ids) = (tokenizer.encoder(), Vec::new());
    // Once for the memory of the ids, which is no part of encoding.
    encode(&mut encoder, text, &mut ids);
    let mut taken = LENGTHS.map(|_| Vec::new());
    for _ in 0..rounds {
        for (bytes, taken) in LENGTHS.into_iter().zip(&mut taken) {
            let (text, start) = (cut(text, bytes), Instant::now());
            encode(&mut encoder, text, &mut ids);
            taken.push(start.elapsed().as_secs_f64());
        }
    }
    let row = |(bytes, mut taken): (usize, Vec<f64>)| {
        taken.sort_by(f64::total_cmp);
        Row {
            what: "seconds".into(),
            text: name.into(),
            bytes,
            path: tokenizer.isa().name().into(),
            value: taken[taken.len() / 2],
        }
    };
    LENGTHS.into_iter().zip(taken).map(row).collect()
}

/// A field of /proc/self/status in bytes, where there is one.
fn status(field: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim_start_matches(':').trim_end_matches("kB").trim().parse::<f64>().ok().map(|kb| 1024.0 * kb)
}

fn memory(name: &str, text: &str) -> Option<Row> {
    // A tokenizer of its own: one that has encoded keeps its caches, which count here.
    let tokenizer = Tokenizer::gpt2();
    // As many ids as the text has at most, touched, so that they are there before.
    let mut ids = vec![1u32; text.len()];
    let mut encoder = tokenizer.encoder();
    let before = status("VmRSS")?;
    // The highest value begins anew.
    fs::write("/proc/self/clear_refs", "5").ok()?;
    encode(&mut encoder, text, &mut ids);
    let value = (status("VmHWM")? - before).max(0.0);
    let path = tokenizer.isa().name().into();
    Some(Row { what: "memory".into(), text: name.into(), bytes: text.len(), path, value })
}

/// Instructions a byte once caches are warm, of this repository's English and code.
fn instructions() -> Vec<Row> {
    let count = |name: &str, passes: u64| {
        let itself = std::env::current_exe().ok()?;
        let tool = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
        let words = [PASSES.to_string(), name.to_string(), passes.to_string()];
        let output = Command::new("valgrind").args(tool).arg(itself).args(words).output().ok()?;
        let (told, path) = (String::from_utf8(output.stderr).ok()?, String::from_utf8(output.stdout).ok()?);
        let counted =
            told.lines().find_map(|line| line.split_once("Collected :"))?.1.trim().parse::<f64>().ok()?;
        Some((counted, path.trim().to_string()))
    };
    let of = |name: &str| {
        let ((two, _), (three, path)) = (count(name, 2)?, count(name, 3)?);
        let value = (three - two) / COUNTED as f64;
        Some(Row { what: "instructions".into(), text: name.into(), bytes: COUNTED, path, value })
    };
    let rows: Vec<Row> = ["english", "code"].into_iter().filter_map(of).collect();
    if rows.is_empty() {
        eprintln!("instructions are not counted: valgrind is not installed, or cannot run this program");
    }
    rows
}

/// Encodes a text a number of times and tells the instruction set.
fn pass(name: &str, passes: u64) {
    let [english, code] = english_and_code();
    let text = if name == "code" { code } else { english };
    let text = cut(&text, COUNTED);
    assert!(text.len() + 4 > COUNTED, "{COUNTED} bytes of {name}");
    let tokenizer = Tokenizer::gpt2();
    let (mut encoder, mut ids) = (tokenizer.encoder(), Vec::new());
    for _ in 0..passes {
        encode(&mut encoder, text, &mut ids);
    }
    println!("{}", tokenizer.isa().name());
}
