//! A cache in bf16: half the bytes, near f32's answers, and everything that is done with a cache done to
//! it with the results it has without.
//!
//! Rounding makes the last bit of a key's f32 sum visible now and then, so texts that were computed in other
//! batches are compared within a wider budget here than f32's. What only moves is equal bit by bit.

mod common;

use std::ops::ControlFlow;

use common::{Weights, every_narrow_cache, odd, small, tokens};
use rust_native::{
    Cache, GenerateOptions, Generated, Gpt2, KvPrecision, Lookup, NewTokens, Options, Scheduler,
    SchedulerOptions, Strategy, Want,
};

const V: usize = 211;

fn narrow(seed: u64) -> Gpt2 {
    let options = Options { threads: 2, cache: KvPrecision::Bf16, ..Options::default() };
    Weights::random(small(), seed).model(&options)
}

fn all(model: &Gpt2, prompts: &[&[u32]], options: &GenerateOptions) -> Vec<Generated> {
    model.generate(prompts, options, |_, _, _| ControlFlow::Continue(())).unwrap()
}

fn greedy(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, ..GenerateOptions::default() }
}

#[track_caller]
fn same(what: &str, got: &Generated, want: &Generated) {
    assert_eq!((&got.ids, got.finish), (&want.ids, want.finish), "{what}");
    for (got, want) in got.logprobs.iter().zip(&want.logprobs) {
        assert!((got - want).abs() < 2e-2, "{what}: log-probability {got}, not {want}");
    }
}

/// The largest difference of a logit over the standard deviation of its position's.
fn deviation(got: &[f32], want: &[f64]) -> f64 {
    let mean = want.iter().sum::<f64>() / want.len() as f64;
    let variance = want.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / want.len() as f64;
    got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w).abs()).fold(0.0, f64::max) / variance.sqrt()
}

#[test]
fn logits_stay_near_f64_at_all_positions_and_step_by_step_on_every_path() {
    for config in [small(), odd()] {
        let weights = Weights::random(config.clone(), 1);
        let text = tokens(1, 70, V);
        let want = weights.logits64(&text, 1.0);
        for options in every_narrow_cache() {
            let model = weights.model(&options);
            let mut worst = 0.0f64;
            for (got, want) in model.logits_all(&text).unwrap().chunks(V).zip(&want) {
                worst = worst.max(deviation(got, want));
            }
            let mut cache = model.cache(1, text.len()).unwrap();
            model.prefill(&mut cache, &[&text[..30]]).unwrap();
            for at in 30..text.len() {
                worst = worst.max(deviation(cache.logits_row(0), &want[at - 1]));
                model.decode(&mut cache, &text[at..=at]).unwrap();
            }
            // About three times what was seen; f32 stays below 1e-4.
            assert!((1e-4..0.1).contains(&worst), "{options:?}: {worst}");
        }
    }
}

#[test]
fn a_models_caches_are_as_its_options_say_and_half_as_large() {
    let weights = Weights::random(small(), 2);
    let bytes = KvPrecision::ALL.map(|cache| {
        let model = weights.model(&Options { threads: 1, cache, ..Options::default() });
        assert_eq!(model.cache_precision(), cache);
        assert_eq!(model.identity().ends_with(" cache=bf16"), cache == KvPrecision::Bf16);
        let made = model.cache(2, 70).unwrap();
        assert_eq!(made.precision(), cache);
        let given = Cache::with_precision(model.config(), 2, 70, cache).unwrap();
        let of = SchedulerOptions { slots: 2, capacity: 70, chunk: 8 };
        assert_eq!(made.bytes(), Scheduler::new(&model, &of).unwrap().bytes());
        assert_eq!(made.bytes(), given.bytes());
        made.bytes()
    });
    assert_eq!(bytes[0], 2 * bytes[1]);
    assert_eq!(Cache::new(&small(), 2, 70).unwrap().precision(), KvPrecision::F32);
}

#[test]
fn the_cache_decides_and_not_the_model_that_uses_it() {
    let weights = Weights::random(small(), 3);
    let text = tokens(2, 40, V);
    let [wide, narrow] =
        KvPrecision::ALL.map(|cache| weights.model(&Options { cache, ..Options::default() }));
    let logits = |model: &Gpt2, mut cache: Cache| model.prefill(&mut cache, &[&text]).unwrap().to_vec();
    let own = [&wide, &narrow].map(|model| logits(model, model.cache(1, 40).unwrap()));
    let swapped = [(&wide, &narrow), (&narrow, &wide)].map(|(a, b)| logits(a, b.cache(1, 40).unwrap()));
    assert_ne!(own[0], own[1]);
    assert_eq!(own, [swapped[1].clone(), swapped[0].clone()]);
}

#[test]
fn what_is_copied_gathered_or_cut_short_goes_on_like_its_source_bit_by_bit() {
    let model = narrow(4);
    let (a, b) = (tokens(1, 80, V), tokens(2, 80, V));
    let next = [7, 7, 7];
    for shared in [0, 1, 15, 16, 17, 31, 32, 33, 50, 64, 79] {
        let mut cache = model.cache(3, 90).unwrap();
        let parted = [&a[..shared], &b[shared..]].concat();
        model.prefill(&mut cache, &[&a, &parted, &a[..60]]).unwrap();
        cache.copy(0, 1, shared..80);
        cache.truncate_sequence(2, 0);
        cache.copy(0, 2, 0..80);
        let logits = model.decode(&mut cache, &next).unwrap();
        assert_eq!(logits[..V], logits[V..2 * V], "parted at {shared}");
        assert_eq!(logits[..V], logits[2 * V..], "copied whole");
        // Back to before the step, in another order, and the step once more.
        let before = logits[..V].to_vec();
        cache.truncate(80);
        cache.gather(&[2, 0, 1]);
        assert_eq!(model.decode(&mut cache, &next).unwrap()[2 * V..], before);
    }
}

#[test]
fn texts_are_the_same_with_and_without_cache_alone_and_in_company_on_every_path() {
    let weights = Weights::random(small(), 5);
    let rules = tokens(1, 50, V);
    let texts: Vec<Vec<u32>> =
        (0..4).map(|i| [&rules[..], &[200 + i], &tokens(10 + i, i as usize, V)].concat()).collect();
    let prompts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let mut accepted = 0;
    for options in every_narrow_cache() {
        let model = weights.model(&options);
        let together = all(&model, &prompts, &greedy(12));
        assert_eq!(together.iter().map(|result| result.reused).collect::<Vec<_>>(), [0, 50, 50, 50]);
        for (prompt, got) in prompts.iter().zip(&together) {
            same(&format!("{options:?} alone"), got, &all(&model, &[prompt], &greedy(12))[0]);
            let uncached = GenerateOptions { use_cache: false, ..greedy(12) };
            same(&format!("{options:?} uncached"), got, &all(&model, &[prompt], &uncached)[0]);
            let guessing =
                GenerateOptions { lookup: Some(Lookup::default()), repetition_penalty: 0.3, ..greedy(30) };
            let plain = GenerateOptions { lookup: None, ..guessing.clone() };
            let guessed = &all(&model, &[prompt], &guessing)[0];
            same(&format!("{options:?} guessed"), guessed, &all(&model, &[prompt], &plain)[0]);
            accepted += guessed.accepted;
        }
    }
    assert!(accepted > 0, "some guesses were right, so their keys stayed");
}

#[test]
fn requests_that_queue_for_slots_yield_what_they_yield_alone() {
    let model = narrow(6);
    let rules = tokens(3, 40, V);
    let mut scheduler =
        Scheduler::new(&model, &SchedulerOptions { slots: 3, capacity: 96, chunk: 16 }).unwrap();
    let prompts: Vec<Vec<u32>> = (0..8)
        .map(|i| [&rules[..[0, 33, 40][i % 3]], &tokens(20 + i as u32, 3 + 2 * i, V)].concat())
        .collect();
    for (i, prompt) in prompts.iter().enumerate() {
        scheduler.submit(prompt, &greedy(5 + 3 * i)).unwrap();
    }
    scheduler.run(|_, _, _| ControlFlow::Continue(())).unwrap();
    let mut ended: Vec<_> = scheduler.take_finished().collect();
    ended.sort_unstable_by_key(|&(id, _)| id);
    assert!(ended.iter().any(|(_, result)| result.reused > 0));
    for (i, ((_, got), prompt)) in ended.iter().zip(&prompts).enumerate() {
        same(&format!("request {i}"), got, &all(&model, &[prompt], &greedy(5 + 3 * i))[0]);
    }
}

#[test]
fn a_beams_text_has_the_probability_that_the_whole_text_has() {
    for seed in 7..12 {
        let model = narrow(seed);
        let prompt = tokens(seed as u32, 30, V);
        let strategy = Strategy::Beam { beams: 4, length_penalty: 1.0 };
        let best = all(&model, &[&prompt], &GenerateOptions { strategy, ..greedy(24) }).remove(0);
        let sum = |result: &Generated| result.logprobs.iter().sum::<f32>();
        assert!(sum(&best) >= sum(&all(&model, &[&prompt], &greedy(24))[0]) - 0.1);
        // The keys and values it was chosen by were its own, through all copies.
        let text = [&prompt[..], &best.ids].concat();
        let mut cache = model.cache(1, text.len()).unwrap();
        let part = NewTokens { sequence: 0, tokens: &text, want: Want::All };
        let logits = model.extend(&mut cache, std::iter::once(part)).unwrap();
        for (i, (&id, &got)) in best.ids.iter().zip(&best.logprobs).enumerate() {
            let row = &logits[(prompt.len() + i - 1) * V..][..V];
            let total = row.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
            let want = f64::from(row[id as usize]) - total;
            assert!((f64::from(got) - want).abs() < 2e-2, "token {i}: {got}, not {want}");
        }
    }
}
