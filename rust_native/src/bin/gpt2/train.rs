//! `gpt2 train`: a vocabulary from text.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use rust_native::{TrainOptions, Trainer};

use crate::input;

/// Texts above this many bytes are worth a word while they are trained on.
const LONG: u64 = 64 << 20;

/// Train a byte-level BPE vocabulary with GPT-2's pattern on text and write it: vocab.json, merges.txt,
/// tokenizer.json, tokenizer_config.json.
///
/// Special tokens get the first ids, then come the 256 bytes, then the merges. With other special tokens than
/// <|endoftext|> there is no vocab.json and merges.txt, which cannot name them. Prints one line of JSON: the
/// folder, the number of ids, the bytes of text and the different words in it.
#[derive(Args)]
pub struct Train {
    /// Files to read, each as one text; without any, and for `-`, standard input
    files: Vec<PathBuf>,
    /// Folder to write to; created if absent
    #[arg(long)]
    dir: PathBuf,
    /// Number of ids, the 256 bytes and the special tokens included
    #[arg(long, value_name = "N")]
    vocabulary_size: usize,
    /// Merge only pairs that occur this often
    #[arg(long, value_name = "N", default_value_t = TrainOptions::default().min_frequency)]
    min_frequency: u64,
    /// A special token, such as <|endoftext|>; may be given several times
    #[arg(long, value_name = "TOKEN")]
    special: Vec<String>,
    /// Replace a vocabulary that is already in the folder
    #[arg(long)]
    force: bool,
}

impl Train {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        let options = TrainOptions {
            vocabulary_size: self.vocabulary_size,
            min_frequency: self.min_frequency,
            special: self.special,
        };
        options.check()?;
        let names = ["tokenizer.json", "vocab.json", "merges.txt"];
        if let Some(there) = names.map(|name| self.dir.join(name)).iter().find(|path| path.exists())
            && !self.force
        {
            bail!("{} is already there; choose another folder or add --force", there.display());
        }
        let mut trainer = Trainer::new();
        // One file open at a time: there may be thousands.
        let parts = if self.files.is_empty() { vec![&[][..]] } else { self.files.chunks(1).collect() };
        for part in parts {
            for input in input::open(part)? {
                let (name, reader) = input.into_parts();
                trainer.read(&name, reader)?;
            }
        }
        if trainer.bytes() > LONG {
            eprintln!(
                "{} MB read, {} different words; merging",
                trainer.bytes() / 1_000_000,
                trainer.words()
            );
        }
        let tokenizer = trainer.train(&options)?;
        tokenizer.write_vocabulary(&self.dir)?;
        let ids = tokenizer.vocabulary_size();
        if ids < options.vocabulary_size {
            eprintln!(
                "{ids} ids instead of {}: no other pair occurs {} times; give more text or a lower \
                 --min-frequency for more",
                options.vocabulary_size,
                options.min_frequency.max(1)
            );
        }
        let line = serde_json::json!({
            "bytes": trainer.bytes(),
            "dir": self.dir,
            "ids": ids,
            "words": trainer.words(),
        });
        writeln!(io::stdout(), "{line}")?;
        Ok(())
    }
}
