//! Panels of floats to panels of whole numbers, and single columns back.
//!
//! Plain loops over 32 columns, which every path compiles again for its registers: loading a model
//! is to wait for memory and not for them. No step depends on the path, so neither do the weights.

use super::super::portable::bf16;
use super::super::table::PANEL;
use super::portable::{TINY, TO_WHOLE, scale_of};
use super::{GROUP, GROUP_STRIDE, SCALE_WORDS, ZERO_INT4, ZERO_INT8};

/// The low byte of `x + BYTE` is `round(x) + ZERO_INT8`.
const BYTE: f32 = TO_WHOLE + ZERO_INT8 as f32;
/// The low nibble of `x + NIBBLE` is `round(x) + ZERO_INT4`.
const NIBBLE: f32 = TO_WHOLE + ZERO_INT4 as f32;

/// What the weight of largest magnitude in a group may stand for; the scale follows. The first is
/// what the range offers. A little less lets the other sign reach as far, a little more clips this
/// one weight and rounds the others more finely. More candidates, +7 and refining the best by least
/// squares were tried: together they take 1 % more off the error.
const EXTREMES: [f32; 4] = [-8.0, -7.6, -8.4, -8.9];

type Columns = [f32; PANEL];

/// A panel `[K][32]` as `[ceil(K/4)][32]` words and 32 scales. A column with a value that is not
/// finite has a scale that is not.
#[inline(always)]
pub(super) fn int8(rows: &[f32], words: &mut [u32]) {
    let steps = (rows.len() / PANEL).div_ceil(4);
    assert_eq!(words.len(), (steps + 1) * PANEL, "an int8 panel");
    let mut magnitude = [0; PANEL];
    for row in rows.chunks_exact(PANEL) {
        for n in 0..PANEL {
            magnitude[n] = row_magnitude(row[n]).max(magnitude[n]);
        }
    }
    let (weights, scales) = words.split_at_mut(steps * PANEL);
    let mut inverse = [0.0; PANEL];
    for n in 0..PANEL {
        let (scale, of) = scale_of(f32::from_bits(magnitude[n]));
        (scales[n], inverse[n]) = (scale.to_bits(), of);
    }
    let (fours, rest) = rows.as_chunks::<{ 4 * PANEL }>();
    for (four, out) in fours.iter().zip(weights.chunks_exact_mut(PANEL)) {
        bytes(four, &inverse, out);
    }
    if !rest.is_empty() {
        let mut four = [0.0; 4 * PANEL];
        four[..rest.len()].copy_from_slice(rest);
        bytes(&four, &inverse, &mut weights[fours.len() * PANEL..]);
    }
}

/// As whole numbers, magnitudes are ordered alike, and a NaN is above infinity.
#[inline(always)]
fn row_magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7FFF_FFFF
}

/// Four rows to one row of words.
#[inline(always)]
fn bytes(rows: &[f32; 4 * PANEL], inverse: &Columns, out: &mut [u32]) {
    let mut words = [0; PANEL];
    for b in 0..4 {
        for n in 0..PANEL {
            let byte = (rows[b * PANEL + n] * inverse[n] + BYTE).to_bits() & 255;
            words[n] |= byte << (8 * b);
        }
    }
    out.copy_from_slice(&words);
}

/// A panel `[K][32]` as `ceil(K/32)` groups of scales and nibbles. A group and column with a value
/// that is not finite has a scale that is not.
#[inline(always)]
pub(super) fn int4(rows: &[f32], words: &mut [u32]) {
    let groups = (rows.len() / PANEL).div_ceil(GROUP);
    assert_eq!(words.len(), groups * GROUP_STRIDE, "an int4 panel");
    let (whole, rest) = rows.as_chunks::<{ GROUP * PANEL }>();
    for (rows, out) in whole.iter().zip(words.chunks_exact_mut(GROUP_STRIDE)) {
        group(rows, out);
    }
    if !rest.is_empty() {
        let mut rows = [0.0; GROUP * PANEL];
        rows[..rest.len()].copy_from_slice(rest);
        group(&rows, &mut words[whole.len() * GROUP_STRIDE..]);
    }
}

/// One group: the scale of least squared error among [`EXTREMES`]' for each column, and nibbles.
#[inline(always)]
fn group(rows: &[f32; GROUP * PANEL], out: &mut [u32]) {
    let extreme = extremes(rows);
    let (mut best, mut least) = ([0.0; PANEL], [0.0; PANEL]);
    for (i, whole) in EXTREMES.into_iter().enumerate() {
        let mut scale = [0.0; PANEL];
        for n in 0..PANEL {
            let tiny = extreme[n].abs() < TINY;
            scale[n] = if tiny { 0.0 } else { f32::from_bits(bf16(extreme[n] / whole) << 16) };
        }
        let error = squared_error(rows, &scale);
        for n in 0..PANEL {
            // An error that is not a number is never the least: the first scale stays.
            let better = i == 0 || error[n] < least[n];
            best[n] = if better { scale[n] } else { best[n] };
            least[n] = if better { error[n] } else { least[n] };
        }
    }
    let (scales, weights) = out.split_at_mut(SCALE_WORDS);
    super::super::portable::narrow(&best, scales);
    nibbles(rows, &best, weights);
}

/// The value of largest magnitude in each column, with its sign; NaN where there is one.
#[inline(always)]
fn extremes(rows: &[f32; GROUP * PANEL]) -> Columns {
    let mut extreme = [0.0; PANEL];
    for row in rows.chunks_exact(PANEL) {
        for n in 0..PANEL {
            let larger = row_magnitude(row[n]) > row_magnitude(extreme[n]);
            extreme[n] = if larger { row[n] } else { extreme[n] };
        }
    }
    extreme
}

#[inline(always)]
fn inverses(scale: &Columns) -> Columns {
    let mut inverse = [0.0; PANEL];
    for n in 0..PANEL {
        inverse[n] = if scale[n] == 0.0 { 0.0 } else { 1.0 / scale[n] };
    }
    inverse
}

/// `sum (w - s q)^2` down each column.
#[inline(always)]
fn squared_error(rows: &[f32; GROUP * PANEL], scale: &Columns) -> Columns {
    let inverse = inverses(scale);
    let mut error = [0.0; PANEL];
    for row in rows.chunks_exact(PANEL) {
        for n in 0..PANEL {
            let q = clamped(row[n] * inverse[n]) + TO_WHOLE - TO_WHOLE;
            let e = row[n] - scale[n] * q;
            error[n] += e * e;
        }
    }
    error
}

/// Within what a nibble holds.
#[inline(always)]
fn clamped(x: f32) -> f32 {
    let x = if x < -8.0 { -8.0 } else { x };
    if x > 7.0 { 7.0 } else { x }
}

/// `[4][32]` words: low nibbles for inputs 8 r .. 8 r + 4, high ones for 8 r + 4 .. 8 r + 8.
#[inline(always)]
fn nibbles(rows: &[f32; GROUP * PANEL], scale: &Columns, out: &mut [u32]) {
    let inverse = inverses(scale);
    for (eight, out) in rows.chunks_exact(8 * PANEL).zip(out.chunks_exact_mut(PANEL)) {
        let mut words = [0; PANEL];
        for i in 0..8 {
            let shift = 8 * (i % 4) + 4 * (i / 4);
            for n in 0..PANEL {
                let nibble = (clamped(eight[i * PANEL + n] * inverse[n]) + NIBBLE).to_bits() & 15;
                words[n] |= nibble << shift;
            }
        }
        out.copy_from_slice(&words);
    }
}

/// Column `n` (of 32) of an int8 panel.
pub(crate) fn column_int8(words: &[u32], n: usize, out: &mut [f32]) {
    let scale = f32::from_bits(words[words.len() - PANEL + n]);
    for (k, out) in out.iter_mut().enumerate() {
        let byte = words[k / 4 * PANEL + n] >> (8 * (k % 4)) & 255;
        *out = scale * (byte.cast_signed() - ZERO_INT8) as f32;
    }
}

/// Column `n` (of 32) of an int4 panel.
pub(crate) fn column_int4(words: &[u32], n: usize, out: &mut [f32]) {
    for (out, group) in out.chunks_mut(GROUP).zip(words.chunks_exact(GROUP_STRIDE)) {
        let pair = group[n % SCALE_WORDS];
        let scale = f32::from_bits(if n < SCALE_WORDS { pair << 16 } else { pair & 0xFFFF_0000 });
        for (k, out) in out.iter_mut().enumerate() {
            let word = group[SCALE_WORDS + k / 8 * PANEL + n];
            let nibble = word >> (8 * (k % 4) + 4 * (k / 4 % 2)) & 15;
            *out = scale * (nibble.cast_signed() - ZERO_INT4) as f32;
        }
    }
}
