//! Text in, text out: encode, make a cache, prefill, one step a token, decode. All of it on the clock.
//!
//! Without a cache every token recomputes the whole sequence: the ablation that shows what the cache
//! is worth.

use crate::cache::CacheKind;
use crate::model::{Model, greedy, host_ids, ids_tensor};
use crate::sampling;
use anyhow::{Result, anyhow};
use tch::Tensor;
use tokenizers::Tokenizer;
use worker::{Answer, Job, Laps, Receipt, Sampling, Unit};

/// One prompt and what becomes of it.
pub struct Generate<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    prompt: String,
    tokens: usize,
    cache: Option<CacheKind>,
    sampling: Option<Sampling>,
    ids: Vec<u32>,
    text: String,
}

impl<'a> Generate<'a> {
    /// `tokens` new tokens behind `prompt`; no `cache` recomputes everything for each of them.
    pub fn new(
        model: &'a Model,
        tokenizer: &'a Tokenizer,
        prompt: String,
        tokens: usize,
        cache: Option<CacheKind>,
        sampling: Option<Sampling>,
    ) -> Generate<'a> {
        Generate { model, tokenizer, prompt, tokens, cache, sampling, ids: Vec::new(), text: String::new() }
    }

    fn next(&self, logits: &Tensor) -> Result<Tensor> {
        match &self.sampling {
            Some(sampling) => sampling::draw(logits, sampling),
            None => greedy(logits),
        }
    }
}

impl Job for Generate<'_> {
    fn reset(&mut self) -> Result<()> {
        if let Some(sampling) = &self.sampling {
            tch::manual_seed(sampling.seed as i64);
        }
        self.ids.clear();
        self.ids.reserve(self.tokens);
        Ok(())
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let encoding =
            self.tokenizer.encode_fast(self.prompt.as_str(), false).map_err(|error| anyhow!(error))?;
        let mut input = ids_tensor(encoding.get_ids(), 1)?.f_to_device(self.model.place().device)?;
        // The last token is never fed.
        let capacity = (encoding.len() + self.tokens.max(1) - 1) as i64;
        let mut cache = self.cache.map(|kind| self.model.cache(kind, 1, capacity)).transpose()?;
        for _ in 0..self.tokens {
            let logits = match &mut cache {
                Some(cache) => self.model.forward(&input, cache)?,
                None => self.model.forward_uncached(&input)?,
            };
            let next = self.next(&logits)?;
            self.ids.extend(host_ids(&next)?);
            laps.mark();
            input = match cache {
                Some(_) => next,
                None => Tensor::f_cat(&[&input, &next], 1)?,
            };
        }
        self.text = self.tokenizer.decode(&self.ids, false).map_err(|error| anyhow!(error))?;
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let answer = match self.sampling {
            Some(_) => Answer::Nothing,
            None => Answer::IdsThenBytes(self.ids.clone(), self.text.clone().into_bytes()),
        };
        Ok(Receipt { units: self.ids.len() as u64, unit: Unit::Tokens, answer, logits: None })
    }
}
