//! Token and position embeddings, read out of the packed token table.

use super::engine::{Cpu, Need};
use super::pack::Packed;
use super::pool::piece;
use super::share::Shared;

impl Cpu {
    /// `out[i] = table[:, token] + positions[position]` for each `(token, position)` of `at`.
    ///
    /// `table` is the packed `[C, V]` token table, `positions` is `[P, C]`, `out` is `[M, C]`.
    ///
    /// # Panics
    /// If an index is outside its table or `out` has not M C elements.
    pub fn embed(&self, table: &Packed, positions: &[f32], at: &[(u32, u32)], out: &mut [f32]) {
        let c = table.inputs();
        assert_eq!(out.len(), at.len() * c, "output of {} x {c}", at.len());
        let out = Shared::new(out);
        let threads = self.threads().min(at.len());
        self.run(Need::default(), |thread, _| {
            if thread >= threads {
                return;
            }
            for i in piece(at.len(), threads, thread) {
                let (token, position) = (at[i].0 as usize, at[i].1 as usize);
                // SAFETY: each row belongs to one thread.
                let row = unsafe { out.part(i * c, c) };
                table.column(token, row);
                (self.table().add)(row, &positions[position * c..][..c]);
            }
        });
    }
}
