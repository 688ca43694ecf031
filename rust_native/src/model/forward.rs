//! The forward pass: new tokens behind any sequences of a cache, and logits of the rows asked for.
//!
//! [`Gpt2::extend`] is the one way through the model. Prompts, single steps, pieces of a prompt
//! beside single steps, guesses to be verified: all are rows, lying one after the other without
//! padding; spans say which row is which position of which sequence. Rows pass in chunks, which
//! bounds the working memory and leaves the result as it is, since a row depends on earlier rows
//! through the cache alone.
//!
//! Shapes: R rows, B sequences, C width, F inner width, V vocabulary, N rows whose logits are wanted.

use kernels::{Attend, Input, Linear, Output, Span};

use super::{Gpt2, Norm};
use crate::Cache;
use crate::generate::GenerateError;

/// Rows that pass through the blocks together.
pub(crate) const CHUNK: usize = 512;

/// Rows up to which a product waits for its weights rather than for its arithmetic.
const FEW: usize = 8;

/// Of which new tokens the logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Of none: a piece of a prompt.
    Nothing,
    /// Of the last: what follows the text.
    Last,
    /// Of every one: teacher forcing, guesses to be verified.
    All,
}

/// New tokens at the end of one sequence of a cache.
#[derive(Clone, Copy, Debug)]
pub struct NewTokens<'t> {
    /// The sequence.
    pub sequence: usize,
    /// At least one token.
    pub tokens: &'t [u32],
    /// Whose logits come back.
    pub want: Want,
}

impl Gpt2 {
    /// Puts new tokens behind sequences of the cache, any number for each, in one pass. Gives the
    /// logits `[N, V]` of the rows asked for, in the order of `parts`; what nobody asked for is not
    /// computed further than its keys and values. Allocates nothing once the cache has served as
    /// many rows.
    ///
    /// # Errors
    /// A sequence the cache has not or that is named twice, a part without tokens, a token outside
    /// the vocabulary, or more positions than the cache's capacity. The cache is then unchanged.
    pub fn extend<'c, 't>(
        &self,
        cache: &'c mut Cache,
        parts: impl Iterator<Item = NewTokens<'t>> + Clone,
    ) -> Result<&'c [f32], GenerateError> {
        let (rows, wanted) = self.check_parts(cache, parts.clone())?;
        cache.work.fit(&self.config, rows.min(CHUNK), wanted);
        cache.work.fit_logits(wanted, self.config.vocab_size);
        self.run(cache, parts);
        let work = &mut cache.work;
        let logits = &mut work.logits[..wanted * self.config.vocab_size];
        if wanted > 0 {
            // What follows is the first block of the next step.
            self.expect(wanted, self.blocks.first().map(|block| &block.qkv));
            let rows = &work.picked[..wanted * self.config.n_embd];
            self.cpu.linear_best(
                self.normed(rows, &self.norm),
                self.head(),
                logits,
                &mut work.best[..wanted],
            );
        }
        Ok(logits)
    }

    /// Empties the cache, then runs the prompts of sequences 0, 1, … in full.
    /// Gives the logits of each prompt's last position, `[prompts, V]`.
    ///
    /// # Errors
    /// As [`Gpt2::extend`], and no prompts at all. The cache is then empty.
    pub fn prefill<'c>(&self, cache: &'c mut Cache, prompts: &[&[u32]]) -> Result<&'c [f32], GenerateError> {
        cache.reset();
        if prompts.is_empty() {
            return Err(GenerateError::EmptyPrompt { index: 0 });
        }
        let part = |(sequence, &tokens)| NewTokens { sequence, tokens, want: Want::Last };
        self.extend(cache, prompts.iter().enumerate().map(part))
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
        self.extend(cache, tokens.iter().enumerate().map(single))
    }

    /// One new token for some of the sequences, as `(sequence, token)`. Gives their logits in the
    /// order given. Allocates nothing.
    ///
    /// # Errors
    /// As [`Gpt2::extend`].
    pub fn decode_some<'c>(
        &self,
        cache: &'c mut Cache,
        tokens: &[(usize, u32)],
    ) -> Result<&'c [f32], GenerateError> {
        self.extend(cache, tokens.iter().map(|(sequence, token)| single((*sequence, token))))
    }

    /// The logits of every position of one text, `[T, V]`: teacher forcing.
    ///
    /// # Errors
    /// As [`Gpt2::extend`].
    pub fn logits_all(&self, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        let mut cache = self.cache(1, tokens.len().clamp(1, self.config.n_positions))?;
        let part = std::iter::once(NewTokens { sequence: 0, tokens, want: Want::All });
        let (rows, wanted) = self.check_parts(&cache, part.clone())?;
        cache.work.fit(&self.config, rows.min(CHUNK), wanted);
        self.run(&mut cache, part);
        let mut logits = vec![0.0; wanted * self.config.vocab_size];
        let rows = &cache.work.picked[..wanted * self.config.n_embd];
        self.cpu.linear(self.normed(rows, &self.norm), self.head(), &mut logits, Output::Store);
        Ok(logits)
    }

    /// Takes checked parts into the cache; the wanted rows of the residual stream are in
    /// `work.picked`, in order.
    fn run<'t>(&self, cache: &mut Cache, parts: impl Iterator<Item = NewTokens<'t>>) {
        let mut deal = Deal { parts, rest: None };
        let mut picked = 0;
        while deal.fill(cache) {
            self.blocks(cache);
            let (work, c) = (&mut cache.work, self.config.n_embd);
            let rows = work.wanted.len();
            work.picked[picked * c..][..rows * c].copy_from_slice(&work.x[..rows * c]);
            picked += rows;
        }
    }

    /// Runs the rows described by `work` through all blocks. The wanted ones end up at the front of
    /// `work.x`; the others stop where their last keys and values are known.
    fn blocks(&self, cache: &mut Cache) {
        let (cpu, c, f) = (self.cpu(), self.config.n_embd, self.config.n_inner);
        let work = &mut cache.work;
        let mut rows = work.at.len();
        self.expect(rows, self.blocks.first().map(|block| &block.qkv));
        cpu.embed(&self.tokens.weight, &self.positions, &work.at, &mut work.x[..rows * c]);
        for (layer, block) in self.blocks.iter().enumerate() {
            let x = &mut work.x[..rows * c];
            let (qkv, heads) = (&mut work.qkv[..rows * 3 * c], &mut work.heads[..rows * c]);
            // x += attention(norm_1(x)) W + b
            self.expect(rows, Some(&block.attention_out));
            cpu.linear(self.normed(x, &block.norm_1), &block.qkv, qkv, Output::Store);
            let last = layer + 1 == self.blocks.len() && ends_alone(&work.spans, &work.wanted);
            let how = Attend { scale: self.score_scale(layer), products: self.precision, last };
            // Lone queries have a path of their own, which longer spans beside them would close.
            self.expect(rows, Some(&block.attention_out));
            for spans in [&work.lone, &work.spans].into_iter().filter(|spans| !spans.is_empty()) {
                cpu.attention(&mut cache.kv, layer, spans, qkv, how, heads);
            }
            if layer + 1 == self.blocks.len() {
                // Nobody attends to a row of the last block, so only wanted rows go on: of a long
                // prompt one row, which saves three quarters of the block.
                rows = work.wanted.len();
                pick(&work.wanted, c, x);
                pick(&work.wanted, c, heads);
                if rows == 0 {
                    return;
                }
            }
            let (x, heads) = (&mut work.x[..rows * c], &work.heads[..rows * c]);
            let inner = &mut work.inner[..rows * f];
            self.expect(rows, Some(&block.inner));
            cpu.linear(Input::Rows(heads), &block.attention_out, x, Output::Add);
            // x += gelu(norm_2(x) W + b) W + b
            self.expect(rows, Some(&block.inner_out));
            cpu.linear(self.normed(x, &block.norm_2), &block.inner, inner, Output::Gelu);
            let next = self.blocks.get(layer + 1).map_or(self.head(), |block| &block.qkv);
            self.expect(rows, Some(next));
            cpu.linear(Input::Rows(inner), &block.inner_out, x, Output::Add);
        }
    }

    /// Says what the operation after the next one reads. With many rows nobody waits for weights.
    fn expect(&self, rows: usize, linear: Option<&Linear>) {
        if let Some(linear) = linear.filter(|_| rows <= FEW) {
            self.cpu.expect(&linear.weight);
        }
    }

    fn normed<'a>(&self, rows: &'a [f32], norm: &'a Norm) -> Input<'a> {
        let eps = self.config.layer_norm_epsilon;
        Input::Norm { rows, gain: &norm.gain, bias: &norm.bias, eps }
    }

    /// The number of rows and of wanted rows, or what is wrong with the parts.
    fn check_parts<'t>(
        &self,
        cache: &Cache,
        parts: impl Iterator<Item = NewTokens<'t>> + Clone,
    ) -> Result<(usize, usize), GenerateError> {
        let (batch, limit) = (cache.batch(), cache.capacity());
        let (mut rows, mut wanted) = (0, 0);
        for (index, part) in parts.clone().enumerate() {
            let (sequence, new) = (part.sequence, part.tokens.len());
            if sequence >= batch {
                return Err(GenerateError::BatchMismatch { found: sequence + 1, limit: batch });
            }
            if parts.clone().take(index).any(|other| other.sequence == sequence) {
                let remedy = "name each sequence once; all its new tokens go into one part";
                return Err(GenerateError::option("sequence", sequence, remedy));
            }
            if new == 0 {
                return Err(GenerateError::EmptyPrompt { index });
            }
            match cache.len(sequence) {
                // The first tokens of a sequence are its prompt.
                0 if new > limit => {
                    return Err(GenerateError::ContextOverflow { prompt: new, new: 0, limit });
                }
                prompt if new > limit - prompt => {
                    return Err(GenerateError::ContextOverflow { prompt, new, limit });
                }
                _ => {}
            }
            part.tokens.iter().try_for_each(|&token| self.check_token(token))?;
            rows += new;
            wanted += match part.want {
                Want::Nothing => 0,
                Want::Last => 1,
                Want::All => new,
            };
        }
        Ok((rows, wanted))
    }

    pub(crate) fn check_token(&self, id: u32) -> Result<(), GenerateError> {
        let vocab = self.config.vocab_size;
        if (id as usize) < vocab { Ok(()) } else { Err(GenerateError::TokenOutOfRange { id, vocab }) }
    }
}

/// One token whose successor is wanted.
fn single((sequence, token): (usize, &u32)) -> NewTokens<'_> {
    NewTokens { sequence, tokens: std::slice::from_ref(token), want: Want::Last }
}

/// Whether nothing but the last row of a span is wanted: then the last block attends from no other.
fn ends_alone(spans: &[Span], wanted: &[usize]) -> bool {
    spans.iter().all(|span| {
        let first = wanted.partition_point(|&row| row < span.row);
        wanted.get(first).is_none_or(|&row| row + 1 >= span.row + span.rows)
    })
}

/// Moves the rows listed, which rise, to the front of `[R, C]`.
fn pick(wanted: &[usize], c: usize, rows: &mut [f32]) {
    for (to, &from) in wanted.iter().enumerate().filter(|&(to, &from)| to != from) {
        rows.copy_within(from * c..(from + 1) * c, to * c);
    }
}

/// Deals parts out in chunks of at most [`CHUNK`] rows.
struct Deal<'t, P> {
    parts: P,
    /// What the last chunk had no room for.
    rest: Option<NewTokens<'t>>,
}

impl<'t, P: Iterator<Item = NewTokens<'t>>> Deal<'t, P> {
    /// Describes the next chunk in the cache's workspace and counts its positions as present;
    /// false when nothing is left.
    fn fill(&mut self, cache: &mut Cache) -> bool {
        let work = &mut cache.work;
        work.at.clear();
        work.lone.clear();
        work.spans.clear();
        work.wanted.clear();
        while work.at.len() < CHUNK {
            let Some(part) = self.rest.take().or_else(|| self.parts.next()) else { break };
            let (sequence, row, start) = (part.sequence, work.at.len(), cache.lengths[part.sequence]);
            let rows = part.tokens.len().min(CHUNK - row);
            let (now, later) = part.tokens.split_at(rows);
            work.at.extend(now.iter().zip(start as u32..).map(|(&token, at)| (token, at)));
            let spans = if rows == 1 { &mut work.lone } else { &mut work.spans };
            spans.push(Span { sequence, start, row, rows });
            match part.want {
                Want::All => work.wanted.extend(row..row + rows),
                Want::Last if later.is_empty() => work.wanted.push(row + rows - 1),
                _ => {}
            }
            cache.lengths[sequence] = start + rows;
            if !later.is_empty() {
                self.rest = Some(NewTokens { tokens: later, ..part });
            }
        }
        !work.at.is_empty()
    }
}
