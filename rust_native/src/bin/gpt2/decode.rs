//! `gpt2 decode`: ids to text.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::input;

/// Decode token ids to the exact bytes they stand for; nothing is added, not even a line break.
#[derive(Args)]
pub struct Decode {
    /// Ids, separated by spaces or commas; without them and without --file, standard input is read
    ids: Vec<String>,
    /// Files of ids; `-` is standard input
    #[arg(long = "file", value_name = "FILE", conflicts_with = "ids", num_args = 1..)]
    files: Vec<PathBuf>,
    /// Read lines of {"ids": […]} and write lines of {"text": …}; what is not UTF-8 becomes U+FFFD
    #[arg(long, conflicts_with = "ids")]
    jsonl: bool,
    /// A tokenizer.json, a published file of ranks (*.tiktoken), or a folder with tokenizer.json or with
    /// vocab.json and merges.txt; default: GPT-2's, embedded
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
}

#[derive(Deserialize)]
struct IdsLine {
    ids: Vec<u32>,
}

#[derive(Serialize)]
struct TextLine {
    text: String,
}

impl Decode {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        let tokenizer = input::tokenizer(self.tokenizer.as_deref())?;
        let mut out = BufWriter::new(io::stdout().lock());
        if !self.ids.is_empty() {
            let ids = input::ids(&self.ids.join(" "), "arguments")?;
            out.write_all(&tokenizer.decode_bytes(&ids)?)?;
        } else {
            for (i, input) in input::open(&self.files)?.into_iter().enumerate() {
                if self.jsonl {
                    input.json_blocks(4096, "{\"ids\": […]}", |lines: Vec<IdsLine>| {
                        for IdsLine { ids } in lines {
                            let text = tokenizer.decode_lossy(&ids)?;
                            serde_json::to_writer(&mut out, &TextLine { text }).map_err(io::Error::from)?;
                            out.write_all(b"\n")?;
                        }
                        Ok(())
                    })?;
                } else {
                    let name = self.files.get(i).map_or("standard input".into(), |f| f.to_string_lossy());
                    let ids = input::ids(&input.text()?, &name)?;
                    out.write_all(&tokenizer.decode_bytes(&ids)?)?;
                }
            }
        }
        out.flush()?;
        Ok(())
    }
}
