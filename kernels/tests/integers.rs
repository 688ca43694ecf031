//! The integer kernels of every path this machine runs against the portable ones, bit for bit.
//!
//! Random bytes with the extremes among them: sums that saturate or wrap where they must not show.

mod common;

use kernels::cpu::integers::portable::INTEGERS as PORTABLE;
use kernels::cpu::integers::{Integers, WordTile};

/// A reproducible stream of words.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 32) as u32
    }

    /// Four bytes of which, one time in four, all are extreme.
    fn bytes(&mut self, extremes: [u8; 2]) -> u32 {
        let random = self.next();
        if self.next().is_multiple_of(4) {
            u32::from_le_bytes(random.to_le_bytes().map(|b| extremes[usize::from(b % 2)]))
        } else {
            random
        }
    }

    fn activations(&mut self, len: usize) -> Vec<i32> {
        (0..len).map(|_| self.bytes([0x7F, 0x81]).cast_signed()).collect()
    }

    fn weights(&mut self, len: usize) -> Vec<u32> {
        (0..len).map(|_| self.bytes([0, 255])).collect()
    }
}

/// Row `m` of operand A, as a tile of its own.
fn row(a: &[i32], rows: usize, m: usize) -> Vec<i32> {
    a.chunks_exact(rows).map(|column| column[m]).collect()
}

#[test]
fn int8_sums_are_the_specifications() {
    let mut words = Words(1);
    for integers in Integers::available() {
        for rows in 1..=integers.rows_int8 {
            for steps in [0, 1, 2, 3, 5, 192] {
                let (a, b) = (words.activations((1 + steps) * rows), words.weights(steps * 32));
                let mut got = vec![7; rows * 32];
                (integers.int8)(WordTile { a: &a, b: &b, steps, rows }, &mut got);
                for (m, got) in got.chunks_exact(32).enumerate() {
                    let (a, mut want) = (row(&a, rows, m), vec![0; 32]);
                    (PORTABLE.int8)(WordTile { a: &a, b: &b, steps, rows: 1 }, &mut want);
                    assert_eq!(got, want, "{} row {m} of {rows}, {steps} steps", integers.name);
                }
            }
        }
    }
}

#[test]
fn the_specification_of_int8_is_its_formula() {
    let mut words = Words(2);
    let (steps, rows) = (50, 3);
    let (a, b) = (words.activations((1 + steps) * rows), words.weights(steps * 32));
    let mut got = vec![0; rows * 32];
    (PORTABLE.int8)(WordTile { a: &a, b: &b, steps, rows }, &mut got);
    for (at, got) in got.into_iter().enumerate() {
        let (m, n) = (at / 32, at % 32);
        let mut want = i64::from(a[m]);
        for k in 0..4 * steps {
            let shift = 8 * (k % 4);
            let x = i64::from((a[(1 + k / 4) * rows + m] >> shift) as i8);
            want += x * i64::from((b[k / 4 * 32 + n] >> shift) as u8);
        }
        assert_eq!(got, want as i32, "{m}, {n}");
    }
}

#[test]
fn int4_sums_are_the_specifications() {
    let mut words = Words(3);
    for integers in Integers::available() {
        for rows in 1..=integers.rows_int4 {
            for steps in [0, 1, 2, 7, 24] {
                let mut a = words.activations(steps * 9 * rows);
                // Corrections of their own size, and scales of a power of two: with both, every
                // sum is a whole number below 2^24 and f32 is exact in any order.
                a.chunks_mut(9 * rows).flat_map(|group| &mut group[..rows]).for_each(|c| *c %= 1 << 15);
                let mut b = words.weights(steps * 144);
                for scale in b.chunks_exact_mut(144).flat_map(|group| &mut group[..16]) {
                    let power = |random: u32| (127 - (random & 1)) << 7 | (random & 2) << 14;
                    *scale = power(words.next()) | power(words.next()) << 16;
                }
                let mut got = vec![7.0; rows * 32];
                (integers.int4)(WordTile { a: &a, b: &b, steps, rows }, &mut got);
                for (m, got) in got.chunks_exact(32).enumerate() {
                    let (a, mut want) = (row(&a, rows, m), vec![0.0; 32]);
                    (PORTABLE.int4)(WordTile { a: &a, b: &b, steps, rows: 1 }, &mut want);
                    assert_eq!(got, want, "{} row {m} of {rows}, {steps} groups", integers.name);
                }
            }
        }
    }
}

#[test]
fn rows_are_rounded_alike_and_as_the_formula_says() {
    for integers in Integers::available() {
        for len in [0, 1, 31, 32, 33, 100, 768, 770] {
            for (stream, scale) in [(1, 1.0), (2, 1e-3), (3, 1e-37), (4, 1e30)] {
                let x: Vec<f32> = common::values(stream, len).iter().map(|v| v * scale).collect();
                let groups = len.div_ceil(32);
                let (mut q, mut sums) = (vec![9i8; groups * 32], vec![9; groups]);
                let step = (integers.quantise)(&x, &mut q, &mut sums);
                let max = x.iter().fold(0.0f32, |max, v| max.max(v.abs()));
                let inverse = if max < 1e-35 { 0.0 } else { 127.0 / max };
                assert_eq!(step, if max < 1e-35 { 0.0 } else { max / 127.0 });
                for (i, &q) in q.iter().enumerate() {
                    let want = x.get(i).map_or(0.0, |v| (v * inverse).round_ties_even());
                    assert_eq!(f32::from(q), want, "{} {i} of {len}", integers.name);
                }
                for (group, sum) in q.chunks_exact(32).zip(sums) {
                    assert_eq!(sum, group.iter().map(|&q| i32::from(q)).sum::<i32>());
                }
            }
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (mut q, mut sums) = (vec![0i8; 32], vec![0]);
            assert!(!(integers.quantise)(&[1.0, bad, 2.0], &mut q, &mut sums).is_finite());
        }
    }
}

#[test]
fn finished_sums_are_the_specifications() {
    let mut words = Words(5);
    for integers in Integers::available() {
        for width in [1, 7, 31, 32] {
            for keep in [false, true] {
                let sums: Vec<i32> = (0..32).map(|_| words.next().cast_signed()).collect();
                let columns: Vec<u32> = common::values(6, 32).iter().map(|v| v.to_bits()).collect();
                let (bias, before) = (common::values(7, width), common::values(8, width));
                let (mut got, mut want) = (before.clone(), before);
                (integers.finish)(&sums, 0.3, &columns, &bias, keep, &mut got);
                (PORTABLE.finish)(&sums, 0.3, &columns, &bias, keep, &mut want);
                assert_eq!(got, want, "{}", integers.name);
            }
        }
    }
}

#[test]
fn a_tile_that_does_not_fit_its_slices_is_refused() {
    for integers in Integers::available() {
        let (a, b) = (vec![0; 9], vec![0; 144]);
        for (steps, rows, c) in [(1, 0, 32), (1, 2, 64), (2, 1, 32), (1, 1, 31), (1, 15, 480)] {
            let tile = WordTile { a: &a, b: &b, steps, rows };
            let run = || (integers.int4)(tile, &mut vec![0.0; c]);
            assert!(std::panic::catch_unwind(run).is_err(), "{} {steps} {rows} {c}", integers.name);
        }
        let run = || (integers.int8)(WordTile { a: &a, b: &b, steps: 5, rows: 1 }, &mut [0; 32]);
        assert!(std::panic::catch_unwind(run).is_err(), "{}", integers.name);
    }
}
