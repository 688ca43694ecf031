//! `native/cpu-f32`: which job an order becomes, and what is kept between orders.
//!
//! A model is loaded once per folder and thread count and kept; `load` and `start` load it again
//! inside their runs and first let go of the kept one, so that memory shows one model and not two.

use crate::generate;
use crate::jobs::{Decode, Load, Prefill, Start};
use anyhow::{Context, Result, anyhow};
use kernels::Isa;
use rust_native::{Checkpoint, Gpt2, Options, Tokenizer};
use std::path::{Path, PathBuf};
use worker::{Engine, Identity, Job, Prepare, Stop, Task};

/// The engine of one process.
#[derive(Default)]
pub struct CpuF32 {
    model: Option<(PathBuf, usize, Gpt2)>,
    tokenizer: Option<(PathBuf, Tokenizer)>,
}

/// Loads `folder` for `threads` threads on the best instruction set of this processor.
pub fn load(folder: &Path, threads: usize) -> Result<Gpt2> {
    let options = Options { threads, ..Options::default() };
    Ok(Gpt2::load(&Checkpoint::open(folder)?, &options)?)
}

impl CpuF32 {
    fn load_model(&mut self, order: &Prepare) -> Result<()> {
        let (folder, threads) = (order.files.model()?, order.threads.max(1));
        if self.model.as_ref().is_none_or(|(path, team, _)| path != folder || *team != threads) {
            self.model = None;
            self.model = Some((folder.to_path_buf(), threads, load(folder, threads)?));
        }
        Ok(())
    }

    fn load_tokenizer(&mut self, order: &Prepare) -> Result<()> {
        let folder = order.files.vocabulary()?;
        if self.tokenizer.as_ref().is_none_or(|(path, _)| path != folder) {
            self.tokenizer = Some((folder.to_path_buf(), Tokenizer::from_dir(folder)?));
        }
        Ok(())
    }

    fn model(&mut self, order: &Prepare) -> Result<&Gpt2> {
        self.load_model(order)?;
        self.model.as_ref().map(|(_, _, model)| model).context("a model was just loaded")
    }
}

impl Engine for CpuF32 {
    fn identity(&self) -> Identity {
        let settings = [
            ("isa", Isa::best().name().to_string()),
            ("cache", "preallocated".to_string()),
            ("huge_pages", format!("advised; kernel: {}", huge_pages())),
        ];
        Identity {
            engine: "native/cpu-f32".into(),
            language: "rust".into(),
            precision: "f32".into(),
            versions: [("rust_native".to_string(), env!("CARGO_PKG_VERSION").to_string())].into(),
            settings: settings.map(|(name, value)| (name.to_string(), value)).into(),
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        match order.task {
            Task::Prefill { tokens, batch } => {
                let model = self.model(order)?;
                fits(model, tokens)?;
                Ok(Box::new(Prefill::new(model, prompts(order, batch, tokens)?)?))
            }
            Task::Decode { context, tokens, batch } => {
                let model = self.model(order)?;
                fits(model, context + tokens)?;
                Ok(Box::new(Decode::new(model, prompts(order, batch, context)?, tokens)?))
            }
            Task::Generate { .. } | Task::Serve { .. } => {
                self.load_tokenizer(order)?;
                self.load_model(order)?;
                let (_, _, model) = self.model.as_ref().context("a model was just loaded")?;
                let (_, tokenizer) = self.tokenizer.as_ref().context("a tokenizer was just loaded")?;
                generate::prepare(model, tokenizer, order)
            }
            Task::Load => {
                self.model = None;
                Ok(Box::new(Load::new(order.files.model()?, order.threads.max(1))))
            }
            Task::Start { tokens } => {
                self.model = None;
                let prompt = prompts(order, 1, tokens)?.swap_remove(0);
                Ok(Box::new(Start::new(order.files.model()?, order.threads.max(1), prompt)))
            }
            _ => Err(Stop::refused(
                format!("a model, not a tokenizer: no {}", order.task.kind()),
                "ask native/bpe for text and ids",
            )),
        }
    }
}

/// Refuses more positions than the model knows.
pub fn fits(model: &Gpt2, positions: usize) -> Result<(), Stop> {
    let known = model.config().n_positions;
    if positions <= known {
        return Ok(());
    }
    Err(Stop::refused(
        format!("{positions} positions; the model knows {known}"),
        "shorten the prompt or ask for fewer tokens",
    ))
}

/// The ids of the order: `batch` sequences of `tokens` ids.
fn prompts(order: &Prepare, batch: usize, tokens: usize) -> Result<Vec<Vec<u32>>, Stop> {
    let ids = order.files.read_ids()?;
    if ids.len() != batch * tokens || ids.is_empty() {
        return Err(anyhow!("{} ids in the file; the task is {batch} x {tokens}", ids.len()).into());
    }
    Ok(ids.chunks_exact(tokens).map(<[u32]>::to_vec).collect())
}

/// The kernel's choice for transparent huge pages: the word in brackets.
fn huge_pages() -> String {
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let word = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    word.map_or("unknown", |(word, _)| word).to_string()
}
