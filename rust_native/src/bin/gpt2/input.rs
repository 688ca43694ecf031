//! Where the verbs read from: arguments, files, standard input; whole or line by line.
//!
//! Invariant: text is UTF-8 or an error that names the input and the byte.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rust_native::{Error, Special, Tokenizer};
use serde::de::DeserializeOwned;

/// What to do with special tokens inside text, on the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum SpecialChoice {
    /// They become their ids.
    Allow,
    /// They are ordinary text and are spelled out.
    Ignore,
    /// They are an error.
    Refuse,
}

impl From<SpecialChoice> for Special {
    fn from(choice: SpecialChoice) -> Self {
        match choice {
            SpecialChoice::Allow => Self::Allow,
            SpecialChoice::Ignore => Self::Ignore,
            SpecialChoice::Refuse => Self::Refuse,
        }
    }
}

/// GPT-2's embedded tokenizer, or one from a folder or file.
pub fn tokenizer(path: Option<&Path>) -> Result<Tokenizer, Error> {
    path.map_or_else(|| Ok(Tokenizer::gpt2()), Tokenizer::from_path)
}

/// An input with the name its errors use.
pub struct Input {
    name: String,
    reader: Box<dyn BufRead>,
}

/// The files, or standard input if none is named; `-` is standard input too.
pub fn open(files: &[PathBuf]) -> Result<Vec<Input>, Error> {
    if files.is_empty() {
        return Ok(vec![standard_input()]);
    }
    files
        .iter()
        .map(|path| {
            if path.as_os_str() == "-" {
                return Ok(standard_input());
            }
            let file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
            let reader = Box::new(BufReader::with_capacity(1 << 16, file));
            Ok(Input { name: path.display().to_string(), reader })
        })
        .collect()
}

fn standard_input() -> Input {
    Input { name: "standard input".to_owned(), reader: Box::new(BufReader::new(io::stdin())) }
}

impl Input {
    /// The name and what there is to read.
    pub fn into_parts(self) -> (String, Box<dyn BufRead>) {
        (self.name, self.reader)
    }

    /// Everything, as text.
    pub fn text(mut self) -> Result<String, Error> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).map_err(|e| Error::io(&self.name, "read", e))?;
        utf8(bytes, &self.name)
    }

    /// Every line that is not blank, parsed as JSON of type `T`, up to `most` at a time.
    pub fn json_blocks<T: DeserializeOwned>(
        mut self,
        most: usize,
        expected: &str,
        mut block: impl FnMut(Vec<T>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut parsed = Vec::new();
        let mut line = Vec::new();
        let (mut number, mut offset) = (0_usize, 0);
        loop {
            line.clear();
            let read = self.reader.read_until(b'\n', &mut line);
            let read = read.map_err(|e| Error::io(&self.name, "read", e))?;
            if read == 0 || parsed.len() == most {
                block(std::mem::take(&mut parsed))?;
            }
            if read == 0 {
                return Ok(());
            }
            number += 1;
            match parse_line(&line, &self.name, offset) {
                Ok(Some(value)) => parsed.push(value),
                Ok(None) => {}
                Err(why) => {
                    // What came before is good and is not lost.
                    block(parsed)?;
                    let place = format!("{}: line {number}: expected {expected}", self.name);
                    return Err(why).context(place);
                }
            }
            offset += read;
        }
    }
}

fn parse_line<T: DeserializeOwned>(line: &[u8], name: &str, offset: usize) -> anyhow::Result<Option<T>> {
    let text = std::str::from_utf8(line)
        .map_err(|error| Error::Utf8 { input: name.to_owned(), offset: offset + error.valid_up_to() })?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(text)?))
}

/// Bytes as text, or an error that names the input and the first bad byte.
pub fn utf8(bytes: Vec<u8>, name: &str) -> Result<String, Error> {
    String::from_utf8(bytes)
        .map_err(|error| Error::Utf8 { input: name.to_owned(), offset: error.utf8_error().valid_up_to() })
}

/// Numbers separated by spaces, commas or line breaks.
pub fn ids(text: &str, name: &str) -> anyhow::Result<Vec<u32>> {
    text.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().with_context(|| format!("{name}: {word:?} is not a token id")))
        .collect()
}
