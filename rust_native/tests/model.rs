//! The forward pass on every path of this machine against f64, and its many ways against each other.

mod common;

use common::{Weights, close, draws, every_path, odd, small, tokens};
use rust_native::{Cache, Config, GenerateError, Gpt2, NewTokens, Options, Want};

fn one_thread() -> Options {
    Options { threads: 1, ..Options::default() }
}

#[test]
fn all_logits_match_f64_on_every_path() {
    for config in [small(), odd()] {
        let weights = Weights::random(config.clone(), 1);
        let text = tokens(1, 77, config.vocab_size);
        let want = weights.logits64(&text, 1.0);
        for options in every_path() {
            let got = weights.model(&options).logits_all(&text).unwrap();
            for (t, (got, want)) in got.chunks(config.vocab_size).zip(&want).enumerate() {
                close(&format!("{options:?} position {t}"), got, want);
            }
        }
    }
}

#[test]
fn cached_steps_match_f64_in_ragged_batches_on_every_path() {
    for config in [small(), odd()] {
        let weights = Weights::random(config.clone(), 2);
        let v = config.vocab_size;
        let texts: Vec<Vec<u32>> = [50, 9, 40, 17].iter().map(|&n| tokens(n, n as usize, v)).collect();
        let want: Vec<_> = texts.iter().map(|text| weights.logits64(text, 1.0)).collect();
        for options in every_path() {
            let model = weights.model(&options);
            let mut cache = Cache::new(&config, texts.len(), 50).unwrap();
            // Prompts are all but the last four tokens; then four steps for all.
            let prompts: Vec<&[u32]> = texts.iter().map(|t| &t[..t.len() - 4]).collect();
            model.prefill(&mut cache, &prompts).unwrap();
            for step in 0..=4 {
                for (s, want) in want.iter().enumerate() {
                    let position = prompts[s].len() - 1 + step;
                    let what = format!("{options:?} sequence {s} position {position}");
                    close(&what, cache.logits_row(s), &want[position]);
                    assert_eq!(cache.len(s), position + 1);
                }
                if step < 4 {
                    let next: Vec<u32> = texts.iter().map(|t| t[t.len() - 4 + step]).collect();
                    model.decode(&mut cache, &next).unwrap();
                }
            }
        }
    }
}

#[test]
fn large_batches_cross_every_tile_size() {
    let weights = Weights::random(small(), 3);
    let v = weights.config.vocab_size;
    let text = tokens(5, 12, v);
    let want = weights.logits64(&text, 1.0);
    for options in every_path() {
        let model = weights.model(&options);
        for batch in [1, 2, 3, 5, 6, 7, 8, 13, 14, 15, 16, 29, 150] {
            let mut cache = Cache::new(&weights.config, batch, 12).unwrap();
            model.prefill(&mut cache, &vec![&text[..11]; batch]).unwrap();
            let logits = model.decode(&mut cache, &vec![text[11]; batch]).unwrap();
            for row in logits.chunks(v) {
                close(&format!("{options:?} batch {batch}"), row, &want[11]);
            }
        }
    }
}

#[test]
fn prompts_longer_than_a_chunk_keep_their_positions() {
    let config = Config { n_positions: 1024, n_layer: 1, ..small() };
    let weights = Weights::random(config.clone(), 4);
    let (long, short) = (tokens(1, 700, 211), tokens(2, 30, 211));
    let model = weights.model(&Options { threads: 2, ..one_thread() });
    let want = weights.logits64(&long, 1.0);
    let all = model.logits_all(&long).unwrap();
    for t in [0, 511, 512, 699] {
        close(&format!("position {t}"), &all[t * 211..][..211], &want[t]);
    }
    let mut cache = Cache::new(&config, 3, 700).unwrap();
    model.prefill(&mut cache, &[&short, &long, &short]).unwrap();
    close("the long one of a batch", cache.logits_row(1), &want[699]);
    close("the one after it", cache.logits_row(2), &weights.logits64(&short, 1.0)[29]);
}

#[test]
fn pieces_of_any_size_beside_each_other_match_f64_on_every_path() {
    for config in [small(), odd()] {
        let weights = Weights::random(config.clone(), 8);
        let v = config.vocab_size;
        let texts: Vec<Vec<u32>> = [60, 33, 1, 47].iter().map(|&n| tokens(n, n as usize, v)).collect();
        let want: Vec<_> = texts.iter().map(|text| weights.logits64(text, 1.0)).collect();
        for (seed, options) in every_path().enumerate() {
            let model = weights.model(&options);
            let mut cache = Cache::new(&config, texts.len(), 60).unwrap();
            let mut draw = draws(seed as u64);
            while (0..texts.len()).any(|s| cache.len(s) < texts[s].len()) {
                let first = draw(texts.len());
                let mut parts = Vec::new();
                for sequence in (0..texts.len()).map(|i| (first + i) % texts.len()) {
                    let left = &texts[sequence][cache.len(sequence)..];
                    let tokens = &left[..[0, 1, 1, 2, 7, 32, 33][draw(7)].min(left.len())];
                    let want = [Want::Nothing, Want::Last, Want::All][draw(3)];
                    if !tokens.is_empty() {
                        parts.push(NewTokens { sequence, tokens, want });
                    }
                }
                let logits = model.extend(&mut cache, parts.iter().copied()).unwrap().to_vec();
                let mut rows = logits.chunks(v);
                for part in parts {
                    let end = cache.len(part.sequence);
                    let asked = match part.want {
                        Want::Nothing => end..end,
                        Want::Last => end - 1..end,
                        Want::All => end - part.tokens.len()..end,
                    };
                    for position in asked {
                        let what = format!("{options:?} sequence {} position {position}", part.sequence);
                        close(&what, rows.next().unwrap(), &want[part.sequence][position]);
                    }
                }
                assert!(rows.next().is_none(), "more rows than were asked for");
            }
        }
    }
}

#[test]
fn a_copied_beginning_goes_on_like_its_source() {
    let weights = Weights::random(small(), 9);
    let model = weights.model(&one_thread());
    let (a, b) = (tokens(1, 80, 211), tokens(2, 80, 211));
    for shared in [0, 1, 31, 32, 33, 64, 79] {
        // The other text begins alike and parts at `shared`; it becomes the first one from there on.
        let other = [&a[..shared], &b[shared..]].concat();
        let mut cache = Cache::new(&weights.config, 2, 90).unwrap();
        model.prefill(&mut cache, &[&a, &other]).unwrap();
        cache.copy(0, 1, shared..80);
        let logits = model.decode(&mut cache, &[5, 5]).unwrap();
        assert_eq!(logits[..211], logits[211..], "alike up to {shared}");
        cache.truncate_sequence(1, shared);
        assert_eq!([cache.len(0), cache.len(1)], [81, shared]);
        let back = NewTokens { sequence: 1, tokens: &other[shared..], want: Want::Last };
        let logits = model.extend(&mut cache, std::iter::once(back)).unwrap();
        close("back again", logits, &weights.logits64(&other, 1.0)[79]);
    }
}

#[test]
fn theta_hat_scales_scores_and_one_is_off() {
    let weights = Weights::random(small(), 5);
    let text = tokens(3, 33, 211);
    let with = |theta_hat| weights.model(&Options { theta_hat, ..one_thread() });
    let run = |theta_hat| with(theta_hat).logits_all(&text).unwrap();
    assert_eq!(run(None), run(Some(1.0)));
    let want = weights.logits64(&text, 0.37);
    close("theta_hat 0.37", &run(Some(0.37))[32 * 211..], &want[32]);
    assert_ne!(run(None), run(Some(0.37)));
    assert_eq!(with(Some(1.0)).identity(), with(None).identity());
    assert!(with(Some(0.37)).identity().ends_with("threads=1 theta_hat=0.37"));
}

#[test]
fn a_cache_is_reused_and_gathered() {
    let weights = Weights::random(small(), 6);
    let model = weights.model(&one_thread());
    let texts: Vec<Vec<u32>> = (0..3).map(|i| tokens(i, 10 + 20 * i as usize, 211)).collect();
    let prompts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let mut cache = Cache::new(&weights.config, 3, 60).unwrap();
    let first = model.prefill(&mut cache, &prompts).unwrap().to_vec();
    let after = model.decode(&mut cache, &[7, 7, 7]).unwrap().to_vec();
    assert_eq!(model.prefill(&mut cache, &prompts).unwrap(), first, "prefill starts anew");
    cache.gather(&[2, 0, 2]);
    assert_eq!([0, 1, 2].map(|s| cache.len(s)), [50, 10, 50]);
    let moved = model.decode(&mut cache, &[7, 7, 7]).unwrap();
    for (to, from) in [(0, 2), (1, 0), (2, 2)] {
        assert_eq!(moved[to * 211..][..211], after[from * 211..][..211], "{from} moved to {to}");
    }
}

#[test]
fn impossible_requests_are_refused_and_leave_the_cache_as_it_was() {
    let weights = Weights::random(small(), 7);
    let model: Gpt2 = weights.model(&one_thread());
    let config = &weights.config;
    assert!(Cache::new(config, 0, 8).is_err());
    assert!(Cache::new(config, 1, 0).is_err());
    assert!(Cache::new(config, 1, 97).unwrap_err().to_string().contains("capacity = 97"));
    let mut cache = Cache::new(config, 2, 8).unwrap();
    let mut refused = |prompts: &[&[u32]]| model.prefill(&mut cache, prompts).unwrap_err();
    assert!(matches!(refused(&[]), GenerateError::EmptyPrompt { index: 0 }));
    assert!(matches!(refused(&[&[1], &[]]), GenerateError::EmptyPrompt { index: 1 }));
    assert!(matches!(refused(&[&[211]]), GenerateError::TokenOutOfRange { id: 211, vocab: 211 }));
    assert!(matches!(refused(&[&[1], &[2], &[3]]), GenerateError::BatchMismatch { found: 3, limit: 2 }));
    let overflow = refused(&[&[1; 9]]);
    assert!(matches!(overflow, GenerateError::ContextOverflow { prompt: 9, new: 0, limit: 8 }));
    model.prefill(&mut cache, &[&[1; 7], &[2; 3]]).unwrap();
    assert!(matches!(
        model.decode(&mut cache, &[1]).unwrap_err(),
        GenerateError::BatchMismatch { found: 1, limit: 2 }
    ));
    assert!(model.decode(&mut cache, &[1, 999]).is_err());
    assert_eq!([cache.len(0), cache.len(1)], [7, 3]);
    model.decode(&mut cache, &[1, 1]).unwrap();
    assert!(matches!(
        model.decode(&mut cache, &[1, 1]).unwrap_err(),
        GenerateError::ContextOverflow { prompt: 8, new: 1, limit: 8 }
    ));
    assert_eq!([cache.len(0), cache.len(1)], [8, 4]);
    let part = |sequence, tokens: &'static [u32]| NewTokens { sequence, tokens, want: Want::Last };
    let mut extend = |parts: [NewTokens<'_>; 2]| model.extend(&mut cache, parts.into_iter()).unwrap_err();
    let twice = extend([part(1, &[1]), part(1, &[2])]).to_string();
    assert!(twice.contains("sequence = 1; name each sequence once"), "{twice}");
    assert!(matches!(extend([part(1, &[1]), part(0, &[])]), GenerateError::EmptyPrompt { index: 1 }));
    assert!(matches!(
        extend([part(1, &[1; 5]), part(0, &[1])]),
        GenerateError::ContextOverflow { prompt: 4, new: 5, limit: 8 }
    ));
    assert_eq!([cache.len(0), cache.len(1)], [8, 4]);
    assert!(model.logits_all(&[]).is_err());
    assert!(model.logits_all(&[0; 97]).is_err());
}
