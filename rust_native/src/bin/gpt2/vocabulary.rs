//! `gpt2 vocabulary`: GPT-2's vocabulary as files.

use std::path::PathBuf;

use clap::Args;
use rust_native::Tokenizer;

/// Write GPT-2's vocabulary: vocab.json, merges.txt, tokenizer.json, tokenizer_config.json.
#[derive(Args)]
pub struct Vocabulary {
    /// Folder to write to; created if absent
    #[arg(long)]
    dir: PathBuf,
}

impl Vocabulary {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        Tokenizer::gpt2().write_vocabulary(&self.dir)?;
        Ok(())
    }
}
