//! Text in, text out, by the library's whole-request call: encode, generate, decode, on the clock.
//!
//! Without a cache every token recomputes the whole sequence: the ablation that shows what the cache
//! is worth.

use anyhow::Result;
use rust_native::{GenerateOptions, Gpt2, Sampling, Special, Strategy, Tokenizer};
use std::ops::ControlFlow;
use worker::{Answer, Job, Laps, Receipt, Unit};

/// One prompt and what becomes of it.
pub struct Generate<'a> {
    model: &'a Gpt2,
    tokenizer: &'a Tokenizer,
    prompt: String,
    options: GenerateOptions,
    ids: Vec<u32>,
    text: String,
}

impl<'a> Generate<'a> {
    /// `tokens` new tokens behind `prompt`; no `cache` recomputes everything for each of them.
    pub fn new(
        model: &'a Gpt2,
        tokenizer: &'a Tokenizer,
        prompt: String,
        tokens: usize,
        cache: bool,
        sampling: Option<worker::Sampling>,
    ) -> Generate<'a> {
        let strategy = sampling.map_or(Strategy::Greedy, |sampling| {
            Strategy::Sample(Sampling {
                temperature: sampling.temperature,
                top_k: (sampling.top_k > 0).then_some(sampling.top_k),
                top_p: (sampling.top_p < 1.0).then_some(sampling.top_p),
            })
        });
        let options = GenerateOptions {
            max_new_tokens: tokens,
            strategy,
            seed: sampling.map_or(0, |sampling| sampling.seed),
            use_cache: cache,
            ..GenerateOptions::default()
        };
        Generate { model, tokenizer, prompt, options, ids: Vec::new(), text: String::new() }
    }
}

impl Job for Generate<'_> {
    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let prompt = self.tokenizer.encode(&self.prompt, Special::Allow)?;
        let mut generated = self.model.generate(&[&prompt], &self.options, |_, _, _| {
            laps.mark();
            ControlFlow::Continue(())
        })?;
        self.ids = generated.swap_remove(0).ids;
        self.text = self.tokenizer.decode_lossy(&self.ids)?;
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let answer = match self.options.strategy {
            Strategy::Greedy => Answer::IdsThenBytes(self.ids.clone(), self.text.clone().into_bytes()),
            _ => Answer::Nothing,
        };
        Ok(Receipt { units: self.ids.len() as u64, unit: Unit::Tokens, answer, logits: None })
    }
}
