//! How the precisions compare at GPT-2 124M's sizes, asked in turns.
//!
//! Criterion measures one thing after another, and a shared machine drifts more between them than
//! precisions differ. Here every round asks all four, and a ratio is formed inside a round; shown
//! are medians over rounds and, in brackets, the quartiles. Each precision cycles through 128 MiB
//! of its own weights, as a model's layers do, so that no cache holds them.
//!
//! `cargo bench -p kernels --bench precisions -- [threads] [rounds] [isa]`

use std::hint::black_box;
use std::time::{Duration, Instant};

use kernels::{Cpu, Input, Isa, Linear, Output, Packed, Precision};

/// Bytes of weights that a cycle covers.
const CYCLE: usize = 128 << 20;
/// What a precision is asked for at a time.
const TURN: Duration = Duration::from_millis(15);
/// GPT-2 124M's: first and second matrix of the feed-forward part, and the head.
const SHAPES: [(usize, usize); 3] = [(768, 3072), (3072, 768), (768, 50257)];
const ROWS: [usize; 7] = [1, 2, 4, 8, 16, 64, 512];

fn main() {
    // Cargo itself passes `--bench`.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let threads = words.next().map_or(2, |word| word.parse().expect("a number of threads"));
    let rounds = words.next().map_or(21, |word| word.parse().expect("a number of rounds"));
    let named = |word: String| Isa::ALL.into_iter().find(|isa| isa.name() == word);
    let isa = words.next().map(|word| named(word).expect("an instruction set"));
    let cpu = Cpu::new(threads, isa).expect("an available instruction set");
    println!("{cpu:?}, int8 and int4 on {}, {rounds} rounds", cpu.path(Precision::Int8));
    for (k, n) in SHAPES {
        packing(&cpu, k, n, rounds.min(5));
    }
    for (k, n) in SHAPES {
        products(&cpu, k, n, rounds);
    }
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

/// Source bytes per second that packing takes in, from both layouts.
fn packing(cpu: &Cpu, k: usize, n: usize, rounds: usize) {
    let w = values(k * n);
    let mut taken: [Vec<f64>; 8] = Default::default();
    for _ in 0..rounds {
        for (i, taken) in taken.iter_mut().enumerate() {
            let precision = Precision::ALL[i % 4];
            let start = Instant::now();
            black_box(match i / 4 {
                0 => Packed::from_kn(cpu, &w, k, n, precision),
                _ => Packed::from_nk(cpu, &w, n, k, precision),
            });
            taken.push(4e-9 * (k * n) as f64 / start.elapsed().as_secs_f64());
        }
    }
    for (layout, taken) in ["from_kn", "from_nk"].into_iter().zip(taken.chunks_mut(4)) {
        let rates =
            taken.iter_mut().zip(Precision::ALL).map(|(rates, p)| format!("{p} {:.1}", middle(rates)[1]));
        println!("packing [{k}, {n}] {layout}, GB/s of f32: {}", rates.collect::<Vec<_>>().join(", "));
    }
}

fn products(cpu: &Cpu, k: usize, n: usize, rounds: usize) {
    let w = values(k * n);
    let weights = Precision::ALL.map(|precision| {
        let one = || Linear { weight: Packed::from_kn(cpu, &w, k, n, precision), bias: vec![0.1; n] };
        let first = one();
        let count = CYCLE.div_ceil(first.weight.bytes());
        std::iter::once(first).chain((1..count).map(|_| one())).collect::<Vec<_>>()
    });
    for m in ROWS {
        if m * n > 1 << 21 {
            continue;
        }
        let (x, mut y) = (values(m * k), vec![0.0; m * n]);
        let mut next = [0; 4];
        let mut turn = |which: usize, time: Duration| {
            let (start, mut calls) = (Instant::now(), 0);
            while calls == 0 || start.elapsed() < time {
                let linear = &weights[which][next[which] % weights[which].len()];
                next[which] += 1;
                cpu.linear(Input::Rows(black_box(&x)), linear, &mut y, Output::Store);
                calls += 1;
            }
            start.elapsed().as_secs_f64() / f64::from(calls)
        };
        for which in 0..4 {
            turn(which, TURN);
        }
        let (mut seconds, mut ratios): ([Vec<f64>; 4], [Vec<f64>; 4]) = Default::default();
        for round in 0..rounds {
            let mut took = [0.0; 4];
            // There and back, so that none always follows the same one.
            for i in 0..4 {
                let which = if round % 2 == 0 { i } else { 3 - i };
                took[which] = turn(which, TURN);
            }
            for which in 0..4 {
                seconds[which].push(took[which]);
                ratios[which].push(took[0] / took[which]);
            }
        }
        println!("[{m}, {k}] x [{k}, {n}]");
        for (which, precision) in Precision::ALL.into_iter().enumerate() {
            let work = [weights[which][0].weight.bytes(), 2 * m * k * n].map(|amount| amount as f64);
            line(precision, &mut seconds[which], &mut ratios[which], work);
        }
    }
}

/// One precision's result; `work` is bytes of weights and operations of a call.
fn line(precision: Precision, seconds: &mut [f64], ratios: &mut [f64], work: [f64; 2]) {
    let (time, [low, ratio, high]) = (middle(seconds)[1], middle(ratios));
    let [bytes, operations] = work.map(|amount| 1e-9 * amount / time);
    println!(
        "  {precision:<5}{:>10.1} us {ratio:>6.2}x f32 [{low:.2}..{high:.2}] {bytes:>6.1} GB/s {operations:>7.0} GOP/s",
        1e6 * time
    );
}

/// Lower quartile, median, upper quartile.
fn middle(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    [last / 4, last / 2, last - last / 4].map(|at| values[at])
}
