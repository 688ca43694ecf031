//! Guessed tokens change when a greedy text comes and never which.

mod common;

use std::ops::ControlFlow;

use common::{Weights, every_path, small, tokens};
use rust_native::{
    Finish, GenerateOptions, Generated, Gpt2, Lookup, Options, Sampling, Scheduler, SchedulerOptions,
    Strategy,
};

fn model(seed: u64) -> Gpt2 {
    Weights::random(small(), seed).model(&Options { threads: 2, ..Options::default() })
}

fn run(model: &Gpt2, prompts: &[&[u32]], options: &GenerateOptions) -> Vec<Generated> {
    model.generate(prompts, options, |_, _, _| ControlFlow::Continue(())).unwrap()
}

fn guessing(options: &GenerateOptions, tokens: usize, ngram: usize) -> GenerateOptions {
    GenerateOptions { lookup: Some(Lookup { tokens, ngram }), ..options.clone() }
}

/// A penalty below 1 draws a text to what it has said before.
fn options(repetition_penalty: f32) -> GenerateOptions {
    GenerateOptions { max_new_tokens: 60, repetition_penalty, ..GenerateOptions::default() }
}

#[track_caller]
fn same(what: &str, got: &Generated, want: &Generated) {
    assert_eq!((&got.ids, got.finish), (&want.ids, want.finish), "{what}");
    for (got, want) in got.logprobs.iter().zip(&want.logprobs) {
        assert!((got - want).abs() < 1e-3, "{what}: log-probability {got}, not {want}");
    }
}

#[test]
fn greedy_texts_are_unchanged() {
    for seed in 60..64 {
        let model = model(seed);
        let prompt = tokens(seed as u32, 9, 211);
        for penalty in [1.0, 0.3, 1.4] {
            let plain = run(&model, &[&prompt], &options(penalty)).remove(0);
            assert_eq!((plain.proposed, plain.accepted), (0, 0));
            for (tokens, ngram) in [(1, 1), (3, 2), (8, 3), (40, 4)] {
                let got = run(&model, &[&prompt], &guessing(&options(penalty), tokens, ngram)).remove(0);
                same(&format!("seed {seed} penalty {penalty} {tokens}/{ngram}"), &got, &plain);
                assert!(got.accepted <= got.proposed);
                if penalty == 0.3 {
                    assert!(got.accepted * 2 > plain.ids.len() / 2, "{got:?}: a loop is easily guessed");
                }
            }
        }
    }
}

#[test]
fn guesses_beside_each_other_are_verified_on_every_path() {
    let weights = Weights::random(small(), 65);
    let texts: Vec<Vec<u32>> = [9, 30, 1].iter().map(|&n| tokens(n, n as usize, 211)).collect();
    let prompts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    for how in every_path() {
        let model = weights.model(&how);
        let plain = run(&model, &prompts, &options(0.4));
        let guessed = run(&model, &prompts, &guessing(&options(0.4), 8, 3));
        for (got, want) in guessed.iter().zip(&plain) {
            same(&format!("{how:?}"), got, want);
        }
        assert!(guessed.iter().any(|result| result.accepted > 0));
    }
}

#[test]
fn each_right_guess_saves_a_pass() {
    let model = model(66);
    let of = SchedulerOptions { slots: 1, capacity: 96, chunk: 64 };
    let mut scheduler = Scheduler::new(&model, &of).unwrap();
    scheduler.submit(&tokens(1, 9, 211), &guessing(&options(0.3), 8, 3)).unwrap();
    let mut passes = 1;
    while scheduler.step(|_, _, _| ControlFlow::Continue(())).unwrap() {
        passes += 1;
    }
    let (_, result) = scheduler.take_finished().next().unwrap();
    assert!(result.accepted > 0);
    assert_eq!(passes, result.ids.len() - result.accepted);
}

#[test]
fn a_text_ends_inside_a_guess_as_it_would_without() {
    let model = model(67);
    let prompt = tokens(2, 9, 211);
    let free = run(&model, &[&prompt], &options(0.3)).remove(0);
    let stop = |at: usize| GenerateOptions { stop: vec![free.ids[at]], ..options(0.3) };
    for at in [0, 5, 20, 40] {
        let plain = run(&model, &[&prompt], &stop(at)).remove(0);
        assert_eq!(plain.finish, Finish::Stop);
        same("stop", &run(&model, &[&prompt], &guessing(&stop(at), 8, 3))[0], &plain);
    }
    for max_new_tokens in 1..20 {
        let short = GenerateOptions { max_new_tokens, ..options(0.3) };
        let got = run(&model, &[&prompt], &guessing(&short, 8, 3)).remove(0);
        assert_eq!((&got.ids[..], got.finish), (&free.ids[..max_new_tokens], Finish::Length));
    }
    for last in 1..20 {
        let mut heard = 0;
        let got = model.generate(&[&prompt], &guessing(&options(0.3), 8, 3), |_, _, _| {
            heard += 1;
            if heard == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let got = got.unwrap().remove(0);
        assert_eq!((&got.ids[..], got.finish), (&free.ids[..last], Finish::Callback));
    }
}

#[test]
fn what_does_not_go_together_is_said() {
    let model = model(68);
    let sample = Strategy::Sample(Sampling::default());
    let beam = Strategy::Beam { beams: 2, length_penalty: 1.0 };
    let with = |strategy| GenerateOptions { strategy, ..guessing(&options(1.0), 8, 3) };
    let cases = [
        ("leave it out when drawing", with(sample)),
        ("leave it out with beam search", with(beam)),
        ("keep the cache", GenerateOptions { use_cache: false, ..guessing(&options(1.0), 8, 3) }),
        ("lookup tokens = 0", guessing(&options(1.0), 0, 3)),
        ("lookup ngram = 0", guessing(&options(1.0), 8, 0)),
    ];
    for (says, options) in cases {
        let never = |_, _, _| panic!("a token of a refused request");
        let error = model.generate(&[&[1, 2]], &options, never).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}
