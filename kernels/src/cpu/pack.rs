//! Weights repacked once into panels of 32 output columns.
//!
//! A matrix W `[K, N]` becomes `ceil(N/32)` panels, each `[K][32]`, the last padded with zeros. In
//! f32, `W[k][n]` lies at `(n / 32 * K + k) * 32 + n % 32`; in bf16 a panel is `[K][16]`
//! [pairs](super::table::Word); int8 and int4 are described in [`integers`].
//! Decode reads every panel front to back, scales included, which is the fastest thing memory
//! does; prefill finds its register tile's operand contiguous. A tied token table `[V, C]` is
//! packed as its transpose `[C, V]`, and an embedding is then one column: the same memory serves
//! the embedding and the head.

use std::convert::Infallible;

use super::engine::Cpu;
use super::integers::{self, encode};
use super::packer::Packer;
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

impl Packed {
    /// Packs a row-major `[k, n]` matrix (inputs by outputs, GPT-2's Conv1D layout), rounding it to
    /// `precision`.
    ///
    /// # Panics
    /// If `w` has not `k * n` elements, or `k` is above 131072 in int8 (its sums would not fit).
    pub fn from_kn(cpu: &Cpu, w: &[f32], k: usize, n: usize, precision: Precision) -> Packed {
        assert_eq!(w.len(), k * n, "matrix of {k} x {n}");
        let Ok(packed) = Packer::single(cpu, precision).kn(k, n, |start, out| copy(w, start, out));
        packed
    }

    /// Packs the transpose of a row-major `[n, k]` matrix (outputs by inputs, a Linear's or a
    /// token table's layout), rounding it to `precision`.
    ///
    /// # Panics
    /// As [`Packed::from_kn`].
    pub fn from_nk(cpu: &Cpu, w: &[f32], n: usize, k: usize, precision: Precision) -> Packed {
        assert_eq!(w.len(), n * k, "matrix of {n} x {k}");
        let Ok(packed) = Packer::single(cpu, precision).nk(n, k, |start, out| copy(w, start, out));
        packed
    }

    /// Over panels, zeroed or not yet written.
    pub(super) fn new(data: Buffer, precision: Precision, k: usize, n: usize) -> Packed {
        Packed { data, precision, k, n }
    }

    /// All panels, to write.
    pub(super) fn data_mut(&mut self) -> &mut Buffer {
        &mut self.data
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

    /// The panels as they lie in memory, in this machine's byte order: what a
    /// [`PackedFile`](super::packed_file::PackedFile) takes them from.
    pub fn as_bytes(&self) -> &[u8] {
        self.data.bytes()
    }

    /// Words of 32 bits that a `[k, n]` matrix takes.
    pub fn words_of(precision: Precision, k: usize, n: usize) -> usize {
        n.div_ceil(PANEL) * stride(precision, k)
    }

    /// The address of the first panel.
    pub(crate) fn start(&self) -> usize {
        self.data.as_ptr().addr()
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

/// The source of a matrix that is in memory.
fn copy(w: &[f32], start: usize, out: &mut [f32]) -> Result<(), Infallible> {
    out.copy_from_slice(&w[start..][..out.len()]);
    Ok(())
}

/// Words of a panel of `k` rows.
pub(super) fn stride(precision: Precision, k: usize) -> usize {
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
        for (k, n) in [(1, 1), (3, 31), (5, 32), (7, 33), (130, 70), (2, 1000), (8000, 40), (99, 4200)] {
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
