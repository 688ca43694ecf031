//! Each operation at GPT-2 124M's sizes, on every instruction set, on one and two threads, in every
//! precision. How precisions compare is asked in turns by the bench `precisions`.
//!
//! Throughput is in bytes of weights or cache where memory is the limit and in floating-point
//! operations ("elements") where arithmetic is. `limit/stream` reads memory and does nothing else:
//! what decode could reach at best. Weights are cycled over more memory than a last-level cache
//! share holds, as a model's layers are.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kernels::{
    Attend, Buffer, Cpu, Input, Isa, KvCache, KvPrecision, KvShape, Linear, Output, Packed, Precision, Span,
};

/// Bytes of weights that a cycle of one linear operation covers.
const CYCLE: usize = 128 << 20;

fn cpus() -> impl Iterator<Item = (String, Cpu)> {
    Isa::available().filter(|&isa| isa != Isa::Portable).flat_map(|isa| {
        [1, 2].map(|threads| {
            let cpu = Cpu::new(threads, Some(isa)).expect("an available instruction set");
            (format!("{isa}-t{threads}"), cpu)
        })
    })
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

fn stream(c: &mut Criterion) {
    let mut group = c.benchmark_group("limit");
    let mut data = Buffer::zeroed(CYCLE);
    data.fill(1.0);
    group.throughput(Throughput::Bytes(size_of_val::<[f32]>(&data) as u64));
    group.bench_function("stream-t1", |b| {
        b.iter(|| {
            data.chunks_exact(16).fold([0.0f32; 16], |mut sum, x| {
                sum.iter_mut().zip(x).for_each(|(s, x)| *s += x);
                sum
            })
        });
    });
    group.finish();
}

fn linear(c: &mut Criterion) {
    for (name, k, n) in [("qkv", 768, 2304), ("inner_out", 3072, 768), ("head", 768, 50257)] {
        for precision in Precision::ALL {
            products(c, &format!("linear/{name}/{precision}"), k, n, precision);
        }
    }
}

fn products(c: &mut Criterion, name: &str, k: usize, n: usize, precision: Precision) {
    let maker = Cpu::new(2, None).expect("two threads");
    let one = || Packed::from_kn(&maker, &values(k * n), k, n, precision);
    let weights: Vec<Linear> =
        (0..(CYCLE / one().bytes()).max(1)).map(|_| Linear { weight: one(), bias: vec![0.1; n] }).collect();
    let mut group = c.benchmark_group(name);
    for (path, cpu) in cpus() {
        for m in [1, 8, 16, 128, 512] {
            if n > 10_000 && m > 16 {
                continue;
            }
            let (x, mut y) = (values(m * k), vec![0.0; m * n]);
            group.throughput(if m < 16 {
                Throughput::Bytes(weights[0].weight.bytes() as u64)
            } else {
                Throughput::Elements(2 * (m * k * n) as u64)
            });
            let mut turn = weights.iter().cycle();
            group.bench_function(BenchmarkId::new(&path, m), |b| {
                b.iter(|| {
                    let w = turn.next().expect("a cycle");
                    cpu.linear(Input::Rows(&x), w, &mut y, Output::Store);
                });
            });
        }
    }
    group.finish();
}

fn attention(c: &mut Criterion) {
    for precision in KvPrecision::ALL {
        attention_in(c, precision, Precision::F32);
    }
    attention_in(c, KvPrecision::F32, Precision::Bf16);
}

fn attention_in(c: &mut Criterion, precision: KvPrecision, products: Precision) {
    let shape = KvShape { layers: 12, sequences: 8, heads: 12, head_dim: 64, capacity: 1024, precision };
    let mut cache = KvCache::new(shape);
    let width = shape.heads * shape.head_dim;
    let position = cache.bytes() / (shape.layers * shape.sequences * shape.capacity);
    let how = Attend { scale: 0.125, products, last: false };
    let mut group = c.benchmark_group(format!("attention/{precision}-{products}"));
    for (path, cpu) in cpus() {
        for (sequences, start, rows) in [(1, 511, 1), (8, 511, 1), (1, 0, 128), (1, 0, 512)] {
            let qkv = values(sequences * rows * 3 * width);
            let mut out = vec![0.0; sequences * rows * width];
            let spans: Vec<Span> =
                (0..sequences).map(|sequence| Span { sequence, start, row: sequence * rows, rows }).collect();
            group.throughput(if rows == 1 {
                Throughput::Bytes((sequences * (start + 1) * position) as u64)
            } else {
                // Two products over the lower triangle.
                Throughput::Elements((2 * rows * (rows + 1) * width) as u64)
            });
            let name = if rows == 1 { "decode" } else { "prefill" };
            let id = BenchmarkId::new(format!("{name}/{path}"), format!("b{sequences}x{}", start + rows));
            let mut layers = (0..shape.layers).cycle();
            group.bench_function(id, |b| {
                b.iter(|| {
                    let layer = layers.next().expect("a cycle");
                    cpu.attention(&mut cache, layer, &spans, &qkv, how, &mut out);
                });
            });
        }
    }
    group.finish();
}

fn rowwise(c: &mut Criterion) {
    let mut group = c.benchmark_group("rowwise");
    for isa in Isa::available() {
        let cpu = Cpu::new(1, Some(isa)).expect("an available instruction set");
        let table = cpu.table();
        let (gain, bias) = (values(768), values(768));
        let row = values(768);
        let mut out = vec![0.0; 768];
        group.throughput(Throughput::Elements(768));
        group.bench_function(BenchmarkId::new("layernorm", isa), |b| {
            b.iter(|| (table.layernorm)(black_box(&row), &gain, &bias, 1e-5, &mut out));
        });
        let source = values(3072);
        let mut inner = source.clone();
        group.throughput(Throughput::Elements(3072));
        group.bench_function(BenchmarkId::new("gelu", isa), |b| {
            // From the same values each time: gelu of gelu of … would sink into denormals.
            b.iter(|| {
                inner.copy_from_slice(&source);
                (table.gelu)(&mut inner);
            });
        });
        let mut scores = values(1024);
        group.throughput(Throughput::Elements(1024));
        group.bench_function(BenchmarkId::new("exponentials", isa), |b| {
            b.iter(|| (table.exponentials)(black_box(&mut scores)));
        });
        let logits = values(50_257);
        group.throughput(Throughput::Elements(50_257));
        group.bench_function(BenchmarkId::new("argmax", isa), |b| {
            b.iter(|| (table.argmax)(black_box(&logits)));
        });
        group.bench_function(BenchmarkId::new("log_sum_exp", isa), |b| {
            b.iter(|| (table.log_sum_exp)(black_box(&logits)));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = stream, rowwise, attention, linear
}
criterion_main!(benches);
