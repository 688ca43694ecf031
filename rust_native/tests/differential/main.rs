//! Generated cases by the million: our ids on every instruction set against Hugging Face's tokenizers and
//! tiktoken.
//!
//! The normal run takes a small, evenly spread share of them. All of them, ten million for each of the patterns that
//! have a scanner of their own, are
//!
//! ```sh
//! cargo test --release -p rust_native --test differential -- --ignored --nocapture
//! ```
//!
//! which prints the number of cases and of mismatches by generator, and fails at a mismatch with the shortest
//! text that still shows it. `CASES` sets another number, `THREADS` that of threads, and `VOCABULARY` names one
//! instead of all; with `BLESS=1` the counts are written into counts.csv, which is where to read how many there were.

mod cases;
#[path = "../peers/mod.rs"]
mod peers;
mod run;

use std::collections::HashSet;
use std::fmt::Write as _;

use cases::{CHARACTERS, GENERATORS, KINDS, Size, WHOLE, character, counts};
use peers::{VOCABULARIES, Vocabulary};
use run::{Outcome, Peers, run, shorten};
use rust_native::bpe::split::ends;

/// Cases of the normal run.
const SHARE: u64 = 40_000;

const COUNTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/counts.csv");

const HEADER: &str = "vocabulary,generator,cases,mismatches,instruction_sets\n";

/// A number from the environment.
fn variable(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

fn threads() -> usize {
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    variable("THREADS").map_or_else(all, |threads| threads as usize)
}

/// Runs a vocabulary's cases: the counts as lines of CSV, and what differed.
fn told(name: &str, vocabulary: &'static Vocabulary, total: u64) -> (String, String) {
    let outcomes = run(total, threads(), || Peers::new(vocabulary));
    let isa: Vec<String> = vocabulary.every.iter().map(|tokenizer| tokenizer.isa().to_string()).collect();
    let (mut counts, mut examples) = (String::new(), String::new());
    for (generator, Outcome { cases, mismatches, example }) in GENERATORS.iter().zip(outcomes) {
        let row = format!("{name},{}", generator.name);
        let _ = writeln!(counts, "{row},{cases},{mismatches},{}", isa.join(" "));
        if let Some((case, why)) = example {
            let bytes = String::from_utf8_lossy(&case);
            let _ = writeln!(examples, "{row}: {mismatches} differ, such as {bytes:?} ({case:x?}): {why}");
        }
        assert!(cases > 0, "{row}");
    }
    (counts, examples)
}

#[test]
fn a_share_of_all_cases() {
    for (name, vocabulary) in &VOCABULARIES {
        let (_, examples) = told(name, vocabulary, SHARE);
        assert!(examples.is_empty(), "\n{examples}");
    }
}

#[test]
#[ignore = "minutes: ten million cases for each vocabulary"]
fn all_cases() {
    let (total, named) = (variable("CASES").unwrap_or(WHOLE), std::env::var("VOCABULARY").ok());
    let chosen = |name: &str| named.as_ref().is_none_or(|named| named == name);
    assert!(VOCABULARIES.iter().any(|(name, _)| chosen(name)), "VOCABULARY names none: {named:?}");
    let before = std::fs::read_to_string(COUNTS).unwrap();
    let mut record = String::from(HEADER);
    for (name, vocabulary) in &VOCABULARIES {
        if chosen(name) {
            let (counts, examples) = told(name, vocabulary, total);
            println!("{counts}");
            assert!(examples.is_empty(), "\n{examples}");
            record += &counts;
        } else {
            let of_it = |line: &&str| line.split(',').next() == Some(name);
            record.extend(before.split_inclusive('\n').filter(of_it));
        }
    }
    if variable("BLESS").is_some() {
        assert!(total >= WHOLE, "counts.csv is for {WHOLE} cases or more");
        std::fs::write(COUNTS, record).unwrap();
    }
}

#[test]
fn the_counts_on_record_are_of_these_cases() {
    let text = std::fs::read_to_string(COUNTS).unwrap();
    let mut rows = text.strip_prefix(HEADER).unwrap().lines();
    for (vocabulary, _) in &VOCABULARIES {
        let mut total = 0;
        for generator in &GENERATORS {
            let row: Vec<&str> = rows.next().unwrap().split(',').collect();
            assert_eq!((row[0], row[1], row[3]), (*vocabulary, generator.name, "0"));
            let cases: u64 = row[2].parse().unwrap();
            if let Size::All(size) = generator.size {
                assert_eq!(cases, size, "{}", generator.name);
            }
            total += cases;
        }
        assert!(total >= WHOLE, "{vocabulary}: {total}");
    }
    assert_eq!(rows.next(), None);
}

/// A check that is wrong about one thing: found by whoever makes such cases, and cut down to it.
#[test]
fn what_differs_is_found_counted_and_shortened() {
    let wrong = || {
        |case: &[u8]| {
            let at = case.windows(2).position(|pair| pair == b"1!")?;
            Some(format!("at {at}"))
        }
    };
    let outcomes = run(SHARE, 2, wrong);
    for outcome in &outcomes {
        assert_eq!(outcome.mismatches > 0, outcome.example.is_some());
        if let Some((case, why)) = &outcome.example {
            assert_eq!((case.as_slice(), why.as_str()), (&b"1!"[..], "at 0"));
        }
    }
    let found = outcomes.iter().filter(|outcome| outcome.mismatches > 0).count();
    assert!((3..GENERATORS.len()).contains(&found), "{found}");
    let broken = "世x\u{e9}".as_bytes();
    let lone = |case: &[u8]| case.contains(&0xE9) || case.contains(&0xC3);
    assert_eq!(shorten(broken, lone), "é".as_bytes());
    assert_eq!(shorten(b"ab\xFFc\xFE", |case| case.contains(&0xFE)), b"\xFE");
}

#[test]
fn the_numbered_cases_are_what_they_are_called() {
    assert_eq!(character(CHARACTERS - 1), char::MAX);
    let case = |which: usize, i: u64| {
        let mut case = Vec::new();
        (GENERATORS[which].make)(i, &mut case);
        case
    };
    for (which, generator) in GENERATORS.iter().enumerate() {
        let Size::All(size) = generator.size else { continue };
        // Of a long piece and of a corpus there are few, and each is long.
        let step = if which < 2 { 1 } else { size / 40_000 };
        let different: HashSet<Vec<u8>> = (0..size).step_by(step as usize).map(|i| case(which, i)).collect();
        let made = size.div_ceil(step);
        // Cuts inside one character are the same cut, and so are lengths.
        let least = if which < 2 { made / 2 } else { made };
        assert!(different.len() as u64 >= least, "{}: {} of {made}", generator.name, different.len());
        assert!(generator.number(0, 7) < size && generator.number(6, 7) < size);
    }
    for i in 0..100 {
        let bytes = case(0, i);
        let mut start = 0;
        let longest = ends(&bytes).map(|end| end - std::mem::replace(&mut start, end)).max();
        assert!(longest > Some(65_500), "{i}: {longest:?}");
    }
    assert!(KINDS.iter().all(|kind| kind.chars().count() == 1));
    assert!((0..1000).any(|i| str::from_utf8(&case(9, i)).is_err()));
    for total in [1, SHARE, WHOLE, 2 * WHOLE] {
        let sum: u64 = counts(total).iter().sum();
        assert!(sum.abs_diff(total) <= 10, "{total}: {sum}");
    }
}
