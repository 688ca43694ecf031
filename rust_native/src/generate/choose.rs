//! One token from one row of logits, as a request's options say.

use super::{GenerateOptions, Strategy};
use crate::model::Gpt2;
use crate::sample::{Sampler, penalise, uniform};

/// Chooses tokens; keeps its working memory between choices.
#[derive(Debug, Default)]
pub(super) struct Chooser {
    sampler: Sampler,
    scores: Vec<f32>,
    seen: Vec<u32>,
}

impl Chooser {
    /// The token that follows `text`, and its log-probability under the model itself. A draw is that
    /// of step `step` of stream `stream`.
    pub(super) fn choose(
        &mut self,
        model: &Gpt2,
        logits: &[f32],
        text: &[u32],
        options: &GenerateOptions,
        stream: u64,
        step: usize,
    ) -> (u32, f32) {
        let (table, penalty) = (model.cpu().table(), options.repetition_penalty);
        let scores = if penalty == 1.0 {
            logits
        } else {
            self.scores.clear();
            self.scores.extend_from_slice(logits);
            penalise(&mut self.scores, text, penalty, &mut self.seen);
            &self.scores
        };
        let id = match &options.strategy {
            Strategy::Sample(sampling) => {
                self.sampler.draw(scores, sampling, uniform(options.seed, stream, step as u64))
            }
            _ => (table.argmax)(scores) as u32,
        };
        (id, logits[id as usize] - (table.log_sum_exp)(logits))
    }
}
