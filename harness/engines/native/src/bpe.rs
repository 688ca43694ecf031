//! `native/bpe`: rust_native's tokenizer. The spelling of a special token inside a text becomes its
//! id, as in the reference.

use anyhow::{Context, Result};
use kernels::text::Scanner;
use rust_native::{Special, Tokenizer};
use std::path::{Path, PathBuf};
use worker::{Engine, Identity, Job, Laps, Prepare, Receipt, Stop, Task};

/// The engine; keeps the tokenizer of one folder and, inside it, the word cache of earlier runs.
#[derive(Default)]
pub struct Bpe {
    loaded: Option<(PathBuf, Tokenizer)>,
}

impl Bpe {
    fn load(&mut self, folder: &Path) -> Result<&mut Tokenizer> {
        if self.loaded.as_ref().is_none_or(|(path, _)| path != folder) {
            self.loaded = Some((folder.to_path_buf(), Tokenizer::from_dir(folder)?));
        }
        self.loaded.as_mut().map(|(_, tokenizer)| tokenizer).context("a tokenizer was just loaded")
    }
}

impl Engine for Bpe {
    fn identity(&self) -> Identity {
        Identity {
            engine: "native/bpe".into(),
            language: "rust".into(),
            versions: [("rust_native".to_string(), env!("CARGO_PKG_VERSION").to_string())].into(),
            settings: [
                ("call".to_string(), "Encoder::encode_into, BatchEncoder::encode_into".to_string()),
                ("isa".to_string(), Scanner::best().isa().name().to_string()),
            ]
            .into(),
            ..Identity::default()
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        match order.task {
            Task::Encode { batch, fresh } => {
                let texts = order.files.read_texts()?;
                let folder = order.files.vocabulary()?;
                let tokenizer = self.load(folder)?;
                let threads = batch.then_some(order.threads.max(1));
                let fresh = fresh.then(|| folder.to_path_buf());
                Ok(Box::new(Encode { tokenizer, fresh, texts, threads, ids: Vec::new(), starts: Vec::new() }))
            }
            Task::Detokenize {} => {
                let ids = order.files.read_ids()?;
                let tokenizer = self.load(order.files.vocabulary()?)?;
                Ok(Box::new(Detokenize { tokenizer, ids, text: String::new() }))
            }
            _ => Err(Stop::refused(
                format!("tokenizes only; no {}", order.task.kind()),
                "ask native/cpu-f32 for what needs a model",
            )),
        }
    }
}

struct Encode<'a> {
    tokenizer: &'a mut Tokenizer,
    /// Where a tokenizer without a memory is read from before every run; absent: the caches stay.
    fresh: Option<PathBuf>,
    texts: Vec<String>,
    /// Of the batch call; absent: one call a text.
    threads: Option<usize>,
    ids: Vec<u32>,
    /// Where each text's ids begin, of the batch call.
    starts: Vec<usize>,
}

impl Job for Encode<'_> {
    fn reset(&mut self) -> Result<()> {
        self.ids.clear();
        if let Some(folder) = &self.fresh {
            *self.tokenizer = Tokenizer::from_dir(folder)?;
        }
        Ok(())
    }

    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        match self.threads {
            Some(threads) => {
                // Its threads and their caches stay with the tokenizer from run to run.
                let mut encoder = self.tokenizer.batch_encoder(threads);
                encoder.encode_into(&self.texts, Special::Allow, &mut self.ids, &mut self.starts)?;
            }
            None => {
                let mut encoder = self.tokenizer.encoder();
                for text in &self.texts {
                    encoder.encode_into(text, Special::Allow, &mut self.ids)?;
                }
            }
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt::of_ids(self.ids.clone()))
    }
}

struct Detokenize<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    text: String,
}

impl Job for Detokenize<'_> {
    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        self.text = self.tokenizer.decode_lossy(&self.ids)?;
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt::of_text(self.ids.len(), self.text.clone()))
    }
}
