//! The tokenizer under criterion: `cargo bench -p rust_native --bench bpe`.
//!
//! `encode` is length x script x cold or warm: `warm` shares one encoder and its word caches, `cold` counts
//! the first call of a fresh tokenizer's first encoder, its tables made beforehand. `split` finds pieces only, by
//! each pattern with a scanner. Throughput is in bytes of text. English and code are this repository's own notes
//! and sources, so they are there on every machine; the other scripts are words drawn by a fixed congruence,
//! which repeat as words do.

mod texts;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kernels::Isa;
use kernels::text::Scanner;
use rust_native::{Pattern, Special, Tokenizer};

use texts::{cut, english_and_code, letters, words};

fn scripts() -> Vec<(&'static str, String)> {
    let [english, code] = english_and_code();
    vec![
        ("english", english),
        ("code", code),
        ("cyrillic", words("абвгдежзийклмнопрстуфхцчшщъыьэюя", " ", 1 << 20)),
        ("han", words("的一是不了人我在有他这中大来上国个到说们", "，", 1 << 20)),
        ("emoji", words("🙂😀🎉🚀👍❤️✨🔥", " ", 1 << 20)),
    ]
}

fn encode(criterion: &mut Criterion) {
    let tokenizer = Tokenizer::gpt2();
    let mut group = criterion.benchmark_group("encode");
    for (script, text) in scripts() {
        for bytes in [140, 4 << 10, 64 << 10, 1 << 20] {
            let text = cut(&text, bytes);
            group.throughput(Throughput::Bytes(text.len() as u64));
            let (mut encoder, mut ids) = (tokenizer.encoder(), Vec::new());
            group.bench_function(format!("warm/{script}/{bytes}"), |bench| {
                bench.iter(|| {
                    ids.clear();
                    let _ = encoder.encode_into(black_box(text), Special::Ignore, &mut ids);
                    black_box(ids.len())
                });
            });
            group.bench_function(format!("cold/{script}/{bytes}"), |bench| {
                bench.iter_batched_ref(
                    Tokenizer::gpt2,
                    |fresh| black_box(fresh.encode(text, Special::Ignore).map(|ids| ids.len())),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

/// The same text on every instruction set.
fn isa(criterion: &mut Criterion) {
    let (_, text) = scripts().swap_remove(0);
    let text = cut(&text, 64 << 10);
    let mut group = criterion.benchmark_group("isa");
    group.throughput(Throughput::Bytes(text.len() as u64));
    for tokenizer in Isa::ALL.into_iter().filter_map(|isa| Tokenizer::gpt2().with_isa(isa)) {
        let (mut encoder, mut ids) = (tokenizer.encoder(), Vec::new());
        group.bench_function(tokenizer.isa().name(), |bench| {
            bench.iter(|| {
                ids.clear();
                let _ = encoder.encode_into(black_box(text), Special::Ignore, &mut ids);
                black_box(ids.len())
            });
        });
    }
    group.finish();
}

/// Pieces alone, by each pattern: by its specification and the encoder's way.
fn split(criterion: &mut Criterion) {
    let patterns = [Pattern::Gpt2, Pattern::Cl100k, Pattern::Llama3, Pattern::O200k];
    for (script, text) in scripts() {
        let text = cut(&text, 64 << 10).as_bytes();
        let mut group = criterion.benchmark_group(format!("split/{script}"));
        group.throughput(Throughput::Bytes(text.len() as u64));
        for pattern in &patterns {
            group.bench_function(format!("{pattern:?}/one-by-one"), |bench| {
                bench.iter(|| black_box(pattern.ends(black_box(text))));
            });
            group.bench_function(format!("{pattern:?}/by-blocks"), |bench| {
                bench.iter(|| black_box(pattern.ends_by_blocks(Scanner::best(), black_box(text))));
            });
        }
        group.finish();
    }
}

/// Texts that have been somebody's cliff, at two lengths: who is linear takes ten times as long.
fn worst(criterion: &mut Criterion) {
    let tokenizer = Tokenizer::gpt2();
    let word = letters(1_000_000);
    let mut group = criterion.benchmark_group("worst");
    group.sample_size(10);
    for bytes in [100_000, 1_000_000] {
        let inputs = [
            ("one-word", word[..bytes].to_owned()),
            ("one-letter", "a".repeat(bytes)),
            ("blanks", " ".repeat(bytes)),
            ("lines", "\n".repeat(bytes)),
            ("rules", "-".repeat(bytes)),
            ("digits", "1234567890".repeat(bytes / 10)),
        ];
        group.throughput(Throughput::Bytes(bytes as u64));
        for (name, text) in inputs {
            group.bench_function(format!("{name}/{bytes}"), |bench| {
                bench.iter(|| black_box(tokenizer.count(black_box(&text), Special::Ignore)));
            });
        }
    }
    group.finish();
}

/// Many texts in one call, and one long text in one call, on one thread and two.
fn batch(criterion: &mut Criterion) {
    let tokenizer = Tokenizer::gpt2();
    let (_, text) = scripts().swap_remove(1);
    let (lines, whole): (Vec<&str>, _) = (text.lines().collect(), [text.as_str()]);
    let mut group = criterion.benchmark_group("batch");
    for (name, texts) in [("lines", &lines[..]), ("one-text", &whole[..])] {
        group.throughput(Throughput::Bytes(texts.iter().map(|line| line.len() as u64).sum()));
        for threads in [1, 2] {
            let mut encoder = tokenizer.batch_encoder(threads);
            let (mut ids, mut starts) = (Vec::new(), Vec::new());
            group.bench_function(format!("{name}/{threads}-threads"), |bench| {
                bench.iter(|| {
                    let _ = encoder.encode_into(black_box(texts), Special::Ignore, &mut ids, &mut starts);
                    black_box(ids.len())
                });
            });
        }
        group.bench_function(format!("{name}/vectors-2-threads"), |bench| {
            bench.iter(|| black_box(tokenizer.encode_batch(texts, Special::Ignore, 2)));
        });
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let tokenizer = Tokenizer::gpt2();
    let mut group = criterion.benchmark_group("decode");
    for (script, text) in scripts() {
        let text = cut(&text, 1 << 20);
        let ids = tokenizer.encode(text, Special::Ignore).unwrap_or_default();
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(script, |bench| bench.iter(|| black_box(tokenizer.decode_bytes(&ids))));
    }
    group.finish();
    criterion.bench_function("load/embedded", |bench| bench.iter(|| black_box(Tokenizer::gpt2())));
}

criterion_group!(benches, encode, isa, split, worst, batch, decode);
criterion_main!(benches);
