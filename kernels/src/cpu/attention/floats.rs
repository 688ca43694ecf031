//! Attention of many queries with products in f32: 32 queries at a time meet [`STEP`] keys at a time.
//!
//! Transposed scores `K Q^T` of a step come out as `[keys][32 queries]`, the softmax runs down the
//! columns, and the same memory is the left operand of the product with V, whose sums stay in scratch.
//! All of that and a step's values lie in the first-level cache, however long the text. Where a step
//! raises a query's maximum, what the earlier steps have summed up is scaled down to it.
//!
//! Steps end with the block's last query, and products with V with the tile's: what causality takes
//! away is computed on the diagonal alone.
//!
//! The keys are a left operand, which is read number by number, so bf16 keys are first widened, a
//! panel at a time, for all 32 queries.

use std::ops::Range;

use super::super::engine::{Need, Scratch};
use super::super::kv::Kept;
use super::super::pool::piece;
use super::super::table::{Columns, PANEL, Tile};
use super::{Job, Span, put_scaled};

/// Keys of a step: 16 KiB of scores and as much of each panel of values.
const STEP: usize = 4 * PANEL;

impl<W: Kept> Job<'_, W> {
    /// What [`Job::queries`] takes of a thread's scratch: scores of a step and sums of 32 queries;
    /// queries and a panel of keys.
    pub(super) fn need_floats(&self) -> Need {
        let d = self.shape.head_dim;
        let rows = (STEP + d.next_multiple_of(PANEL)) * PANEL;
        Need { rows, packed: 2 * d * PANEL, ..Need::default() }
    }

    /// Up to 32 queries of a span, from its row `first` on; the team has stored the span.
    pub(super) fn queries(&self, scratch: &mut Scratch, span: Span, head: usize, first: usize) {
        let d = self.shape.head_dim;
        let rows = PANEL.min(span.rows - first);
        let position = span.start + first;
        // SAFETY: the team has met since these keys and values were stored; all threads only read.
        let (keys, values) = unsafe { self.stored(span, head) };
        let (scores, sums) = scratch.rows.split_at_mut(STEP * PANEL);
        let sums = &mut sums[..d.next_multiple_of(PANEL) * PANEL];
        let (queries, panel) = scratch.packed[..2 * d * PANEL].split_at_mut(d * PANEL);
        let row = span.row + first;
        // Scores come out as powers of two.
        let scale = self.scale * std::f32::consts::LOG2_E;
        self.turn(0, row..row + rows, head, |x| x * scale, queries);
        let mut columns = Columns::EMPTY;
        let len = position + rows;
        for start in (0..len).step_by(STEP) {
            let step = start..len.min(start + STEP);
            self.transposed_scores(keys, step.clone(), queries, panel, scores);
            let scores = &mut scores[..step.len() * PANEL];
            // Causality: query i must not see the keys after its own.
            for (key, row) in
                step.clone().zip(scores.chunks_exact_mut(PANEL)).skip(position.saturating_sub(start))
            {
                row[..(key - position).min(rows)].fill(f32::NEG_INFINITY);
            }
            let risen = (self.table.softmax_step)(scores, &mut columns);
            if risen && start > 0 {
                scale_rows(sums, &columns.factors);
            }
            self.weighted_values(values, step, position..len, scores, sums);
        }
        for i in 0..rows {
            let out = self.output(row + i, head);
            let scale = 1.0 / columns.sums[i];
            let panels = sums.as_chunks_mut::<PANEL>().0.chunks_exact_mut(PANEL);
            for (out, sums) in out.chunks_mut(PANEL).zip(panels) {
                put_scaled(&mut sums[i], scale, out);
            }
        }
    }

    /// `scores[key][query] = sum_d keys[d][key] queries[d][query]` for the keys of whole panels that
    /// contain those of the step; `wide` has room for a panel of keys.
    fn transposed_scores(
        &self,
        keys: &[W],
        step: Range<usize>,
        queries: &[f32],
        wide: &mut [f32],
        scores: &mut [f32],
    ) {
        let d = self.shape.head_dim;
        let tiles = PANEL.div_ceil(self.table.rows);
        let panels = keys.chunks_exact(d * W::WORDS).take(step.end.div_ceil(PANEL)).skip(step.start / PANEL);
        for (panel, out) in panels.zip(scores.chunks_exact_mut(PANEL * PANEL)) {
            let panel = W::floats(self.table, panel, wide);
            for tile in 0..tiles {
                let part = piece(PANEL, tiles, tile);
                let (a, rows) = (&panel[part.start..], part.len());
                let t = Tile { a, lda: PANEL, b: queries, ldb: PANEL, k: d, rows };
                (self.table.tile)(t, &mut out[part.start * PANEL..], PANEL);
            }
        }
    }

    /// `sums[panel][query] = sum_key scores[key][query] values[panel][key]` over the keys of a step; of
    /// later steps that is added. The queries are those at `positions`.
    fn weighted_values(
        &self,
        values: &[W],
        step: Range<usize>,
        positions: Range<usize>,
        scores: &[f32],
        sums: &mut [f32],
    ) {
        let capacity = self.shape.padded_capacity();
        let tiles = positions.len().div_ceil(self.table.rows);
        let kernel = if step.start == 0 { W::tile(self.table) } else { W::tile_add(self.table) };
        for (b, sums) in values.chunks_exact(capacity * W::WORDS).zip(sums.chunks_exact_mut(PANEL * PANEL)) {
            let b = &b[step.start * W::WORDS..step.end * W::WORDS];
            for tile in 0..tiles {
                let part = piece(positions.len(), tiles, tile);
                // Keys after the tile's last query weigh nothing.
                let k = step.len().min((positions.start + part.end).saturating_sub(step.start));
                let (a, rows) = (&scores[part.start..], part.len());
                kernel(
                    Tile { a, lda: PANEL, b, ldb: W::WORDS, k, rows },
                    &mut sums[part.start * PANEL..],
                    PANEL,
                );
            }
        }
    }
}

/// Multiplies row i of every panel `[32][32]` by `factors[i]`. Most are 1.
fn scale_rows(panels: &mut [f32], factors: &[f32; PANEL]) {
    for panel in panels.chunks_exact_mut(PANEL * PANEL) {
        for (row, &factor) in panel.chunks_exact_mut(PANEL).zip(factors).filter(|(_, factor)| **factor != 1.0)
        {
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }
}
