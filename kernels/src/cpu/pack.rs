//! Weights repacked once into panels of 32 output columns.
//!
//! A matrix W `[K, N]` becomes `ceil(N/32)` panels, each `[K][32]`, the last padded with zeros:
//! `W[k][n]` lies at `(n / 32 * K + k) * 32 + n % 32`. Decode reads every panel front to back,
//! which is the fastest thing memory does; prefill finds its register tile's operand contiguous.
//! A tied token table `[V, C]` is packed as its transpose `[C, V]`, and an embedding is then one
//! column: the same memory serves the embedding and the head.

use crate::Buffer;

pub use super::table::PANEL;

/// A `[K, N]` matrix in panel layout.
#[derive(Debug)]
pub struct Packed {
    data: Buffer,
    k: usize,
    n: usize,
}

impl Packed {
    /// Packs a row-major `[k, n]` matrix (inputs by outputs, GPT-2's Conv1D layout).
    ///
    /// # Panics
    /// If `w` has not `k * n` elements.
    pub fn from_kn(w: &[f32], k: usize, n: usize) -> Packed {
        assert_eq!(w.len(), k * n, "matrix of {k} x {n}");
        let mut data = Buffer::zeroed(n.div_ceil(PANEL) * k * PANEL);
        for (p, panel) in data.chunks_exact_mut((k * PANEL).max(1)).enumerate() {
            let width = PANEL.min(n - p * PANEL);
            for (row, out) in w.chunks_exact(n).zip(panel.chunks_exact_mut(PANEL)) {
                out[..width].copy_from_slice(&row[p * PANEL..][..width]);
            }
        }
        Packed { data, k, n }
    }

    /// Packs the transpose of a row-major `[n, k]` matrix (outputs by inputs, a Linear's or a
    /// token table's layout).
    ///
    /// # Panics
    /// If `w` has not `n * k` elements.
    pub fn from_nk(w: &[f32], n: usize, k: usize) -> Packed {
        assert_eq!(w.len(), n * k, "matrix of {n} x {k}");
        /// Inputs moved at a time, so that the 32 source rows stay in the first-level cache.
        const BLOCK: usize = 64;
        let mut data = Buffer::zeroed(n.div_ceil(PANEL) * k * PANEL);
        for (p, panel) in data.chunks_exact_mut((k * PANEL).max(1)).enumerate() {
            let rows = &w[p * PANEL * k..(n * k).min((p + 1) * PANEL * k)];
            for (b, out) in panel.chunks_mut(BLOCK * PANEL).enumerate() {
                for (j, row) in rows.chunks_exact(k).enumerate() {
                    for (column, &v) in out.chunks_exact_mut(PANEL).zip(&row[b * BLOCK..]) {
                        column[j] = v;
                    }
                }
            }
        }
        Packed { data, k, n }
    }

    /// Inputs, K.
    pub fn inputs(&self) -> usize {
        self.k
    }

    /// Outputs, N.
    pub fn outputs(&self) -> usize {
        self.n
    }

    /// Bytes one pass over the panels reads.
    pub fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.data)
    }

    /// Panels, `ceil(N / 32)`.
    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Panel `p`, `[K][32]`.
    pub(crate) fn panel(&self, p: usize) -> &[f32] {
        &self.data[p * self.k * PANEL..][..self.k * PANEL]
    }

    /// Writes column `n` (K values) to `out`: the embedding of token `n` in a packed token table.
    ///
    /// # Panics
    /// If `n` is not below N or `out` has not K elements.
    pub fn column(&self, n: usize, out: &mut [f32]) {
        assert!(n < self.n, "column {n} of {}", self.n);
        assert_eq!(out.len(), self.k);
        let panel = self.panel(n / PANEL);
        for (o, row) in out.iter_mut().zip(panel.chunks_exact(PANEL)) {
            *o = row[n % PANEL];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_pack_to_the_same_panels_and_columns_come_back() {
        for (k, n) in [(1, 1), (3, 31), (5, 32), (7, 33), (130, 70)] {
            let kn: Vec<f32> = (0..k * n).map(|i| i as f32).collect();
            let nk: Vec<f32> = (0..n).flat_map(|j| (0..k).map(move |i| (i * n + j) as f32)).collect();
            let (a, b) = (Packed::from_kn(&kn, k, n), Packed::from_nk(&nk, n, k));
            assert_eq!(&a.data[..], &b.data[..], "{k} x {n}");
            let mut column = vec![0.0; k];
            for j in 0..n {
                a.column(j, &mut column);
                assert!((0..k).all(|i| column[i] == (i * n + j) as f32));
            }
        }
    }
}
