//! Products of pairs of bf16 in plain loops: the specification of the vector path.

use super::super::portable::bf16;
use super::super::table::{MAX_ROWS, PANEL, Word};
use super::{DotTile, Dots};

/// For tests: no CPU multiplies faster this way in plain loops.
pub static DOTS: Dots = Dots { name: "portable", least: 1, rows: MAX_ROWS, narrow, panel, tile };

fn narrow(row: &[f32], pairs: &mut [u32], apart: usize) {
    for (i, inputs) in row.chunks(PANEL).enumerate() {
        let words = &mut pairs[i * apart..][..u32::WORDS];
        words.fill(0);
        for (j, &x) in inputs.iter().enumerate() {
            words[j / 2] |= nearest(x) << (j % 2 * 16);
        }
    }
}

fn panel(rows: &[f32], words: &mut [u32]) {
    assert_eq!(words.len() * PANEL, rows.len() * u32::WORDS);
    for (row, words) in rows.chunks_exact(PANEL).zip(words.chunks_exact_mut(u32::WORDS)) {
        for (j, word) in words.iter_mut().enumerate() {
            *word = nearest(row[j]) | nearest(row[j + u32::WORDS]) << 16;
        }
    }
}

/// The nearest bf16, where a number without a leading one is zero.
fn nearest(x: f32) -> u32 {
    bf16(if x.is_subnormal() { 0.0_f32.copysign(x) } else { x })
}

fn tile(t: DotTile<'_>, c: &mut [f32], ldc: usize) {
    t.check(DOTS.rows, c, ldc);
    // The low half of a word and its high half, each as the f32 with the same value.
    let halves = |word: u32| [word << 16, word & 0xFFFF_0000].map(f32::from_bits);
    for m in 0..t.rows {
        let c = &mut c[m * ldc..][..PANEL];
        c.fill(0.0);
        for k in 0..t.k {
            let word = (k / PANEL * t.rows + m) * u32::WORDS + k % PANEL / 2;
            let a = halves(t.a[word])[k % 2];
            for (j, &word) in t.b[k * u32::WORDS..][..u32::WORDS].iter().enumerate() {
                let [low, high] = halves(word);
                c[j] += a * low;
                c[j + u32::WORDS] += a * high;
            }
        }
    }
}
