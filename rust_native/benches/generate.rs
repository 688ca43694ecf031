//! Prefill and decode of a GPT-2 124M on one and two threads, on the fastest instruction set.
//!
//! The weights are made in memory; speed does not depend on their values. Decode's throughput is
//! in bytes of weights a step reads, to be held against `limit/stream` of the kernels' benches.

use std::borrow::Cow;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rust_native::{Cache, Config, Error, Gpt2, Options, Stepper};

fn model(threads: usize) -> Gpt2 {
    let options = Options { threads, ..Options::default() };
    let tensor = |_: &str, shape: &[usize]| -> Result<Cow<'static, [f32]>, Error> {
        let len = shape.iter().product();
        Ok((0..len).map(|i: usize| (i * 7919 % 1009) as f32 / 25_000.0 - 0.02).collect())
    };
    Gpt2::from_tensors(&Config::gpt2(), &options, tensor).expect("the published configuration")
}

fn tokens(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * 7919 + 13) % 50_257).collect()
}

fn prefill(c: &mut Criterion, model: &Gpt2, threads: usize) {
    let mut group = c.benchmark_group("prefill");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let mut cache = Cache::new(model.config(), 1, 1024).expect("one full context");
    for len in [32, 128, 512, 1023] {
        let prompt = tokens(len);
        group.throughput(Throughput::Elements(len as u64));
        group.bench_function(BenchmarkId::new(format!("t{threads}"), len), |b| {
            b.iter(|| model.prefill(&mut cache, &[&prompt]).expect("a prompt that fits").len());
        });
    }
    group.finish();
}

fn decode(c: &mut Criterion, model: &Gpt2, threads: usize) {
    let mut group = c.benchmark_group("decode");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Bytes(model.bytes_per_token() as u64));
    for (batch, context) in [(1, 32), (1, 512), (8, 32), (8, 512)] {
        let (prompt, room) = (tokens(context), 32);
        let mut stepper = Stepper::new(model, batch, context + room).expect("a cache that fits");
        let id = BenchmarkId::new(format!("t{threads}"), format!("b{batch}-ctx{context}"));
        group.bench_function(id, |b| {
            b.iter_custom(|steps| {
                // Back to the same context every 32 steps, off the clock.
                let mut spent = std::time::Duration::ZERO;
                for done in 0..steps as usize {
                    if done % room == 0 {
                        stepper.prefill(&vec![prompt.as_slice(); batch]).expect("prompts that fit");
                    }
                    let start = std::time::Instant::now();
                    stepper.step().expect("room for a step");
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

fn generate(c: &mut Criterion) {
    for threads in [1, 2] {
        let model = model(threads);
        prefill(c, &model, threads);
        decode(c, &model, threads);
    }
}

criterion_group!(benches, generate);
criterion_main!(benches);
