//! The engine: which job an order becomes, and what is kept between orders.
//!
//! A model is loaded once per folder and kept; `load` and `start` load it again inside their runs
//! and first let go of the kept one, so that memory shows one model and not two.

use crate::cache::CacheKind;
use crate::generate::Generate;
use crate::jobs::{Decode, Prefill, Start};
use crate::model::Model;
use crate::place::Place;
use crate::versions;
use anyhow::{Context, Result, anyhow};
use std::path::{Path, PathBuf};
use tch::NoGradGuard;
use tokenizers::Tokenizer;
use worker::{Engine, Identity, Job, Load, Prepare, Stop, Task};

/// The engine of one process.
pub struct Libtorch {
    kind: CacheKind,
    place: Place,
    model: Option<(PathBuf, Model)>,
    tokenizer: Option<(PathBuf, Tokenizer)>,
    /// Gradients stay off in this thread, the one that runs jobs.
    _no_grad: NoGradGuard,
}

impl Libtorch {
    /// An engine at `place` whose KV cache grows as `kind` says.
    pub fn new(kind: CacheKind, place: Place) -> Libtorch {
        Libtorch { kind, place, model: None, tokenizer: None, _no_grad: tch::no_grad_guard() }
    }

    fn load_model(&mut self, folder: &Path) -> Result<()> {
        if self.model.as_ref().is_none_or(|(path, _)| path != folder) {
            self.model = None;
            self.model = Some((folder.to_path_buf(), Model::load(folder, self.place)?));
        }
        Ok(())
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

    fn model(&mut self, order: &Prepare) -> Result<&Model> {
        self.load_model(order.files.model()?)?;
        self.model.as_ref().map(|(_, model)| model).context("a model was just loaded")
    }
}

impl Engine for Libtorch {
    fn identity(&self) -> Identity {
        let (ending, cache) = match self.kind {
            CacheKind::Static => ("", "static"),
            CacheKind::Grown => ("-cat", "grown by cat"),
        };
        let precision = self.place.precision();
        let settings = [
            ("attention", "scaled_dot_product_attention".to_string()),
            ("cache", cache.to_string()),
            ("device", self.place.words()),
            ("gradients", "no_grad; tch exposes no inference mode".to_string()),
            ("mkl", tch::utils::has_mkl().to_string()),
            ("onednn", tch::utils::has_mkldnn().to_string()),
            ("openmp", tch::utils::has_openmp().to_string()),
        ];
        Identity {
            engine: format!("libtorch/{}{ending}", self.place.name()),
            language: "rust".into(),
            precision: precision.into(),
            versions: versions::all(),
            settings: settings.map(|(name, value)| (name.to_string(), value)).into(),
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        let (kind, place) = (self.kind, self.place);
        place.check()?;
        tch::set_num_threads(order.threads.max(1) as i32);
        match order.task {
            Task::Prefill { tokens, batch } => {
                let model = self.model(order)?;
                Stop::beyond(tokens, model.config().n_positions as usize)?;
                let ids = order.prompts(batch, tokens)?;
                Ok(Box::new(Prefill::new(model, kind, ids, batch)?))
            }
            Task::Decode { context, tokens, batch } => {
                let model = self.model(order)?;
                Stop::beyond(context + tokens, model.config().n_positions as usize)?;
                let ids = order.prompts(batch, context)?;
                Ok(Box::new(Decode::new(model, kind, &ids, batch, tokens)?))
            }
            Task::Generate { tokens, cache, sampling, .. } => {
                if let Some(beyond) = order.task.beyond_steps() {
                    return Err(Stop::refused(format!("{beyond} is not written here"), ""));
                }
                let [text] = <[String; 1]>::try_from(order.files.read_texts()?).map_err(|texts| {
                    Stop::refused(format!("{} texts as one batch are not written here", texts.len()), "")
                })?;
                self.load_tokenizer(order.files.vocabulary()?)?;
                self.load_model(order.files.model()?)?;
                let (_, model) = self.model.as_ref().context("a model was just loaded")?;
                let (_, tokenizer) = self.tokenizer.as_ref().context("a tokenizer was just loaded")?;
                let prompt = tokenizer.encode_fast(text.as_str(), false).map_err(|error| anyhow!(error))?;
                if prompt.is_empty() {
                    return Err(Stop::refused("an empty prompt has no last position", "give a text"));
                }
                Stop::beyond(prompt.len() + tokens.max(1) - 1, model.config().n_positions as usize)?;
                let cache = cache.then_some(kind);
                Ok(Box::new(Generate::new(model, tokenizer, text, tokens, cache, sampling)))
            }
            Task::Load {} => {
                self.model = None;
                let folder = order.files.model()?.to_path_buf();
                Ok(Box::new(Load::new(move || Model::load(&folder, place))))
            }
            Task::Start { tokens } => {
                self.model = None;
                let ids = order.prompts(1, tokens)?;
                Ok(Box::new(Start::new(order.files.model()?, place, kind, ids)))
            }
            _ => Err(Stop::refused(format!("a model, not a tokenizer: no {}", order.task.kind()), "")),
        }
    }
}
