//! Causal attention over a key-value cache ([`kv`](super::kv) has its layout).
//!
//! Keys and values are operands of the tile kernel as they lie:
//! - one query: scores `= q K^T` and output `= p V` are tiles of one row;
//! - blocks of queries: `floats`.
//!
//! Of a model in bf16, on a CPU that multiplies bf16 faster, spans of many rows go another way: `dots`.
//!
//! Nothing of size T x T is ever made, and nothing is copied when the sequence grows.

mod dots;
mod floats;

use std::ops::Range;

use super::dots::Dots;
use super::engine::{Cpu, Need, Scratch};
use super::kv::{Kept, KvCache, KvShape, copy};
use super::pool::Queue;
use super::share::Shared;
use super::table::{PANEL, Table, Tile};
use crate::{KvPrecision, Precision};

/// Consecutive new positions of one sequence within the rows of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The sequence in the cache.
    pub sequence: usize,
    /// Position of the first new row.
    pub start: usize,
    /// Its row in the operation's input.
    pub row: usize,
    /// Rows.
    pub rows: usize,
}

/// How queries meet keys and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attend {
    /// The factor on scores.
    pub scale: f32,
    /// What may be multiplied in: the precision of the model's weights. In bf16 spans of many rows
    /// are, as [`Cpu::linear`] does it: from as many rows on as [`Dots`] ask for, where the CPU has
    /// them. Otherwise, and in any other precision, products are f32.
    pub products: Precision,
    /// Whether the last row of each span alone is wanted. The others may be left as they are; their
    /// keys and values are taken in all the same, and the last row is what it is otherwise.
    pub last: bool,
}

/// A factor alone: every row, all products in f32.
impl From<f32> for Attend {
    fn from(scale: f32) -> Attend {
        Attend { scale, products: Precision::F32, last: false }
    }
}

impl Cpu {
    /// Takes the keys and values of new positions into the cache and attends from each to all
    /// positions up to its own: `out = softmax(scale Q K^T) V`, head by head. K and V are what the
    /// cache holds, the new positions' own included: rounded where the cache is in bf16. Where `how`
    /// leads to products in bf16, Q, K, V and the weights of the softmax are rounded for them; sums and
    /// the softmax are f32.
    ///
    /// `qkv` is `[M, 3C]` (queries, keys, values), `out` is `[M, C]`, C = H D; `spans` says which
    /// rows are which positions. Rows outside every span are left alone.
    ///
    /// # Panics
    /// If a span leaves the cache or the rows, two spans share a sequence or rows, or lengths do
    /// not fit.
    pub fn attention(
        &self,
        cache: &mut KvCache,
        layer: usize,
        spans: &[Span],
        qkv: &[f32],
        how: impl Into<Attend>,
        out: &mut [f32],
    ) {
        let (shape, how) = (cache.shape, how.into());
        check(&shape, layer, spans, qkv, out);
        match shape.precision {
            KvPrecision::F32 => self.attend(Job::<f32>::new(self, cache, layer, qkv, how, out), spans),
            KvPrecision::Bf16 => self.attend(Job::<u32>::new(self, cache, layer, qkv, how, out), spans),
        }
    }

    fn attend<W: Kept>(&self, job: Job<'_, W>, spans: &[Span]) {
        let shape = job.shape;
        let (threads, heads) = (self.threads(), shape.heads);
        let pairs = spans.len() * heads;
        let of = |pair: usize| (spans[pair / heads], pair % heads);
        let queue = Queue::runs(pairs, threads);
        if spans.iter().all(|span| span.rows == 1) {
            let (rows, packed) = (shape.padded_capacity(), shape.head_dim);
            self.run(Need { rows, packed, ..Need::default() }, |thread, scratch| {
                while let Some(taken) = queue.take(thread) {
                    for (span, head) in taken.map(of) {
                        job.store(&mut [], span, head);
                        job.one_query(scratch, span, head);
                    }
                }
            });
            return;
        }
        let panel = shape.head_dim * PANEL;
        self.run(Need { packed: panel, ..Need::default() }, |thread, scratch| {
            while let Some(taken) = queue.take(thread) {
                for (span, head) in taken.map(of) {
                    job.store(&mut scratch.packed[..panel], span, head);
                }
            }
        });
        let (block, need) = job.blocks();
        // The blocks of a pair in reverse: the last sees the most keys, so short ones come at the end.
        let blocks = spans.iter().map(|span| span.rows.div_ceil(block)).max().unwrap_or(0);
        let queue = Queue::single(pairs * blocks);
        self.run(need, |thread, scratch| {
            let mut rounded = None;
            while let Some(taken) = queue.take(thread) {
                let (span, head) = of(taken.start / blocks);
                let first = (blocks - 1 - taken.start % blocks) * block;
                let rows = first..span.rows.min(first + block);
                if !rows.is_empty() && (rows.end == span.rows || !job.last) {
                    job.block(scratch, span, head, rows, &mut rounded);
                }
            }
        });
    }
}

/// `out = sums * scale` for up to 32 components of a head; what goes into `sums` is of no use.
fn put_scaled(sums: &mut [f32; PANEL], scale: f32, out: &mut [f32]) {
    sums.iter_mut().for_each(|sum| *sum *= scale);
    copy(&sums[..out.len()], out);
}

/// Panics unless the operation is within its slices and no two spans touch the same thing.
fn check(shape: &KvShape, layer: usize, spans: &[Span], qkv: &[f32], out: &[f32]) {
    let c = shape.heads * shape.head_dim;
    assert!(layer < shape.layers, "layer {layer} of {}", shape.layers);
    assert_eq!(qkv.len(), 3 * out.len(), "three inputs to one output");
    let mut row = 0;
    for (i, span) in spans.iter().enumerate() {
        assert!(span.row >= row, "spans in the order of their rows, without overlap");
        row = span.row + span.rows;
        assert!(span.rows > 0 && row * c <= out.len(), "span outside the rows");
        assert!(span.start + span.rows <= shape.capacity, "span outside the cache");
        assert!(span.sequence < shape.sequences, "sequence outside the cache");
        assert!(spans[..i].iter().all(|s| s.sequence != span.sequence), "a sequence twice");
    }
}

/// Whose keys and values a thread's scratch holds in bf16: sequence, head, and how many.
type Rounded = (usize, usize, usize);

struct Job<'a, W> {
    table: &'static Table,
    /// Where the model is in bf16.
    dots: Option<&'static Dots>,
    shape: KvShape,
    layer: usize,
    qkv: &'a [f32],
    scale: f32,
    last: bool,
    keys: Shared<'a, W>,
    values: Shared<'a, W>,
    out: Shared<'a>,
}

impl<'a, W: Kept> Job<'a, W> {
    fn new(
        cpu: &Cpu,
        cache: &'a mut KvCache,
        layer: usize,
        qkv: &'a [f32],
        how: Attend,
        out: &'a mut [f32],
    ) -> Job<'a, W> {
        let shape = cache.shape;
        let [keys, values] = [&mut cache.keys, &mut cache.values].map(|buffer| Shared::new(W::of(buffer)));
        let (table, dots) = (cpu.table(), cpu.dots().filter(|_| how.products == Precision::Bf16));
        let (scale, last) = (how.scale, how.last);
        Job { table, dots, shape, layer, qkv, scale, last, keys, values, out: Shared::new(out) }
    }

    /// How many queries of a span a thread takes at a time, and the scratch for them.
    fn blocks(&self) -> (usize, Need) {
        let need = self.need_floats();
        if self.dots.is_none() {
            return (PANEL, need);
        }
        let dots = self.need_dots();
        let (rows, packed) = (need.rows.max(dots.rows), need.packed.max(dots.packed));
        (dots::BLOCK, Need { rows, packed, ..need })
    }

    /// The queries `rows` of a span, which the team has stored; `rounded` is for [`Job::dots`].
    fn block(
        &self,
        scratch: &mut Scratch,
        span: Span,
        head: usize,
        rows: Range<usize>,
        rounded: &mut Option<Rounded>,
    ) {
        match self.dots.filter(|dots| span.rows >= dots.least) {
            Some(dots) => self.dots(dots, scratch, span, head, rows, rounded),
            None => {
                *rounded = None;
                let parts = rows.len().div_ceil(PANEL);
                for part in self.wanted(parts) {
                    self.queries(scratch, span, head, rows.start + part * PANEL);
                }
            }
        }
    }

    /// Of the parts of a block the wanted ones.
    fn wanted(&self, parts: usize) -> Range<usize> {
        if self.last { parts - 1..parts } else { 0..parts }
    }

    /// Query (0), key (1) or value (2) of one row and head, `[D]`.
    fn input(&self, row: usize, which: usize, head: usize) -> &[f32] {
        let (c, d) = (self.shape.heads * self.shape.head_dim, self.shape.head_dim);
        &self.qkv[(row * 3 + which) * c + head * d..][..d]
    }

    /// The stored keys `[capacity/32][D][32]` and values `[D/32][capacity][32]`, to read.
    ///
    /// # Safety
    /// While they live, nobody stores to the same sequence and head.
    unsafe fn stored(&self, span: Span, head: usize) -> (&[W], &[W]) {
        let [keys, values] = self.shape.places(self.layer, span.sequence, head);
        // SAFETY: distinct heads are distinct places; the rest is the caller's promise.
        unsafe { (self.keys.view(keys.0, keys.1), self.values.view(values.0, values.1)) }
    }

    /// Takes a span's keys and values into the cache; `turned` has room for a panel of keys, `[D][32]`.
    fn store(&self, turned: &mut [f32], span: Span, head: usize) {
        let (d, capacity) = (self.shape.head_dim, self.shape.padded_capacity());
        let [keys, values] = self.shape.places(self.layer, span.sequence, head);
        // SAFETY: each (span, head) is stored by one thread, spans have distinct sequences
        // (`check`), and only the storing thread reads it before the team has met again.
        let (keys, values) =
            unsafe { (self.keys.part(keys.0, keys.1), self.values.part(values.0, values.1)) };
        for i in 0..span.rows {
            let position = span.start + i;
            let value = self.input(span.row + i, 2, head);
            for (part, panel) in value.chunks(PANEL).zip(values.chunks_exact_mut(capacity * W::WORDS)) {
                W::put_row(self.table, &mut panel[position * W::WORDS..][..W::WORDS], part);
            }
        }
        let mut at = 0;
        while at < span.rows {
            let (position, row) = (span.start + at, span.row + at);
            let slot = position % PANEL;
            let rows = (PANEL - slot).min(span.rows - at);
            let panel = &mut keys[position / PANEL * d * W::WORDS..][..d * W::WORDS];
            if rows == PANEL {
                self.turn(1, row..row + rows, head, |x| x, turned);
                W::put_rows(self.table, panel, turned);
            } else {
                for i in 0..rows {
                    W::put_column(panel, slot + i, self.input(row + i, 1, head));
                }
            }
            at += rows;
        }
    }

    /// `map` of the queries (0) or keys (1) of up to 32 rows as `[D][32]`. Past the last row it stands again.
    fn turn(&self, which: usize, rows: Range<usize>, head: usize, map: impl Fn(f32) -> f32, out: &mut [f32]) {
        let input = |i: usize| self.input((rows.start + i).min(rows.end - 1), which, head);
        // Four rows at a time are one store.
        for i in (0..PANEL).step_by(4) {
            let [a, b, c, d] = std::array::from_fn(|j| input(i + j));
            for ((((column, a), b), c), d) in out.chunks_exact_mut(PANEL).zip(a).zip(b).zip(c).zip(d) {
                column[i..i + 4].copy_from_slice(&[*a, *b, *c, *d].map(&map));
            }
        }
    }

    /// The output row of one head.
    #[allow(clippy::mut_from_ref, reason = "one writer for each row and head")]
    fn output(&self, row: usize, head: usize) -> &mut [f32] {
        let (c, d) = (self.shape.heads * self.shape.head_dim, self.shape.head_dim);
        // SAFETY: one thread computes a given row and head, and spans share no rows (`check`).
        unsafe { self.out.part(row * c + head * d, d) }
    }

    /// The only query of a span against all keys up to its own.
    fn one_query(&self, scratch: &mut Scratch, span: Span, head: usize) {
        let (d, capacity) = (self.shape.head_dim, self.shape.padded_capacity());
        let len = span.start + 1;
        // SAFETY: this thread stored these keys itself, or the team has met since; all only read.
        let (keys, values) = unsafe { self.stored(span, head) };
        let scores = &mut scratch.rows[..capacity];
        let query = &mut scratch.packed[..d];
        for (q, x) in query.iter_mut().zip(self.input(span.row, 0, head)) {
            *q = x * self.scale;
        }
        let tile = W::tile(self.table);
        let panels = keys.chunks_exact(d * W::WORDS).take(len.div_ceil(PANEL));
        for (panel, out) in panels.zip(scores.chunks_exact_mut(PANEL)) {
            tile(Tile { a: query, lda: 1, b: panel, ldb: W::WORDS, k: d, rows: 1 }, out, PANEL);
        }
        let scores = &mut scores[..len];
        let scale = 1.0 / (self.table.exponentials)(scores);
        let out = self.output(span.row, head);
        let mut sums = [0.0; PANEL];
        for (out, b) in out.chunks_mut(PANEL).zip(values.chunks_exact(capacity * W::WORDS)) {
            tile(Tile { a: scores, lda: 1, b, ldb: W::WORDS, k: len, rows: 1 }, &mut sums, PANEL);
            put_scaled(&mut sums, scale, out);
        }
    }
}
