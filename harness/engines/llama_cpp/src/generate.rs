//! Text in, text out: encode, prefill, one step a token, decode. All of it on the clock.
//!
//! The context has no vocabulary, so text and ids are the crate tokenizers' business, as they are for
//! the other engines without a tokenizer of their own.

use crate::llama::{Context, Sampler};
use anyhow::{Result, anyhow};
use tokenizers::Tokenizer;
use worker::{Answer, Job, Laps, Receipt, Sampling, Unit};

/// One prompt and what becomes of it.
pub struct Generate<'a> {
    context: Context,
    tokenizer: &'a Tokenizer,
    prompt: String,
    tokens: usize,
    cache: bool,
    sampling: Option<Sampling>,
    ids: Vec<u32>,
    text: String,
}

impl<'a> Generate<'a> {
    /// `tokens` new tokens behind `prompt`; without `cache` everything is computed again for each.
    pub fn new(
        context: Context,
        tokenizer: &'a Tokenizer,
        prompt: String,
        tokens: usize,
        cache: bool,
        sampling: Option<Sampling>,
    ) -> Generate<'a> {
        Generate { context, tokenizer, prompt, tokens, cache, sampling, ids: Vec::new(), text: String::new() }
    }
}

impl Job for Generate<'_> {
    fn reset(&mut self) -> Result<()> {
        self.context.clear();
        self.ids.clear();
        self.text.clear();
        Ok(())
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let encoding =
            self.tokenizer.encode_fast(self.prompt.as_str(), false).map_err(|error| anyhow!(error))?;
        let mut sequence = encoding.get_ids().to_vec();
        let prompt = sequence.len();
        let mut sampler = self.sampling.as_ref().map(Sampler::new).transpose()?;
        let mut filled = 0;
        for _ in 0..self.tokens {
            self.context.feed(&sequence[filled..], filled)?;
            let next = match &mut sampler {
                Some(sampler) => sampler.draw(&self.context)?,
                None => self.context.greedy()?[0],
            };
            laps.mark();
            if self.cache {
                filled = sequence.len();
            } else {
                self.context.clear();
            }
            sequence.push(next);
        }
        self.ids = sequence.split_off(prompt);
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
