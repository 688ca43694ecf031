//! What can be wrong with a request to run a model.

use kernels::CpuError;

/// A request that cannot be carried out, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// No prompts at all, or one without tokens.
    #[error("prompt {index} is empty; give at least one token, such as the end-of-text id")]
    EmptyPrompt {
        /// Its place in the batch.
        index: usize,
    },
    /// Prompt and new tokens together exceed the context, or the cache made for them.
    #[error(
        "{prompt} tokens of prompt and {new} new ones exceed the context of {limit} positions; shorten the prompt or ask for at most {} new tokens",
        .limit.saturating_sub(*.prompt)
    )]
    ContextOverflow {
        /// Tokens already there.
        prompt: usize,
        /// Tokens to be added.
        new: usize,
        /// Positions there are.
        limit: usize,
    },
    /// A token the model has no embedding for.
    #[error(
        "token id {id} is outside the vocabulary of {vocab} ids; use ids below {vocab}, encoded with this model's own vocabulary"
    )]
    TokenOutOfRange {
        /// The token.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A batch that does not fit the cache.
    #[error("{found} sequences for a cache made for {limit}; make the cache for at least as many as are run")]
    BatchMismatch {
        /// Sequences asked for.
        found: usize,
        /// Sequences the cache holds.
        limit: usize,
    },
    /// A sampling or model option outside its range.
    #[error("{field} = {value}; {remedy}")]
    BadSampling {
        /// The option's name.
        field: &'static str,
        /// What was given.
        value: String,
        /// What to give.
        remedy: &'static str,
    },
    /// The machine cannot run what was asked for.
    #[error(transparent)]
    Cpu(#[from] CpuError),
}

impl GenerateError {
    pub(crate) fn option(
        field: &'static str,
        value: impl std::fmt::Display,
        remedy: &'static str,
    ) -> GenerateError {
        GenerateError::BadSampling { field, value: value.to_string(), remedy }
    }
}
