//! Text in, text out, by the library's whole-request call: encode, generate, decode, on the clock.
//!
//! Several texts are one call, which computes what they share once. Without a cache every token
//! recomputes the whole sequence: the ablation that shows what the cache is worth.

use crate::model::fits;
use crate::serve::Serve;
use anyhow::{Result, anyhow};
use rust_native::{GenerateOptions, Gpt2, Lookup, Sampling, Special, Strategy, Tokenizer};
use std::ops::ControlFlow;
use worker::{Answer, Job, Laps, Prepare, Receipt, Stop, Task, Unit};

/// The job of an order for `generate` or `serve`.
pub fn prepare<'a>(
    model: &'a Gpt2,
    tokenizer: &'a Tokenizer,
    order: &Prepare,
) -> Result<Box<dyn Job + 'a>, Stop> {
    let texts = order.files.read_texts()?;
    if texts.is_empty() {
        return Err(anyhow!("the file of texts is empty").into());
    }
    let mut positions = 0;
    for (at, text) in texts.iter().enumerate() {
        let length = tokenizer.count(text, Special::Allow)?;
        if length == 0 {
            return Err(Stop::refused("an empty prompt has no last position", "give a text"));
        }
        positions = positions.max(length + new_tokens(&order.task, at));
    }
    fits(model, positions)?;
    match &order.task {
        Task::Serve { slots, tokens } => {
            Ok(Box::new(Serve::new(model, tokenizer, texts, *slots, tokens.clone(), positions)))
        }
        task => Ok(Box::new(Generate::new(model, tokenizer, texts, task)?)),
    }
}

/// New tokens behind the text at `at`.
fn new_tokens(task: &Task, at: usize) -> usize {
    match task {
        Task::Generate { tokens, .. } => *tokens,
        Task::Serve { tokens, .. } => tokens[at % tokens.len()],
        _ => 0,
    }
}

/// Prompts and what becomes of them.
struct Generate<'a> {
    model: &'a Gpt2,
    tokenizer: &'a Tokenizer,
    prompts: Vec<String>,
    options: GenerateOptions,
    ids: Vec<u32>,
    text: String,
}

impl<'a> Generate<'a> {
    fn new(
        model: &'a Gpt2,
        tokenizer: &'a Tokenizer,
        prompts: Vec<String>,
        task: &Task,
    ) -> Result<Generate<'a>, Stop> {
        let Task::Generate { tokens, cache, sampling, beams, lookup } = *task else {
            return Err(Stop::refused(format!("no {} from texts", task.kind()), ""));
        };
        let strategy = match (sampling, beams) {
            (Some(sampling), _) => Strategy::Sample(Sampling {
                temperature: sampling.temperature,
                top_k: (sampling.top_k > 0).then_some(sampling.top_k),
                top_p: (sampling.top_p < 1.0).then_some(sampling.top_p),
            }),
            (None, Some(beams)) => Strategy::Beam { beams, length_penalty: 1.0 },
            (None, None) => Strategy::Greedy,
        };
        let options = GenerateOptions {
            max_new_tokens: tokens,
            strategy,
            seed: sampling.map_or(0, |sampling| sampling.seed),
            use_cache: cache,
            lookup: lookup.map(|tokens| Lookup { tokens, ..Lookup::default() }),
            ..GenerateOptions::default()
        };
        Ok(Generate { model, tokenizer, prompts, options, ids: Vec::new(), text: String::new() })
    }
}

impl Job for Generate<'_> {
    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let encode = |text: &String| self.tokenizer.encode(text, Special::Allow);
        let prompts = self.prompts.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let searched = matches!(self.options.strategy, Strategy::Beam { .. });
        // A lap when every text has one token more; a search knows all its tokens at once.
        let (mut made, mut marked) = (vec![0usize; prompts.len()], 0);
        let generated = self.model.generate(&prompts, &self.options, |text, _, _| {
            made[text] += 1;
            if !searched && made.iter().all(|&made| made > marked) {
                marked += 1;
                laps.mark();
            }
            ControlFlow::Continue(())
        })?;
        if searched {
            laps.mark();
        }
        self.ids.clear();
        self.text.clear();
        for text in generated {
            self.text += &self.tokenizer.decode_lossy(&text.ids)?;
            self.ids.extend(text.ids);
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let answer = match self.options.strategy {
            Strategy::Sample(_) => Answer::Nothing,
            _ => Answer::IdsThenBytes(self.ids.clone(), self.text.clone().into_bytes()),
        };
        Ok(Receipt { units: self.ids.len() as u64, unit: Unit::Tokens, answer, logits: None })
    }
}
