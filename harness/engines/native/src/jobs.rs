//! Prefill, decode and start over the library's own greedy stepper.

use crate::model::How;
use anyhow::Result;
use rust_native::{Gpt2, Stepper};
use std::path::{Path, PathBuf};
use worker::{Answer, Job, Laps, Receipt, Unit};

/// Prompts through the model: logits of the last position and the likeliest id of each sequence.
pub struct Prefill<'m> {
    stepper: Stepper<'m>,
    prompts: Vec<Vec<u32>>,
    ids: Vec<u32>,
}

impl<'m> Prefill<'m> {
    /// `prompts` are of equal length.
    pub fn new(model: &'m Gpt2, prompts: Vec<Vec<u32>>) -> Result<Prefill<'m>> {
        let stepper = Stepper::new(model, prompts.len(), prompts[0].len())?;
        Ok(Prefill { stepper, prompts, ids: Vec::new() })
    }
}

impl Job for Prefill<'_> {
    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let ids = prefill(&mut self.stepper, &self.prompts)?;
        laps.mark();
        self.ids = ids;
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt {
            units: self.prompts.iter().map(|prompt| prompt.len() as u64).sum(),
            unit: Unit::Tokens,
            answer: Answer::Ids(self.ids.clone()),
            logits: Some(self.stepper.logits().to_vec()),
        })
    }
}

/// Greedy steps behind contexts that are in the cache before the clock starts.
///
/// The first step feeds the id that the context itself predicts; its own prediction is the first id
/// of the answer.
pub struct Decode<'m> {
    stepper: Stepper<'m>,
    /// Positions of every context.
    context: usize,
    /// What each context itself predicts.
    predicted: Vec<u32>,
    steps: usize,
    /// Step after step, the id of each sequence.
    ids: Vec<u32>,
}

impl<'m> Decode<'m> {
    /// `contexts` are of equal length; they are in the cache when this returns.
    pub fn new(model: &'m Gpt2, contexts: Vec<Vec<u32>>, steps: usize) -> Result<Decode<'m>> {
        let mut stepper = Stepper::new(model, contexts.len(), contexts[0].len() + steps)?;
        let predicted = prefill(&mut stepper, &contexts)?;
        Ok(Decode { stepper, context: contexts[0].len(), predicted, steps, ids: Vec::new() })
    }
}

impl Job for Decode<'_> {
    fn reset(&mut self) -> Result<()> {
        self.stepper.rewind(self.context, &self.predicted)?;
        self.ids.clear();
        self.ids.reserve(self.steps * self.predicted.len());
        Ok(())
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        for _ in 0..self.steps {
            self.ids.extend_from_slice(self.stepper.step()?);
            laps.mark();
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let batch = self.predicted.len();
        let by_sequence = (0..batch).flat_map(|row| self.ids.iter().skip(row).step_by(batch).copied());
        let mut receipt = Receipt::of_ids(by_sequence.collect());
        receipt.logits = Some(self.stepper.logits().to_vec());
        Ok(receipt)
    }
}

/// From nothing to the first token of a prompt.
pub struct Start {
    folder: PathBuf,
    how: How,
    prompt: Vec<Vec<u32>>,
    model: Option<Gpt2>,
    ids: Vec<u32>,
    logits: Vec<f32>,
}

impl Start {
    /// Of the model in `folder`.
    pub fn new(folder: &Path, how: How, prompt: Vec<u32>) -> Start {
        let (ids, logits) = (Vec::new(), Vec::new());
        Start { folder: folder.to_path_buf(), how, prompt: vec![prompt], model: None, ids, logits }
    }
}

impl Job for Start {
    fn reset(&mut self) -> Result<()> {
        self.model = None;
        Ok(())
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let model = self.model.insert(self.how.load(&self.folder)?);
        let mut stepper = Stepper::new(model, 1, self.prompt[0].len())?;
        self.ids = prefill(&mut stepper, &self.prompt)?;
        laps.mark();
        self.logits = stepper.logits().to_vec();
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let mut receipt = Receipt::of_ids(self.ids.clone());
        receipt.logits = Some(self.logits.clone());
        Ok(receipt)
    }
}

fn prefill(stepper: &mut Stepper<'_>, prompts: &[Vec<u32>]) -> Result<Vec<u32>> {
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    Ok(stepper.prefill(&prompts)?.to_vec())
}
