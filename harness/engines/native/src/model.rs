//! `native/cpu-*`: which job an order becomes, and what is kept between orders.
//!
//! A model is loaded once per folder and thread count and kept; `load` and `start` load it again
//! inside their runs and first let go of the kept one, so that memory shows one model and not two.

use crate::generate;
use crate::jobs::{Decode, Prefill, Start};
use anyhow::{Context, Result};
use kernels::Isa;
use rust_native::{Checkpoint, Gpt2, Options, Precision, Tokenizer};
use std::path::{Path, PathBuf};
use worker::{Engine, Identity, Job, Load, Prepare, Stop, Task};

/// The engine of one process.
pub struct Cpu {
    how: How,
    model: Option<(PathBuf, How, Gpt2)>,
    tokenizer: Option<(PathBuf, Tokenizer)>,
}

/// What a model is loaded for: kept by every job that loads one itself.
#[derive(Clone, PartialEq)]
pub struct How {
    /// Number format of the weights.
    pub precision: Precision,
    /// Threads, the caller's included.
    pub threads: usize,
    /// Where packed weights are kept, to be mapped.
    pub packed: Option<PathBuf>,
}

impl How {
    /// Loads `folder` for the best instruction set of this processor.
    pub fn load(&self, folder: &Path) -> Result<Gpt2> {
        let (threads, precision, packed) = (self.threads, self.precision, self.packed.clone());
        let options = Options { threads, precision, packed, ..Options::default() };
        let checkpoint = Checkpoint::open(folder)?;
        let model = Gpt2::load(&checkpoint, &options)?;
        if options.packed.is_some() && !model.is_mapped() {
            // The first load of all packs and keeps; a model of this engine is one that lies in the file.
            drop(model);
            return Ok(Gpt2::load(&checkpoint, &options)?);
        }
        Ok(model)
    }
}

impl Cpu {
    /// `cpu-f32`, `cpu-bf16`, `cpu-int8` or `cpu-int4`; with a folder, the one whose packed weights are
    /// mapped from there.
    pub fn parse(variant: &str, packed: Option<PathBuf>) -> Option<Cpu> {
        let precision = variant.strip_prefix("cpu-")?.parse().ok()?;
        Some(Cpu { how: How { precision, threads: 1, packed }, model: None, tokenizer: None })
    }

    fn load_model(&mut self, order: &Prepare) -> Result<()> {
        let (folder, how) = (order.files.model()?, self.how(order));
        if self.model.as_ref().is_none_or(|(path, kept, _)| path != folder || *kept != how) {
            self.model = None;
            let model = how.load(folder)?;
            self.model = Some((folder.to_path_buf(), how, model));
        }
        Ok(())
    }

    fn how(&self, order: &Prepare) -> How {
        How { threads: order.threads.max(1), ..self.how.clone() }
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

impl Engine for Cpu {
    fn identity(&self) -> Identity {
        let mapped = self.how.packed.is_some();
        let path = kernels::Cpu::new(1, None).map_or("unknown", |cpu| cpu.path(self.how.precision));
        let settings = [
            ("isa", Isa::best().name().to_string()),
            ("path", path.to_string()),
            ("cache", "preallocated".to_string()),
            ("huge_pages", format!("advised; kernel: {}", huge_pages())),
            ("weights", if mapped { "packed before, mapped" } else { "packed at load" }.to_string()),
        ];
        Identity {
            engine: format!("native/cpu-{}{}", self.how.precision, if mapped { "-mapped" } else { "" }),
            language: "rust".into(),
            precision: self.how.precision.name().into(),
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
            Task::Load {} => {
                self.model = None;
                let (folder, how) = (order.files.model()?.to_path_buf(), self.how(order));
                Ok(Box::new(Load::new(move || how.load(&folder))))
            }
            Task::Start { tokens } => {
                self.model = None;
                let prompt = prompts(order, 1, tokens)?.swap_remove(0);
                Ok(Box::new(Start::new(order.files.model()?, self.how(order), prompt)))
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
    Stop::beyond(positions, model.config().n_positions)
}

/// The ids of the order: `batch` sequences of `tokens` ids.
pub fn prompts(order: &Prepare, batch: usize, tokens: usize) -> Result<Vec<Vec<u32>>> {
    Ok(order.prompts(batch, tokens)?.chunks_exact(tokens).map(<[u32]>::to_vec).collect())
}

/// The kernel's choice for transparent huge pages: the word in brackets.
fn huge_pages() -> String {
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let word = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    word.map_or("unknown", |(word, _)| word).to_string()
}
