//! `native/cuda-*`: the model on an NVIDIA GPU, and what it says where there is none.
//!
//! The driver and NVRTC are looked for when the process begins, so that the identity tells what was found;
//! without them every order is refused with the reason, and nothing else is done.

mod jobs;
#[cfg(test)]
mod tests;

use crate::model::prompts;
use anyhow::{Context, Result};
use kernels::cuda::{CubinCache, CudaError, Device, Launching, Libraries, Library, Nvrtc, Search};
use rust_native::cuda::{CudaGpt2, CudaGpt2Error, Products, Weights};
use rust_native::{Checkpoint, Tokenizer};
use std::path::{Path, PathBuf};
use worker::{Engine, Identity, Job, Load, Prepare, Stop, Task};

/// What an engine of this family is called by, and how it works.
#[derive(Clone, Copy)]
pub struct Variant {
    /// On the command line.
    pub name: &'static str,
    /// In front of it in reports: `native`, or `limit` for what reads and computes nothing.
    family: &'static str,
    /// Of weights, keys and values.
    pub weights: Weights,
    /// Who makes the products of a prompt.
    products: Products,
    /// How kernels reach the device.
    launching: Launching,
}

impl Variant {
    /// The engine's name.
    pub fn engine(&self) -> String {
        format!("{}/{}", self.family, self.name)
    }
}

const fn model(name: &'static str, weights: Weights, products: Products, launching: Launching) -> Variant {
    Variant { name, family: "native", weights, products, launching }
}

const fn limit(name: &'static str, weights: Weights) -> Variant {
    Variant { name, family: "limit", weights, products: Products::Tiles, launching: Launching::Graph }
}

/// All variants.
pub const VARIANTS: [Variant; 8] = [
    model("cuda-f32", Weights::F32, Products::CublasLt, Launching::Eager),
    model("cuda-f32-graph", Weights::F32, Products::CublasLt, Launching::Graph),
    model("cuda-bf16", Weights::Bf16, Products::Tiles, Launching::Eager),
    model("cuda-bf16-graph", Weights::Bf16, Products::Tiles, Launching::Graph),
    model("cuda-bf16-pdl", Weights::Bf16, Products::Tiles, Launching::Programmatic),
    model("cuda-bf16-cublaslt", Weights::Bf16, Products::CublasLt, Launching::Graph),
    limit("cuda-stream-f32", Weights::F32),
    limit("cuda-stream-bf16", Weights::Bf16),
];

/// The engine of one process.
pub struct Cuda {
    how: How,
    model: Option<(PathBuf, CudaGpt2<Device>)>,
    tokenizer: Option<(PathBuf, Tokenizer)>,
}

/// Everything a model is loaded with.
#[derive(Clone)]
pub struct How {
    variant: Variant,
    search: Search,
    libraries: Libraries,
    cache: CubinCache,
}

impl How {
    /// The first GPU with all kernels.
    fn device(&self) -> Result<Device, CudaError> {
        // The driver first: without it nobody needs a compiler.
        let mut device = Device::open(&self.libraries, 0, self.variant.launching)?;
        device.load_kernels(Nvrtc::new(&self.libraries)?, &self.cache)?;
        if self.variant.products == Products::CublasLt {
            device.load_products(&self.libraries)?;
        }
        Ok(device)
    }

    /// Loads `folder` onto the first GPU.
    pub fn load(&self, folder: &Path) -> Result<CudaGpt2<Device>, Stop> {
        let device = self.device().map_err(stop)?;
        let processors = device.processors().map_err(stop)?;
        let checkpoint = Checkpoint::open(folder).map_err(anyhow::Error::from)?;
        let Variant { weights, products, .. } = self.variant;
        CudaGpt2::load(&checkpoint, weights, products, processors, device).map_err(stop)
    }
}

/// What this machine cannot do is a refusal, what went wrong a failure.
pub fn stop(error: impl Into<CudaGpt2Error>) -> Stop {
    match error.into() {
        CudaGpt2Error::Device(error) if error.is_absence() => Stop::refused(error.to_string(), ""),
        CudaGpt2Error::Plan(error) => Stop::refused(error.to_string(), "ask native/cpu-f32 for this model"),
        error => Stop::Failed(error.into()),
    }
}

impl Cuda {
    /// A variant by name, with the libraries that `variable` (of the environment) leads to:
    /// ASSAY_CUDA_LIB names a folder of CUDA's libraries, CUDA_HOME a toolkit, ASSAY_SITE_PACKAGES the
    /// Python side, whose wheels bring NVRTC and cuBLASLt; COMPILED_KERNELS is where compiled kernels are kept.
    pub fn parse(variant: &str, variable: impl Fn(&str) -> Option<PathBuf>) -> Option<Cuda> {
        let variant = VARIANTS.into_iter().find(|known| known.name == variant)?;
        let [named, home, packages] = ["ASSAY_CUDA_LIB", "CUDA_HOME", "ASSAY_SITE_PACKAGES"].map(&variable);
        let search = Search::usual(named.as_deref(), home.as_deref(), packages);
        let wanted: &[Library] = match variant.products {
            Products::Tiles => &[Library::Driver, Library::Nvrtc],
            Products::CublasLt => &Library::ALL,
        };
        let libraries = Libraries::open(&search, wanted);
        let cache = variable("COMPILED_KERNELS").map_or_else(CubinCache::none, CubinCache::at);
        let how = How { variant, search, libraries, cache };
        Some(Cuda { how, model: None, tokenizer: None })
    }

    fn model(&mut self, order: &Prepare) -> Result<&mut CudaGpt2<Device>, Stop> {
        let folder = order.files.model()?;
        if self.model.as_ref().is_none_or(|(path, _)| path != folder) {
            self.model = None;
            self.model = Some((folder.to_path_buf(), self.how.load(folder)?));
        }
        let (_, model) = self.model.as_mut().context("a model was just loaded")?;
        Ok(model)
    }

    fn load_tokenizer(&mut self, order: &Prepare) -> Result<()> {
        let folder = order.files.vocabulary()?;
        if self.tokenizer.as_ref().is_none_or(|(path, _)| path != folder) {
            self.tokenizer = Some((folder.to_path_buf(), Tokenizer::from_dir(folder)?));
        }
        Ok(())
    }
}

impl Engine for Cuda {
    fn identity(&self) -> Identity {
        let found = |library| match self.how.libraries.place(library) {
            Ok(place) => place.display().to_string(),
            Err(error) => format!("missing: {error}"),
        };
        let mut versions = vec![("rust_native".to_string(), env!("CARGO_PKG_VERSION").to_string())];
        if let Ok(nvrtc) = Nvrtc::new(&self.how.libraries) {
            let (major, minor) = nvrtc.version();
            versions.push(("nvrtc".into(), format!("{major}.{minor}")));
        }
        let device = Device::describe(&self.how.libraries, 0);
        let Variant { weights, products, launching, .. } = self.how.variant;
        let launching = match launching {
            Launching::Eager => "one call a kernel",
            Launching::Graph => "one graph a step",
            Launching::Programmatic => "one graph a step, kernels begin early",
        };
        let products = match products {
            Products::Tiles => "own kernels",
            Products::CublasLt => "cublaslt",
        };
        let settings = [
            ("cache", "preallocated".to_string()),
            ("launches", launching.to_string()),
            ("products of a prompt", products.to_string()),
            ("cuda driver", found(Library::Driver)),
            ("cuda nvrtc", found(Library::Nvrtc)),
            ("cuda device", device.unwrap_or_else(|error| format!("missing: {error}"))),
            ("cuda cublaslt", self.how.search.place(Library::CublasLt)),
        ];
        Identity {
            engine: self.how.variant.engine(),
            language: "rust".into(),
            precision: weights.name().into(),
            versions: versions.into_iter().collect(),
            settings: settings.map(|(name, value)| (name.to_string(), value)).into(),
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        if self.how.variant.family == "limit" {
            let Task::Decode { context, tokens, batch } = order.task else {
                return Err(Stop::refused("memory limits decode; other tasks have other limits", ""));
            };
            let model = self.model(order)?;
            Stop::beyond(context + tokens, model.config().n_positions)?;
            return Ok(Box::new(jobs::Stream::new(model, batch, context, tokens)?));
        }
        match order.task {
            Task::Prefill { tokens, batch } => {
                let model = self.model(order)?;
                Stop::beyond(tokens, model.config().n_positions)?;
                Ok(Box::new(jobs::Prefill::new(model, prompts(order, batch, tokens)?)?))
            }
            Task::Decode { context, tokens, batch } => {
                let model = self.model(order)?;
                Stop::beyond(context + tokens, model.config().n_positions)?;
                Ok(Box::new(jobs::Decode::new(model, prompts(order, batch, context)?, tokens)?))
            }
            Task::Generate { .. } => {
                self.load_tokenizer(order)?;
                self.model(order)?;
                let (_, model) = self.model.as_mut().context("a model was just loaded")?;
                let (_, tokenizer) = self.tokenizer.as_ref().context("a tokenizer was just loaded")?;
                Ok(Box::new(jobs::Generate::new(model, tokenizer, order)?))
            }
            Task::Load {} => {
                self.model = None;
                // Found out now, a missing GPU is a refusal; inside the run it would be a failure.
                drop(self.how.device().map_err(stop)?);
                let (folder, how) = (order.files.model()?.to_path_buf(), self.how.clone());
                Ok(Box::new(Load::new(move || how.load(&folder).map_err(jobs::told))))
            }
            Task::Start { tokens } => {
                self.model = None;
                Device::describe(&self.how.libraries, 0).map_err(stop)?;
                let prompt = prompts(order, 1, tokens)?.swap_remove(0);
                Ok(Box::new(jobs::Start::new(order.files.model()?, self.how.clone(), prompt)))
            }
            _ => Err(Stop::refused(format!("no {} on a GPU", order.task.kind()), "ask native/cpu-f32")),
        }
    }
}
