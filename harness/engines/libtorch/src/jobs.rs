//! Prefill, decode and start. An id counts as known once it is in host memory.

use crate::cache::{Cache, CacheKind, Mark};
use crate::model::{Model, greedy, host_ids, host_logits, ids_tensor};
use crate::place::Place;
use anyhow::Result;
use std::path::{Path, PathBuf};
use tch::Tensor;
use worker::{Answer, Job, Laps, Receipt, Unit};

/// A prompt through the model: ids to a tensor, logits of the last position, likeliest ids to the
/// host.
pub struct Prefill<'a> {
    model: &'a Model,
    cache: Cache,
    prompt: Vec<u32>,
    batch: usize,
    ids: Vec<u32>,
    logits: Option<Tensor>,
}

impl<'a> Prefill<'a> {
    /// `prompt` holds `batch` sequences of equal length.
    pub fn new(model: &'a Model, kind: CacheKind, prompt: Vec<u32>, batch: usize) -> Result<Prefill<'a>> {
        let (rows, steps) = ids_tensor(&prompt, batch)?.size2()?;
        let cache = model.cache(kind, rows, steps)?;
        Ok(Prefill { model, cache, prompt, batch, ids: Vec::new(), logits: None })
    }
}

impl Job for Prefill<'_> {
    fn reset(&mut self) -> Result<()> {
        self.cache.clear()
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let logits = self.model.forward(&ids_tensor(&self.prompt, self.batch)?, &mut self.cache)?;
        self.ids = host_ids(&greedy(&logits)?)?;
        laps.mark();
        self.logits = Some(logits);
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt {
            units: self.prompt.len() as u64,
            unit: Unit::Tokens,
            answer: Answer::Ids(self.ids.clone()),
            logits: self.logits.as_ref().map(host_logits).transpose()?,
        })
    }
}

/// Greedy steps behind a context that is in the cache before the clock starts.
///
/// The first step feeds the id that the context itself predicts; its own prediction is the first id
/// of the answer.
pub struct Decode<'a> {
    model: &'a Model,
    cache: Cache,
    context: Mark,
    first: Tensor,
    steps: usize,
    /// One entry a step: the id of each sequence.
    ids: Vec<Vec<u32>>,
    logits: Option<Tensor>,
}

impl<'a> Decode<'a> {
    /// `ids` are the contexts of `batch` sequences of equal length.
    pub fn new(
        model: &'a Model,
        kind: CacheKind,
        ids: &[u32],
        batch: usize,
        steps: usize,
    ) -> Result<Decode<'a>> {
        let prompt = ids_tensor(ids, batch)?;
        let (rows, context) = prompt.size2()?;
        let mut cache = model.cache(kind, rows, context + steps as i64)?;
        let first = greedy(&model.forward(&prompt, &mut cache)?)?;
        let context = cache.mark();
        Ok(Decode { model, cache, context, first, steps, ids: Vec::new(), logits: None })
    }
}

impl Job for Decode<'_> {
    fn reset(&mut self) -> Result<()> {
        self.cache.restore(&self.context);
        self.ids.clear();
        self.ids.reserve(self.steps);
        Ok(())
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let mut next = self.first.shallow_clone();
        for _ in 0..self.steps {
            let logits = self.model.forward(&next, &mut self.cache)?;
            next = greedy(&logits)?;
            self.ids.push(host_ids(&next)?);
            laps.mark();
            self.logits = Some(logits);
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let batch = self.ids.first().map_or(0, Vec::len);
        let by_sequence = (0..batch).flat_map(|row| self.ids.iter().map(move |step| step[row]));
        let mut receipt = Receipt::of_ids(by_sequence.collect());
        receipt.logits = self.logits.as_ref().map(host_logits).transpose()?;
        Ok(receipt)
    }
}

/// From nothing to the first token of a prompt.
pub struct Start {
    folder: PathBuf,
    place: Place,
    kind: CacheKind,
    prompt: Vec<u32>,
    model: Option<Model>,
    ids: Vec<u32>,
    logits: Option<Tensor>,
}

impl Start {
    /// Of the model in `folder`, to `place`; `prompt` is one sequence.
    pub fn new(folder: &Path, place: Place, kind: CacheKind, prompt: Vec<u32>) -> Start {
        let (folder, ids) = (folder.to_path_buf(), Vec::new());
        Start { folder, place, kind, prompt, model: None, ids, logits: None }
    }
}

impl Job for Start {
    fn reset(&mut self) -> Result<()> {
        self.model = None;
        Ok(())
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let model = Model::load(&self.folder, self.place)?;
        let mut cache = model.cache(self.kind, 1, self.prompt.len() as i64)?;
        let logits = model.forward(&ids_tensor(&self.prompt, 1)?, &mut cache)?;
        self.ids = host_ids(&greedy(&logits)?)?;
        laps.mark();
        self.logits = Some(logits);
        self.model = Some(model);
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let mut receipt = Receipt::of_ids(self.ids.clone());
        receipt.logits = self.logits.as_ref().map(host_logits).transpose()?;
        Ok(receipt)
    }
}
