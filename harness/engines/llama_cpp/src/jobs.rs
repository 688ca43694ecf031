//! Prefill, decode and start. Logits are asked for at the last position of each sequence only.

use crate::convert::Kind;
use crate::llama::{Context, Model};
use anyhow::Result;
use std::path::PathBuf;
use std::rc::Rc;
use worker::{Answer, Job, Laps, Receipt, Unit};

/// A prompt through the model; one lap.
pub struct Prefill {
    context: Context,
    prompt: Vec<u32>,
    ids: Vec<u32>,
}

impl Prefill {
    /// `prompt` holds as many sequences of equal length as the context has.
    pub fn new(context: Context, prompt: Vec<u32>) -> Prefill {
        Prefill { context, prompt, ids: Vec::new() }
    }
}

impl Job for Prefill {
    fn reset(&mut self) -> Result<()> {
        self.context.clear();
        Ok(())
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        self.context.feed(&self.prompt, 0)?;
        self.ids = self.context.greedy()?;
        laps.mark();
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt {
            units: self.prompt.len() as u64,
            unit: Unit::Tokens,
            answer: Answer::Ids(self.ids.clone()),
            logits: Some(self.context.logits()?),
        })
    }
}

/// Greedy steps behind a context that is in the cache before the clock starts.
///
/// The first step feeds the id that the context itself predicts; its own prediction is the first id
/// of the answer.
pub struct Decode {
    context: Context,
    filled: usize,
    first: Vec<u32>,
    steps: usize,
    /// One entry a step: the id of each sequence.
    ids: Vec<Vec<u32>>,
}

impl Decode {
    /// `ids` are the contexts, sequence after sequence.
    pub fn new(mut context: Context, ids: &[u32], steps: usize) -> Result<Decode> {
        context.feed(ids, 0)?;
        let first = context.greedy()?;
        let filled = ids.len() / first.len();
        Ok(Decode { context, filled, first, steps, ids: Vec::new() })
    }
}

impl Job for Decode {
    fn reset(&mut self) -> Result<()> {
        self.ids.clear();
        self.ids.reserve(self.steps);
        self.context.keep(self.filled)
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        for step in 0..self.steps {
            self.context.feed(self.ids.last().unwrap_or(&self.first), self.filled + step)?;
            self.ids.push(self.context.greedy()?);
            laps.mark();
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let batch = self.ids.first().map_or(0, Vec::len);
        let by_sequence = (0..batch).flat_map(|row| self.ids.iter().map(move |step| step[row]));
        let mut receipt = Receipt::of_ids(by_sequence.collect());
        receipt.logits = Some(self.context.logits()?);
        Ok(receipt)
    }
}

/// From nothing to the first token of a prompt.
pub struct Start {
    file: PathBuf,
    kind: Kind,
    threads: usize,
    prompt: Vec<u32>,
    loaded: Option<Context>,
    ids: Vec<u32>,
}

impl Start {
    /// Of the GGUF file; `prompt` is one sequence.
    pub fn new(file: PathBuf, kind: Kind, threads: usize, prompt: Vec<u32>) -> Start {
        Start { file, kind, threads, prompt, loaded: None, ids: Vec::new() }
    }
}

impl Job for Start {
    fn reset(&mut self) -> Result<()> {
        self.loaded = None;
        Ok(())
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let model = Rc::new(Model::load(&self.file)?);
        let mut context = model.context(self.kind, 1, self.prompt.len(), self.threads)?;
        context.feed(&self.prompt, 0)?;
        self.ids = context.greedy()?;
        laps.mark();
        self.loaded = Some(context);
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let mut receipt = Receipt::of_ids(self.ids.clone());
        receipt.logits = self.loaded.as_ref().map(Context::logits).transpose()?;
        Ok(receipt)
    }
}
