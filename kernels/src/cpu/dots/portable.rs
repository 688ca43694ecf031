//! Products of pairs of bf16 in plain loops: the specification of the vector path.

use super::super::portable::bf16;
use super::super::table::{MAX_ROWS, PANEL, Word};
use super::{DotTile, Dots};

/// For tests: no CPU multiplies faster this way in plain loops.
pub static DOTS: Dots = Dots { name: "portable", least: 1, rows: MAX_ROWS, narrow, tile };

#[inline(always)]
pub(super) fn narrow(row: &[f32], pairs: &mut [u32]) {
    assert_eq!(pairs.len(), row.len().div_ceil(2), "pairs of {} inputs", row.len());
    let (twos, rest) = row.as_chunks::<2>();
    for (pair, &[low, high]) in pairs.iter_mut().zip(twos) {
        *pair = bf16(low) | bf16(high) << 16;
    }
    if let (Some(pair), [last]) = (pairs.last_mut(), rest) {
        *pair = bf16(*last);
    }
}

fn tile(t: DotTile<'_>, c: &mut [f32]) {
    t.check(DOTS.rows, c);
    // The low half of a word and its high half, each as the f32 with the same value.
    let halves = |word: u32| [word << 16, word & 0xFFFF_0000].map(f32::from_bits);
    for m in 0..t.rows {
        let c = &mut c[m * PANEL..][..PANEL];
        c.fill(0.0);
        for k in 0..t.k {
            let a = halves(t.a[k / 2 * t.rows + m])[k % 2];
            for (j, &word) in t.b[k * u32::WORDS..][..u32::WORDS].iter().enumerate() {
                let [low, high] = halves(word);
                c[j] += a * low;
                c[j + u32::WORDS] += a * high;
            }
        }
    }
}
