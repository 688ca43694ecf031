//! The specification: each kernel as the loop its formula says, checked by eye and against f64.
//!
//! Slow on purpose nowhere, clever nowhere. The vector paths are tested against this file, and it
//! is what runs on a machine without them.

use super::table::{Columns, MAX_ROWS, PANEL, Table, Tile, Word};

/// Word j of 16 holds column j in its low half and column j + 16 in its high half.
const HALF: usize = PANEL / 2;

/// The portable kernels.
pub static TABLE: Table = Table {
    rows: 8,
    tile,
    tile_add,
    tile_bf16,
    tile_bf16_add,
    narrow,
    widen,
    finish,
    gelu,
    add,
    layernorm,
    largest,
    exponentials,
    softmax_step,
    argmax,
    log_sum_exp,
};

fn tile(t: Tile<'_>, c: &mut [f32], ldc: usize) {
    product(t, |row, b| b.copy_from_slice(row), false, c, ldc);
}

fn tile_add(t: Tile<'_>, c: &mut [f32], ldc: usize) {
    product(t, |row, b| b.copy_from_slice(row), true, c, ldc);
}

fn tile_bf16(t: Tile<'_, u32>, c: &mut [f32], ldc: usize) {
    product(t, widen, false, c, ldc);
}

fn tile_bf16_add(t: Tile<'_, u32>, c: &mut [f32], ldc: usize) {
    product(t, widen, true, c, ldc);
}

/// The tile product over rows of B that `read` turns into floats, into C or added to it.
fn product<W: Word>(t: Tile<'_, W>, read: impl Fn(&[W], &mut [f32]), add: bool, c: &mut [f32], ldc: usize) {
    t.check(TABLE.rows, c, ldc);
    let mut sums = [[0.0f32; PANEL]; MAX_ROWS];
    let mut b = [0.0; PANEL];
    for (row, c) in sums[..t.rows].iter_mut().zip(c.chunks(ldc)).filter(|_| add) {
        row.copy_from_slice(&c[..PANEL]);
    }
    for k in 0..t.k {
        read(&t.b[k * t.ldb..][..W::WORDS], &mut b);
        for (m, row) in sums[..t.rows].iter_mut().enumerate() {
            let a = t.a[k * t.lda + m];
            for n in 0..PANEL {
                row[n] += a * b[n];
            }
        }
    }
    for (m, row) in sums[..t.rows].iter().enumerate() {
        c[m * ldc..][..PANEL].copy_from_slice(row);
    }
}

/// A bf16 is the upper half of the f32 with the same value.
#[inline(always)]
pub(super) fn widen(words: &[u32], out: &mut [f32]) {
    assert_eq!(words.len() * 2, out.len());
    for (words, out) in words.chunks_exact(HALF).zip(out.chunks_exact_mut(PANEL)) {
        for j in 0..HALF {
            out[j] = f32::from_bits(words[j] << 16);
            out[j + HALF] = f32::from_bits(words[j] & 0xFFFF_0000);
        }
    }
}

#[inline(always)]
pub(super) fn narrow(rows: &[f32], words: &mut [u32]) {
    assert_eq!(words.len() * 2, rows.len());
    for (row, words) in rows.chunks_exact(PANEL).zip(words.chunks_exact_mut(HALF)) {
        for j in 0..HALF {
            words[j] = bf16(row[j]) | bf16(row[j + HALF]) << 16;
        }
    }
}

/// The nearest bf16, of two equally near ones the even; beyond the largest it is infinite. A NaN
/// stays one: its quiet bit is set, since the bits that made it a NaN may be cut off.
#[inline(always)]
pub(super) fn bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    // Half of the unit that remains, less one where that unit is even, carries into it.
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

fn gelu(x: &mut [f32]) {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    for v in x {
        let u = SQRT_2_OVER_PI * (*v + 0.044_715 * *v * *v * *v);
        *v = 0.5 * *v * (1.0 + u.tanh());
    }
}

#[inline(always)]
pub(super) fn finish(sums: &[f32], scale: f32, bias: &[f32], keep: bool, y: &mut [f32]) {
    assert!(sums.len() >= y.len() && bias.len() == y.len());
    into(sums.iter().map(|sum| sum * scale), bias, keep, y);
}

/// Takes scaled sums into a row. A whole panel's width is known to the compiler, and is the rule.
#[inline(always)]
pub(super) fn into(sums: impl Iterator<Item = f32>, bias: &[f32], keep: bool, y: &mut [f32]) {
    if let (Ok(y), Ok(bias)) = (<&mut [f32; PANEL]>::try_from(&mut *y), <&[f32; PANEL]>::try_from(bias)) {
        return each(sums, bias, keep, y);
    }
    each(sums, bias, keep, y);
}

#[inline(always)]
fn each(sums: impl Iterator<Item = f32>, bias: &[f32], keep: bool, y: &mut [f32]) {
    for ((y, sum), bias) in y.iter_mut().zip(sums).zip(bias) {
        let sum = sum + bias;
        *y = if keep { *y + sum } else { sum };
    }
}

#[inline(always)]
pub(super) fn add(y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len());
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

fn layernorm(x: &[f32], gain: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let n = x.len();
    assert!(gain.len() == n && bias.len() == n && out.len() == n);
    let mean = x.iter().sum::<f32>() / n as f32;
    let var = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n as f32;
    let rstd = 1.0 / (var + eps).sqrt();
    for i in 0..n {
        out[i] = (x[i] - mean) * rstd * gain[i] + bias[i];
    }
}

fn exponentials(x: &mut [f32]) -> f32 {
    let max = largest(x);
    x.iter_mut().for_each(|v| *v = (*v - max).exp());
    x.iter().sum()
}

fn softmax_step(x: &mut [f32], columns: &mut Columns) -> bool {
    assert_eq!(x.len() % PANEL, 0);
    let Columns { max, sums, factors } = columns;
    let before = *max;
    for row in x.chunks_exact(PANEL) {
        for (max, &x) in max.iter_mut().zip(row) {
            *max = max.max(x);
        }
    }
    for (n, sum) in sums.iter_mut().enumerate() {
        factors[n] = (before[n] - max[n]).exp2();
        *sum *= factors[n];
    }
    for row in x.chunks_exact_mut(PANEL) {
        for (n, x) in row.iter_mut().enumerate() {
            *x = (*x - max[n]).exp2();
            sums[n] += *x;
        }
    }
    before != *max
}

fn largest(x: &[f32]) -> f32 {
    x.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

fn argmax(x: &[f32]) -> usize {
    let mut best = 0;
    for (i, &v) in x.iter().enumerate() {
        if v > x[best] {
            best = i;
        }
    }
    best
}

fn log_sum_exp(x: &[f32]) -> f32 {
    let max = largest(x);
    max + x.iter().map(|v| (v - max).exp()).sum::<f32>().ln()
}
