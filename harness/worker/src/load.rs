//! The job of `load`, which is the same whatever is loaded.

use crate::{Answer, Job, Laps, Receipt, Unit};
use anyhow::{Context, Result};

/// Weights from their file to a model ready for its first token.
pub struct Load<M, F> {
    load: F,
    loaded: Option<M>,
}

impl<M, F: FnMut() -> Result<M>> Load<M, F> {
    /// `load` is the run; what it gives is dropped off the clock, before the next one.
    pub fn new(load: F) -> Load<M, F> {
        Load { load, loaded: None }
    }
}

impl<M, F: FnMut() -> Result<M>> Job for Load<M, F> {
    fn reset(&mut self) -> Result<()> {
        self.loaded = None;
        Ok(())
    }

    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        self.loaded = Some((self.load)()?);
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        self.loaded.as_ref().context("no model was loaded")?;
        Ok(Receipt { units: 1, unit: Unit::Loads, answer: Answer::Nothing, logits: None })
    }
}
