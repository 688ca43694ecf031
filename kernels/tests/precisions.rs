//! Products in every precision, on every instruction set and for odd shapes, against f64.
//!
//! Two questions, asked apart. Does a product compute what its precision says? Then the f64 sum
//! is taken over the weights and rows as they were rounded, and the budget is f32's. And how far
//! may rounding lead? Then over what was given, and the budget is the bound that the steps imply.

mod common;

use common::{bf16, close, cpus, gelu64, values};
use kernels::cpu::dots::{DotTile, Dots, portable};
use kernels::{Cpu, Input, Isa, Linear, Output, Packed, Precision};

/// Rows: one, few, the edges of a tile, more than a block, more than threads want to share.
const ROWS: [usize; 7] = [1, 2, 7, 14, 15, 97, 200];
/// Inputs and outputs: none a multiple of what anything is packed in, then both, then a real one.
const SHAPES: [(usize, usize); 9] =
    [(1, 1), (3, 31), (5, 33), (31, 64), (64, 32), (67, 70), (96, 129), (515, 40), (768, 96)];

/// A row as int8 and int4 see it: whole numbers and their scale.
fn quantised(row: &[f32]) -> (Vec<f64>, f64) {
    let max = row.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let whole = row.iter().map(|v| f64::from((v * (127.0 / max)).round_ties_even())).collect();
    (whole, f64::from(max / 127.0))
}

/// Whether `cpu` rounds `m` rows to bf16 before it multiplies them by bf16.
fn rounds_to_bf16(cpu: &Cpu, m: usize) -> bool {
    cpu.dots().is_some_and(|dots| m >= dots.least)
}

/// The rows that a product in `precision` on `cpu` multiplies, in f64.
fn seen(cpu: &Cpu, x: &[f32], k: usize, precision: Precision) -> Vec<f64> {
    match precision {
        Precision::Bf16 if rounds_to_bf16(cpu, x.len() / k) => x.iter().map(|&v| bf16(v).into()).collect(),
        Precision::F32 | Precision::Bf16 => x.iter().map(|&v| f64::from(v)).collect(),
        Precision::Int8 | Precision::Int4 => {
            let row = |row| {
                let (whole, scale) = quantised(row);
                whole.into_iter().map(move |q| q * scale)
            };
            x.chunks_exact(k).flat_map(row).collect()
        }
    }
}

/// The weights that a product multiplies, column by column, `[N][K]`.
fn columns(w: &Packed) -> Vec<f64> {
    let mut column = vec![0.0; w.inputs()];
    let mut all = Vec::new();
    for n in 0..w.outputs() {
        w.column(n, &mut column);
        all.extend(column.iter().map(|&v| f64::from(v)));
    }
    all
}

/// `X W` in f64 for rows of `k`, the columns one after the other.
fn product(x: &[f64], columns: &[f64], k: usize) -> Vec<f64> {
    let row = |row: &[f64]| -> Vec<f64> {
        columns.chunks_exact(k).map(|w| row.iter().zip(w).map(|(a, b)| a * b).sum()).collect()
    };
    x.chunks_exact(k).flat_map(row).collect()
}

/// Weights of GPT-2's size and roughly its shape: sums of four uniform values.
fn weights(stream: u64, len: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = (0..4).map(|i| values(1000 * stream + i, len)).collect();
    (0..len).map(|i| 0.02 * (parts[0][i] + parts[1][i] + parts[2][i] + parts[3][i])).collect()
}

#[test]
fn every_product_is_that_of_the_rounded_numbers() {
    let maker = Cpu::new(2, None).unwrap();
    for (case, (k, n)) in SHAPES.into_iter().enumerate() {
        for precision in Precision::ALL {
            let weight = Packed::from_kn(&maker, &weights(1, k * n), k, n, precision);
            let (columns, bias) = (columns(&weight), values(2, n));
            let linear = Linear { weight, bias: if case % 3 == 0 { Vec::new() } else { bias } };
            for (i, m) in ROWS.into_iter().enumerate() {
                let output = [Output::Store, Output::Add, Output::Gelu][(i + case) % 3];
                let (x, before) = (values(3 + m as u64, m * k), values(4, m * n));
                for cpu in cpus(1 + (case + i) % 3) {
                    let mut want = product(&seen(&cpu, &x, k, precision), &columns, k);
                    for (at, sum) in want.iter_mut().enumerate() {
                        *sum += linear.bias.get(at % n).map_or(0.0, |&b| f64::from(b));
                        *sum = match output {
                            Output::Store => *sum,
                            Output::Add => *sum + f64::from(before[at]),
                            Output::Gelu => gelu64(*sum),
                        };
                    }
                    let mut y = before.clone();
                    cpu.linear(Input::Rows(&x), &linear, &mut y, output);
                    let what = format!("{cpu:?} {precision} {m}x{k}x{n} {output:?}");
                    close(&what, &y, &want, 0.04 * (k as f64).sqrt() + 1.0, 4e-6);
                }
            }
        }
    }
}

#[test]
fn whole_numbers_give_a_row_the_same_bits_in_any_company() {
    let (k, n, m) = (515, 70, 200);
    let x = values(5, m * k);
    let (gain, shift) = (values(6, k), values(7, k));
    let norm = |rows| Input::Norm { rows, gain: &gain, bias: &shift, eps: 1e-5 };
    let maker = Cpu::new(1, None).unwrap();
    for precision in [Precision::Int8, Precision::Int4] {
        let weight = Packed::from_kn(&maker, &weights(8, k * n), k, n, precision);
        let linear = Linear { weight, bias: values(9, n) };
        for cpu in cpus(2) {
            let mut all = vec![0.0; m * n];
            cpu.linear(norm(&x), &linear, &mut all, Output::Gelu);
            for few in [1, 2, 5, 9, 14, 40] {
                let mut some = vec![0.0; few * n];
                cpu.linear(norm(&x[..few * k]), &linear, &mut some, Output::Gelu);
                assert_eq!(some, all[..few * n], "{cpu:?} {precision}, {few} rows");
            }
        }
    }
}

#[test]
fn rounding_stays_within_the_bound_of_its_steps() {
    let (k, n, m) = (768, 40, 16);
    let (x, w) = (values(10, m * k), weights(11, k * n));
    let exact: Vec<f64> =
        (0..n).flat_map(|j| (0..k).map(move |i| i * n + j)).map(|at| w[at].into()).collect();
    let rows: Vec<f64> = x.iter().map(|&v| v.into()).collect();
    let want = product(&rows, &exact, k);
    let maker = Cpu::new(1, None).unwrap();
    let largest = |w: &[f64]| w.iter().fold(0.0f64, |max, v| max.max(v.abs()));
    for precision in Precision::ALL {
        let weight = Packed::from_kn(&maker, &w, k, n, precision);
        let linear = Linear { weight, bias: Vec::new() };
        for cpu in cpus(1) {
            let mut y = vec![0.0; m * n];
            cpu.linear(Input::Rows(&x), &linear, &mut y, Output::Store);
            for (at, (&got, &want)) in y.iter().zip(&want).enumerate() {
                let (row, column) = (&rows[at / n * k..][..k], &exact[at % n * k..][..k]);
                let eighth_bit = |_| largest(row) / 254.0;
                let rounded = if rounds_to_bf16(&cpu, m) { 1.0 / 256.0 } else { 0.0 };
                // (a + e)(b + f) - ab = af + be + ef, summed.
                let off = |half_step_w: &dyn Fn(usize) -> f64, half_step_x: &dyn Fn(usize) -> f64| -> f64 {
                    let one = |i: usize| {
                        let (e, f) = (half_step_x(i), half_step_w(i));
                        row[i].abs() * f + column[i].abs() * e + e * f
                    };
                    (0..k).map(one).sum()
                };
                let bound = match precision {
                    Precision::F32 => 0.0,
                    Precision::Bf16 => off(&|i| column[i].abs() / 256.0, &|i| rounded * row[i].abs()),
                    Precision::Int8 => off(&|_| largest(column) / 254.0, &eighth_bit),
                    // The furthest off: what nearly equals the largest, with the other sign, and
                    // is clipped at 7 of 8.9.
                    Precision::Int4 => off(
                        &|i| largest(&column[i / 32 * 32..][..32]) * (1.9 / 8.9 + 1.0 / 256.0),
                        &eighth_bit,
                    ),
                };
                let (error, budget) = ((f64::from(got) - want).abs(), bound + 1e-5);
                assert!(error <= budget, "{cpu:?} {precision}[{at}]: {got} for {want}, bound {bound}");
            }
        }
    }
}

/// Root of the mean squared error of the weights relative to theirs.
fn relative_error(w: &[f32], k: usize, n: usize, precision: Precision) -> f64 {
    let packed = Packed::from_nk(&Cpu::new(2, None).unwrap(), w, n, k, precision);
    let off: f64 = columns(&packed).iter().zip(w).map(|(a, &b)| (a - f64::from(b)).powi(2)).sum();
    let all: f64 = w.iter().map(|&b| f64::from(b).powi(2)).sum();
    (off / all).sqrt()
}

#[test]
fn weights_keep_the_accuracy_that_the_readme_states() {
    let (k, n) = (768, 256);
    let w = weights(12, k * n);
    let errors = Precision::ALL.map(|precision| relative_error(&w, k, n, precision));
    let budgets = [0.0, 0.002, 0.008, 0.08];
    for ((error, budget), precision) in errors.into_iter().zip(budgets).zip(Precision::ALL) {
        assert!(error <= budget, "{precision}: {error}");
    }
    // The plain scale of int4, the largest weight at -8, for comparison: the search must pay.
    let plain: f64 = w
        .chunks_exact(32)
        .map(|group| {
            let extreme = group.iter().fold(0.0f32, |e, &v| if v.abs() > e.abs() { v } else { e });
            let scale = f64::from(extreme) / -8.0;
            let off = |&v: &f32| {
                let q = (f64::from(v) / scale).round_ties_even().clamp(-8.0, 7.0);
                (f64::from(v) - scale * q).powi(2)
            };
            group.iter().map(off).sum::<f64>()
        })
        .sum();
    let plain = (plain / w.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>()).sqrt();
    assert!(errors[3] < 0.965 * plain, "{} searched, {plain} plain", errors[3]);
}

#[test]
fn an_embedding_is_a_rounded_column() {
    let (c, v) = (67, 100);
    let (table, positions) = (weights(13, v * c), values(14, 3 * c));
    for precision in Precision::ALL {
        for cpu in cpus(2) {
            let packed = Packed::from_nk(&cpu, &table, v, c, precision);
            let mut out = vec![0.0; 2 * c];
            cpu.embed(&packed, &positions, &[(99, 2), (31, 0)], &mut out);
            let mut want = vec![0.0; c];
            packed.column(99, &mut want);
            want.iter_mut().zip(&positions[2 * c..]).for_each(|(w, p)| *w += p);
            assert_eq!(out[..c], want, "{cpu:?} {precision}");
        }
    }
}

#[test]
fn weights_are_the_same_whichever_path_packed_them() {
    let (k, n) = (67, 70);
    let mut w = weights(15, k * n);
    // Columns of zeros, of next to nothing, of much, and with what no scale can hold.
    for i in 0..k {
        (w[i * n], w[i * n + 1], w[i * n + 2]) = (0.0, w[i * n + 1] * 1e-36, w[i * n + 2] * 1e30);
    }
    (w[3], w[4 + 40 * n]) = (f32::NAN, f32::INFINITY);
    for precision in Precision::ALL {
        let all: Vec<Vec<u64>> = cpus(1)
            .map(|cpu| {
                let packed = Packed::from_kn(&cpu, &w, k, n, precision);
                columns(&packed).into_iter().map(f64::to_bits).collect()
            })
            .collect();
        assert!(all.iter().all(|other| *other == all[0]), "{precision}");
    }
}

#[test]
fn a_row_of_zeros_gives_the_bias_and_one_that_is_not_finite_says_so() {
    let (k, n) = (40, 33);
    let bias = values(16, n);
    for precision in Precision::ALL {
        for cpu in cpus(1) {
            let weight = Packed::from_kn(&cpu, &weights(17, k * n), k, n, precision);
            let linear = Linear { weight, bias: bias.clone() };
            for m in [2, 20] {
                let mut x = vec![0.0; m * k];
                x[k + 7] = f32::NAN;
                let mut y = vec![0.0; m * n];
                cpu.linear(Input::Rows(&x), &linear, &mut y, Output::Store);
                for (row, y) in y.chunks_exact(n).enumerate() {
                    let right = if row == 1 { y.iter().all(|v| v.is_nan()) } else { y == bias };
                    assert!(right, "{cpu:?} {precision}, row {row} of {m}: {y:?}");
                }
            }
        }
    }
}

/// Pairs, as every path of this machine makes them of `row`: all the same.
fn pairs(row: &[f32]) -> Vec<u32> {
    on_every_path(|dots| {
        let mut pairs = vec![u32::MAX; row.len().div_ceil(32) * 16];
        (dots.narrow)(row, &mut pairs, 16);
        pairs
    })
}

/// What `make` gives on one path of this machine, and so on each.
fn on_every_path(make: impl Fn(&Dots) -> Vec<u32>) -> Vec<u32> {
    let first = make(&portable::DOTS);
    for dots in Dots::available() {
        assert_eq!(make(dots), first, "{}", dots.name);
    }
    first
}

/// Numbers that are halfway, too large, too small, or hardly numbers.
const AWKWARD: [u32; 10] = [
    0x3F80_8000,
    0x3F81_8000,
    0x3F80_8001,
    0x7F7F_FFFF,
    0x8000_0000,
    0xFF80_0000,
    0x3F80_7FFF,
    0x0080_0000,
    0x007F_FFFF,
    0x8000_0001,
];

/// The half word a number becomes.
fn half(x: f32) -> u32 {
    bf16(if x.is_subnormal() { 0.0 * x } else { x }).to_bits() >> 16
}

#[test]
fn rows_become_pairs_of_the_nearest_bf16() {
    let mut row = values(18, 60);
    row.extend(AWKWARD.map(f32::from_bits));
    for len in [1, 2, 16, 17, 32, 33, row.len()] {
        let row = &row[..len];
        for (i, pair) in pairs(row).into_iter().enumerate() {
            let want = [2 * i, 2 * i + 1].map(|at| row.get(at).map_or(0, |&x| half(x)));
            assert_eq!(pair, want[0] | want[1] << 16, "pair {i} of {len}");
        }
    }
    // What makes these a NaN lies in the half that is cut off.
    let pair = pairs(&[0x7F80_0001, 0xFFBF_FFFF].map(f32::from_bits))[0];
    assert!([pair << 16, pair].into_iter().all(|half| f32::from_bits(half).is_nan()), "{pair:x}");
}

#[test]
fn rows_become_those_of_a_panel() {
    let mut rows = values(21, 96 - AWKWARD.len());
    rows.extend(AWKWARD.map(f32::from_bits));
    let words = on_every_path(|dots| {
        let mut words = vec![u32::MAX; 48];
        (dots.panel)(&rows, &mut words);
        words
    });
    for (i, word) in words.into_iter().enumerate() {
        let low = i / 16 * 32 + i % 16;
        assert_eq!(word, half(rows[low]) | half(rows[low + 16]) << 16, "word {i}");
    }
}

#[test]
fn every_path_multiplies_pairs_as_the_plain_loops_do() {
    // More than the 32 columns from row to row: what lies between stays.
    const APART: usize = 37;
    for k in [0, 1, 2, 3, 31, 32, 34, 768, 3073] {
        // One panel, its words made as a row's are: any 16 a row will do.
        let b = pairs(&values(19, 32 * k));
        for rows in 1..=portable::DOTS.rows {
            let a = pairs(&values(20, 32 * k.div_ceil(32) * rows));
            let mut want = vec![7.0; APART * rows];
            (portable::DOTS.tile)(DotTile { a: &a, b: &b, k, rows }, &mut want, APART);
            assert!(want.chunks_exact(APART).all(|row| row[32..] == [7.0; APART - 32]));
            let want: Vec<f64> = want.into_iter().map(f64::from).collect();
            for dots in Dots::available().filter(|dots| rows <= dots.rows) {
                let mut got = vec![7.0; APART * rows];
                (dots.tile)(DotTile { a: &a, b: &b, k, rows }, &mut got, APART);
                close(&format!("{} {rows}x{k}", dots.name), &got, &want, (k as f64).sqrt() + 1.0, 4e-6);
            }
        }
    }
}

#[test]
#[should_panic(expected = "131073 inputs are too many for int8: at most 131072")]
fn int8_refuses_more_inputs_than_its_sums_hold() {
    let cpu = Cpu::new(1, None).unwrap();
    Packed::from_kn(&cpu, &vec![0.0; 131_073], 131_073, 1, Precision::Int8);
}

#[test]
fn the_longest_sum_of_int8_fits() {
    let k = 131_072;
    for cpu in cpus(1) {
        let weight = Packed::from_kn(&cpu, &vec![1.0; k], k, 1, Precision::Int8);
        let linear = Linear { weight, bias: Vec::new() };
        for (x, want) in [(1.0, k as f64), (-1.0, -(k as f64))] {
            let mut y = [0.0];
            cpu.linear(Input::Rows(&vec![x; k]), &linear, &mut y, Output::Store);
            close(&format!("{cpu:?}"), &y, &[want], 1.0, 1e-6);
        }
    }
}

#[test]
fn each_precision_names_the_path_it_takes() {
    let paths = [
        "portable",
        "neon",
        "neon-dotprod",
        "neon-i8mm",
        "avx2",
        "avx-vnni",
        "avx512",
        "avx512-bf16",
        "avx512-vnni",
    ];
    for cpu in cpus(1) {
        for precision in Precision::ALL {
            assert!(paths.contains(&cpu.path(precision)));
        }
        assert_eq!(cpu.path(Precision::F32), cpu.isa().name());
        let bf16 = cpu.dots().map_or(cpu.isa().name(), |dots| dots.name);
        assert_eq!(cpu.path(Precision::Bf16), bf16);
        assert!(cpu.isa() == Isa::Avx512 || cpu.dots().is_none(), "{cpu:?}");
        assert_eq!(cpu.path(Precision::Int4), cpu.integers().name);
    }
}
