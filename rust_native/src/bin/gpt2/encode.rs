//! `gpt2 encode`: text to ids.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use rust_native::{Special, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::input::{self, SpecialChoice};

/// Lines encoded together in `--jsonl`.
const BLOCK: usize = 4096;

/// Encode text to token ids, one line of ids for each input.
#[derive(Args)]
pub struct Encode {
    /// The text itself; without it and without --file, standard input is read
    text: Option<String>,
    /// Files to read, each as one text; `-` is standard input
    #[arg(long = "file", value_name = "FILE", conflicts_with = "text", num_args = 1..)]
    files: Vec<PathBuf>,
    /// Read lines of {"text": …} and write lines of {"ids": […]}
    #[arg(long, conflicts_with = "text")]
    jsonl: bool,
    /// What to do with special tokens such as <|endoftext|> inside the text
    #[arg(long, value_enum, default_value = "allow")]
    special: SpecialChoice,
    /// A tokenizer.json, a published file of ranks (*.tiktoken), or a folder with tokenizer.json or with
    /// vocab.json and merges.txt; default: GPT-2's, embedded
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Threads for --jsonl
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Deserialize)]
struct TextLine {
    text: String,
}

impl AsRef<str> for TextLine {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

#[derive(Serialize)]
struct IdsLine {
    ids: Vec<u32>,
}

impl Encode {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        let tokenizer = input::tokenizer(self.tokenizer.as_deref())?;
        let special = Special::from(self.special);
        let mut out = BufWriter::new(io::stdout().lock());
        if let Some(text) = &self.text {
            plain(&tokenizer, text, special, &mut out)?;
        } else {
            for input in input::open(&self.files)? {
                if self.jsonl {
                    input.json_blocks(BLOCK, "{\"text\": …}", |lines: Vec<TextLine>| {
                        for ids in tokenizer.encode_batch(&lines, special, self.threads)? {
                            serde_json::to_writer(&mut out, &IdsLine { ids }).map_err(io::Error::from)?;
                            out.write_all(b"\n")?;
                        }
                        Ok(())
                    })?;
                } else {
                    plain(&tokenizer, &input.text()?, special, &mut out)?;
                }
            }
        }
        out.flush()?;
        Ok(())
    }
}

fn plain(tokenizer: &Tokenizer, text: &str, special: Special, out: &mut impl Write) -> anyhow::Result<()> {
    let ids = tokenizer.encode(text, special)?;
    for (i, id) in ids.iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        write!(out, "{space}{id}")?;
    }
    writeln!(out)?;
    Ok(())
}
