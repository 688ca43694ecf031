//! The specification: each kernel as the loop its formula says, checked by eye and against f64.
//!
//! Slow on purpose nowhere, clever nowhere. The vector paths are tested against this file, and it
//! is what runs on a machine without them.

use super::table::{MAX_ROWS, PANEL, Table, Tile};

/// The portable kernels.
pub static TABLE: Table =
    Table { rows: 8, tile, gelu, add, layernorm, softmax, softmax_columns, argmax, log_sum_exp };

fn tile(t: Tile<'_>, c: &mut [f32], ldc: usize) {
    t.check(TABLE.rows, c, ldc);
    let mut sums = [[0.0f32; PANEL]; MAX_ROWS];
    for k in 0..t.k {
        let b = &t.b[k * t.ldb..][..PANEL];
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

fn gelu(x: &mut [f32]) {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    for v in x {
        let u = SQRT_2_OVER_PI * (*v + 0.044_715 * *v * *v * *v);
        *v = 0.5 * *v * (1.0 + u.tanh());
    }
}

fn add(y: &mut [f32], x: &[f32]) {
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

fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for v in x.iter_mut() {
        *v = (*v - max).exp();
        sum += *v;
    }
    for v in x {
        *v /= sum;
    }
}

fn softmax_columns(x: &mut [f32], sums: &mut [f32; PANEL]) {
    assert_eq!(x.len() % PANEL, 0);
    let mut max = [f32::NEG_INFINITY; PANEL];
    for row in x.chunks_exact(PANEL) {
        for n in 0..PANEL {
            max[n] = max[n].max(row[n]);
        }
    }
    *sums = [0.0; PANEL];
    for row in x.chunks_exact_mut(PANEL) {
        for n in 0..PANEL {
            row[n] = (row[n] - max[n]).exp();
            sums[n] += row[n];
        }
    }
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
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    max + x.iter().map(|v| (v - max).exp()).sum::<f32>().ln()
}
