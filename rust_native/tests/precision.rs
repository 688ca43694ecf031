//! Every precision on every path of this machine: how far from f64, how many bytes, from which files,
//! and what `evaluate` says of it.

mod common;

use std::fs;
use std::path::Path;

use common::{Weights, every_precision, odd, small, tokens};
use rust_native::evaluate::seeded_ids;
use rust_native::{
    Cache, Checkpoint, Config, EvaluateOptions, Evaluation, Gpt2, KvPrecision, Options, Precision, evaluate,
    init,
};

/// The largest deviation that a model of [`Weights::random`] may show: difference of a logit over the
/// standard deviation of its position's logits. About three times what was seen on any path.
fn allowed(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-4,
        Precision::Bf16 => 0.1,
        Precision::Int8 => 0.3,
        Precision::Int4 => 2.0,
    }
}

fn deviation(got: &[f32], want: &[f64]) -> f64 {
    let n = want.len() as f64;
    let mean = want.iter().sum::<f64>() / n;
    let sd = (want.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w).abs()).fold(0.0, f64::max) / sd
}

#[test]
fn logits_stay_near_f64_at_all_positions_and_step_by_step() {
    for config in [small(), odd()] {
        let weights = Weights::random(config.clone(), 1);
        let (v, text) = (config.vocab_size, tokens(1, 40, config.vocab_size));
        let want = weights.logits64(&text, 1.0);
        for options in every_precision() {
            let precision = options.precision;
            let model = weights.model(&options);
            let mut worst = 0.0f64;
            for (got, want) in model.logits_all(&text).unwrap().chunks(v).zip(&want) {
                worst = worst.max(deviation(got, want));
            }
            let mut cache = Cache::new(&config, 1, text.len()).unwrap();
            model.prefill(&mut cache, &[&text[..30]]).unwrap();
            for at in 30..text.len() {
                worst = worst.max(deviation(cache.logits_row(0), &want[at - 1]));
                model.decode(&mut cache, &text[at..=at]).unwrap();
            }
            assert!(worst <= allowed(precision), "{options:?}: {worst}");
            assert_eq!(worst > allowed(Precision::F32), precision != Precision::F32, "{options:?}: {worst}");
        }
    }
}

#[test]
fn a_lower_precision_says_its_name_and_reads_as_many_bytes_less() {
    let weights = Weights::random(Config { n_embd: 128, n_inner: 512, ..small() }, 2);
    let of = |precision| weights.model(&Options { precision, threads: 1, ..Options::default() });
    let all = of(Precision::F32).bytes_per_token() as f64;
    for (precision, least, most) in [
        (Precision::F32, 32.0, 32.0),
        (Precision::Bf16, 16.0, 16.0),
        (Precision::Int8, 8.0, 8.5),
        (Precision::Int4, 4.0, 5.0),
    ] {
        let model = of(precision);
        let bits = 32.0 * model.bytes_per_token() as f64 / all;
        assert!((least..=most).contains(&bits), "{precision}: {bits} bits a weight");
        assert!(model.identity().starts_with(&format!("{precision} ")), "{}", model.identity());
        assert_eq!(model.precision(), precision);
    }
}

/// Writes `weights.safetensors` of `bits` a value: the upper halves of the values in `from`.
fn save_halved(from: &Checkpoint, to: &Path, config: &Config, bits: usize) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in config.tensors() {
        let start = data.len();
        for value in from.tensor(&name, &shape).unwrap().iter() {
            let high = (value.to_bits() >> 16) as u16;
            match bits {
                16 => data.extend(high.to_le_bytes()),
                _ => data.extend((u32::from(high) << 16).to_le_bytes()),
            }
        }
        let dtype = if bits == 16 { "BF16" } else { "F32" };
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name, entry);
    }
    let header = serde_json::to_string(&header).unwrap();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    fs::create_dir_all(to).unwrap();
    fs::copy(from.dir().join("config.json"), to.join("config.json")).unwrap();
    fs::write(to.join("model.safetensors"), bytes).unwrap();
}

#[test]
fn a_checkpoint_in_bf16_loads_into_every_precision_as_its_values_in_f32_do() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { n_positions: 32, ..Config::tiny_with_vocabulary(300) };
    init::write_model(dir.path(), &config, 5).unwrap();
    let whole = Checkpoint::open(dir.path()).unwrap();
    let [narrow, wide] = ["bf16", "f32"].map(|name| dir.path().join(name));
    save_halved(&whole, &narrow, &config, 16);
    save_halved(&whole, &wide, &config, 32);
    let text = tokens(4, 20, 300);
    for precision in Precision::ALL {
        let logits = [&narrow, &wide].map(|folder| {
            let options = Options { precision, threads: 2, ..Options::default() };
            Gpt2::load(&Checkpoint::open(folder).unwrap(), &options).unwrap().logits_all(&text).unwrap()
        });
        assert_eq!(logits[0], logits[1], "{precision}");
    }
}

/// f32 against `how` over 200 seeded ids, in overlapping windows.
fn evaluated(weights: &Weights, how: Options) -> Evaluation {
    let of = |how| weights.model(&Options { threads: 2, ..how });
    let ids = seeded_ids(200, weights.config.vocab_size);
    evaluate(&of(Options::default()), &of(how), &ids, &EvaluateOptions::default()).unwrap()
}

#[test]
fn fewer_bits_lie_further_from_f32_and_f32_nowhere() {
    let weights = Weights::random(small(), 8);
    let [f32, bf16, int8, int4] =
        Precision::ALL.map(|precision| evaluated(&weights, Options { precision, ..Options::default() }));
    assert_eq!((f32.max_difference, f32.mean_divergence, f32.agreement), (0.0, 0.0, 1.0));
    assert_eq!((f32.tokens, f32.window, f32.stride, f32.windows), (199, 96, 48, 4));
    assert_eq!((f32.perplexity, f32.disagreements), (f32.reference_perplexity, 0));
    for (less, more) in [(&f32, &bf16), (&bf16, &int8), (&int8, &int4)] {
        assert!(less.mean_divergence < more.mean_divergence, "{less:?}\n{more:?}");
        assert!(less.max_deviation < more.max_deviation, "{less:?}\n{more:?}");
    }
    for seen in [&bf16, &int8, &int4] {
        assert_eq!(seen.reference_perplexity, f32.perplexity);
        assert!(seen.max_divergence >= seen.mean_divergence && seen.perplexity.is_finite(), "{seen:?}");
        assert_eq!(seen.disagreements == 0, seen.agreement == 1.0);
        // Differences of at most d cannot overturn a margin above 2 d.
        assert!(seen.largest_margin.is_none_or(|margin| margin <= 2.0 * seen.max_difference), "{seen:?}");
        assert!(seen.smallest_margin <= seen.largest_margin);
    }
}

#[test]
fn a_cache_in_bf16_costs_less_than_weights_in_bf16_and_both_cost_more() {
    let weights = Weights::random(small(), 8);
    let of = |precision, cache| evaluated(&weights, Options { precision, cache, ..Options::default() });
    let cache = of(Precision::F32, KvPrecision::Bf16);
    let halved = of(Precision::Bf16, KvPrecision::F32);
    let both = of(Precision::Bf16, KvPrecision::Bf16);
    assert!(cache.mean_divergence > 0.0, "{cache:?}");
    assert!(cache.mean_divergence < halved.mean_divergence, "{cache:?}\n{halved:?}");
    // Where the CPU multiplies in bf16, keys and values were rounded for it all the same.
    if kernels::Cpu::new(1, None).unwrap().dots().is_some() {
        assert_eq!(halved.mean_divergence, both.mean_divergence);
    } else {
        assert!(halved.mean_divergence < both.mean_divergence, "{halved:?}\n{both:?}");
    }
    assert_eq!(cache.reference_perplexity, both.reference_perplexity);
}

#[test]
fn perplexity_is_that_of_the_logits_read_one_by_one() {
    let weights = Weights::random(small(), 9);
    let ids = tokens(6, 90, 211);
    let model = weights.model(&Options { threads: 1, ..Options::default() });
    let seen = evaluate(&model, &model, &ids, &EvaluateOptions::default()).unwrap();
    let logits = weights.logits64(&ids, 1.0);
    let surprise: f64 = (1..ids.len())
        .map(|t| logits[t - 1].iter().map(|l| l.exp()).sum::<f64>().ln() - logits[t - 1][ids[t] as usize])
        .sum();
    let want = (surprise / 89.0).exp();
    assert!((seen.perplexity / want - 1.0).abs() < 1e-4, "{} against {want}", seen.perplexity);
    assert_eq!(seen.windows, 1);
}

#[test]
fn an_evaluation_that_cannot_be_made_says_why() {
    let one = Weights::random(small(), 10).model(&Options::default());
    let other = Weights::random(Config { n_layer: 1, ..small() }, 10).model(&Options::default());
    let refused = |model: &Gpt2, ids: &[u32], window, stride| {
        evaluate(&one, model, ids, &EvaluateOptions { window, stride }).unwrap_err().to_string()
    };
    assert!(refused(&other, &[1, 2], None, None).contains("another shape"));
    assert!(refused(&one, &[], None, None).contains("text: 0 tokens; give at least two"));
    assert!(refused(&one, &[1], None, None).contains("text: 1 tokens"));
    assert!(refused(&one, &[1, 211], None, None).contains("211 is outside the vocabulary"));
    assert!(refused(&one, &[1, 2], Some(97), None).contains("window: 97; use 2 to 96"));
    assert!(refused(&one, &[1, 2], Some(1), None).contains("window: 1;"));
    assert!(refused(&one, &[1, 2], Some(8), Some(8)).contains("stride: 8; use 1 to 7"));
    assert!(refused(&one, &[1, 2], None, Some(0)).contains("stride: 0"));
}
