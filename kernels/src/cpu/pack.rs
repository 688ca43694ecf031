//! Weights repacked once into panels of 32 output columns.
//!
//! A matrix W `[K, N]` becomes `ceil(N/32)` panels, each `[K][32]`, the last padded with zeros. In
//! f32, `W[k][n]` lies at `(n / 32 * K + k) * 32 + n % 32`; in bf16 a panel is `[K][16]`
//! [pairs](super::table::Word); int8 and int4 are described in [`integers`].
//! Decode reads every panel front to back, scales included, which is the fastest thing memory
//! does; prefill finds its register tile's operand contiguous. A tied token table `[V, C]` is
//! packed as its transpose `[C, V]`, and an embedding is then one column: the same memory serves
//! the embedding and the head.

use super::engine::{Cpu, Need};
use super::integers::{self, encode};
use super::pool::Queue;
use super::share::Shared;
use crate::{Buffer, Precision};

pub use super::table::PANEL;

/// A `[K, N]` matrix in panel layout.
#[derive(Debug)]
pub struct Packed {
    data: Buffer,
    precision: Precision,
    k: usize,
    n: usize,
}

/// Panels repacked together: 1 KiB of each source row, so that a row is not fetched once per panel.
const GROUP: usize = 8;
/// Floats of the panels that are on their way to another precision: they stay in the second-level
/// cache.
const STAGED: usize = 192 << 10;

impl Packed {
    /// Packs a row-major `[k, n]` matrix (inputs by outputs, GPT-2's Conv1D layout), rounding it to
    /// `precision`.
    ///
    /// # Panics
    /// If `w` has not `k * n` elements, or `k` is above 131072 in int8 (its sums would not fit).
    pub fn from_kn(cpu: &Cpu, w: &[f32], k: usize, n: usize, precision: Precision) -> Packed {
        assert_eq!(w.len(), k * n, "matrix of {k} x {n}");
        Packed::build(cpu, k, n, precision, |first, panels| {
            for (i, row) in w.chunks_exact(n).enumerate() {
                let row = &row[first * PANEL..];
                for (panel, v) in panels.chunks_exact_mut(k * PANEL).zip(row.chunks(PANEL)) {
                    panel[i * PANEL..][..v.len()].copy_from_slice(v);
                }
            }
        })
    }

    /// Packs the transpose of a row-major `[n, k]` matrix (outputs by inputs, a Linear's or a
    /// token table's layout), rounding it to `precision`.
    ///
    /// # Panics
    /// As [`Packed::from_kn`].
    pub fn from_nk(cpu: &Cpu, w: &[f32], n: usize, k: usize, precision: Precision) -> Packed {
        assert_eq!(w.len(), n * k, "matrix of {n} x {k}");
        /// Inputs moved at a time, so that the panel's part stays in the first-level cache.
        const BLOCK: usize = 64;
        Packed::build(cpu, k, n, precision, |first, panels| {
            for (p, panel) in panels.chunks_exact_mut(k * PANEL).enumerate() {
                let start = (first + p) * PANEL;
                let rows = &w[start * k..n.min(start + PANEL) * k];
                for (b, out) in panel.chunks_mut(BLOCK * PANEL).enumerate() {
                    for (j, row) in rows.chunks_exact(k).enumerate() {
                        for (column, &v) in out.chunks_exact_mut(PANEL).zip(&row[b * BLOCK..]) {
                            column[j] = v;
                        }
                    }
                }
            }
        })
    }

    /// Zeroed panels, filled by `fill(number of the first, panels)` in groups, then rounded.
    fn build(
        cpu: &Cpu,
        k: usize,
        n: usize,
        precision: Precision,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Packed {
        let in_range = precision != Precision::Int8 || k <= integers::MAX_INPUTS;
        assert!(in_range, "{k} inputs are too many for int8: at most {}", integers::MAX_INPUTS);
        let (panels, stride) = (n.div_ceil(PANEL), stride(precision, k));
        let mut packed = Packed { data: Buffer::zeroed(panels * stride), precision, k, n };
        if k == 0 {
            return packed;
        }
        if precision != Precision::F32 {
            packed.round(cpu, fill);
            return packed;
        }
        // By the ranges that a product with few rows reads them by, see `queue`.
        let queue = Queue::groups(panels, cpu.threads(), GROUP);
        let out = Shared::new(&mut packed.data);
        cpu.run(Need::default(), |thread, _| {
            while let Some(taken) = queue.take(thread) {
                // SAFETY: each panel is taken once.
                fill(taken.start, unsafe { out.part(taken.start * stride, taken.len() * stride) });
            }
        });
        packed
    }

    /// Fills groups of panels in scratch and writes them out in this matrix's precision.
    fn round(&mut self, cpu: &Cpu, fill: impl Fn(usize, &mut [f32]) + Sync) {
        let (panels, wide, stride) = (self.panels(), self.k * PANEL, stride(self.precision, self.k));
        let encode = match self.precision {
            Precision::F32 => unreachable!("f32 is not rounded"),
            Precision::Bf16 => cpu.table().narrow,
            Precision::Int8 => cpu.integers().encode_int8,
            Precision::Int4 => cpu.integers().encode_int4,
        };
        let padded = !self.n.is_multiple_of(PANEL);
        let group = (STAGED / wide).clamp(1, GROUP);
        let queue = Queue::groups(panels, cpu.threads(), group);
        let out = Shared::new(self.data.words_mut());
        cpu.run(Need { rows: group * wide, ..Need::default() }, |thread, scratch| {
            while let Some(taken) = queue.take(thread) {
                let staged = &mut scratch.rows[..taken.len() * wide];
                if padded && taken.end == panels {
                    staged.fill(0.0);
                }
                fill(taken.start, staged);
                for (panel, rows) in taken.zip(staged.chunks_exact(wide)) {
                    // SAFETY: each panel is taken once.
                    encode(rows, unsafe { out.part(panel * stride, stride) });
                }
            }
        });
    }

    /// The numbers the weights are kept in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Inputs, K.
    pub fn inputs(&self) -> usize {
        self.k
    }

    /// Outputs, N.
    pub fn outputs(&self) -> usize {
        self.n
    }

    /// Bytes one pass over the panels reads, scales and padding included.
    pub fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.data)
    }

    /// Panels, `ceil(N / 32)`.
    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Panel `p` of a matrix in f32, `[K][32]`.
    pub(crate) fn panel(&self, p: usize) -> &[f32] {
        debug_assert_eq!(self.precision, Precision::F32);
        &self.data[p * self.k * PANEL..][..self.k * PANEL]
    }

    /// Panel `p` of a matrix in another precision.
    pub(crate) fn words(&self, p: usize) -> &[u32] {
        let stride = stride(self.precision, self.k);
        &self.data.words()[p * stride..][..stride]
    }

    /// Writes column `n` (K values, as they were rounded) to `out`: the embedding of token `n` in a
    /// packed token table.
    ///
    /// # Panics
    /// If `n` is not below N or `out` has not K elements.
    pub fn column(&self, n: usize, out: &mut [f32]) {
        assert!(n < self.n, "column {n} of {}", self.n);
        assert_eq!(out.len(), self.k);
        let (words, j) = (self.words(n / PANEL), n % PANEL);
        match self.precision {
            Precision::F32 => {
                for (o, row) in out.iter_mut().zip(words.chunks_exact(PANEL)) {
                    *o = f32::from_bits(row[j]);
                }
            }
            Precision::Bf16 => {
                const HALF: usize = PANEL / 2;
                for (o, row) in out.iter_mut().zip(words.chunks_exact(HALF)) {
                    let pair = row[j % HALF];
                    *o = f32::from_bits(if j < HALF { pair << 16 } else { pair & 0xFFFF_0000 });
                }
            }
            Precision::Int8 => encode::column_int8(words, j, out),
            Precision::Int4 => encode::column_int4(words, j, out),
        }
    }
}

/// Words of a panel.
fn stride(precision: Precision, k: usize) -> usize {
    match precision {
        Precision::F32 => k * PANEL,
        Precision::Bf16 => k * PANEL / 2,
        Precision::Int8 => (k.div_ceil(4) + 1) * PANEL,
        Precision::Int4 => k.div_ceil(integers::GROUP) * integers::GROUP_STRIDE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_pack_to_the_same_panels_and_columns_come_back() {
        let cpu = Cpu::new(2, None).unwrap();
        for (k, n) in [(1, 1), (3, 31), (5, 32), (7, 33), (130, 70), (2, 1000), (8000, 40)] {
            let kn: Vec<f32> = (0..k * n).map(|i| i as f32).collect();
            let nk: Vec<f32> = (0..n).flat_map(|j| (0..k).map(move |i| (i * n + j) as f32)).collect();
            for precision in Precision::ALL {
                let a = Packed::from_kn(&cpu, &kn, k, n, precision);
                let b = Packed::from_nk(&cpu, &nk, n, k, precision);
                assert_eq!(a.data.words(), b.data.words(), "{precision} {k} x {n}");
                assert_eq!((a.precision(), a.inputs(), a.outputs()), (precision, k, n));
                let mut column = vec![0.0; k];
                for j in 0..n {
                    a.column(j, &mut column);
                    let step = match precision {
                        Precision::F32 => 0.0,
                        Precision::Bf16 => 1.0 / 256.0,
                        Precision::Int8 => 0.51 / 127.0,
                        Precision::Int4 => 1.0 / 5.0,
                    };
                    // Of the largest in the column, the last one.
                    let budget = step * ((k - 1) * n + j) as f32;
                    assert!((0..k).all(|i| (column[i] - (i * n + j) as f32).abs() <= budget));
                }
            }
        }
    }

    #[test]
    fn a_panel_has_the_bytes_that_its_precision_says() {
        let cpu = Cpu::new(1, None).unwrap();
        let bytes =
            |precision| Packed::from_kn(&cpu, &[0.5; 64 * 96], 64, 96, precision).bytes() as f64 / 6144.0;
        assert_eq!(Precision::ALL.map(bytes), [4.0, 2.0, 1.0 + 4.0 / 64.0, 0.5625]);
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        let cpu = Cpu::new(1, None).unwrap();
        for precision in Precision::ALL {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut w = [0.25; 40 * 3];
                w[35 * 3 + 1] = bad;
                let packed = Packed::from_kn(&cpu, &w, 40, 3, precision);
                let mut column = [0.0; 40];
                packed.column(1, &mut column);
                assert!(!column[35].is_finite(), "{precision} {bad} became {}", column[35]);
                packed.column(0, &mut column);
                assert!(column.iter().all(|v| (v - 0.25).abs() < 1e-2), "{precision} {bad} {column:?}");
            }
        }
    }
}
