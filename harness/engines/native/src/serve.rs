//! Requests of unequal lengths through the library's scheduler: whoever ends makes room at once.
//!
//! The scheduler is there before the requests come, as a server's is, and a new one for every run:
//! one that was kept would find each prompt among the texts of the run before.

use anyhow::{Context, Result};
use rust_native::{GenerateOptions, Gpt2, Scheduler, SchedulerOptions, Special, Tokenizer};
use std::ops::ControlFlow;
use worker::{Job, Laps, Receipt};

/// Prompt tokens in a step that others wait for: rows enough to keep the arithmetic busy, few enough
/// that nobody waits long for the next token.
const CHUNK: usize = 64;

/// Requests and what becomes of them.
pub struct Serve<'a> {
    model: &'a Gpt2,
    tokenizer: &'a Tokenizer,
    prompts: Vec<String>,
    tokens: Vec<usize>,
    options: SchedulerOptions,
    scheduler: Option<Scheduler<'a>>,
    /// The new ids of each request.
    ids: Vec<Vec<u32>>,
}

impl<'a> Serve<'a> {
    /// `tokens[i mod len]` new tokens behind the i-th prompt, none longer than `capacity` with them.
    pub fn new(
        model: &'a Gpt2,
        tokenizer: &'a Tokenizer,
        prompts: Vec<String>,
        slots: usize,
        tokens: Vec<usize>,
        capacity: usize,
    ) -> Serve<'a> {
        let options = SchedulerOptions { slots, capacity, chunk: CHUNK };
        Serve { model, tokenizer, prompts, tokens, options, scheduler: None, ids: Vec::new() }
    }
}

impl Job for Serve<'_> {
    fn reset(&mut self) -> Result<()> {
        self.scheduler = None;
        self.scheduler = Some(Scheduler::new(self.model, &self.options)?);
        self.ids = vec![Vec::new(); self.prompts.len()];
        Ok(())
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let scheduler = self.scheduler.as_mut().context("a run without its reset")?;
        let mut requests = Vec::with_capacity(self.prompts.len());
        for (prompt, &max_new_tokens) in self.prompts.iter().zip(self.tokens.iter().cycle()) {
            let prompt = self.tokenizer.encode(prompt, Special::Allow)?;
            let options = GenerateOptions { max_new_tokens, ..GenerateOptions::default() };
            requests.push(scheduler.submit(&prompt, &options)?);
        }
        let mut left = true;
        while left {
            left = scheduler.step(|_, _, _| ControlFlow::Continue(()))?;
            for (id, generated) in scheduler.take_finished() {
                laps.mark();
                let at = requests.iter().position(|&request| request == id).context("nobody's request")?;
                self.ids[at] = generated.ids;
            }
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt::of_ids(self.ids.concat()))
    }
}
