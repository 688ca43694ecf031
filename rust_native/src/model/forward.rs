//! The forward pass: prefill, decode, and all positions at once.
//!
//! Rows of all sequences lie one after the other without padding; spans say which row is which
//! position of which sequence. A prompt passes in chunks, which bounds the working memory and
//! leaves the result as it is, since a row depends on earlier rows through the cache alone.
//!
//! Shapes: R rows, B sequences, C width, F inner width, V vocabulary.

use kernels::{Input, Output, Span};

use super::{Gpt2, Norm};
use crate::Cache;
use crate::generate::GenerateError;

/// Rows that pass through the blocks together.
const CHUNK: usize = 512;

impl Gpt2 {
    /// Empties the cache, then runs the prompts of sequences 0, 1, … in full.
    /// Gives the logits of each prompt's last position, `[prompts, V]`.
    ///
    /// # Errors
    /// An empty prompt, a token outside the vocabulary, a prompt longer than the cache's capacity,
    /// or more prompts than the cache has sequences. The cache is then empty.
    pub fn prefill<'c>(&self, cache: &'c mut Cache, prompts: &[&[u32]]) -> Result<&'c [f32], GenerateError> {
        cache.reset();
        self.check_prompts(cache, prompts)?;
        let c = self.config.n_embd;
        let total: usize = prompts.iter().map(|prompt| prompt.len()).sum();
        cache.work.fit(&self.config, total.min(CHUNK).max(prompts.len()));
        let mut next = Chunks { prompts, sequence: 0, start: 0 };
        while next.fill(cache) {
            self.blocks(cache);
            let work = &mut cache.work;
            for span in &work.spans {
                if span.start + span.rows == prompts[span.sequence].len() {
                    let row = (span.row + span.rows - 1) * c;
                    work.last[span.sequence * c..][..c].copy_from_slice(&work.x[row..][..c]);
                }
            }
        }
        let (b, v) = (prompts.len(), self.config.vocab_size);
        let work = &mut cache.work;
        self.project(&work.last[..b * c], &mut work.logits[..b * v]);
        Ok(&cache.work.logits[..b * v])
    }

    /// One new token for every sequence of the cache: `tokens[s]` at the end of sequence s.
    /// Gives the logits that follow, `[B, V]`. Allocates nothing.
    ///
    /// # Errors
    /// A number of tokens other than the cache's batch, a token outside the vocabulary, or a full
    /// sequence. The cache is then unchanged.
    pub fn decode<'c>(&self, cache: &'c mut Cache, tokens: &[u32]) -> Result<&'c [f32], GenerateError> {
        if tokens.len() != cache.batch() {
            return Err(GenerateError::BatchMismatch { found: tokens.len(), limit: cache.batch() });
        }
        self.decode_some(cache, tokens.iter().copied().enumerate())
    }

    /// One new token for some of the sequences, as `(sequence, token)` in rising order of
    /// sequence. Gives their logits in that order. Allocates nothing.
    ///
    /// # Errors
    /// As [`Gpt2::decode`].
    ///
    /// # Panics
    /// If a sequence is named twice.
    pub fn decode_some<'c>(
        &self,
        cache: &'c mut Cache,
        tokens: impl Iterator<Item = (usize, u32)> + Clone,
    ) -> Result<&'c [f32], GenerateError> {
        let (capacity, batch) = (cache.capacity(), cache.batch());
        for (sequence, token) in tokens.clone() {
            if sequence >= batch {
                return Err(GenerateError::BatchMismatch { found: sequence + 1, limit: batch });
            }
            self.check_token(token)?;
            let len = cache.lengths[sequence];
            if len == capacity {
                return Err(GenerateError::ContextOverflow { prompt: len, new: 1, limit: capacity });
            }
        }
        let work = &mut cache.work;
        work.at.clear();
        work.spans.clear();
        for (row, (sequence, token)) in tokens.enumerate() {
            let start = cache.lengths[sequence];
            work.at.push((token, start as u32));
            work.spans.push(Span { sequence, start, row, rows: 1 });
            cache.lengths[sequence] = start + 1;
        }
        self.blocks(cache);
        let work = &mut cache.work;
        let rows = work.at.len();
        let logits = &mut work.logits[..rows * self.config.vocab_size];
        self.project(&work.x[..rows * self.config.n_embd], logits);
        Ok(logits)
    }

    /// The logits of every position of one text, `[T, V]`: teacher forcing.
    ///
    /// # Errors
    /// As [`Gpt2::prefill`].
    pub fn logits_all(&self, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        let (c, v) = (self.config.n_embd, self.config.vocab_size);
        let mut cache = Cache::new(&self.config, 1, tokens.len().clamp(1, self.config.n_positions))?;
        let prompts = [tokens];
        self.check_prompts(&cache, &prompts)?;
        cache.work.fit(&self.config, tokens.len().min(CHUNK));
        let mut logits = vec![0.0; tokens.len() * v];
        let mut next = Chunks { prompts: &prompts, sequence: 0, start: 0 };
        while next.fill(&mut cache) {
            self.blocks(&mut cache);
            for span in &cache.work.spans {
                let rows = &cache.work.x[span.row * c..][..span.rows * c];
                self.project(rows, &mut logits[span.start * v..][..span.rows * v]);
            }
        }
        Ok(logits)
    }

    /// Runs the rows described by `work.at` and `work.spans` through all blocks, in `work.x`.
    fn blocks(&self, cache: &mut Cache) {
        let (cpu, c, f) = (self.cpu(), self.config.n_embd, self.config.n_inner);
        let work = &mut cache.work;
        let rows = work.at.len();
        let x = &mut work.x[..rows * c];
        let (qkv, heads) = (&mut work.qkv[..rows * 3 * c], &mut work.heads[..rows * c]);
        let inner = &mut work.inner[..rows * f];
        cpu.embed(&self.tokens.weight, &self.positions, &work.at, x);
        for (layer, block) in self.blocks.iter().enumerate() {
            // x += attention(norm_1(x)) W + b
            cpu.linear(self.normed(x, &block.norm_1), &block.qkv, qkv, Output::Store);
            cpu.attention(&mut cache.kv, layer, &work.spans, qkv, self.score_scale(layer), heads);
            cpu.linear(Input::Rows(heads), &block.attention_out, x, Output::Add);
            // x += gelu(norm_2(x) W + b) W + b
            cpu.linear(self.normed(x, &block.norm_2), &block.inner, inner, Output::Gelu);
            cpu.linear(Input::Rows(inner), &block.inner_out, x, Output::Add);
        }
    }

    /// Logits `[R, V]` of residual rows `[R, C]`.
    fn project(&self, rows: &[f32], logits: &mut [f32]) {
        self.cpu.linear(self.normed(rows, &self.norm), self.head(), logits, Output::Store);
    }

    fn normed<'a>(&self, rows: &'a [f32], norm: &'a Norm) -> Input<'a> {
        let eps = self.config.layer_norm_epsilon;
        Input::Norm { rows, gain: &norm.gain, bias: &norm.bias, eps }
    }

    fn check_prompts(&self, cache: &Cache, prompts: &[&[u32]]) -> Result<(), GenerateError> {
        if prompts.is_empty() {
            return Err(GenerateError::EmptyPrompt { index: 0 });
        }
        if prompts.len() > cache.batch() {
            let (found, limit) = (prompts.len(), cache.batch());
            return Err(GenerateError::BatchMismatch { found, limit });
        }
        for (index, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() {
                return Err(GenerateError::EmptyPrompt { index });
            }
            if prompt.len() > cache.capacity() {
                let (prompt, limit) = (prompt.len(), cache.capacity());
                return Err(GenerateError::ContextOverflow { prompt, new: 0, limit });
            }
            prompt.iter().try_for_each(|&token| self.check_token(token))?;
        }
        Ok(())
    }

    fn check_token(&self, id: u32) -> Result<(), GenerateError> {
        let vocab = self.config.vocab_size;
        if (id as usize) < vocab { Ok(()) } else { Err(GenerateError::TokenOutOfRange { id, vocab }) }
    }
}

/// Deals prompts out in chunks of at most [`CHUNK`] rows.
struct Chunks<'a> {
    prompts: &'a [&'a [u32]],
    sequence: usize,
    start: usize,
}

impl Chunks<'_> {
    /// Describes the next chunk in the cache's workspace and counts its positions as present;
    /// false when nothing is left.
    fn fill(&mut self, cache: &mut Cache) -> bool {
        let work = &mut cache.work;
        work.at.clear();
        work.spans.clear();
        while let Some(prompt) = self.prompts.get(self.sequence) {
            let (sequence, start, row) = (self.sequence, self.start, work.at.len());
            let rows = (prompt.len() - start).min(CHUNK - row);
            if rows == 0 {
                break;
            }
            let tokens = &prompt[start..start + rows];
            work.at.extend(tokens.iter().zip(start as u32..).map(|(&token, at)| (token, at)));
            work.spans.push(Span { sequence, start, row, rows });
            self.start += rows;
            cache.lengths[sequence] = self.start;
            if self.start == prompt.len() {
                (self.sequence, self.start) = (sequence + 1, 0);
            }
        }
        !work.at.is_empty()
    }
}
