//! config.json and the safetensors checkpoint, as tch tensors.
//!
//! Files are mapped and each tensor is copied once into libtorch's own aligned memory, so loading
//! never holds a second copy of the checkpoint on the heap. Validation of the file's layout is the
//! crate safetensors'; shapes are checked here, against the configuration.

use crate::place::Place;
use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// The fields of a GPT-2 config.json that decide the computation.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// L: blocks.
    pub n_layer: i64,
    /// H: attention heads; divides C.
    pub n_head: i64,
    /// C: width.
    pub n_embd: i64,
    /// Positions the model knows.
    #[serde(alias = "n_ctx")]
    pub n_positions: i64,
    /// V: token ids.
    pub vocab_size: i64,
    /// Added to the variance inside LayerNorm.
    #[serde(default = "epsilon")]
    pub layer_norm_epsilon: f64,
    #[serde(default)]
    n_inner: Option<i64>,
    #[serde(default = "gelu")]
    activation_function: String,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

fn epsilon() -> f64 {
    1e-5
}
fn gelu() -> String {
    "gelu_new".into()
}
fn yes() -> bool {
    true
}

impl Config {
    /// Reads `folder/config.json` and refuses what this model does not compute.
    pub fn read(folder: &Path) -> Result<Config> {
        let path = folder.join("config.json");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // transformers writes both names of the context length, which serde would call a duplicate.
        let mut fields: serde_json::Value =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        if let Some(fields) = fields.as_object_mut().filter(|fields| fields.contains_key("n_positions")) {
            fields.remove("n_ctx");
        }
        let config: Config = serde_json::from_value(fields).with_context(|| path.display().to_string())?;
        config.check().with_context(|| path.display().to_string())?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let sizes = [self.n_layer, self.n_head, self.n_embd, self.n_positions, self.vocab_size];
        ensure!(sizes.iter().all(|size| (1..=1 << 24).contains(size)), "sizes {sizes:?} are impossible");
        ensure!(
            self.n_embd % self.n_head == 0,
            "n_embd {} is no multiple of n_head {}",
            self.n_embd,
            self.n_head
        );
        let tanh = ["gelu_new", "gelu_pytorch_tanh"].contains(&self.activation_function.as_str());
        ensure!(tanh, "activation_function {:?}: only gelu_new is computed here", self.activation_function);
        ensure!(self.scale_attn_weights, "scale_attn_weights false is not computed here");
        ensure!(
            !self.scale_attn_by_inverse_layer_idx,
            "scale_attn_by_inverse_layer_idx is not computed here"
        );
        Ok(())
    }

    /// F: width of the feed-forward layer.
    pub fn inner(&self) -> i64 {
        self.n_inner.unwrap_or(4 * self.n_embd)
    }

    /// Whether the output head is the token table.
    pub fn tied(&self) -> bool {
        self.tie_word_embeddings
    }
}

/// Tensors by name, without the `transformer.` prefix.
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Reads every tensor of `folder`'s checkpoint, one file or sharded, to where and to what `place` says;
    /// attention masks are left out.
    pub fn read(folder: &Path, place: Place) -> Result<Weights> {
        let mut tensors = BTreeMap::new();
        for path in files(folder)? {
            read_file(&path, place, &mut tensors)
                .with_context(|| format!("cannot load {}", path.display()))?;
        }
        Ok(Weights { tensors })
    }

    /// Takes `name`, which must have `shape`.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let tensor = self.tensors.remove(name).with_context(|| format!("the checkpoint lacks {name}"))?;
        let found = tensor.size();
        ensure!(found == shape, "{name} has shape {found:?}; config.json makes it {shape:?}");
        Ok(tensor)
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index = folder.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(vec![folder.join("model.safetensors")]);
    }
    let text = std::fs::read_to_string(&index).with_context(|| format!("cannot read {}", index.display()))?;
    let index: Index = serde_json::from_str(&text).with_context(|| index.display().to_string())?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn read_file(path: &Path, place: Place, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let file = File::open(path)?;
    // SAFETY: the mapping is read-only and dropped before this function returns; that nobody
    // truncates a checkpoint while it is loaded is the caller's promise, as with every mapped file.
    let bytes = unsafe { Mmap::map(&file) }?;
    let views = SafeTensors::deserialize(&bytes)?;
    for (name, view) in views.iter() {
        let name = name.strip_prefix("transformer.").unwrap_or(name);
        if name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") {
            continue;
        }
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => bail!("{name} is {other:?}; f32, f16 and bf16 are read here"),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?;
        tensors.insert(name.to_string(), tensor.f_to_kind(place.kind)?.f_to_device(place.device)?);
    }
    Ok(())
}
