//! The engine: which job an order becomes, and what is kept between orders.
//!
//! A model is loaded once per folder and kept; `load` and `start` load it again inside their runs and
//! first let go of the kept one, so that memory shows one model and not two.

use crate::checkpoint::Config;
use crate::convert::{Kind, converted};
use crate::generate::Generate;
use crate::jobs::{Decode, Prefill, Start};
use crate::llama::{self, Model};
use anyhow::{Context, Result, anyhow};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokenizers::Tokenizer;
use worker::{Engine, Identity, Job, Load, Prepare, Stop, Task};

const LOCK: &str = include_str!("../../../../Cargo.lock");

/// The engine of one process.
pub struct LlamaCpp {
    kind: Kind,
    /// Where converted models are kept.
    home: PathBuf,
    model: Option<(PathBuf, Rc<Model>)>,
    tokenizer: Option<(PathBuf, Tokenizer)>,
}

impl LlamaCpp {
    /// An engine with weights of that kind, converted into `home`.
    pub fn new(kind: Kind, home: PathBuf) -> LlamaCpp {
        LlamaCpp { kind, home, model: None, tokenizer: None }
    }

    fn model(&mut self, order: &Prepare) -> Result<Rc<Model>> {
        let folder = order.files.model()?;
        if let Some((path, model)) = &self.model
            && path == folder
        {
            return Ok(model.clone());
        }
        self.model = None;
        Config::read(folder)?;
        let file = converted(&self.home, folder, self.kind, order.threads.max(1))?.path;
        let model = Rc::new(Model::load(&file)?);
        self.model = Some((folder.to_path_buf(), model.clone()));
        Ok(model)
    }

    fn load_tokenizer(&mut self, vocabulary: &Path) -> Result<()> {
        let file = vocabulary.join("tokenizer.json");
        if self.tokenizer.as_ref().is_none_or(|(path, _)| *path != file) {
            let tokenizer = Tokenizer::from_file(&file)
                .map_err(|error| anyhow!("cannot load {}: {error}", file.display()))?;
            self.tokenizer = Some((file, tokenizer));
        }
        Ok(())
    }

    fn generate(&mut self, order: &Prepare, task: &Task) -> Result<Box<dyn Job + '_>, Stop> {
        let Task::Generate { tokens, cache, sampling, .. } = *task else {
            return Err(anyhow!("not a task of generation").into());
        };
        if let Some(what) = task.beyond_steps() {
            return Err(Stop::refused(format!("no {what} here"), "ask for one token after another"));
        }
        self.load_tokenizer(order.files.vocabulary()?)?;
        let model = self.model(order)?;
        let (_, tokenizer) = self.tokenizer.as_ref().context("a tokenizer was just loaded")?;
        let texts = order.files.read_texts()?;
        let [text] = <[String; 1]>::try_from(texts).map_err(|texts| {
            Stop::refused(format!("{} texts in one request", texts.len()), "ask for one text at a time")
        })?;
        let prompt = tokenizer.encode_fast(text.as_str(), false).map_err(|error| anyhow!(error))?;
        if prompt.is_empty() {
            return Err(Stop::refused("an empty prompt has no last position", "give a text"));
        }
        let positions = prompt.len() + tokens.max(1) - 1;
        Stop::beyond(positions, model.positions())?;
        let context = model.context(self.kind, 1, positions, order.threads)?;
        Ok(Box::new(Generate::new(context, tokenizer, text, tokens, cache, sampling)))
    }
}

impl Engine for LlamaCpp {
    fn identity(&self) -> Identity {
        let settings = [
            ("cache", format!("{}, preallocated", if self.kind == Kind::F32 { "f32" } else { "f16" })),
            ("flash_attention", "auto".into()),
            ("system_info", llama::system_info()),
            ("threads", "n_threads and n_threads_batch as ordered, checked after the context is made".into()),
            ("weights", format!("{}, mapped", self.kind.word())),
        ];
        let mut versions = std::collections::BTreeMap::from([("ggml".to_string(), llama::ggml_version())]);
        for name in ["llama-cpp-sys-2", "tokenizers"] {
            versions.extend(locked(name).map(|version| (name.to_string(), version.to_string())));
        }
        let precision = match self.kind {
            Kind::F32 => "f32",
            Kind::Bf16 => "bf16",
            Kind::Q8 => "int8",
            Kind::Q4 => "int4",
        };
        Identity {
            engine: format!("llama-cpp/{}", self.kind.word()),
            language: "rust".into(),
            precision: precision.into(),
            versions,
            settings: settings.map(|(name, value)| (name.to_string(), value)).into(),
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        match order.task {
            Task::Prefill { tokens, batch } => {
                let model = self.model(order)?;
                Stop::beyond(tokens, model.positions())?;
                let ids = order.prompts(batch, tokens)?;
                let context = model.context(self.kind, batch, tokens, order.threads)?;
                Ok(Box::new(Prefill::new(context, ids)))
            }
            Task::Decode { context, tokens, batch } => {
                let model = self.model(order)?;
                Stop::beyond(context + tokens, model.positions())?;
                let ids = order.prompts(batch, context)?;
                let context = model.context(self.kind, batch, context + tokens, order.threads)?;
                Ok(Box::new(Decode::new(context, &ids, tokens)?))
            }
            Task::Generate { .. } => self.generate(order, &order.task),
            Task::Load {} => {
                self.model = None;
                Config::read(order.files.model()?)?;
                let file = converted(&self.home, order.files.model()?, self.kind, order.threads.max(1))?;
                let (kind, threads) = (self.kind, order.threads);
                Ok(Box::new(Load::new(move || {
                    let model = Rc::new(Model::load(&file.path)?);
                    model.context(kind, 1, model.positions(), threads)
                })))
            }
            Task::Start { tokens } => {
                self.model = None;
                let ids = order.prompts(1, tokens)?;
                Config::read(order.files.model()?)?;
                let file = converted(&self.home, order.files.model()?, self.kind, order.threads.max(1))?;
                if !file.was_there {
                    let reason = "the model had to be converted to GGUF first, and now it is";
                    return Err(Stop::refused(reason, "ask again"));
                }
                Ok(Box::new(Start::new(file.path, self.kind, order.threads, ids)))
            }
            _ => Err(Stop::refused(format!("a model, not a tokenizer: no {}", order.task.kind()), "")),
        }
    }
}

fn locked(name: &str) -> Option<&'static str> {
    let (_, entry) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    entry.split('"').next()
}
