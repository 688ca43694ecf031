//! What the tests share: reproducible values, every path of this machine, formulas in f64.
#![allow(dead_code, reason = "each test binary takes what it needs")]

use kernels::{Cpu, Isa};

/// A reproducible value in -1..1 for index `i` of stream `stream`.
pub fn value(stream: u64, i: usize) -> f32 {
    let mut x = (stream << 32 | i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((x ^ (x >> 29)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

pub fn values(stream: u64, len: usize) -> Vec<f32> {
    (0..len).map(|i| value(stream, i)).collect()
}

pub fn cpus(threads: usize) -> impl Iterator<Item = Cpu> {
    Isa::available().map(move |isa| Cpu::new(threads, Some(isa)).unwrap())
}

/// The nearest bf16, of two equally near ones the even.
pub fn bf16(x: f32) -> f32 {
    let (below, half) = (x.to_bits() & 0xFFFF_0000, 0x8000);
    let (rest, odd) = (x.to_bits() - below, below & 0x1_0000 != 0);
    f32::from_bits(if rest > half || rest == half && odd { below + 0x1_0000 } else { below })
}

/// Each `got` within `budget` of `want`, relative to the larger of `want` and `scale`.
#[track_caller]
pub fn close(what: &str, got: &[f32], want: &[f64], scale: f64, budget: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(g) - w).abs();
        assert!(error <= budget * w.abs().max(scale), "{what}[{i}]: {g} for {w}, off by {error:e}");
    }
}

pub fn gelu64(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

pub fn layernorm64(x: &[f32], gain: &[f32], bias: &[f32], eps: f32) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let var = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    let rstd = 1.0 / (var + f64::from(eps)).sqrt();
    x.iter()
        .zip(gain.iter().zip(bias))
        .map(|(&v, (&g, &b))| (f64::from(v) - mean) * rstd * f64::from(g) + f64::from(b))
        .collect()
}
