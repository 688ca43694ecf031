//! Greedy decoding one step at a time, with nothing around it.

use super::GenerateError;
use crate::Cache;
use crate::model::Gpt2;

/// A batch under greedy decoding: [`Stepper::prefill`], then [`Stepper::step`] as often as wanted.
/// A step is one forward pass, which finds each sequence's likeliest token on its way, and allocates nothing.
#[derive(Debug)]
pub struct Stepper<'m> {
    model: &'m Gpt2,
    cache: Cache,
    tokens: Vec<u32>,
}

impl<'m> Stepper<'m> {
    /// Memory for `batch` sequences of up to `capacity` positions.
    ///
    /// # Errors
    /// As [`Gpt2::cache`].
    pub fn new(model: &'m Gpt2, batch: usize, capacity: usize) -> Result<Stepper<'m>, GenerateError> {
        let cache = model.cache(batch, capacity)?;
        Ok(Stepper { model, cache, tokens: Vec::with_capacity(batch) })
    }

    /// Begins anew with one prompt per sequence; gives the first new token of each.
    ///
    /// # Errors
    /// As [`Gpt2::prefill`], and `BatchMismatch` for fewer prompts than sequences.
    pub fn prefill(&mut self, prompts: &[&[u32]]) -> Result<&[u32], GenerateError> {
        let (found, limit) = (prompts.len(), self.cache.batch());
        if found != limit {
            return Err(GenerateError::BatchMismatch { found, limit });
        }
        self.tokens.clear();
        self.model.prefill(&mut self.cache, prompts)?;
        Ok(self.choose())
    }

    /// Feeds the newest token of each sequence; gives the next.
    ///
    /// # Errors
    /// `ContextOverflow` when a sequence is full; before the first prefill, `BatchMismatch`.
    pub fn step(&mut self) -> Result<&[u32], GenerateError> {
        self.model.decode(&mut self.cache, &self.tokens)?;
        Ok(self.choose())
    }

    /// Goes back to when every sequence had `len` positions and `tokens` were its newest tokens, so that
    /// the same steps can be taken again.
    ///
    /// # Errors
    /// `BatchMismatch` unless there is one token a sequence.
    pub fn rewind(&mut self, len: usize, tokens: &[u32]) -> Result<(), GenerateError> {
        let (found, limit) = (tokens.len(), self.cache.batch());
        if found != limit {
            return Err(GenerateError::BatchMismatch { found, limit });
        }
        self.cache.truncate(len);
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// The logits the newest tokens were chosen from, `[B, V]`.
    pub fn logits(&self) -> &[f32] {
        self.cache.logits()
    }

    /// The cache it works on.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    fn choose(&mut self) -> &[u32] {
        self.tokens.clear();
        self.tokens.extend((0..self.cache.batch()).map(|sequence| self.cache.best(sequence)));
        &self.tokens
    }
}
