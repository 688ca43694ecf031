//! The key-value cache of a batch, and the working memory of one step.
//!
//! Everything a decode step touches is allocated when the cache is made or by the prefill that
//! precedes it, so a step allocates nothing.
//!
//! Sequences have memory of their own: a prefix that several share is computed once and copied.
//! A copy reads and writes 2 L C numbers a position (74 KB at 124M in f32, half of it in bf16), about
//! 1 % of what computing the position takes; what it costs is memory, and that each step reads each
//! copy.
//!
//! Invariant: sequence s holds exactly `lengths[s]` positions, the same in every layer.

use std::ops::Range;

use kernels::{Best, Buffer, KvCache, KvPrecision, KvShape, Span};

use crate::Config;
use crate::generate::GenerateError;

/// Keys and values of up to `batch` sequences of up to `capacity` positions.
#[derive(Debug)]
pub struct Cache {
    pub(crate) kv: KvCache,
    pub(crate) lengths: Vec<usize>,
    pub(crate) work: Workspace,
    /// Where sequences pass through when they change places; made when first needed.
    spare: Option<KvCache>,
    vocab: usize,
}

/// Activations of one chunk of R rows.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Token and position of each row.
    pub(crate) at: Vec<(u32, u32)>,
    /// Rows that are the only new position of their sequence.
    pub(crate) lone: Vec<Span>,
    /// Which of the other rows are which positions.
    pub(crate) spans: Vec<Span>,
    /// Rows whose logits are wanted, rising.
    pub(crate) wanted: Vec<usize>,
    /// Residual stream `[R, C]`.
    pub(crate) x: Vec<f32>,
    /// Queries, keys, values `[R, 3C]`.
    pub(crate) qkv: Vec<f32>,
    /// Attention output `[R, C]`.
    pub(crate) heads: Vec<f32>,
    /// Feed-forward activations `[R, F]`.
    pub(crate) inner: Vec<f32>,
    /// The wanted rows of all chunks `[N, C]`.
    pub(crate) picked: Vec<f32>,
    /// Their logits `[N, V]`.
    pub(crate) logits: Buffer,
    /// Where each row of them is largest.
    pub(crate) best: Vec<Best>,
}

impl Cache {
    /// An empty cache in f32 for `batch` sequences of `capacity` positions each; what a model's options
    /// ask for is made by [`Gpt2::cache`](crate::Gpt2::cache).
    ///
    /// # Errors
    /// `BadSampling` naming `batch` when it is 0 and `capacity` when it is 0 or above `n_positions`.
    pub fn new(config: &Config, batch: usize, capacity: usize) -> Result<Cache, GenerateError> {
        Cache::with_precision(config, batch, capacity, KvPrecision::F32)
    }

    /// [`Cache::new`] with keys and values in `precision`. Any model of this shape can use it.
    ///
    /// # Errors
    /// As [`Cache::new`].
    pub fn with_precision(
        config: &Config,
        batch: usize,
        capacity: usize,
        precision: KvPrecision,
    ) -> Result<Cache, GenerateError> {
        if batch == 0 {
            return Err(GenerateError::option("batch", batch, "use at least one sequence"));
        }
        if capacity == 0 || capacity > config.n_positions {
            let remedy = "use 1 to n_positions positions";
            return Err(GenerateError::option("capacity", capacity, remedy));
        }
        let shape = KvShape {
            layers: config.n_layer,
            sequences: batch,
            heads: config.n_head,
            head_dim: config.n_embd / config.n_head,
            capacity,
            precision,
        };
        let mut work = Workspace {
            at: Vec::new(),
            lone: Vec::with_capacity(batch),
            spans: Vec::with_capacity(batch),
            wanted: Vec::new(),
            x: Vec::new(),
            qkv: Vec::new(),
            heads: Vec::new(),
            inner: Vec::new(),
            picked: Vec::new(),
            logits: Buffer::default(),
            best: Vec::new(),
        };
        work.fit(config, batch, batch);
        work.fit_logits(batch, config.vocab_size);
        Ok(Cache {
            kv: KvCache::new(shape),
            lengths: vec![0; batch],
            work,
            spare: None,
            vocab: config.vocab_size,
        })
    }

    /// Sequences it holds.
    pub fn batch(&self) -> usize {
        self.lengths.len()
    }

    /// What keys and values are kept in.
    pub fn precision(&self) -> KvPrecision {
        self.kv.shape().precision
    }

    /// Positions each sequence may have.
    pub fn capacity(&self) -> usize {
        self.kv.shape().capacity
    }

    /// Positions sequence `sequence` has.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn len(&self, sequence: usize) -> usize {
        self.lengths[sequence]
    }

    /// Whether no sequence has a position.
    pub fn is_empty(&self) -> bool {
        self.lengths.iter().all(|&len| len == 0)
    }

    /// Bytes of keys and values, filled or not.
    pub fn bytes(&self) -> usize {
        self.kv.bytes()
    }

    /// Forgets every sequence.
    pub fn reset(&mut self) {
        self.lengths.fill(0);
    }

    /// Forgets the positions from `len` on, in every sequence that has them.
    pub fn truncate(&mut self, len: usize) {
        for length in &mut self.lengths {
            *length = (*length).min(len);
        }
    }

    /// Forgets the positions of one sequence from `len` on.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn truncate_sequence(&mut self, sequence: usize, len: usize) {
        self.lengths[sequence] = self.lengths[sequence].min(len);
    }

    /// Sequence `to` becomes the first `positions.end` positions of sequence `from`, of which it has
    /// those before `positions.start` already: the same tokens have the same keys and values.
    ///
    /// # Panics
    /// If there is no such sequence, `from` has fewer positions than that or `to` not those before.
    pub fn copy(&mut self, from: usize, to: usize, positions: Range<usize>) {
        assert!(positions.end <= self.lengths[from], "positions that sequence {from} has");
        assert!(positions.start <= self.lengths[to], "positions from where sequence {to} ends");
        self.lengths[to] = positions.end;
        self.kv.copy_within(from, to, positions);
    }

    /// The logits of the latest step, `[rows asked for, V]`, then whatever was there before.
    pub fn logits(&self) -> &[f32] {
        &self.work.logits
    }

    /// The latest logits of the `i`-th row asked for, `[V]`.
    pub fn logits_row(&self, i: usize) -> &[f32] {
        &self.work.logits[i * self.vocab..][..self.vocab]
    }

    /// The id with the largest of the logits of [`Cache::logits_row`], the lowest such id on a tie.
    ///
    /// # Panics
    /// If there was no such row.
    pub fn best(&self, i: usize) -> u32 {
        self.work.best[i].index() as u32
    }

    /// Sequence i becomes a copy of what sequence `sources[i]` was, for all i at once.
    ///
    /// # Panics
    /// If there are more sources than sequences, or a source is not a sequence.
    pub fn gather(&mut self, sources: &[usize]) {
        assert!(sources.len() <= self.batch());
        let moved = || sources.iter().enumerate().filter(|&(to, &from)| to != from);
        if moved().next().is_none() {
            return;
        }
        let spare = self.spare.get_or_insert_with(|| KvCache::new(self.kv.shape()));
        for (to, &from) in moved() {
            spare.copy_from(&self.kv, from, to, self.lengths[from]);
        }
        let before = self.lengths.clone();
        for (to, &from) in moved() {
            self.kv.copy_from(spare, to, to, before[from]);
            self.lengths[to] = before[from];
        }
    }
}

impl Workspace {
    /// Grows the activations to `rows` rows, `wanted` of which are picked.
    pub(crate) fn fit(&mut self, config: &Config, rows: usize, wanted: usize) {
        let (c, f) = (config.n_embd, config.n_inner);
        if self.x.len() < rows * c {
            self.x.resize(rows * c, 0.0);
            self.qkv.resize(rows * 3 * c, 0.0);
            self.heads.resize(rows * c, 0.0);
            self.inner.resize(rows * f, 0.0);
            self.at.reserve(rows.saturating_sub(self.at.len()));
            self.wanted.reserve(rows.saturating_sub(self.wanted.len()));
        }
        if self.picked.len() < wanted * c {
            self.picked.resize(wanted * c, 0.0);
        }
    }

    /// Makes room for the logits of `rows` rows; what was there is lost when there was less.
    pub(crate) fn fit_logits(&mut self, rows: usize, vocab: usize) {
        if self.logits.len() < rows * vocab {
            self.logits = Buffer::zeroed(rows * vocab);
        }
        if self.best.len() < rows {
            self.best.resize_with(rows, Best::default);
        }
    }
}
