//! What every verb with a model asks for: the folder, the tokenizer that belongs to it, how to run it.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use rust_native::{Config, KvPrecision, Options, Precision, Tokenizer, init};

use crate::progress::Progress;

/// Where the model is and with how many threads it runs.
#[derive(Args)]
pub struct ModelArguments {
    /// A folder in Hugging Face layout; `default` is the seeded 124M model, written into the cache
    /// folder ($ASSAY_CACHE_DIR, $XDG_CACHE_HOME/assay or ~/.cache/assay) on first use
    #[arg(long, value_name = "DIR", default_value = "default")]
    model: String,
    /// Threads; default: one for each CPU
    #[arg(long)]
    threads: Option<usize>,
}

impl ModelArguments {
    /// See [`folder`].
    pub fn folder(&self) -> anyhow::Result<PathBuf> {
        folder(&self.model)
    }

    /// How to run it.
    pub fn options(&self, precision: Precision, cache: KvPrecision) -> Options {
        let options = Options { precision, cache, ..Options::default() };
        Options { threads: self.threads.unwrap_or(options.threads), ..options }
    }
}

/// The folder that `--model` names; the default model is written where it is missing.
pub fn folder(model: &str) -> anyhow::Result<PathBuf> {
    if model != "default" {
        return Ok(PathBuf::from(model));
    }
    let cache = init::default::cache_dir()?;
    let mut progress = Progress::new(format!("the default model into {}", cache.display()));
    Ok(init::default::ensure(&cache, |done, total| progress.at(done, total))?)
}

/// Reads a number format's name; clap answers an unknown one with the nearest.
pub fn precision() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::ALL.map(Precision::name))
        .try_map(|name: String| name.parse::<Precision>())
}

/// Reads the name of a number format for keys and values.
pub fn cache() -> impl TypedValueParser<Value = KvPrecision> {
    PossibleValuesParser::new(KvPrecision::ALL.map(KvPrecision::name))
        .try_map(|name: String| name.parse::<KvPrecision>())
}

/// The tokenizer of a model's folder; GPT-2's own where there is none but the size is GPT-2's.
pub fn tokenizer_of(dir: &Path, config: &Config) -> anyhow::Result<Option<Tokenizer>> {
    let has = |name: &str| dir.join(name).exists();
    let tokenizer = if (has("vocab.json") && has("merges.txt")) || has("tokenizer.json") {
        Tokenizer::from_dir(dir)?
    } else if config.vocab_size >= 50257 {
        Tokenizer::gpt2()
    } else {
        return Ok(None);
    };
    ensure!(
        tokenizer.vocabulary_size() <= config.vocab_size,
        "{}: the vocabulary has {} ids, the model only {}; use the model's own vocabulary",
        dir.display(),
        tokenizer.vocabulary_size(),
        config.vocab_size
    );
    Ok(Some(tokenizer))
}
