//! The specification of the integer kernels: plain loops over bytes.

use super::super::portable::into;
use super::super::table::PANEL;
use super::{GROUP, GROUP_STRIDE, GROUP_WORDS, Integers, MAX_ROWS, SCALE_WORDS, WordTile, encode};

/// The portable kernels.
pub static INTEGERS: Integers = Integers {
    name: "portable",
    rows_int8: 8,
    rows_int4: 8,
    quantise,
    int8,
    int4,
    finish,
    encode_int8: encode::int8,
    encode_int4: encode::int4,
};

/// Adding this puts the nearest whole number (of two the even one) of anything within +-2^22 into
/// the low bits of an f32. One addition where `round` would be a call on a bare x86-64.
pub(super) const TO_WHOLE: f32 = 12_582_912.0; // 1.5 * 2^23

/// A magnitude below which everything is taken as zero: the scale and its inverse stay normal.
pub(super) const TINY: f32 = 1e-35;

/// The scale that takes `max` to 127, and its inverse. Not finite where `max` is not.
#[inline(always)]
pub(super) fn scale_of(max: f32) -> (f32, f32) {
    if max < TINY { (0.0, 0.0) } else { (max / 127.0, 127.0 / max) }
}

#[inline(always)]
pub(super) fn quantise(x: &[f32], q: &mut [i8], sums: &mut [i32]) -> f32 {
    assert!(q.len() >= x.len() && q.len() == sums.len() * GROUP);
    // As whole numbers, magnitudes are ordered alike, and a NaN is above infinity.
    let magnitude = x.iter().map(|v| v.to_bits() & 0x7FFF_FFFF).fold(0, u32::max);
    let (scale, inverse) = scale_of(f32::from_bits(magnitude));
    let (whole, rest) = q.split_at_mut(x.len());
    for (q, &v) in whole.iter_mut().zip(x) {
        *q = (v * inverse + TO_WHOLE).to_bits() as i8;
    }
    rest.fill(0);
    for (sum, group) in sums.iter_mut().zip(q.chunks_exact(GROUP)) {
        *sum = group.iter().map(|&q| i32::from(q)).sum();
    }
    scale
}

fn int8(t: WordTile<'_>, c: &mut [i32]) {
    t.check_int8(INTEGERS.rows_int8, c);
    let (corrections, a) = t.a.split_at(t.rows);
    for (m, c) in c.chunks_exact_mut(PANEL).take(t.rows).enumerate() {
        c.fill(corrections[m]);
        for (a, b) in a.chunks_exact(t.rows).zip(t.b.chunks_exact(PANEL)).take(t.steps) {
            for n in 0..PANEL {
                c[n] = c[n].wrapping_add(dot(a[m], b[n]));
            }
        }
    }
}

fn int4(t: WordTile<'_>, c: &mut [f32]) {
    t.check_int4(INTEGERS.rows_int4, c);
    c[..t.rows * PANEL].fill(0.0);
    let groups = t.a.chunks_exact((1 + GROUP_WORDS) * t.rows).zip(t.b.chunks_exact(GROUP_STRIDE));
    let mut sums = [[0; PANEL]; MAX_ROWS];
    for (a, b) in groups.take(t.steps) {
        let (corrections, a) = a.split_at(t.rows);
        let (scales, b) = b.split_at(SCALE_WORDS);
        for (m, sums) in sums[..t.rows].iter_mut().enumerate() {
            sums.fill(corrections[m]);
            for (a, b) in a.chunks_exact(2 * t.rows).zip(b.chunks_exact(PANEL)) {
                for n in 0..PANEL {
                    sums[n] += dot(a[m], b[n] & 0x0F0F_0F0F);
                    sums[n] += dot(a[t.rows + m], b[n] >> 4 & 0x0F0F_0F0F);
                }
            }
        }
        let mut widened = [0.0; PANEL];
        super::super::portable::widen(scales, &mut widened);
        for (c, sums) in c.chunks_exact_mut(PANEL).zip(&sums[..t.rows]) {
            for n in 0..PANEL {
                c[n] += widened[n] * sums[n] as f32;
            }
        }
    }
}

/// Four signed activations times four unsigned weights.
#[inline(always)]
fn dot(a: i32, b: u32) -> i32 {
    let (a, b) = (a.to_le_bytes().map(u8::cast_signed), b.to_le_bytes());
    (0..4).map(|i| i32::from(a[i]) * i32::from(b[i])).sum()
}

#[inline(always)]
pub(super) fn finish(sums: &[i32], scale: f32, columns: &[u32], bias: &[f32], keep: bool, y: &mut [f32]) {
    assert!(sums.len() == PANEL && columns.len() == PANEL && y.len() <= PANEL && bias.len() == y.len());
    let scaled = |(&sum, &column)| sum as f32 * (scale * f32::from_bits(column));
    into(sums.iter().zip(columns).map(scaled), bias, keep, y);
}
