//! Every kernel of a GPT-2 124M step beside what the machine could do at best, asked in turns.
//!
//! A call has to bring its weights (or its part of the cache) from memory and to do its multiply-adds; the
//! longer of the two, each at the best rate that this machine shows in the same round, is the limit. Shown
//! are medians over rounds of limit over call, and quartiles.
//!
//! `cargo bench -p kernels --bench shares -- [rounds] [--write]`; with `--write` the record goes to results/kernels
//! and its tables into kernels/README.md.

#[path = "../page/mod.rs"]
mod page;
mod roof;
mod table;

use std::hint::black_box;
use std::time::{Duration, Instant};

use kernels::{Attend, Cpu, Input, KvCache, KvPrecision, KvShape, Linear, Output, Packed, Precision, Span};

use roof::Roof;
use table::Row;

const THREADS: usize = 2;
/// Bytes of weights that a cycle of one kernel covers.
const CYCLE: usize = 128 << 20;
/// What a kernel is asked for at a time.
const TURN: Duration = Duration::from_millis(12);
/// Width of GPT-2 124M.
const C: usize = 768;
/// Positions that attention is measured at, and rows of a prefill.
const CONTEXT: usize = 512;

fn main() {
    // Cargo itself passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(15);
    let source = words.iter().any(|word| word == "--write").then(|| page::record("kernels"));
    let bench =
        Bench { cpu: Cpu::new(THREADS, None).expect("two threads"), roof: Roof::new(THREADS), rounds };
    let rows = bench.all();
    print!("{}", table::write(&rows));
    if let Some(source) = source {
        let splice = |text: &str| table::splice(text, &rows, &source.to_string_lossy());
        page::keep(&source, &table::write(&rows), "kernels/README.md", splice);
    }
}

struct Bench {
    cpu: Cpu,
    roof: Roof,
    rounds: usize,
}

/// What a call of a kernel amounts to.
struct Work {
    kernel: &'static str,
    rows: String,
    precision: &'static str,
    /// Whose multiply-adds count as the limit of arithmetic.
    arithmetic: Precision,
    path: &'static str,
    bytes: usize,
    operations: usize,
}

impl Bench {
    fn all(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let products = [
            ("qkv", C, 3 * C, Output::Store, true),
            ("attention-out", C, C, Output::Add, false),
            ("inner", C, 4 * C, Output::Gelu, true),
            ("inner-out", 4 * C, C, Output::Add, false),
            ("head", C, 50257, Output::Store, true),
        ];
        for (kernel, k, n, output, norm) in products {
            let mut found = Vec::new();
            for precision in Precision::ALL {
                self.product(kernel, (k, n), (output, norm), precision, &mut found);
            }
            // By rows first: that is how one reads across precisions.
            found.sort_by_key(|row: &Row| row.rows.parse::<usize>().unwrap_or(0));
            rows.extend(found);
        }
        for (sequences, start, new) in [(1, CONTEXT - 1, 1), (8, CONTEXT - 1, 1), (1, 0, CONTEXT)] {
            for precision in KvPrecision::ALL {
                rows.push(self.attention((precision, Precision::F32), sequences, start, new));
            }
        }
        if self.cpu.dots().is_some() {
            rows.push(self.attention((KvPrecision::F32, Precision::Bf16), 1, 0, CONTEXT));
        }
        rows
    }

    fn product(
        &self,
        kernel: &'static str,
        (k, n): (usize, usize),
        (output, norm): (Output, bool),
        precision: Precision,
        rows: &mut Vec<Row>,
    ) {
        let w = values(k * n);
        let one = || Linear { weight: Packed::from_kn(&self.cpu, &w, k, n, precision), bias: vec![0.1; n] };
        let first = one();
        let bytes = first.weight.bytes();
        let weights: Vec<Linear> =
            std::iter::once(first).chain((1..CYCLE.div_ceil(bytes)).map(|_| one())).collect();
        let (gain, bias) = (values(k), values(k));
        for m in [1, 8, CONTEXT] {
            // The head is asked for a row a sequence.
            if kernel == "head" && m > 8 {
                continue;
            }
            let (x, mut y) = (values(m * k), vec![0.0; m * n]);
            let mut turn = weights.iter().cycle();
            let work = Work {
                kernel,
                rows: m.to_string(),
                precision: precision.name(),
                arithmetic: precision,
                path: self.cpu.path(precision),
                bytes,
                operations: 2 * m * k * n,
            };
            rows.push(self.measure(work, || {
                let input = match norm {
                    true => Input::Norm { rows: black_box(&x), gain: &gain, bias: &bias, eps: 1e-5 },
                    false => Input::Rows(black_box(&x)),
                };
                // Sums into `y` grow by the same again at each call: far from overflow in any run.
                self.cpu.linear(input, turn.next().expect("a cycle"), &mut y, output);
            }));
        }
    }

    /// In a cache of one precision, multiplied in another; `new` positions of each sequence behind `start`.
    fn attention(
        &self,
        (precision, products): (KvPrecision, Precision),
        sequences: usize,
        start: usize,
        new: usize,
    ) -> Row {
        let layer = KvShape { layers: 1, sequences, heads: 12, head_dim: 64, capacity: CONTEXT, precision };
        let position = KvCache::new(layer).bytes() / (sequences * CONTEXT);
        let shape = KvShape { layers: CYCLE.div_ceil(sequences * CONTEXT * position), ..layer };
        let mut cache = KvCache::new(shape);
        self.fill(&mut cache);
        let rows = sequences * new;
        let (qkv, mut out) = (values(rows * 3 * C), vec![0.0; rows * C]);
        let spans: Vec<Span> =
            (0..sequences).map(|sequence| Span { sequence, start, row: sequence * new, rows: new }).collect();
        let pairs: usize = (0..new).map(|row| start + row + 1).sum();
        let work = Work {
            kernel: "attention",
            rows: format!("{sequences} x {new}"),
            precision: precision.name(),
            arithmetic: products,
            path: self.cpu.path(products),
            bytes: sequences * (start + new) * position,
            operations: 4 * sequences * pairs * C,
        };
        let mut layers = (0..shape.layers).cycle();
        let how = Attend { products, ..Attend::from(0.125) };
        self.measure(work, || {
            let layer = layers.next().expect("a cycle");
            self.cpu.attention(&mut cache, layer, &spans, black_box(&qkv), how, &mut out);
        })
    }

    /// Every position of every layer: memory that nobody wrote is no memory, and reads faster than any.
    fn fill(&self, cache: &mut KvCache) {
        let KvShape { layers, sequences, capacity, .. } = cache.shape();
        let (qkv, mut out) = (values(capacity * 3 * C), vec![0.0; capacity * C]);
        for layer in 0..layers {
            for sequence in 0..sequences {
                let span = Span { sequence, start: 0, row: 0, rows: capacity };
                self.cpu.attention(cache, layer, &[span], &qkv, Attend::from(0.125), &mut out);
            }
        }
    }

    /// Rounds of limit, kernel, limit.
    fn measure(&self, work: Work, mut call: impl FnMut()) -> Row {
        let mut turn = || {
            let (start, mut calls) = (Instant::now(), 0);
            while calls == 0 || start.elapsed() < TURN {
                call();
                calls += 1;
            }
            start.elapsed().as_secs_f64() / f64::from(calls)
        };
        turn();
        let (mut seconds, mut shares, mut by_memory) = (Vec::new(), Vec::new(), 0);
        for _ in 0..self.rounds {
            let before = self.limits(&work);
            let took = turn();
            let after = self.limits(&work);
            let [memory, arithmetic] = [0, 1].map(|which: usize| 0.5 * (before[which] + after[which]));
            by_memory += usize::from(memory >= arithmetic);
            seconds.push(took);
            shares.push(memory.max(arithmetic) / took);
        }
        Row {
            kernel: work.kernel.into(),
            rows: work.rows,
            precision: work.precision.into(),
            path: work.path.into(),
            seconds: middle(&mut seconds)[1],
            bytes: work.bytes as u64,
            operations: work.operations as u64,
            limit: if 2 * by_memory >= self.rounds { "memory" } else { "arithmetic" }.into(),
            share: middle(&mut shares),
        }
    }

    /// Seconds for the bytes and for the operations, at best.
    fn limits(&self, work: &Work) -> [f64; 2] {
        let memory = work.bytes as f64 * self.roof.byte();
        [memory, self.roof.operation(work.arithmetic).map_or(0.0, |each| work.operations as f64 * each)]
    }
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

/// Lower quartile, median, upper quartile.
fn middle(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    [last / 4, last / 2, last - last / 4].map(|at| values[at])
}
