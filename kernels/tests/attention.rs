//! Attention whose products may be bf16: on every instruction set, against f64.
//!
//! Rounded or not is a matter of the CPU and of a span's rows, never of the spans beside it. Where
//! queries, keys and values are rounded, the reference sums over the rounded ones; of the weights it
//! knows only that each is rounded too, by up to 1/256 of itself.

mod common;

use common::{bf16, cpus, values};
use kernels::{Attend, Cpu, KvCache, KvPrecision, KvShape, Precision, Span};
use proptest::prelude::*;

/// One sequence `[T, 3C]` of `heads` heads, and what of it is rounded.
struct Heads<'a> {
    qkv: &'a [f32],
    heads: usize,
    d: usize,
    scale: f32,
    /// Whether queries are rounded, and keys and values.
    rounded: [bool; 2],
}

impl Heads<'_> {
    fn input(&self, t: usize, which: usize, head: usize, i: usize) -> f64 {
        let c = self.heads * self.d;
        let x = self.qkv[(t * 3 + which) * c + head * self.d + i];
        let x = if which == 0 { x * self.scale } else { x };
        f64::from(if self.rounded[usize::from(which > 0)] { bf16(x) } else { x })
    }

    /// `[C]` of the query at `t`, and the bound of each.
    fn query(&self, t: usize) -> Vec<(f64, f64)> {
        let mut out = Vec::new();
        for head in 0..self.heads {
            let score = |s| (0..self.d).map(|i| self.input(t, 0, head, i) * self.input(s, 1, head, i)).sum();
            let scores: Vec<f64> = (0..=t).map(score).collect();
            let max = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for i in 0..self.d {
                let parts = weights.iter().enumerate().map(|(s, w)| w / sum * self.input(s, 2, head, i));
                let (value, size) = parts.fold((0.0, 0.0), |(value, size), p| (value + p, size + p.abs()));
                out.push((value, if self.rounded[0] { size / 256.0 } else { 0.0 }));
            }
        }
        out
    }
}

/// The spans that append `rows` positions to each sequence, where there are any.
fn spans(starts: &[usize], rows: &[usize]) -> Vec<Span> {
    let mut row = 0;
    let mut all = Vec::new();
    for (sequence, (&start, &rows)) in starts.iter().zip(rows).enumerate().filter(|(_, (_, rows))| **rows > 0)
    {
        all.push(Span { sequence, start, row, rows });
        row += rows;
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn many_rows_are_attended_as_their_rounded_numbers(
        lengths in prop::collection::vec(1usize..200, 1..4),
        cut in 1usize..200,
        heads in 1usize..3,
        d in prop_oneof![Just(7usize), Just(20), Just(64)],
        threads in 1usize..4,
        precision in prop_oneof![Just(KvPrecision::F32), Just(KvPrecision::Bf16)],
    ) {
        let (c, scale) = (heads * d, 1.3 / (d as f32).sqrt());
        let inputs: Vec<Vec<f32>> =
            lengths.iter().enumerate().map(|(s, &len)| values(30 + s as u64, len * 3 * c)).collect();
        for cpu in cpus(threads) {
            let shape = KvShape { layers: 1, sequences: lengths.len(), heads, head_dim: d, capacity: 200, precision };
            let mut cache = KvCache::new(shape);
            // Up to `cut` positions of each, then what is left: long and short spans side by side.
            let first: Vec<usize> = lengths.iter().map(|&len| len.min(cut)).collect();
            let rest: Vec<usize> = lengths.iter().zip(&first).map(|(len, first)| len - first).collect();
            for (starts, rows) in [(vec![0; lengths.len()], &first), (first.clone(), &rest)] {
                let spans = spans(&starts, rows);
                let new = |span: &Span| &inputs[span.sequence][span.start * 3 * c..][..span.rows * 3 * c];
                let qkv: Vec<f32> = spans.iter().flat_map(new).copied().collect();
                let mut out = vec![0.0; qkv.len() / 3];
                let how = Attend { scale, products: Precision::Bf16, last: false };
                cpu.attention(&mut cache, 0, &spans, &qkv, how, &mut out);
                for span in &spans {
                    let rounds = cpu.dots().is_some_and(|dots| span.rows >= dots.least);
                    let rounded = [rounds, rounds || precision == KvPrecision::Bf16];
                    let heads = Heads { qkv: &inputs[span.sequence], heads, d, scale, rounded };
                    for (i, out) in out[span.row * c..][..span.rows * c].chunks_exact(c).enumerate() {
                        for (&got, (want, bound)) in out.iter().zip(heads.query(span.start + i)) {
                            let error = (f64::from(got) - want).abs();
                            prop_assert!(error <= bound + 5e-6, "{cpu:?} {span:?} {i}: {got} for {want}");
                        }
                    }
                }
            }
        }
    }
}

/// What attention sums up over a step of keys is scaled when a later step raises the maximum: keys that
/// grow along the text raise it in each, keys that shrink in none.
#[test]
fn every_length_is_attended_whether_scores_rise_or_fall() {
    let (heads, d, c) = (2, 24, 48);
    let lengths: Vec<usize> = (1..130).step_by(2).chain([160, 255, 256, 257, 300]).collect();
    for (slope, precision) in
        [0.03_f32, -0.03, 0.0].into_iter().flat_map(|s| KvPrecision::ALL.map(|p| (s, p)))
    {
        for lengths in lengths.chunks(5) {
            let inputs: Vec<Vec<f32>> = lengths
                .iter()
                .map(|&len| {
                    let mut qkv = values(80 + len as u64, len * 3 * c);
                    for (t, row) in qkv.chunks_exact_mut(3 * c).enumerate() {
                        row[..c].iter_mut().for_each(|q| *q += 1.0);
                        row[c..2 * c].iter_mut().for_each(|k| *k += slope * t as f32);
                    }
                    qkv
                })
                .collect();
            let spans = spans(&vec![0; lengths.len()], lengths);
            let (qkv, rows) = (inputs.concat(), lengths.iter().sum::<usize>());
            for cpu in cpus(2) {
                let shape = KvShape {
                    layers: 1,
                    sequences: lengths.len(),
                    heads,
                    head_dim: d,
                    capacity: 300,
                    precision,
                };
                let (mut cache, mut out) = (KvCache::new(shape), vec![0.0; rows * c]);
                cpu.attention(&mut cache, 0, &spans, &qkv, 0.2, &mut out);
                for span in &spans {
                    let rounded = [false, precision == KvPrecision::Bf16];
                    let heads = Heads { qkv: &inputs[span.sequence], heads, d, scale: 0.2, rounded };
                    // Every query of short texts, some of long ones.
                    for t in (0..span.rows).filter(|t| span.rows < 40 || t % 13 == 0 || t + 1 == span.rows) {
                        let got = &out[(span.row + t) * c..][..c];
                        for (got, (want, _)) in got.iter().zip(heads.query(t)) {
                            let error = (f64::from(*got) - want).abs();
                            // A score of up to 50 is known to 1e-5 or so, and so is its weight.
                            assert!(
                                error <= 5e-5,
                                "{cpu:?} {precision} {slope} {span:?} {t}: {got} for {want}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// 150 positions of three heads at once, then ten more.
fn attended(cpu: &Cpu, precision: KvPrecision, products: Precision) -> Vec<f32> {
    let (heads, head_dim, c) = (3, 20, 60);
    let shape = KvShape { layers: 1, sequences: 1, heads, head_dim, capacity: 160, precision };
    let (mut cache, mut all) = (KvCache::new(shape), Vec::new());
    for (start, rows) in [(0, 150), (150, 10)] {
        let (qkv, mut out) = (values(40 + start as u64, rows * 3 * c), vec![0.0; rows * c]);
        let span = [Span { sequence: 0, start, row: 0, rows }];
        cpu.attention(&mut cache, 0, &span, &qkv, Attend { scale: 0.3, products, last: false }, &mut out);
        all.extend(out);
    }
    all
}

#[test]
fn the_last_rows_alone_are_what_they_are_among_all() {
    let (heads, head_dim, c) = (2, 20, 40);
    let qkv = values(50, 250 * 3 * c);
    let shape =
        KvShape { layers: 1, sequences: 3, heads, head_dim, capacity: 250, precision: KvPrecision::F32 };
    // More than a block, some of one, few.
    let spans = spans(&[0, 0, 0], &[190, 53, 7]);
    for products in [Precision::F32, Precision::Bf16] {
        for cpu in cpus(2) {
            let [all, ends] = [false, true].map(|last| {
                let (mut cache, mut out) = (KvCache::new(shape), vec![0.0; 250 * c]);
                cpu.attention(&mut cache, 0, &spans, &qkv, Attend { scale: 0.3, products, last }, &mut out);
                out
            });
            for span in &spans {
                let end = (span.row + span.rows - 1) * c..(span.row + span.rows) * c;
                assert_eq!(ends[end.clone()], all[end], "{cpu:?} {products} {span:?}");
            }
            assert_eq!(ends[..c], vec![0.0; c], "what nobody wants is left alone");
        }
    }
}

#[test]
fn what_is_rounded_to_be_multiplied_may_have_been_rounded_to_be_kept() {
    for cpu in cpus(2).filter(|cpu| cpu.dots().is_some()) {
        let [wide, narrow] = KvPrecision::ALL.map(|kept| attended(&cpu, kept, Precision::Bf16));
        assert_eq!(wide, narrow, "{cpu:?}");
    }
}

#[test]
fn bf16_alone_is_multiplied_in_bf16() {
    for cpu in cpus(2) {
        let exact = attended(&cpu, KvPrecision::F32, Precision::F32);
        for products in [Precision::Int8, Precision::Int4] {
            assert_eq!(attended(&cpu, KvPrecision::F32, products), exact, "{cpu:?} {products}");
        }
        let same = attended(&cpu, KvPrecision::F32, Precision::Bf16) == exact;
        assert_eq!(same, cpu.dots().is_none(), "{cpu:?}");
    }
}
