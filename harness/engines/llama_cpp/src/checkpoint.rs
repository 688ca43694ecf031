//! A Hugging Face GPT-2 folder read for conversion: config.json, and safetensors in one file or shards.
//!
//! Files are mapped, tensors looked up by name and checked against the shape that config.json gives
//! them. llama.cpp reads none of this; what it does read is written by `convert`.

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The fields of a GPT-2 config.json that decide the computation.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// L: blocks.
    pub n_layer: usize,
    /// H: attention heads; divides C.
    pub n_head: usize,
    /// C: width.
    pub n_embd: usize,
    /// Positions the model knows.
    pub n_positions: usize,
    /// V: token ids.
    pub vocab_size: usize,
    /// Added to the variance inside LayerNorm.
    #[serde(default = "epsilon")]
    pub layer_norm_epsilon: f32,
    /// Whether the output head is the token table.
    #[serde(default = "yes")]
    pub tie_word_embeddings: bool,
    #[serde(default)]
    n_inner: Option<usize>,
    #[serde(default = "gelu")]
    activation_function: String,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
}

fn epsilon() -> f32 {
    1e-5
}
fn gelu() -> String {
    "gelu_new".into()
}
fn yes() -> bool {
    true
}

impl Config {
    /// Reads `folder/config.json` and refuses what llama.cpp's graph of GPT-2 does not compute.
    pub fn read(folder: &Path) -> Result<Config> {
        let path = folder.join("config.json");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Config = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        config.check().with_context(|| path.display().to_string())?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let sizes = [self.n_layer, self.n_head, self.n_embd, self.n_positions, self.vocab_size, self.inner()];
        ensure!(sizes.iter().all(|size| (1..=1 << 24).contains(size)), "sizes {sizes:?} are impossible");
        ensure!(
            self.n_embd.is_multiple_of(self.n_head),
            "n_embd {} is no multiple of n_head {}",
            self.n_embd,
            self.n_head
        );
        let tanh = ["gelu_new", "gelu_pytorch_tanh"].contains(&self.activation_function.as_str());
        ensure!(tanh, "activation_function {:?}: llama.cpp computes gelu_new", self.activation_function);
        ensure!(self.scale_attn_weights, "scale_attn_weights false is not computed by llama.cpp");
        ensure!(
            !self.scale_attn_by_inverse_layer_idx,
            "scale_attn_by_inverse_layer_idx is not computed by llama.cpp"
        );
        Ok(())
    }

    /// F: width of the feed-forward layer.
    pub fn inner(&self) -> usize {
        self.n_inner.unwrap_or(4 * self.n_embd)
    }
}

/// The files that decide a model: config.json and the weights, in this order.
pub fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut weights: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "safetensors"))
        .collect();
    weights.sort();
    let config = folder.join("config.json");
    ensure!(
        config.is_file() && !weights.is_empty(),
        "{}: no config.json or no safetensors; name a Hugging Face GPT-2 folder",
        folder.display()
    );
    Ok([config].into_iter().chain(weights).collect())
}

/// A file of a model, mapped read-only.
pub fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // SAFETY: the mapping is read-only; that nobody truncates a model while it is converted is the
    // caller's promise, as with every mapped file.
    unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map {}", path.display()))
}

/// The weights of a folder, mapped.
pub struct Checkpoint {
    maps: Vec<(PathBuf, Mmap)>,
}

impl Checkpoint {
    /// Maps every safetensors file of `folder` and checks that each is one.
    pub fn open(folder: &Path) -> Result<Checkpoint> {
        let mut maps = Vec::new();
        for path in sources(folder)?.split_off(1) {
            let map = map(&path)?;
            SafeTensors::deserialize(&map).with_context(|| format!("cannot load {}", path.display()))?;
            maps.push((path, map));
        }
        Ok(Checkpoint { maps })
    }

    /// The values of `name` as f32, in the file's order; `shape` is what config.json makes of it.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        for (path, map) in &self.maps {
            let file = SafeTensors::deserialize(map)?;
            let Some(view) = [name, &format!("transformer.{name}")].iter().find_map(|n| file.tensor(n).ok())
            else {
                continue;
            };
            let found = view.shape();
            ensure!(
                found == shape,
                "{}: {name} has shape {found:?}; config.json makes it {shape:?}",
                path.display()
            );
            let two = |bytes: &[u8]| [bytes[0], bytes[1]];
            return Ok(match view.dtype() {
                Dtype::F32 => view
                    .data()
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect(),
                Dtype::F16 => {
                    view.data().chunks_exact(2).map(|b| f16::from_le_bytes(two(b)).to_f32()).collect()
                }
                Dtype::BF16 => {
                    view.data().chunks_exact(2).map(|b| bf16::from_le_bytes(two(b)).to_f32()).collect()
                }
                other => bail!("{}: {name} is {other:?}; f32, f16 and bf16 are read", path.display()),
            });
        }
        bail!("the checkpoint lacks {name}")
    }
}
