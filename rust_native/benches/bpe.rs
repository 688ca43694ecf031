//! The tokenizer under criterion: `cargo bench -p rust_native --bench bpe`.
//!
//! Text is this repository's own sources and notes, so it is there on every machine. Throughput is in
//! bytes of text. `warm` shares one tokenizer and its word caches; `cold` counts a fresh one's first call.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rust_native::{Special, Tokenizer};

/// The `.rs` files below a folder, one after the other.
fn sources(dir: &Path, text: &mut String) {
    let mut entries: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, text);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap_or_default());
        }
    }
}

/// The first `bytes` bytes or so, at a character boundary.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Letters of a fixed linear congruence, without any space.
fn one_word(bytes: usize) -> String {
    let mut state = 1_u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    (0..bytes).map(|_| letter()).collect()
}

fn bpe(criterion: &mut Criterion) {
    let mut code = String::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")), &mut code);
    let tokenizer = Tokenizer::gpt2();
    let inputs = [
        ("code-64k", cut(&code, 65_536).to_owned()),
        ("code", code.clone()),
        ("one-word-100k", one_word(100_000)),
        ("spaces-100k", " ".repeat(100_000)),
        ("cjk-64k", "統計と機械翻訳の品質は、言語によって異なります。".repeat(900)),
    ];

    let mut group = criterion.benchmark_group("encode");
    for (name, text) in &inputs {
        group.throughput(Throughput::Bytes(text.len() as u64));
        let mut ids = Vec::new();
        group.bench_function(format!("warm/{name}"), |bench| {
            bench.iter(|| {
                ids.clear();
                let _ = tokenizer.encode_into(black_box(text), Special::Ignore, &mut ids);
                black_box(ids.len())
            });
        });
    }
    let text = cut(&code, 65_536);
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("cold/code-64k", |bench| {
        bench.iter_batched(
            Tokenizer::gpt2,
            |fresh| black_box(fresh.encode(text, Special::Ignore).map(|ids| ids.len())),
            BatchSize::PerIteration,
        );
    });
    let lines: Vec<&str> = code.lines().collect();
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    group.throughput(Throughput::Bytes(bytes as u64));
    for threads in [1, 2] {
        group.bench_function(format!("lines/{threads}-threads"), |bench| {
            bench.iter(|| black_box(tokenizer.encode_batch(&lines, Special::Ignore, threads)));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("decode");
    let ids = tokenizer.encode(&code, Special::Ignore).unwrap_or_default();
    group.throughput(Throughput::Bytes(code.len() as u64));
    group.bench_function("code", |bench| bench.iter(|| black_box(tokenizer.decode_bytes(&ids))));
    group.finish();

    criterion.bench_function("load/embedded", |bench| bench.iter(|| black_box(Tokenizer::gpt2())));
}

criterion_group!(benches, bpe);
criterion_main!(benches);
