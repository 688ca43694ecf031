//! `gpt2 vocabulary`: a vocabulary as files.

use std::path::PathBuf;

use clap::Args;

use crate::input;

/// Write GPT-2's vocabulary: vocab.json, merges.txt, tokenizer.json, tokenizer_config.json.
///
/// With --tokenizer another one, which becomes tokenizer.json alone where it is not of GPT-2's kind.
#[derive(Args)]
pub struct Vocabulary {
    /// Folder to write to; created if absent
    #[arg(long)]
    dir: PathBuf,
    /// Another tokenizer: as for `encode`
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
}

impl Vocabulary {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        input::tokenizer(self.tokenizer.as_deref())?.write_vocabulary(&self.dir)?;
        Ok(())
    }
}
