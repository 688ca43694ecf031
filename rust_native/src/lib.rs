//! GPT-2 and byte-level BPE from scratch, with no Python and no framework.
//!
//! What lives where:
//! - [`config`]: the shape of a model, every field checked.
//! - [`checkpoint`]: safetensors by memory map, validated in full before the first byte is used.
//! - [`init`]: the seeded initialiser that writes a Hugging Face-compatible folder.
//! - [`bpe`]: the tokenizer.
//! - [`model`]: the forward pass; [`cache`]: keys and values; [`generate`]: texts, token by token
//!   ([`sample`] draws, `beam` searches).
//! - `cuda`: the same model on an NVIDIA GPU.
//! - [`mod@evaluate`]: what a lower precision costs in answers.
//! - [`scaling`]: what a decode step would take on more cores.
//!
//! Invariant: this crate has never heard of benchmarks. It does not know who measures it, and its
//! only tie to a numeric backend is the crate `kernels`.

mod beam;
pub mod bpe;
pub mod cache;
pub mod checkpoint;
pub mod config;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod error;
pub mod evaluate;
pub mod generate;
pub mod init;
mod json;
pub mod model;
mod replacement;
pub mod sample;
pub mod scaling;

pub use bpe::{BatchEncoder, Encoder, Pattern, Special, Tokenizer, TrainOptions, Trainer};
pub use cache::Cache;
pub use checkpoint::Checkpoint;
pub use config::{Activation, Config};
pub use error::Error;
pub use evaluate::{EvaluateOptions, Evaluation, evaluate};
pub use generate::{
    Finish, GenerateError, GenerateOptions, Generated, Lookup, RequestId, Scheduler, SchedulerOptions,
    Stepper, Strategy,
};
pub use kernels::{KvPrecision, Pinning, Precision};
pub use model::{Gpt2, NewTokens, Options, Want};
pub use sample::Sampling;

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
