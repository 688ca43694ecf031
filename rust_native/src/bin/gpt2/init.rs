//! `gpt2 init`: a seeded model folder.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use rust_native::checkpoint::WEIGHTS_FILE;
use rust_native::{Config, Tokenizer, init};

use crate::progress::Progress;

/// Write a GPT-2 model with seeded random weights, in Hugging Face layout, with its vocabulary.
///
/// Prints one line of JSON: the weights' path, bytes, sha256, parameters and seed.
#[derive(Args)]
pub struct Init {
    /// Folder to write to; created if absent
    #[arg(long)]
    dir: PathBuf,
    /// The model's size
    #[arg(long, value_enum, default_value = "gpt2")]
    size: Size,
    /// Seed of the weights
    #[arg(long, default_value_t = init::default::SEED)]
    seed: u64,
    /// Vocabulary size of the tiny model; below 50257 no vocabulary is written
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// Replace a model that is already in the folder
    #[arg(long)]
    force: bool,
}

/// The published sizes, and one for tests.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Size {
    /// 124M parameters
    Gpt2,
    /// 82M
    Distilgpt2,
    /// 355M
    Medium,
    /// 774M
    Large,
    /// 1.5B
    Xl,
    /// Two layers, 64 wide
    Tiny,
    /// Twelve layers, 24 wide, 1,024 ids: a step with next to no arithmetic
    Toy,
}

impl Init {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        let config = match (self.size, self.vocab_size) {
            (Size::Tiny, Some(n)) => Config::tiny_with_vocabulary(n),
            (_, Some(_)) => bail!("--vocab-size only goes with --size tiny"),
            (Size::Gpt2, None) => Config::gpt2(),
            (Size::Distilgpt2, None) => Config::distil(),
            (Size::Medium, None) => Config::medium(),
            (Size::Large, None) => Config::large(),
            (Size::Xl, None) => Config::xl(),
            (Size::Tiny, None) => Config::tiny(),
            (Size::Toy, None) => Config::toy(),
        };
        let weights = self.dir.join(WEIGHTS_FILE);
        if weights.exists() && !self.force {
            bail!("{} is already there; choose another folder or add --force", weights.display());
        }
        let tokenizer = Tokenizer::gpt2();
        if config.vocab_size >= tokenizer.vocabulary_size() {
            tokenizer.write_vocabulary(&self.dir)?;
        }
        let mut progress = Progress::new(weights.display().to_string());
        let written = init::write_model_with(&self.dir, &config, self.seed, |done, total| {
            progress.at(done, total);
        })?;
        let line = serde_json::json!({
            "path": written.path,
            "bytes": written.bytes,
            "sha256": written.sha256,
            "parameters": config.parameters(),
            "seed": self.seed,
        });
        writeln!(io::stdout(), "{line}")?;
        Ok(())
    }
}
