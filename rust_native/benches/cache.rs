//! A cache in bf16 against one in f32, asked in turns: decode steps and prompts of a GPT-2 124M.
//!
//! Criterion measures one thing after another, and a shared machine drifts more between them than the
//! two caches differ. Here every round asks both, in the order f32 bf16 bf16 f32, and a ratio is formed
//! inside a round; shown are medians over rounds and, in brackets, the quartiles. The model is one and
//! the same: the cache alone decides.
//!
//! `cargo bench -p rust_native --bench cache -- [threads] [rounds] [precision of the weights] [isa]`

use std::borrow::Cow;
use std::time::Instant;

use kernels::Isa;
use rust_native::{Cache, Config, Error, Gpt2, KvPrecision, NewTokens, Options, Want};

/// Steps that one cache is asked for at a time.
const STEPS: usize = 8;

fn main() {
    // Cargo itself passes `--bench`.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let threads = words.next().map_or(2, |word| word.parse().expect("a number of threads"));
    let rounds = words.next().map_or(21, |word| word.parse().expect("a number of rounds"));
    let precision = words.next().map_or_else(Default::default, |word| word.parse().expect("a precision"));
    let named = |word: String| Isa::ALL.into_iter().find(|isa| isa.name() == word);
    let isa = words.next().map(|word| named(word).expect("an instruction set"));
    let options = Options { threads, isa, precision, ..Options::default() };
    // Speed does not depend on the weights' values.
    let tensor = |_: &str, shape: &[usize]| -> Result<Cow<'static, [f32]>, Error> {
        let len = shape.iter().product();
        Ok((0..len).map(|i: usize| (i * 7919 % 1009) as f32 / 25_000.0 - 0.02).collect())
    };
    let model = Gpt2::from_tensors(&Config::gpt2(), &options, tensor).expect("the published configuration");
    println!("{}, {rounds} rounds; time in f32, and how many times as fast in bf16", model.identity());
    for batch in [1, 8] {
        for context in [32, 512, 1000] {
            decode(&model, batch, context, rounds);
        }
    }
    for context in [128, 512, 1000] {
        prefill(&model, context, rounds);
    }
}

/// Steps of `batch` texts that are `context` tokens long.
fn decode(model: &Gpt2, batch: usize, context: usize, rounds: usize) {
    let prompt = tokens(context);
    let caches = caches(model, batch, context + STEPS).map(|mut cache| {
        for sequence in 0..batch {
            let part = NewTokens { sequence, tokens: &prompt, want: Want::Nothing };
            model.extend(&mut cache, std::iter::once(part)).expect("a prompt that fits");
        }
        cache
    });
    let next = vec![7; batch];
    in_turns(&format!("decode, batch {batch}, context {context}"), rounds, STEPS, caches, |cache| {
        cache.truncate(context);
        for _ in 0..STEPS {
            model.decode(cache, &next).expect("room for a step");
        }
    });
}

fn prefill(model: &Gpt2, context: usize, rounds: usize) {
    let prompt = tokens(context);
    in_turns(&format!("prefill, {context} tokens"), rounds, 1, caches(model, 1, context), |cache| {
        model.prefill(cache, &[&prompt]).expect("a prompt that fits");
    });
}

fn caches(model: &Gpt2, batch: usize, capacity: usize) -> [Cache; 2] {
    let of = |precision| Cache::with_precision(model.config(), batch, capacity, precision);
    KvPrecision::ALL.map(|precision| of(precision).expect("positions that the model knows"))
}

fn tokens(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * 7919 + 13) % 50_257).collect()
}

/// Asks the cache in f32 and the one in bf16 in turns, for `units` at a time.
fn in_turns(name: &str, rounds: usize, units: usize, mut caches: [Cache; 2], ask: impl Fn(&mut Cache)) {
    let (mut times, mut ratios) = (Vec::new(), Vec::new());
    caches.iter_mut().for_each(&ask);
    for _ in 0..rounds {
        let mut took = [0.0; 2];
        for which in [0, 1, 1, 0] {
            let start = Instant::now();
            ask(&mut caches[which]);
            took[which] += start.elapsed().as_secs_f64();
        }
        times.push(1e3 * took[0] / (2 * units) as f64);
        ratios.push(took[0] / took[1]);
    }
    let ([_, time, _], [low, ratio, high]) = (middle(&mut times), middle(&mut ratios));
    println!("{name:<32}{time:>9.2} ms {ratio:>6.3} [{low:.3}..{high:.3}]");
}

/// Lower quartile, median, upper quartile.
fn middle(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    [last / 4, last / 2, last - last / 4].map(|at| values[at])
}
