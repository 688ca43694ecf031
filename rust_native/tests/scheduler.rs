//! Many requests: whatever else runs, each yields what it yields alone, and what texts share is
//! computed once.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use common::{Weights, draws, every_path, small, tokens};
use rust_native::{
    Finish, GenerateError, GenerateOptions, Generated, Gpt2, Lookup, Options, RequestId, Sampling, Scheduler,
    SchedulerOptions, Strategy,
};

const V: usize = 211;

fn model(seed: u64) -> Gpt2 {
    Weights::random(small(), seed).model(&Options { threads: 2, ..Options::default() })
}

fn go(_: RequestId, _: u32, _: f32) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn all(model: &Gpt2, prompts: &[&[u32]], options: &GenerateOptions) -> Vec<Generated> {
    model.generate(prompts, options, |_, _, _| ControlFlow::Continue(())).unwrap()
}

fn alone(model: &Gpt2, prompt: &[u32], options: &GenerateOptions) -> Generated {
    all(model, &[prompt], options).remove(0)
}

fn greedy(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, ..GenerateOptions::default() }
}

fn slots(slots: usize, capacity: usize, chunk: usize) -> SchedulerOptions {
    SchedulerOptions { slots, capacity, chunk }
}

/// The same tokens for the same reason; what was reused and guessed may differ.
#[track_caller]
fn same(what: &str, got: &Generated, want: &Generated) {
    assert_eq!((&got.ids, got.finish), (&want.ids, want.finish), "{what}");
    for (got, want) in got.logprobs.iter().zip(&want.logprobs) {
        assert!((got - want).abs() < 1e-3, "{what}: log-probability {got}, not {want}");
    }
}

/// Prompts of which some begin alike, with options of every kind.
fn mixture(seed: u64) -> Vec<(Vec<u32>, GenerateOptions)> {
    let mut draw = draws(seed);
    let rules = tokens(90 + seed as u32, 50, V);
    let request = |i: u32| {
        let shared = [0, 0, 33, 40, 50][draw(5)];
        let own = tokens(i, 1 + draw(20), V);
        let options = greedy(1 + draw(20));
        let options = match draw(5) {
            0 => GenerateOptions { strategy: Strategy::Sample(Sampling::default()), seed, ..options },
            1 => GenerateOptions { repetition_penalty: 0.4, lookup: Some(Lookup::default()), ..options },
            2 => GenerateOptions { stop: (0..30).collect(), ..options },
            3 => GenerateOptions { reuse_prefix: false, repetition_penalty: 1.3, ..options },
            _ => options,
        };
        ([&rules[..shared], &own].concat(), options)
    };
    (0..14).map(request).collect()
}

#[test]
fn every_request_yields_what_it_yields_alone() {
    for seed in 0..8 {
        let model = model(seed);
        let requests = mixture(seed);
        let mut draw = draws(seed + 100);
        let chunk = [1, 5, 64][seed as usize % 3];
        let mut scheduler = Scheduler::new(&model, &slots(1 + seed as usize % 4, 96, chunk)).unwrap();
        let mut waiting: Vec<usize> = (0..requests.len()).collect();
        let (mut names, mut heard) = (BTreeMap::new(), BTreeMap::<RequestId, Vec<(u32, f32)>>::new());
        let mut left = true;
        while left || !waiting.is_empty() {
            // None, one or two more arrive, in any order.
            for _ in 0..draw(3).min(waiting.len()) {
                let request = waiting.swap_remove(draw(waiting.len()));
                let (prompt, options) = &requests[request];
                names.insert(scheduler.submit(prompt, options).unwrap(), request);
            }
            left = scheduler
                .step(|id, token, logprob| {
                    heard.entry(id).or_default().push((token, logprob));
                    ControlFlow::Continue(())
                })
                .unwrap();
        }
        let ended: Vec<_> = scheduler.take_finished().collect();
        assert_eq!(ended.len(), requests.len());
        for (id, result) in ended {
            let (prompt, options) = &requests[names[&id]];
            same(&format!("seed {seed}: {options:?}"), &result, &alone(&model, prompt, options));
            let told: (Vec<u32>, Vec<f32>) = heard[&id].iter().copied().unzip();
            assert_eq!(told, (result.ids, result.logprobs), "the callback heard the result");
        }
    }
}

#[test]
fn prompts_that_begin_alike_are_computed_once_on_every_path() {
    let weights = Weights::random(small(), 40);
    let rules = tokens(1, 70, V);
    for options in every_path() {
        let model = weights.model(&options);
        for shared in [31, 32, 33, 63, 64, 65, 70] {
            let own = |i: u32| [&rules[..shared], &[200 + i], &tokens(50 + i, i as usize, V)].concat();
            let prompts: Vec<Vec<u32>> = (0..5).map(own).collect();
            let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
            let anew = all(&model, &prompts, &GenerateOptions { reuse_prefix: false, ..greedy(8) });
            let shared_once = all(&model, &prompts, &greedy(8));
            assert!(anew.iter().all(|result| result.reused == 0));
            for (got, want) in shared_once.iter().zip(&anew) {
                same(&format!("{options:?} shared {shared}"), got, want);
            }
            // Somebody computes the beginning; everybody else takes it over, if it is worth it. The
            // last token of a prompt is always computed.
            let reused: Vec<usize> = shared_once.iter().map(|result| result.reused).collect();
            let full = if shared < 32 { 0 } else { shared };
            assert_eq!(reused, [0, full, full, full, full], "{options:?} shared {shared}");
        }
    }
}

#[test]
fn beginnings_of_beginnings_and_equal_prompts_are_taken_over() {
    let model = model(41);
    let text = tokens(1, 80, V);
    let prompts = [&text[..40], &text[..80], &text[..60], &text[..80]];
    let results = all(&model, &prompts, &greedy(10));
    for (prompt, result) in prompts.iter().zip(&results) {
        same(&format!("{} tokens", prompt.len()), result, &alone(&model, prompt, &greedy(10)));
    }
    assert_eq!(results.iter().map(|result| result.reused).collect::<Vec<_>>(), [0, 40, 59, 79]);
}

#[test]
fn a_conversation_computes_only_what_is_new() {
    let model = model(42);
    let mut scheduler = Scheduler::new(&model, &slots(2, 96, 64)).unwrap();
    let bytes = scheduler.bytes();
    let mut talk = |prompt: &[u32], new: usize| {
        scheduler.submit(prompt, &greedy(new)).unwrap();
        scheduler.run(go).unwrap();
        assert_eq!(scheduler.bytes(), bytes, "memory is what it was");
        let (_, result) = scheduler.take_finished().next().unwrap();
        same("a turn", &result, &alone(&model, prompt, &greedy(new)));
        result
    };
    let [a, b, c] = [1, 2, 3].map(|i| tokens(i, 40, V));
    let first = talk(&a, 10);
    assert_eq!(first.reused, 0);
    // Beside an answer that stays: only its beginning is taken, and a free slot holds the new text.
    let aside = [&a[..36], &tokens(5, 6, V)].concat();
    assert_eq!(talk(&aside, 5).reused, 36);
    // The newest token of an answer has not passed through the model yet.
    let a2 = [&a[..], &first.ids, &tokens(4, 6, V)].concat();
    assert_eq!(talk(&a2, 10).reused, 49);
    assert_eq!(talk(&b, 5).reused, 0);
    assert_eq!(talk(&a2, 5).reused, 55);
    // A third text takes the slot that was let go of longest ago: b's.
    assert_eq!(talk(&c, 5).reused, 0);
    assert_eq!(talk(&a, 5).reused, 39);
    assert_eq!(talk(&b, 5).reused, 0, "b had to go");
}

#[test]
fn everybody_is_served_in_turn() {
    let model = model(43);
    let mut scheduler = Scheduler::new(&model, &slots(2, 96, 16)).unwrap();
    let submit = |scheduler: &mut Scheduler<'_>, stream, len, new| {
        scheduler.submit(&tokens(stream, len, V), &greedy(new)).unwrap()
    };
    let writer = submit(&mut scheduler, 1, 3, 30);
    assert!(scheduler.step(go).unwrap());
    // A long prompt beside it: 16 tokens a step, and the writer misses none of its own.
    let reader = submit(&mut scheduler, 2, 64, 3);
    let later: Vec<RequestId> = (0..3).map(|i| submit(&mut scheduler, 10 + i, 20, 4)).collect();
    let mut steps = 0;
    loop {
        let mut heard = Vec::new();
        scheduler
            .step(|id, _, _| {
                heard.push(id);
                ControlFlow::Continue(())
            })
            .unwrap();
        steps += 1;
        assert_eq!((scheduler.running(), scheduler.waiting()), (2, 3));
        assert_eq!(heard[0], writer);
        if heard.len() == 2 {
            assert_eq!(heard[1], reader);
            break;
        }
    }
    assert_eq!(steps, 4);
    // The rest in the order of submission, through the one slot that the writer leaves.
    scheduler.run(go).unwrap();
    let order: Vec<RequestId> = scheduler.take_finished().map(|(id, _)| id).collect();
    assert_eq!(order, [reader, later[0], later[1], later[2], writer]);
    assert!(scheduler.is_idle() && scheduler.take_finished().next().is_none());
    assert!(!scheduler.step(go).unwrap(), "a step of nothing is nothing");
}

#[test]
fn a_bad_request_is_refused_and_hurts_nobody() {
    let model = model(44);
    let mut scheduler = Scheduler::new(&model, &slots(2, 48, 16)).unwrap();
    let prompt = tokens(1, 20, V);
    let good = scheduler.submit(&prompt, &greedy(20)).unwrap();
    scheduler.step(go).unwrap();
    let beam = GenerateOptions { strategy: Strategy::Beam { beams: 2, length_penalty: 1.0 }, ..greedy(2) };
    let uncached = GenerateOptions { use_cache: false, ..greedy(2) };
    let cold = Strategy::Sample(Sampling { temperature: 0.0, ..Sampling::default() });
    let cases: [(&str, &[u32], GenerateOptions); 7] = [
        ("use Gpt2::generate for beam search", &[1], beam),
        ("use Gpt2::generate to go without", &[1], uncached),
        ("temperature", &[1], GenerateOptions { strategy: cold, ..greedy(2) }),
        ("prompt 0 is empty", &[], greedy(2)),
        ("token id 211", &[1, 211], greedy(2)),
        ("context of 48 positions", &[1; 40], greedy(9)),
        ("max_new_tokens", &[1], greedy(0)),
    ];
    for (says, prompt, options) in cases {
        let error = scheduler.submit(prompt, &options).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
        scheduler.step(go).unwrap();
    }
    scheduler.run(go).unwrap();
    let (id, result) = scheduler.take_finished().next().unwrap();
    assert_eq!(id, good);
    same("the good one", &result, &alone(&model, &prompt, &greedy(20)));
    for (options, says) in
        [(slots(0, 8, 1), "batch = 0"), (slots(1, 97, 1), "capacity = 97"), (slots(1, 8, 0), "chunk = 0")]
    {
        let error: GenerateError = Scheduler::new(&model, &options).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn callbacks_and_cancellation_end_their_own_request_only() {
    let model = model(45);
    let rules = tokens(1, 60, V);
    let prompts: Vec<Vec<u32>> = (0..4).map(|i| [&rules[..], &tokens(20 + i, 4, V)].concat()).collect();
    // Whoever others wait for goes: while its prompt is computed, before anything of it is, later.
    for steps in 0..7 {
        let mut scheduler = Scheduler::new(&model, &slots(3, 90, 16)).unwrap();
        let writer = scheduler.submit(&tokens(2, 2, V), &greedy(80)).unwrap();
        scheduler.step(go).unwrap();
        let ids: Vec<RequestId> =
            prompts.iter().map(|prompt| scheduler.submit(prompt, &greedy(10)).unwrap()).collect();
        for _ in 0..steps {
            scheduler.step(go).unwrap();
        }
        let gone = scheduler.cancel(ids[0]).unwrap();
        assert_eq!(gone.finish, Finish::Callback);
        assert!(scheduler.cancel(ids[0]).is_none());
        let waiting = scheduler.cancel(ids[3]).unwrap();
        assert!(waiting.ids.is_empty());
        scheduler
            .run(|id, _, _| if id == writer { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            .unwrap();
        let ended: BTreeMap<RequestId, Generated> = scheduler.take_finished().collect();
        assert_eq!(ended.keys().copied().collect::<Vec<_>>(), [writer, ids[1], ids[2]]);
        assert_eq!((ended[&writer].finish, ended[&writer].ids.len()), (Finish::Callback, 2 + steps));
        for i in [1, 2] {
            same(&format!("after {steps} steps"), &ended[&ids[i]], &alone(&model, &prompts[i], &greedy(10)));
        }
    }
}
