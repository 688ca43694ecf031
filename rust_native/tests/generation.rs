//! Whole requests: every strategy, batches against single runs, with and without cache.

mod common;

use std::ops::ControlFlow;

use common::{Weights, every_path, odd, small, tokens};
use rust_native::{
    Cache, Finish, GenerateError, GenerateOptions, Generated, Gpt2, Options, Sampling, Stepper, Strategy,
};

fn model(weights: &Weights) -> Gpt2 {
    weights.model(&Options { threads: 2, ..Options::default() })
}

fn run(model: &Gpt2, prompts: &[&[u32]], options: &GenerateOptions) -> Vec<Generated> {
    model.generate(prompts, options, |_, _, _| ControlFlow::Continue(())).unwrap()
}

fn beam(beams: usize, length_penalty: f32) -> Strategy {
    Strategy::Beam { beams, length_penalty }
}

/// `ln softmax` of the last position of `text`.
fn log_softmax64(weights: &Weights, text: &[u32]) -> Vec<f64> {
    let logits = weights.logits64(text, 1.0).pop().unwrap();
    let max = logits.iter().copied().fold(f64::MIN, f64::max);
    let total = max + logits.iter().map(|l| (l - max).exp()).sum::<f64>().ln();
    logits.iter().map(|l| l - total).collect()
}

fn best(scores: &[f64]) -> usize {
    (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap()
}

#[test]
fn greedy_follows_f64_with_and_without_cache_on_every_path() {
    for config in [small(), odd()] {
        let weights = Weights::random(config, 11);
        let prompt = tokens(1, 20, 211);
        let mut text = prompt.clone();
        let mut logprobs = Vec::new();
        for _ in 0..12 {
            let scores = log_softmax64(&weights, &text);
            text.push(best(&scores) as u32);
            logprobs.push(scores[best(&scores)]);
        }
        for options in every_path() {
            let model = weights.model(&options);
            for use_cache in [true, false] {
                let request = GenerateOptions { max_new_tokens: 12, use_cache, ..Default::default() };
                let got = run(&model, &[&prompt], &request).remove(0);
                assert_eq!(got.ids, text[20..], "{options:?} cache {use_cache}");
                assert_eq!(got.finish, Finish::Length);
                for (got, want) in got.logprobs.iter().zip(&logprobs) {
                    assert!((f64::from(*got) - want).abs() < 1e-3, "{got} for {want}");
                }
            }
        }
    }
}

#[test]
fn a_ragged_batch_gives_what_single_runs_give() {
    let weights = Weights::random(small(), 12);
    let model = model(&weights);
    let texts: Vec<Vec<u32>> = [3, 40, 1, 17, 8].iter().map(|&n| tokens(n, n as usize, 211)).collect();
    let prompts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    for strategy in [Strategy::Greedy, beam(3, 1.0)] {
        let request = GenerateOptions { max_new_tokens: 15, strategy, ..Default::default() };
        let batch = run(&model, &prompts, &request);
        for (prompt, together) in prompts.iter().zip(batch) {
            assert_eq!(run(&model, &[prompt], &request)[0].ids, together.ids);
        }
    }
}

#[test]
fn stop_tokens_and_callbacks_end_their_own_sequence_only() {
    let weights = Weights::random(small(), 13);
    let model = model(&weights);
    let (a, b) = (tokens(1, 5, 211), tokens(2, 9, 211));
    let request = GenerateOptions { max_new_tokens: 10, ..Default::default() };
    let free = run(&model, &[&a, &b], &request);
    let stop = free[0].ids[3];
    let cut = |ids: &[u32]| ids.iter().position(|&id| id == stop).map_or(ids.len(), |i| i + 1);
    for use_cache in [true, false] {
        let request = GenerateOptions { stop: vec![stop], use_cache, ..request.clone() };
        let stopped = run(&model, &[&a, &b], &request);
        assert_eq!(stopped[0].finish, Finish::Stop);
        for (stopped, free) in stopped.iter().zip(&free) {
            assert_eq!(stopped.ids, free.ids[..cut(&free.ids)]);
        }
    }
    let mut heard = Vec::new();
    let ended = model
        .generate(&[&a, &b], &request, |sequence, id, logprob| {
            heard.push((sequence, id, logprob));
            let ours = heard.iter().filter(|h| h.0 == 1).count();
            if sequence == 1 && ours == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!((ended[1].finish, ended[1].ids.as_slice()), (Finish::Callback, &free[1].ids[..4]));
    assert_eq!((ended[0].finish, &ended[0].ids), (Finish::Length, &free[0].ids));
    for (sequence, result) in ended.iter().enumerate() {
        let of: Vec<_> = heard.iter().filter(|h| h.0 == sequence).map(|h| (h.1, h.2)).collect();
        let want: Vec<_> = result.ids.iter().copied().zip(result.logprobs.iter().copied()).collect();
        assert_eq!(of, want);
    }
}

#[test]
fn sampling_repeats_with_its_seed_and_top_k_one_is_greedy() {
    let weights = Weights::random(small(), 14);
    let model = model(&weights);
    let prompt = tokens(4, 6, 211);
    let with = |seed, sampling| {
        let strategy = Strategy::Sample(sampling);
        run(
            &model,
            &[&prompt, &prompt],
            &GenerateOptions { max_new_tokens: 20, strategy, seed, ..Default::default() },
        )
    };
    let free = Sampling::default();
    assert_eq!(with(1, free), with(1, free));
    assert_ne!(with(1, free)[0].ids, with(2, free)[0].ids);
    assert_ne!(with(1, free)[0].ids, with(1, free)[1].ids, "sequences draw apart");
    let greedy = run(&model, &[&prompt], &GenerateOptions { max_new_tokens: 20, ..Default::default() });
    for sampling in [
        Sampling { top_k: Some(1), ..free },
        Sampling { top_p: Some(1e-6), ..free },
        Sampling { temperature: 1e-4, ..free },
    ] {
        assert_eq!(with(3, sampling)[1].ids, greedy[0].ids, "{sampling:?}");
    }
}

#[test]
fn a_repetition_penalty_avoids_what_is_there() {
    let weights = Weights::random(small(), 15);
    let model = model(&weights);
    let prompt = tokens(5, 8, 211);
    let request = GenerateOptions { max_new_tokens: 60, repetition_penalty: 1e6, ..Default::default() };
    let got = run(&model, &[&prompt], &request).remove(0);
    let mut all: Vec<u32> = prompt.iter().chain(&got.ids).copied().collect();
    let len = all.len();
    all.sort_unstable();
    all.dedup();
    let before = prompt.len() - prompt.iter().collect::<std::collections::HashSet<_>>().len();
    assert_eq!(all.len() + before, len, "a penalised token came again while others were left");
}

#[test]
fn one_beam_is_greedy() {
    let weights = Weights::random(small(), 16);
    let model = model(&weights);
    let prompt = tokens(6, 10, 211);
    let greedy = GenerateOptions { max_new_tokens: 20, ..Default::default() };
    let free = run(&model, &[&prompt], &greedy);
    let stop = vec![free[0].ids[7]];
    for greedy in [greedy.clone(), GenerateOptions { stop, ..greedy }] {
        let one = GenerateOptions { strategy: beam(1, 1.0), ..greedy.clone() };
        assert_eq!(run(&model, &[&prompt], &one), run(&model, &[&prompt], &greedy));
    }
}

/// Beam search written as its definition over whole texts: every step sorts every continuation.
/// `scores` gives `ln softmax` behind each text.
fn beam_by_definition(
    prompt: &[u32],
    beams: usize,
    new: usize,
    lp: f64,
    stop: &[u32],
    scores: impl Fn(&[Vec<u32>]) -> Vec<Vec<f64>>,
) -> Vec<u32> {
    let mut running: Vec<(f64, Vec<u32>)> = vec![(0.0, Vec::new())];
    let mut finished: Vec<(f64, Vec<u32>)> = Vec::new();
    for len in 1..=new {
        let texts: Vec<Vec<u32>> = running.iter().map(|(_, ids)| [prompt, ids].concat()).collect();
        let mut all = Vec::new();
        for ((score, ids), scores) in running.iter().zip(scores(&texts)) {
            for (token, s) in scores.into_iter().enumerate() {
                let ids: Vec<u32> = ids.iter().copied().chain([token as u32]).collect();
                all.push((score + s, ids));
            }
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.truncate(beams * (1 + stop.len()).max(2));
        running.clear();
        for (rank, (score, ids)) in all.into_iter().enumerate() {
            let ends = stop.contains(&ids[len - 1]);
            if (ends || len == new) && rank < beams {
                finished.push((score / (len as f64).powf(lp), ids));
            } else if !ends && running.len() < beams {
                running.push((score, ids));
            }
        }
        finished.sort_by(|a, b| b.0.total_cmp(&a.0));
        finished.truncate(beams);
        let could = running.first().map_or(f64::MIN, |r| r.0 / (len as f64).powf(lp));
        if finished.len() == beams && could <= finished[beams - 1].0 {
            break;
        }
    }
    finished.swap_remove(0).1
}

#[test]
fn beams_find_what_the_definition_finds() {
    for (seed, beams, lp) in [(17, 2, 1.0), (18, 4, 1.0), (19, 3, 0.0), (20, 5, 2.0)] {
        let weights = Weights::random(small(), seed);
        let model = model(&weights);
        let prompt = tokens(seed as u32, 7, 211);
        let scores = |texts: &[Vec<u32>]| texts.iter().map(|text| log_softmax64(&weights, text)).collect();
        for stop in [vec![], (0..60).collect::<Vec<u32>>()] {
            let want = beam_by_definition(&prompt, beams, 6, f64::from(lp), &stop, scores);
            let strategy = beam(beams, lp);
            let request = GenerateOptions { max_new_tokens: 6, strategy, stop, ..Default::default() };
            let got = run(&model, &[&prompt], &request).remove(0);
            assert_eq!(got.ids, want, "{beams} beams, {} stops", request.stop.len());
            for (i, &logprob) in got.logprobs.iter().enumerate() {
                let text: Vec<u32> = prompt.iter().chain(&got.ids[..i]).copied().collect();
                let want = log_softmax64(&weights, &text)[got.ids[i] as usize];
                assert!((f64::from(logprob) - want).abs() < 1e-3);
            }
        }
    }
}

#[test]
fn beams_on_one_cache_find_what_whole_texts_find() {
    for seed in 70..82 {
        let weights = Weights::random(small(), seed);
        let model = model(&weights);
        let prompt = tokens(seed as u32, 1 + 7 * (seed as usize % 9), 211);
        // Every text computed from its first token, in every step.
        let scores = |texts: &[Vec<u32>]| -> Vec<Vec<f64>> {
            let mut cache = Cache::new(&weights.config, texts.len(), 96).unwrap();
            let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let logits = model.prefill(&mut cache, &texts).unwrap();
            let log_softmax = |row: &[f32]| {
                let total = row.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
                row.iter().map(|&l| f64::from(l) - total).collect()
            };
            logits.chunks(211).map(log_softmax).collect()
        };
        for (beams, lp, stops) in [(1, 1.0, 0), (2, 1.0, 3), (4, 1.0, 0), (8, 0.5, 1)] {
            let stop: Vec<u32> = (0..stops).map(|i| 40 * i).collect();
            let want = beam_by_definition(&prompt, beams, 24, f64::from(lp), &stop, scores);
            let strategy = beam(beams, lp);
            let request = GenerateOptions { max_new_tokens: 24, strategy, stop, ..Default::default() };
            assert_eq!(run(&model, &[&prompt], &request)[0].ids, want, "seed {seed}, {beams} beams");
        }
    }
}

#[test]
fn the_stepper_walks_the_greedy_path() {
    let weights = Weights::random(small(), 21);
    let model = model(&weights);
    let (a, b) = (tokens(7, 4, 211), tokens(8, 11, 211));
    let want = run(&model, &[&a, &b], &GenerateOptions { max_new_tokens: 9, ..Default::default() });
    let mut stepper = Stepper::new(&model, 2, 20).unwrap();
    assert!(stepper.step().is_err(), "nothing to go on from");
    for _ in 0..2 {
        let mut got = vec![stepper.prefill(&[&a, &b]).unwrap().to_vec()];
        for _ in 1..9 {
            got.push(stepper.step().unwrap().to_vec());
        }
        for (sequence, want) in want.iter().enumerate() {
            assert_eq!(got.iter().map(|ids| ids[sequence]).collect::<Vec<_>>(), want.ids);
        }
    }
    assert!(matches!(stepper.prefill(&[&a]), Err(GenerateError::BatchMismatch { found: 1, limit: 2 })));
}

#[test]
fn each_bad_option_is_named_with_its_remedy() {
    let weights = Weights::random(small(), 22);
    let model = model(&weights);
    let ok = GenerateOptions { max_new_tokens: 4, ..Default::default() };
    let sample = |sampling| GenerateOptions { strategy: Strategy::Sample(sampling), ..ok.clone() };
    let free = Sampling::default();
    let cases = [
        ("max_new_tokens", GenerateOptions { max_new_tokens: 0, ..ok.clone() }),
        ("repetition_penalty", GenerateOptions { repetition_penalty: 0.0, ..ok.clone() }),
        ("temperature", sample(Sampling { temperature: 0.0, ..free })),
        ("temperature", sample(Sampling { temperature: f32::NAN, ..free })),
        ("top_k", sample(Sampling { top_k: Some(0), ..free })),
        ("top_p", sample(Sampling { top_p: Some(1.5), ..free })),
        ("top_p", sample(Sampling { top_p: Some(0.0), ..free })),
        ("beams", GenerateOptions { strategy: beam(0, 1.0), ..ok.clone() }),
        ("length_penalty", GenerateOptions { strategy: beam(2, f32::INFINITY), ..ok.clone() }),
        ("token id 211", GenerateOptions { stop: vec![211], ..ok.clone() }),
        ("at most 93 new tokens", GenerateOptions { max_new_tokens: 94, ..ok.clone() }),
    ];
    let refuse = |prompts: &[&[u32]], options: &GenerateOptions| {
        let never = |_, _, _| panic!("a token of a refused request");
        model.generate(prompts, options, never).unwrap_err().to_string()
    };
    for (name, options) in cases {
        let message = refuse(&[&[1, 2, 3]], &options);
        assert!(message.contains(name), "{name}: {message}");
    }
    assert!(refuse(&[], &ok).contains("prompt 0 is empty"));
    assert!(refuse(&[&[1], &[]], &ok).contains("prompt 1 is empty"));
    assert!(refuse(&[&[1], &[500]], &ok).contains("token id 500"));
    assert!(refuse(&[&[1; 97]], &ok).contains("context of 96 positions"));
    let full = GenerateOptions { max_new_tokens: 93, ..ok };
    assert_eq!(run(&model, &[&[1, 2, 3]], &full)[0].ids.len(), 93, "the context can be filled");
}
