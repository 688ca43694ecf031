//! Every operation on every instruction set this machine has, against f64 written as the formula.
//!
//! One list of checks for all paths: the portable one, which is the specification, meets f64 here,
//! and the vector ones meet the same f64 with the same budget.

mod common;

use common::{close, cpus, gelu64, layernorm64, value, values};
use kernels::cpu::table::{Columns, Tile};
use kernels::{
    Best, Cpu, Input, Isa, KvCache, KvPrecision, KvShape, Linear, Output, Packed, Precision, Span,
};
use proptest::prelude::*;

#[test]
fn gelu_over_the_whole_range() {
    let x: Vec<f32> = (-120_000..=120_000).map(|i| i as f32 * 1e-4).chain([-60.0, 60.0]).collect();
    let want: Vec<f64> = x.iter().map(|&v| gelu64(f64::from(v))).collect();
    for cpu in cpus(1) {
        let mut got = x.clone();
        (cpu.table().gelu)(&mut got);
        close(&format!("{cpu:?} gelu"), &got, &want, 1e-1, 2e-6);
    }
}

#[test]
fn exponentials_keep_their_stated_error() {
    // Those of [0, x] are 1 and e^x.
    for cpu in cpus(1) {
        for i in 0..8700 {
            let x = -f64::from(i) * 0.01;
            let x32 = x as f32;
            let mut pair = [0.0, x32];
            (cpu.table().exponentials)(&mut pair);
            let budget = 2e-7 * (1.0 - x);
            close(&format!("{cpu:?} exp({x})"), &pair, &[1.0, f64::from(x32).exp()], 0.0, budget);
        }
    }
}

#[test]
fn powers_of_two_keep_their_stated_error() {
    // Columns of 0 and x: where 0 is the maximum, x becomes 2^x.
    for cpu in cpus(1) {
        let budget = if cpu.isa() == Isa::Portable { 1e-6 } else { 2e-7 };
        for i in 0..126_000 {
            let x = (i as f32 * -1e-3).max(-126.0);
            let mut rows = [0.0; 64];
            rows[32..].fill(x);
            let mut columns = Columns::EMPTY;
            assert!((cpu.table().softmax_step)(&mut rows, &mut columns));
            close(&format!("{cpu:?} 2^{x}"), &rows[62..], &[f64::from(x).exp2(); 2], 0.0, budget);
        }
    }
}

#[test]
fn a_softmax_in_steps_is_one_over_all_rows() {
    // Scores that fall, so no maximum rises after the first step; that rise; and neither.
    let slopes: [fn(usize) -> f32; 3] = [|row| row as f32 * -0.7, |row| row as f32 * 0.7, |_| 0.0];
    for (cpu, slope) in
        cpus(1).flat_map(|cpu| slopes.map(|slope| (Cpu::new(1, Some(cpu.isa())).unwrap(), slope)))
    {
        let rows = 61;
        let x: Vec<f32> = (0..rows * 32).map(|i| 3.0 * value(60, i) + slope(i / 32)).collect();
        let (mut columns, mut whole) = (Columns::EMPTY, x.clone());
        (cpu.table().softmax_step)(&mut whole, &mut columns);
        for size in [1, 2, 7, 32, 60] {
            let mut parts = Columns::EMPTY;
            // The first column's weights so far, as a product with values would have summed them up.
            let mut weights: Vec<f32> = Vec::new();
            for (step, part) in x.chunks(size * 32).enumerate() {
                let (mut part, before) = (part.to_vec(), parts.max);
                let risen = (cpu.table().softmax_step)(&mut part, &mut parts);
                assert_eq!(risen, parts.max != before, "{cpu:?} rows {size} step {step}");
                assert!(risen || parts.factors == [1.0; 32], "{cpu:?} {:?}", parts.factors);
                weights.iter_mut().for_each(|weight| *weight *= parts.factors[0]);
                weights.extend(part.iter().step_by(32));
            }
            assert_eq!(parts.max, columns.max, "{cpu:?}");
            let want = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            close(&format!("{cpu:?} sums of {size}"), &parts.sums, &want(&columns.sums), 0.0, 2e-5);
            let first: Vec<f32> = whole.iter().step_by(32).copied().collect();
            close(&format!("{cpu:?} weights of {size}"), &weights, &want(&first), 1e-30, 2e-5);
        }
        for (column, &sum) in columns.sums.iter().enumerate() {
            let scores = || x.iter().skip(column).step_by(32).map(|&x| f64::from(x));
            let max = scores().fold(f64::MIN, f64::max);
            close(
                &format!("{cpu:?} column {column}"),
                &[sum],
                &[scores().map(|x| (x - max).exp2()).sum()],
                0.0,
                1e-6,
            );
        }
    }
}

#[test]
fn tiles_are_added_to_what_is_there() {
    for cpu in cpus(1) {
        let table = cpu.table();
        for (rows, k) in (1..=table.rows).flat_map(|rows| [0, 1, 2, 5, 64].map(|k| (rows, k))) {
            let (a, b, before) = (values(70, k * rows), values(71, k * 32), values(72, rows * 40));
            let words: Vec<u32> = {
                let mut words = vec![0; k * 16];
                (table.narrow)(&b, &mut words);
                words
            };
            let (mut sums, mut total) = (before.clone(), before.clone());
            let tile = Tile { a: &a, lda: rows, b: &b, ldb: 32, k, rows };
            let pairs = Tile { a: &a, lda: rows, b: &words, ldb: 16, k, rows };
            let run = |bf16: bool, add: bool, c: &mut [f32]| match (bf16, add) {
                (false, false) => (table.tile)(tile, c, 40),
                (false, true) => (table.tile_add)(tile, c, 40),
                (true, false) => (table.tile_bf16)(pairs, c, 40),
                (true, true) => (table.tile_bf16_add)(pairs, c, 40),
            };
            for bf16 in [false, true] {
                sums.copy_from_slice(&before);
                total.copy_from_slice(&before);
                run(bf16, false, &mut sums);
                run(bf16, true, &mut total);
                for (i, &got) in total.iter().enumerate() {
                    // Columns 32 to 40 belong to nobody.
                    let want = if i % 40 < 32 {
                        f64::from(sums[i]) + f64::from(before[i])
                    } else {
                        f64::from(before[i])
                    };
                    close(&format!("{cpu:?} {rows} x {k} bf16 {bf16} [{i}]"), &[got], &[want], 8.0, 1e-6);
                }
            }
        }
    }
}

#[test]
fn argmax_takes_the_lowest_of_equals() {
    for cpu in cpus(1) {
        let argmax = cpu.table().argmax;
        for len in [1, 2, 15, 16, 17, 100, 50_257] {
            let mut x = vec![-1.5; len];
            assert_eq!(argmax(&x), 0);
            for at in [len - 1, len / 2, len / 3] {
                x[at] = 2.0;
                assert_eq!(argmax(&x), at, "{cpu:?} {len}");
            }
        }
        assert_eq!(argmax(&[]), 0);
        assert_eq!(argmax(&[f32::NEG_INFINITY, -3.0]), 1);
    }
}

/// Every path, precision and way of sharing the work out: the best of a row is its argmax.
#[test]
fn a_product_knows_where_its_rows_are_largest() {
    let (k, n) = (40, 201);
    let mut w = values(1, k * n);
    // Columns of one panel and of two are equal: ties, and the lowest index wins.
    for row in w.chunks_exact_mut(n) {
        (row[70], row[71], row[199]) = (row[5], row[5], row[5]);
    }
    for (cpu, precision) in Precision::ALL.into_iter().flat_map(|p| cpus(3).map(move |cpu| (cpu, p))) {
        let linear = Linear { weight: Packed::from_kn(&cpu, &w, k, n, precision), bias: Vec::new() };
        for m in [1, 2, 9, 20, 200] {
            let mut x = values(2, m * k);
            // Towards the equal columns, in every other row.
            for row in x.chunks_exact_mut(k).step_by(2) {
                row.iter_mut().zip(w.chunks_exact(n)).for_each(|(x, w)| *x = w[5]);
            }
            let (mut y, mut best) = (vec![0.0; m * n], Vec::new());
            best.resize_with(m, Best::default);
            cpu.linear_best(Input::Rows(&x), &linear, &mut y, &mut best);
            let mut plain = vec![0.0; m * n];
            cpu.linear(Input::Rows(&x), &linear, &mut plain, Output::Store);
            assert_eq!(y, plain, "{cpu:?} {precision} {m} rows");
            for (row, best) in y.chunks_exact(n).zip(&best) {
                assert_eq!(best.index(), (cpu.table().argmax)(row), "{cpu:?} {precision} {m} rows");
            }
            assert!(best.iter().step_by(2).all(|best| best.index() == 5), "{cpu:?} {precision} {m} rows");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rowwise_operations(len in 1usize..200, stream in 0u64..1000, scale in 0.1f32..20.0) {
        let x: Vec<f32> = values(stream, len).iter().map(|v| v * scale).collect();
        let (gain, bias) = (values(stream + 1, len), values(stream + 2, len));
        let max = x.iter().fold(f64::MIN, |m, &v| m.max(f64::from(v)));
        let exps: Vec<f64> = x.iter().map(|&v| (f64::from(v) - max).exp()).collect();
        let sum: f64 = exps.iter().sum();
        for cpu in cpus(1) {
            let table = cpu.table();
            let mut out = vec![0.0; len];
            (table.layernorm)(&x, &gain, &bias, 1e-5, &mut out);
            close("layernorm", &out, &layernorm64(&x, &gain, &bias, 1e-5), 1.0, 2e-5);
            out.copy_from_slice(&x);
            let total = (table.exponentials)(&mut out);
            close("exponentials", &out, &exps, 1e-30, 2e-5);
            close("their sum", &[total], &[sum], 0.0, 4e-6);
            close("log_sum_exp", &[(table.log_sum_exp)(&x)], &[max + sum.ln()], 1.0, 2e-6);
            out.copy_from_slice(&x);
            (table.add)(&mut out, &gain);
            let want: Vec<f64> = x.iter().zip(&gain).map(|(a, b)| f64::from(a + b)).collect();
            close("add", &out, &want, 0.0, 0.0);
        }
    }

    #[test]
    fn linear_of_any_shape(
        m in prop_oneof![1usize..20, Just(33), Just(100), Just(261)],
        k in prop_oneof![1usize..80, Just(513), Just(1030)],
        n in prop_oneof![1usize..100, Just(129)],
        threads in 1usize..4,
        kind in 0usize..6,
    ) {
        let (norm, output) = (kind % 2 == 1, [Output::Store, Output::Add, Output::Gelu][kind / 2]);
        let (x, w) = (values(1, m * k), values(2, k * n));
        let bias = if kind == 0 { Vec::new() } else { values(3, n) };
        let (gain, shift, before) = (values(4, k), values(5, k), values(6, m * n));
        let mut want = Vec::with_capacity(m * n);
        for (i, row) in x.chunks_exact(k).enumerate() {
            let row: Vec<f64> = if norm {
                layernorm64(row, &gain, &shift, 1e-5)
            } else {
                row.iter().map(|&v| f64::from(v)).collect()
            };
            for j in 0..n {
                let mut sum: f64 = (0..k).map(|l| row[l] * f64::from(w[l * n + j])).sum();
                sum += bias.get(j).map_or(0.0, |&b| f64::from(b));
                want.push(match output {
                    Output::Store => sum,
                    Output::Add => sum + f64::from(before[i * n + j]),
                    Output::Gelu => gelu64(sum),
                });
            }
        }
        let maker = Cpu::new(1, None).unwrap();
        let linear = Linear { weight: Packed::from_kn(&maker, &w, k, n, Precision::F32), bias };
        for cpu in cpus(threads) {
            let input = if norm {
                Input::Norm { rows: &x, gain: &gain, bias: &shift, eps: 1e-5 }
            } else {
                Input::Rows(&x)
            };
            let mut y = before.clone();
            cpu.linear(input, &linear, &mut y, output);
            // A norm over one or two inputs divides by almost nothing: its own error, magnified.
            let budget = if norm && k < 4 { 1e-3 } else { 1e-5 };
            close(&format!("{cpu:?} {m}x{k}x{n} {output:?}"), &y, &want, (k as f64).sqrt(), budget);
        }
    }

    #[test]
    fn attention_in_any_chunks(
        lengths in prop::collection::vec(1usize..80, 1..4),
        cut in 0usize..80,
        more in prop_oneof![Just(1usize), 2..40usize],
        heads in 1usize..4,
        head_dim in prop_oneof![Just(8usize), Just(20), Just(32), Just(64)],
        threads in 1usize..4,
        precision in prop_oneof![Just(KvPrecision::F32), Just(KvPrecision::Bf16)],
    ) {
        let c = heads * head_dim;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let inputs: Vec<Vec<f32>> =
            lengths.iter().enumerate().map(|(s, &len)| values(s as u64, len * 3 * c)).collect();
        for cpu in cpus(threads) {
            let capacity = 80;
            let shape = KvShape { layers: 2, sequences: lengths.len(), heads, head_dim, capacity, precision };
            let mut cache = KvCache::new(shape);
            let mut got: Vec<Vec<f32>> = vec![Vec::new(); lengths.len()];
            // First `cut` positions of each at once, then the rest a few at a time or one by one.
            let mut done: Vec<usize> = vec![0; lengths.len()];
            loop {
                let (mut spans, mut qkv) = (Vec::new(), Vec::new());
                for (sequence, &len) in lengths.iter().enumerate() {
                    let start = done[sequence];
                    let rows = if start == 0 { cut.clamp(1, len) } else { more.min(len - start) };
                    if rows > 0 {
                        let row = qkv.len() / (3 * c);
                        qkv.extend_from_slice(&inputs[sequence][start * 3 * c..][..rows * 3 * c]);
                        spans.push(Span { sequence, start, row, rows });
                        done[sequence] += rows;
                    }
                }
                if spans.is_empty() {
                    break;
                }
                let mut out = vec![0.0; qkv.len() / 3];
                cpu.attention(&mut cache, 1, &spans, &qkv, scale, &mut out);
                for span in &spans {
                    got[span.sequence].extend_from_slice(&out[span.row * c..][..span.rows * c]);
                }
            }
            for (sequence, input) in inputs.iter().enumerate() {
                let want = attention64(&held(input, c, precision), heads, head_dim, f64::from(scale));
                let what = format!("{cpu:?} {precision} sequence {sequence}");
                close(&what, &got[sequence], &want, 1.0, 5e-6);
            }
        }
    }
}

/// Rows `[T, 3C]` with keys and values as a cache holds them.
fn held(qkv: &[f32], c: usize, precision: KvPrecision) -> Vec<f32> {
    let mut out = qkv.to_vec();
    if precision == KvPrecision::Bf16 {
        for x in out.chunks_exact_mut(3 * c).flat_map(|row| &mut row[c..]) {
            *x = nearest_bf16(*x);
        }
    }
    out
}

/// The nearest number with 8 significant bits, of two equally near ones the one whose last bit is 0.
fn nearest_bf16(x: f32) -> f32 {
    let below = f32::from_bits(x.to_bits() & 0xFFFF_0000);
    let above = f32::from_bits(below.to_bits() + 0x1_0000);
    match (x - below).abs().total_cmp(&(above - x).abs()) {
        std::cmp::Ordering::Less => below,
        std::cmp::Ordering::Greater => above,
        std::cmp::Ordering::Equal if below.to_bits() & 0x1_0000 == 0 => below,
        std::cmp::Ordering::Equal => above,
    }
}

/// Causal attention of one sequence, `[T, 3C]` in, `[T, C]` out.
fn attention64(qkv: &[f32], heads: usize, d: usize, scale: f64) -> Vec<f64> {
    let c = heads * d;
    let len = qkv.len() / (3 * c);
    let at = |t: usize, which: usize, h: usize, i: usize| f64::from(qkv[t * 3 * c + which * c + h * d + i]);
    let mut out = vec![0.0; len * c];
    for t in 0..len {
        for h in 0..heads {
            let scores: Vec<f64> = (0..=t)
                .map(|s| scale * (0..d).map(|i| at(t, 0, h, i) * at(s, 1, h, i)).sum::<f64>())
                .collect();
            let max = scores.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            for i in 0..d {
                out[t * c + h * d + i] =
                    (0..=t).map(|s| (scores[s] - max).exp() / sum * at(s, 2, h, i)).sum();
            }
        }
    }
    out
}

#[test]
fn a_bf16_cache_gives_the_bits_of_one_filled_with_rounded_numbers() {
    const STEP: f32 = 1.0 / 128.0;
    // Halfway to an odd and from an odd one, beyond the largest, below the normal ones, not a number.
    let edges = [
        (1.0 + STEP / 2.0, 1.0),
        (1.0 + STEP * 1.5, 1.0 + STEP * 2.0),
        (-1.0 - STEP / 2.0, -1.0),
        (f32::MAX, f32::INFINITY),
        (1e-39, nearest_bf16(1e-39)),
        (-0.0, -0.0),
        (f32::NAN, f32::NAN),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
    ];
    let (heads, head_dim, len) = (2, 20, 45);
    let c = heads * head_dim;
    let mut qkv = values(14, len * 3 * c);
    let mut rounded = held(&qkv, c, KvPrecision::Bf16);
    // They stand in the last position, which nobody but itself attends to.
    for (i, &(given, kept)) in edges.iter().enumerate() {
        let at = (len - 1) * 3 * c + 2 * c + i;
        (qkv[at], rounded[at]) = (given, kept);
    }
    let shape =
        KvShape { layers: 1, sequences: 1, heads, head_dim, capacity: 64, precision: KvPrecision::Bf16 };
    for cpu in cpus(2) {
        let outputs = [&qkv, &rounded].map(|qkv| {
            let mut cache = KvCache::new(shape);
            let mut out = vec![0.0; len * c];
            // A block, then single positions, so that both ways of writing one are seen.
            let span = |start, rows| [Span { sequence: 0, start, row: 0, rows }];
            cpu.attention(&mut cache, 0, &span(0, 40), &qkv[..40 * 3 * c], 0.25, &mut out[..40 * c]);
            for t in 40..len {
                let row = &qkv[t * 3 * c..][..3 * c];
                cpu.attention(&mut cache, 0, &span(t, 1), row, 0.25, &mut out[t * c..][..c]);
            }
            out.iter().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() }).collect::<Vec<_>>()
        });
        assert_eq!(outputs[0], outputs[1], "{cpu:?}");
        assert_eq!(outputs[0][(len - 1) * c + 6], u32::MAX, "{cpu:?}: what is not a number stays so");
    }
}

#[test]
fn a_bf16_cache_has_half_the_bytes() {
    for (head_dim, capacity) in [(64, 1024), (20, 33)] {
        let shape = |precision| KvShape { layers: 2, sequences: 3, heads: 4, head_dim, capacity, precision };
        let [wide, narrow] = KvPrecision::ALL.map(|precision| KvCache::new(shape(precision)).bytes());
        assert_eq!(wide, 2 * narrow);
        let (padded, rows) = (head_dim + head_dim.next_multiple_of(32), capacity.next_multiple_of(32));
        assert_eq!(wide, 2 * 3 * 4 * rows * padded * 4);
    }
}

#[test]
fn a_copied_sequence_attends_like_its_source() {
    let (heads, head_dim) = (2, 16);
    let c = heads * head_dim;
    let cpu = Cpu::new(2, None).unwrap();
    for precision in KvPrecision::ALL {
        let shape = KvShape { layers: 1, sequences: 2, heads, head_dim, capacity: 50, precision };
        let (mut one, mut other) = (KvCache::new(shape), KvCache::new(KvShape { sequences: 3, ..shape }));
        let qkv = values(9, 40 * 3 * c);
        let mut out = vec![0.0; 40 * c];
        let span = Span { sequence: 1, start: 0, row: 0, rows: 40 };
        cpu.attention(&mut one, 0, &[span], &qkv, 0.25, &mut out);
        other.copy_from(&one, 1, 2, 40);
        let (mut a, mut b) = (vec![0.0; c], vec![0.0; c]);
        let next = values(10, 3 * c);
        let at = |sequence| [Span { sequence, start: 40, row: 0, rows: 1 }];
        cpu.attention(&mut one, 0, &at(1), &next, 0.25, &mut a);
        cpu.attention(&mut other, 0, &at(2), &next, 0.25, &mut b);
        assert_eq!(a, b, "{precision}");
    }
}

#[test]
#[should_panic(expected = "precision: Bf16")]
fn caches_of_two_precisions_are_not_copied_into_each_other() {
    let shape =
        |precision| KvShape { layers: 1, sequences: 1, heads: 1, head_dim: 8, capacity: 8, precision };
    let [wide, mut narrow] = KvPrecision::ALL.map(|precision| KvCache::new(shape(precision)));
    narrow.copy_from(&wide, 0, 0, 1);
}

#[test]
fn positions_copied_within_a_cache_attend_like_their_source() {
    let (heads, head_dim, len) = (2, 20, 75);
    let c = heads * head_dim;
    let cpu = Cpu::new(2, None).unwrap();
    let next = values(13, 3 * c);
    let mut out = vec![0.0; len * c];
    for precision in KvPrecision::ALL {
        let shape = KvShape { layers: 1, sequences: 2, heads, head_dim, capacity: 80, precision };
        for from in [0, 1, 15, 16, 17, 31, 32, 33, 50, 64, 70, 75] {
            for to in [from, from.max(32), from.max(40), len] {
                let mut cache = KvCache::new(shape);
                // Both sequences are alike up to `from`; the other one differs from there on.
                let (text, mut other) = (values(11, len * 3 * c), values(12, len * 3 * c));
                other[..from * 3 * c].copy_from_slice(&text[..from * 3 * c]);
                for (sequence, qkv) in [&text, &other].into_iter().enumerate() {
                    let span = Span { sequence, start: 0, row: 0, rows: len };
                    cpu.attention(&mut cache, 0, &[span], qkv, 0.25, &mut out);
                }
                cache.copy_within(0, 1, from..to);
                let (mut a, mut b) = (vec![0.0; c], vec![0.0; c]);
                for (sequence, out) in [&mut a, &mut b].into_iter().enumerate() {
                    let span = Span { sequence, start: to, row: 0, rows: 1 };
                    cpu.attention(&mut cache, 0, &[span], &next, 0.25, out);
                }
                assert_eq!(a, b, "{precision} positions {from} to {to}");
            }
        }
    }
}

#[test]
fn a_missing_instruction_set_is_refused_by_name() {
    for isa in Isa::ALL {
        match Cpu::new(1, Some(isa)) {
            Ok(cpu) => assert_eq!(cpu.isa(), isa),
            Err(error) => assert!(error.to_string().contains(isa.name()), "{error}"),
        }
    }
}
