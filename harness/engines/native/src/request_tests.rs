//! Many texts, searches, guesses and queues over the wire, against the library asked text by text.

use crate::model::Cpu;
use crate::tests::{Bench, Outcome, ids_of};
use rust_native::{Checkpoint, GenerateOptions, Gpt2, Options, Special, Strategy, Tokenizer};
use std::ops::ControlFlow;
use worker::{Engine, Reply};

fn engine() -> impl Engine {
    Cpu::parse("cpu-f32", None).expect("a variant")
}

/// The library's answer to each text alone, ids after ids, and their text.
fn one_by_one(bench: &Bench, texts: &[String], tokens: &[usize], strategy: Strategy) -> (Vec<u32>, String) {
    let model = Gpt2::load(&Checkpoint::open(&bench.path("")).unwrap(), &Options::default()).unwrap();
    let tokenizer = Tokenizer::gpt2();
    let (mut ids, mut text) = (Vec::new(), String::new());
    for (prompt, &max_new_tokens) in texts.iter().zip(tokens.iter().cycle()) {
        let prompt = tokenizer.encode(prompt, Special::Allow).unwrap();
        let options = GenerateOptions { max_new_tokens, strategy, ..GenerateOptions::default() };
        let new = model.generate(&[&prompt], &options, |_, _, _| ControlFlow::Continue(())).unwrap();
        text += &tokenizer.decode_lossy(&new[0].ids).unwrap();
        ids.extend_from_slice(&new[0].ids);
    }
    (ids, text)
}

fn bench(texts: &[String]) -> Bench {
    Bench::new(&[], &texts.iter().map(String::as_str).collect::<Vec<_>>())
}

#[track_caller]
fn assert_answer(got: &Outcome, ids: &[u32], text: &str, laps: usize) {
    assert_eq!((got.sample.units, got.sample.laps_ns.len()), (ids.len() as u64, laps));
    let (found, rest) = got.answer.split_at(4 * ids.len());
    assert_eq!(ids_of(found), ids);
    assert_eq!(String::from_utf8_lossy(rest), text);
}

#[test]
fn texts_of_one_batch_get_what_each_gets_alone() {
    let shared = "one two three four ".repeat(9);
    let alike: Vec<String> =
        ["five", "six seven", "eight nine ten"].map(|own| format!("{shared}{own}")).into();
    let unlike: Vec<String> =
        ["Hello", "a much longer text than the others", "world and"].map(String::from).into();
    for texts in [alike, unlike] {
        let bench = bench(&texts);
        let (ids, text) = one_by_one(&bench, &texts, &[6], Strategy::Greedy);
        for threads in [1, 2] {
            let got = bench.measure(&mut engine(), r#"{"kind":"generate","tokens":6}"#, threads);
            assert_answer(&got, &ids, &text, 6);
        }
    }
}

#[test]
fn guesses_change_nothing_and_a_search_is_the_librarys() {
    let texts = ["Hello world Hello world Hello".to_string()];
    let bench = bench(&texts);
    let (ids, text) = one_by_one(&bench, &texts, &[20], Strategy::Greedy);
    let got = bench.measure(&mut engine(), r#"{"kind":"generate","tokens":20,"lookup":5}"#, 1);
    assert_answer(&got, &ids, &text, 20);
    let beams = Strategy::Beam { beams: 3, length_penalty: 1.0 };
    let (ids, text) = one_by_one(&bench, &texts, &[12], beams);
    let got = bench.measure(&mut engine(), r#"{"kind":"generate","tokens":12,"beams":3}"#, 1);
    assert_answer(&got, &ids, &text, 1);
}

#[test]
fn requests_that_queue_get_what_each_gets_alone() {
    let texts: Vec<String> = (1..8).map(|n| "some words ".repeat(n) + "end").collect();
    let bench = bench(&texts);
    let (ids, _) = one_by_one(&bench, &texts, &[3, 11, 6], Strategy::Greedy);
    for slots in [1, 3, 20] {
        let task = format!(r#"{{"kind":"serve","slots":{slots},"tokens":[3,11,6]}}"#);
        assert_answer(&bench.measure(&mut engine(), &task, 2), &ids, "", texts.len());
    }
}

#[test]
fn a_text_that_does_not_fit_or_is_empty_is_refused() {
    let long = "word ".repeat(46);
    for second in [long.as_str(), ""] {
        let bench = Bench::new(&[], &["fits", second]);
        for task in [r#"{"kind":"generate","tokens":3}"#, r#"{"kind":"serve","slots":2,"tokens":[1,3]}"#] {
            let replies = bench.replies(&mut engine(), task, 1);
            assert!(matches!(&replies[0], Reply::Refused { .. }), "{task}: {replies:?}");
        }
    }
}
