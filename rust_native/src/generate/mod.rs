//! Text generation over a [`Gpt2`]: requests in, token ids and their log-probabilities out.
//!
//! [`Gpt2::generate`] serves whole requests; [`Stepper`] is the same greedy loop laid bare, one
//! call a token, for callers that time or steer each step themselves.
//!
//! Invariant: what a sequence of a batch yields does not depend on its neighbours, except through
//! the rounding of kernels that work on other numbers of rows.

mod error;
mod stepper;

use std::ops::ControlFlow;

pub use error::GenerateError;
pub use stepper::Stepper;

use crate::Cache;
use crate::beam;
use crate::model::Gpt2;
use crate::sample::{Sampler, Sampling, check_penalty, penalise, uniform};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strategy {
    /// The most probable token, the lowest id on a tie.
    Greedy,
    /// A draw.
    Sample(Sampling),
    /// Beam search; gives the best text of each prompt. Prompts run one after the other.
    Beam {
        /// Texts kept side by side, at least 1.
        beams: usize,
        /// Exponent of the length by which a text's score is divided.
        length_penalty: f32,
    },
}

/// What to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// New tokens per sequence at most, at least 1.
    pub max_new_tokens: usize,
    /// How each is chosen.
    pub strategy: Strategy,
    /// Above 1 makes tokens that are already present, in prompt or text, less likely; 1 is none.
    pub repetition_penalty: f32,
    /// Tokens that end a sequence; the token itself is part of the result.
    pub stop: Vec<u32>,
    /// Seed of [`Strategy::Sample`].
    pub seed: u64,
    /// False recomputes the whole text for every token: the ablation that shows what the cache
    /// saves. Beam search always uses it.
    pub use_cache: bool,
}

impl Default for GenerateOptions {
    fn default() -> GenerateOptions {
        GenerateOptions {
            max_new_tokens: 64,
            strategy: Strategy::Greedy,
            repetition_penalty: 1.0,
            stop: Vec::new(),
            seed: 0,
            use_cache: true,
        }
    }
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token.
    Stop,
    /// `max_new_tokens`.
    Length,
    /// The callback said so.
    Callback,
}

/// The new tokens of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The tokens, the prompt not among them.
    pub ids: Vec<u32>,
    /// The natural logarithm of each token's probability under the model itself, before penalty,
    /// temperature, top-k and top-p.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

impl Gpt2 {
    /// Continues each prompt. `on_token(sequence, id, logprob)` is called for every token as soon
    /// as it is chosen (for beam search: when its text has won) and may end that sequence.
    ///
    /// # Errors
    /// An option outside its range, an empty prompt, a token outside the vocabulary, or a prompt
    /// that with `max_new_tokens` more exceeds `n_positions`. Nothing has been generated then.
    pub fn generate(
        &self,
        prompts: &[&[u32]],
        options: &GenerateOptions,
        mut on_token: impl FnMut(usize, u32, f32) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>, GenerateError> {
        self.check(prompts, options)?;
        let Strategy::Beam { beams, length_penalty } = options.strategy else {
            return Loop::new(self, prompts, options)?.run(&mut on_token);
        };
        let mut results = Vec::with_capacity(prompts.len());
        for (sequence, prompt) in prompts.iter().enumerate() {
            let mut best = beam::search(self, prompt, options, beams, length_penalty)?;
            let tokens = best.ids.iter().zip(&best.logprobs);
            let ended = tokens.clone().position(|(&id, &lp)| on_token(sequence, id, lp).is_break());
            if let Some(at) = ended {
                best.ids.truncate(at + 1);
                best.logprobs.truncate(at + 1);
                best.finish = Finish::Callback;
            }
            results.push(best);
        }
        Ok(results)
    }

    fn check(&self, prompts: &[&[u32]], options: &GenerateOptions) -> Result<(), GenerateError> {
        let (vocab, limit) = (self.config().vocab_size, self.config().n_positions);
        let new = options.max_new_tokens;
        if new == 0 {
            return Err(GenerateError::option("max_new_tokens", 0, "ask for at least one token"));
        }
        check_penalty(options.repetition_penalty)?;
        match options.strategy {
            Strategy::Greedy => {}
            Strategy::Sample(sampling) => sampling.check()?,
            Strategy::Beam { beams, length_penalty } => {
                if beams == 0 {
                    return Err(GenerateError::option("beams", 0, "use at least one beam"));
                }
                if !length_penalty.is_finite() {
                    let remedy = "use a finite exponent; 1 is the mean log-probability";
                    return Err(GenerateError::option("length_penalty", length_penalty, remedy));
                }
            }
        }
        if prompts.is_empty() {
            return Err(GenerateError::EmptyPrompt { index: 0 });
        }
        for (index, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() {
                return Err(GenerateError::EmptyPrompt { index });
            }
            if prompt.len().saturating_add(new) > limit {
                return Err(GenerateError::ContextOverflow { prompt: prompt.len(), new, limit });
            }
        }
        let mut tokens = prompts.iter().copied().flatten().chain(&options.stop);
        match tokens.find(|&&id| id as usize >= vocab) {
            Some(&id) => Err(GenerateError::TokenOutOfRange { id, vocab }),
            None => Ok(()),
        }
    }
}

/// Greedy and sampled generation of a batch.
struct Loop<'a> {
    model: &'a Gpt2,
    options: &'a GenerateOptions,
    cache: Cache,
    /// Prompt and new tokens of each sequence.
    texts: Vec<Vec<u32>>,
    results: Vec<Generated>,
    /// Sequences not yet finished, in rising order: row i of the logits belongs to `active[i]`.
    active: Vec<usize>,
    sampler: Sampler,
    scores: Vec<f32>,
    seen: Vec<u32>,
}

impl<'a> Loop<'a> {
    fn new(
        model: &'a Gpt2,
        prompts: &[&[u32]],
        options: &'a GenerateOptions,
    ) -> Result<Loop<'a>, GenerateError> {
        let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
        let capacity = longest + options.max_new_tokens;
        let empty = Generated { ids: Vec::new(), logprobs: Vec::new(), finish: Finish::Length };
        Ok(Loop {
            model,
            options,
            cache: Cache::new(model.config(), prompts.len(), capacity)?,
            texts: prompts.iter().map(|prompt| prompt.to_vec()).collect(),
            results: vec![empty; prompts.len()],
            active: (0..prompts.len()).collect(),
            sampler: Sampler::default(),
            scores: Vec::new(),
            seen: Vec::new(),
        })
    }

    fn run(
        mut self,
        on_token: &mut impl FnMut(usize, u32, f32) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>, GenerateError> {
        for step in 0..self.options.max_new_tokens {
            self.forward(step)?;
            let mut row = 0;
            for i in 0..self.active.len() {
                let sequence = self.active[i];
                if self.take(i, sequence, step, on_token) {
                    self.active[row] = sequence;
                    row += 1;
                }
            }
            self.active.truncate(row);
            if row == 0 {
                break;
            }
        }
        Ok(self.results)
    }

    /// Computes the logits of every active sequence, row by row.
    fn forward(&mut self, step: usize) -> Result<(), GenerateError> {
        let (model, cache, texts) = (self.model, &mut self.cache, &self.texts);
        if step == 0 || !self.options.use_cache {
            let whole: Vec<&[u32]> = self.active.iter().map(|&s| texts[s].as_slice()).collect();
            model.prefill(cache, &whole)?;
        } else {
            let newest = self.active.iter().map(|&s| (s, texts[s][texts[s].len() - 1]));
            model.decode_some(cache, newest)?;
        }
        Ok(())
    }

    /// Chooses and records the next token of one sequence; false when the sequence has ended.
    fn take(
        &mut self,
        row: usize,
        sequence: usize,
        step: usize,
        on_token: &mut impl FnMut(usize, u32, f32) -> ControlFlow<()>,
    ) -> bool {
        let (logits, table) = (self.cache.logits_row(row), self.model.cpu().table());
        let penalty = self.options.repetition_penalty;
        let scores = if penalty == 1.0 {
            logits
        } else {
            self.scores.clear();
            self.scores.extend_from_slice(logits);
            penalise(&mut self.scores, &self.texts[sequence], penalty, &mut self.seen);
            &self.scores
        };
        let id = match &self.options.strategy {
            Strategy::Sample(sampling) => {
                let u = uniform(self.options.seed, sequence as u64, step as u64);
                self.sampler.draw(scores, sampling, u)
            }
            _ => (table.argmax)(scores) as u32,
        };
        let logprob = logits[id as usize] - (table.log_sum_exp)(logits);
        self.texts[sequence].push(id);
        let result = &mut self.results[sequence];
        result.ids.push(id);
        result.logprobs.push(logprob);
        let told = on_token(sequence, id, logprob);
        if self.options.stop.contains(&id) {
            result.finish = Finish::Stop;
        } else if told.is_break() {
            result.finish = Finish::Callback;
        } else {
            return true;
        }
        false
    }
}
