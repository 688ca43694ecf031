//! Weights repacked once into panels of 32 output columns.
//!
//! A matrix W `[K, N]` becomes `ceil(N/32)` panels, each `[K][32]`, the last padded with zeros:
//! `W[k][n]` lies at `(n / 32 * K + k) * 32 + n % 32`. Decode reads every panel front to back,
//! which is the fastest thing memory does; prefill finds its register tile's operand contiguous.
//! A tied token table `[V, C]` is packed as its transpose `[C, V]`, and an embedding is then one
//! column: the same memory serves the embedding and the head.

use super::engine::Cpu;
use super::pool::Queue;
use super::share::Shared;
use crate::Buffer;

pub use super::table::PANEL;

/// A `[K, N]` matrix in panel layout.
#[derive(Debug)]
pub struct Packed {
    data: Buffer,
    k: usize,
    n: usize,
}

/// Panels repacked together: 1 KiB of each source row, so that a row is not fetched once per panel.
const GROUP: usize = 8;

impl Packed {
    /// Packs a row-major `[k, n]` matrix (inputs by outputs, GPT-2's Conv1D layout).
    ///
    /// # Panics
    /// If `w` has not `k * n` elements.
    pub fn from_kn(cpu: &Cpu, w: &[f32], k: usize, n: usize) -> Packed {
        assert_eq!(w.len(), k * n, "matrix of {k} x {n}");
        Packed::build(cpu, k, n, |first, panels| {
            for (i, row) in w.chunks_exact(n).enumerate() {
                let row = &row[first * PANEL..];
                for (panel, v) in panels.chunks_exact_mut(k * PANEL).zip(row.chunks(PANEL)) {
                    panel[i * PANEL..][..v.len()].copy_from_slice(v);
                }
            }
        })
    }

    /// Packs the transpose of a row-major `[n, k]` matrix (outputs by inputs, a Linear's or a
    /// token table's layout).
    ///
    /// # Panics
    /// If `w` has not `n * k` elements.
    pub fn from_nk(cpu: &Cpu, w: &[f32], n: usize, k: usize) -> Packed {
        assert_eq!(w.len(), n * k, "matrix of {n} x {k}");
        /// Inputs moved at a time, so that the panel's part stays in the first-level cache.
        const BLOCK: usize = 64;
        Packed::build(cpu, k, n, |first, panels| {
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

    /// Zeroed panels, filled by `fill(number of the first, panels)` in groups.
    fn build(cpu: &Cpu, k: usize, n: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Packed {
        let panels = n.div_ceil(PANEL);
        let mut data = Buffer::zeroed(panels * k * PANEL);
        if k > 0 {
            let (out, queue) = (Shared::new(&mut data), Queue::single(panels.div_ceil(GROUP)));
            cpu.run([0, 0], |_, _| {
                while let Some(taken) = queue.take() {
                    let first = taken.start * GROUP;
                    let len = GROUP.min(panels - first) * k * PANEL;
                    // SAFETY: each group is taken once.
                    fill(first, unsafe { out.part(first * k * PANEL, len) });
                }
            });
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
        let cpu = Cpu::new(2, None).unwrap();
        for (k, n) in [(1, 1), (3, 31), (5, 32), (7, 33), (130, 70), (2, 1000)] {
            let kn: Vec<f32> = (0..k * n).map(|i| i as f32).collect();
            let nk: Vec<f32> = (0..n).flat_map(|j| (0..k).map(move |i| (i * n + j) as f32)).collect();
            let (a, b) = (Packed::from_kn(&cpu, &kn, k, n), Packed::from_nk(&cpu, &nk, n, k));
            assert_eq!(&a.data[..], &b.data[..], "{k} x {n}");
            let mut column = vec![0.0; k];
            for j in 0..n {
                a.column(j, &mut column);
                assert!((0..k).all(|i| column[i] == (i * n + j) as f32));
            }
        }
    }
}
