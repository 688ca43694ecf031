//! `gpt2 encode`: text to ids.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use rust_native::Special;
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
    /// Threads, for the lines of --jsonl or the parts of a long text
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Deserialize)]
struct TextLine {
    text: String,
}

impl AsRef<[u8]> for TextLine {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

#[derive(Serialize)]
struct IdsLine<'a> {
    ids: &'a [u32],
}

impl Encode {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        let tokenizer = input::tokenizer(self.tokenizer.as_deref())?;
        let special = Special::from(self.special);
        let mut out = BufWriter::new(io::stdout().lock());
        let mut encoder = tokenizer.batch_encoder(self.threads);
        let (mut ids, mut starts) = (Vec::new(), Vec::new());
        if let Some(text) = &self.text {
            encoder.encode_into(&[text], special, &mut ids, &mut starts)?;
            plain(&ids, &mut out)?;
        } else {
            for input in input::open(&self.files)? {
                if self.jsonl {
                    input.json_blocks(BLOCK, "{\"text\": …}", |lines: Vec<TextLine>| {
                        encoder.encode_into(&lines, special, &mut ids, &mut starts)?;
                        for place in starts.windows(2) {
                            let line = IdsLine { ids: &ids[place[0]..place[1]] };
                            serde_json::to_writer(&mut out, &line).map_err(io::Error::from)?;
                            out.write_all(b"\n")?;
                        }
                        Ok(())
                    })?;
                } else {
                    encoder.encode_into(&[input.text()?], special, &mut ids, &mut starts)?;
                    plain(&ids, &mut out)?;
                }
            }
        }
        out.flush()?;
        Ok(())
    }
}

fn plain(ids: &[u32], out: &mut impl Write) -> anyhow::Result<()> {
    for (i, id) in ids.iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        write!(out, "{space}{id}")?;
    }
    writeln!(out)?;
    Ok(())
}
