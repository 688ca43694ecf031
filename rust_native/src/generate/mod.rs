//! Text generation over a [`Gpt2`]: requests in, token ids and their log-probabilities out.
//!
//! [`Gpt2::generate`] serves whole requests at once; [`Scheduler`] takes them as they come and keeps
//! what they have in common; [`Stepper`] is the plain greedy loop laid bare, one call a token, for
//! callers that time or steer each step themselves.
//!
//! Invariant: what a sequence of a batch yields does not depend on its neighbours, except through
//! the rounding of kernels that work on other numbers of rows.

mod choose;
mod error;
mod lookup;
mod scheduler;
mod slots;
mod stepper;
mod uncached;

use std::ops::ControlFlow;

pub use error::GenerateError;
pub use lookup::Lookup;
pub use scheduler::{RequestId, Scheduler, SchedulerOptions};
pub use stepper::Stepper;

use crate::beam;
use crate::model::{CHUNK, Gpt2};
use crate::sample::{Sampling, check_penalty};

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
    /// True takes over what a prompt shares with another text, from 32 tokens on, instead of
    /// computing it again. Beam search and generation without a cache never do.
    pub reuse_prefix: bool,
    /// Guess tokens from the text itself and verify several in one pass. Changes how fast a greedy
    /// text comes and not which; other strategies refuse it.
    pub lookup: Option<Lookup>,
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
            reuse_prefix: true,
            lookup: None,
        }
    }
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finish {
    /// A stop token.
    Stop,
    /// `max_new_tokens`.
    #[default]
    Length,
    /// The callback said so, or [`Scheduler::cancel`].
    Callback,
}

/// The new tokens of one sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// The tokens, the prompt not among them.
    pub ids: Vec<u32>,
    /// The natural logarithm of each token's probability under the model itself, before penalty,
    /// temperature, top-k and top-p.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
    /// Positions of the prompt that were taken over from another text.
    pub reused: usize,
    /// Tokens guessed by [`Lookup`].
    pub proposed: usize,
    /// Those of them that were right.
    pub accepted: usize,
}

impl Generated {
    /// Records a token; false when it is the last.
    fn take(&mut self, id: u32, logprob: f32, told: ControlFlow<()>, options: &GenerateOptions) -> bool {
        self.ids.push(id);
        self.logprobs.push(logprob);
        self.finish = if options.stop.contains(&id) {
            Finish::Stop
        } else if told.is_break() {
            Finish::Callback
        } else {
            Finish::Length
        };
        self.finish == Finish::Length && self.ids.len() < options.max_new_tokens
    }

    fn cancelled(self) -> Generated {
        Generated { finish: Finish::Callback, ..self }
    }
}

impl Gpt2 {
    /// Continues each prompt. `on_token(sequence, id, logprob)` is called for every token as soon
    /// as it is chosen (for beam search: when its text has won) and may end that sequence.
    ///
    /// What prompts share from their beginning is computed once, unless `reuse_prefix` is off.
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
        self.check(prompts, options, self.config().n_positions)?;
        match options.strategy {
            Strategy::Beam { beams, length_penalty } => {
                self.search(prompts, options, beams, length_penalty, &mut on_token)
            }
            _ if !options.use_cache => uncached::generate(self, prompts, options, &mut on_token),
            _ => self.schedule(prompts, options, &mut on_token),
        }
    }

    /// All prompts side by side.
    fn schedule(
        &self,
        prompts: &[&[u32]],
        options: &GenerateOptions,
        on_token: &mut impl FnMut(usize, u32, f32) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>, GenerateError> {
        let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
        let capacity = longest + options.max_new_tokens;
        let of = SchedulerOptions { slots: prompts.len(), capacity, chunk: CHUNK };
        let mut scheduler = Scheduler::new(self, &of)?;
        for (prompt, stream) in prompts.iter().zip(0..) {
            scheduler.submit_as(prompt, options, stream)?;
        }
        scheduler.run(|RequestId(sequence), id, logprob| on_token(sequence as usize, id, logprob))?;
        let mut results: Vec<_> = scheduler.take_finished().collect();
        results.sort_unstable_by_key(|&(id, _)| id);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }

    /// Beam search, prompt after prompt.
    fn search(
        &self,
        prompts: &[&[u32]],
        options: &GenerateOptions,
        beams: usize,
        length_penalty: f32,
        on_token: &mut impl FnMut(usize, u32, f32) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>, GenerateError> {
        let mut results = Vec::with_capacity(prompts.len());
        for (sequence, prompt) in prompts.iter().enumerate() {
            let mut best = beam::search(self, prompt, options, beams, length_penalty)?;
            let mut tokens = best.ids.iter().zip(&best.logprobs);
            if let Some(at) = tokens.position(|(&id, &lp)| on_token(sequence, id, lp).is_break()) {
                best.ids.truncate(at + 1);
                best.logprobs.truncate(at + 1);
                best = best.cancelled();
            }
            results.push(best);
        }
        Ok(results)
    }

    /// Whether the request can be carried out in `limit` positions.
    fn check(
        &self,
        prompts: &[&[u32]],
        options: &GenerateOptions,
        limit: usize,
    ) -> Result<(), GenerateError> {
        options.check()?;
        if prompts.is_empty() {
            return Err(GenerateError::EmptyPrompt { index: 0 });
        }
        let new = options.max_new_tokens;
        for (index, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() {
                return Err(GenerateError::EmptyPrompt { index });
            }
            if prompt.len().saturating_add(new) > limit {
                return Err(GenerateError::ContextOverflow { prompt: prompt.len(), new, limit });
            }
        }
        let mut tokens = prompts.iter().copied().flatten().chain(&options.stop);
        tokens.try_for_each(|&token| self.check_token(token))
    }
}

impl GenerateOptions {
    /// Whether each option is in its range and allows the others.
    fn check(&self) -> Result<(), GenerateError> {
        if self.max_new_tokens == 0 {
            return Err(GenerateError::option("max_new_tokens", 0, "ask for at least one token"));
        }
        check_penalty(self.repetition_penalty)?;
        match self.strategy {
            Strategy::Greedy => {}
            Strategy::Sample(sampling) => sampling.check()?,
            Strategy::Beam { beams: 0, .. } => {
                return Err(GenerateError::option("beams", 0, "use at least one beam"));
            }
            Strategy::Beam { length_penalty, .. } if !length_penalty.is_finite() => {
                let remedy = "use a finite exponent; 1 is the mean log-probability";
                return Err(GenerateError::option("length_penalty", length_penalty, remedy));
            }
            Strategy::Beam { .. } => {}
        }
        let Some(lookup) = self.lookup else { return Ok(()) };
        let refused = match self.strategy {
            Strategy::Sample(_) => Some("it guesses greedy choices; leave it out when drawing"),
            Strategy::Beam { .. } => Some("it guesses one text; leave it out with beam search"),
            Strategy::Greedy if !self.use_cache => {
                Some("it verifies guesses through the cache; keep the cache")
            }
            Strategy::Greedy => None,
        };
        match refused {
            Some(remedy) => Err(GenerateError::option("lookup", lookup.tokens, remedy)),
            None => lookup.check(),
        }
    }
}
