//! The seeded initialiser: a Hugging Face-compatible model folder from a configuration and a seed.
//!
//! Values follow GPT-2's own initialisation: weights and embeddings normal with standard deviation
//! 0.02, the two residual projections `c_proj` with 0.02 / sqrt(2 n_layer), biases 0, LayerNorm 1 and 0.
//! With such weights the largest logits lie close together and greedy decoding may repeat itself; that is
//! what an untrained model is.
//!
//! Why counter-based: element i of a tensor depends on (seed, tensor name, i) alone, so any number of
//! threads writes the same file, and the same on every machine ([`normal`] uses no libm).
//!
//! Invariant: the folder never holds a half-written file: each is written under another name and renamed,
//! and `model.safetensors`, the last, stands for completeness.

pub mod default;
pub mod normal;
pub mod philox;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use self::normal::standard_normal;
use self::philox::Philox;
use crate::checkpoint::{CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE};
use crate::replacement::Replacement;
use crate::{Activation, Config, Error};

/// Standard deviation of GPT-2's initialisation.
pub const STANDARD_DEVIATION: f64 = 0.02;
/// Elements generated between two writes: 16 MiB.
const BATCH: usize = 4 << 20;
/// Threads that generate.
const THREADS: usize = 2;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The weights file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// Writes `config.json`, `generation_config.json` and `model.safetensors` into `dir`, which is created if
/// absent. Files of these names are replaced.
///
/// # Errors
/// [`Error::Config`] for an impossible configuration; [`Error::Io`] naming the file if the folder cannot be
/// written or the disk is full, in which case no partial file is left.
pub fn write_model(dir: &Path, config: &Config, seed: u64) -> Result<Written, Error> {
    write_model_with(dir, config, seed, |_, _| {})
}

/// [`write_model`], calling `progress(bytes so far, bytes in all)` about every 16 MiB.
///
/// # Errors
/// As [`write_model`].
pub fn write_model_with(
    dir: &Path,
    config: &Config,
    seed: u64,
    mut progress: impl FnMut(u64, u64),
) -> Result<Written, Error> {
    config.check()?;
    fs::create_dir_all(dir).map_err(|e| Error::io(dir, "create", e))?;
    let index = dir.join(INDEX_FILE);
    if index.exists() {
        return Err(Error::argument(
            "folder",
            format!("{} belongs to a sharded model", index.display()),
            "choose an empty folder",
        ));
    }
    write_json(&dir.join(CONFIG_FILE), &config_json(config))?;
    write_json(&dir.join("generation_config.json"), &generation_json(config))?;

    let tensors = sorted_tensors(config);
    let header = header(&tensors);
    let elements: u64 = tensors.iter().map(|t| t.elements as u64).sum();
    let total = header.len() as u64 + 4 * elements;
    let mut file = Replacement::create(&dir.join(WEIGHTS_FILE))?;
    let mut digest = Sha256::new();
    let mut done = header.len() as u64;
    digest.update(&header);
    file.write(&header)?;
    let mut buffer = Vec::new();
    for tensor in &tensors {
        let mut from = 0;
        while from < tensor.elements {
            let count = BATCH.min(tensor.elements - from);
            buffer.resize(4 * count, 0);
            fill(&mut buffer, tensor, seed, from);
            digest.update(&buffer);
            file.write(&buffer)?;
            from += count;
            done += buffer.len() as u64;
            progress(done, total);
        }
    }
    let path = file.finish()?;
    Ok(Written { path, bytes: total, sha256: hex(&digest.finalize()) })
}

/// How a tensor's elements are drawn.
#[derive(Clone, Copy)]
enum Draw {
    Constant(f32),
    Normal(f64),
}

struct Planned {
    name: String,
    shape: Vec<usize>,
    elements: usize,
    draw: Draw,
}

/// The file's tensors, in the order safetensors writes them: by name.
fn sorted_tensors(config: &Config) -> Vec<Planned> {
    let mut tensors: Vec<Planned> = config
        .tensors()
        .into_iter()
        .map(|(bare, shape)| Planned {
            elements: shape.iter().product(),
            draw: draw(&bare, config),
            name: if bare == "lm_head.weight" { bare } else { format!("transformer.{bare}") },
            shape,
        })
        .collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors
}

fn draw(name: &str, config: &Config) -> Draw {
    if name.ends_with(".bias") {
        Draw::Constant(0.0)
    } else if name.contains("ln_") {
        Draw::Constant(1.0)
    } else if name.ends_with("c_proj.weight") {
        Draw::Normal(STANDARD_DEVIATION / (2.0 * config.n_layer as f64).sqrt())
    } else {
        Draw::Normal(STANDARD_DEVIATION)
    }
}

/// Elements `from..` of `tensor` as little-endian f32, as many as `bytes` holds; `from` is a multiple of 4.
fn fill(bytes: &mut [u8], tensor: &Planned, seed: u64, from: usize) {
    let part = (bytes.len() / 4).div_ceil(THREADS).next_multiple_of(4) * 4;
    std::thread::scope(|scope| {
        let mut parts = bytes.chunks_mut(part).enumerate();
        let first = parts.next();
        for (i, part_bytes) in parts {
            scope.spawn(move || fill_part(part_bytes, tensor, seed, from + i * (part / 4)));
        }
        if let Some((_, part_bytes)) = first {
            fill_part(part_bytes, tensor, seed, from);
        }
    });
}

fn fill_part(bytes: &mut [u8], tensor: &Planned, seed: u64, from: usize) {
    match tensor.draw {
        Draw::Constant(value) => {
            for four in bytes.as_chunks_mut::<4>().0 {
                *four = value.to_le_bytes();
            }
        }
        Draw::Normal(deviation) => {
            let stream = Philox::new(seed, name_hash(&tensor.name));
            for (block, sixteen) in bytes.chunks_mut(16).enumerate() {
                let words = stream.block((from / 4 + block) as u64);
                for (four, word) in sixteen.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                    let value = (deviation * standard_normal(word)) as f32;
                    *four = value.to_le_bytes();
                }
            }
        }
    }
}

/// FNV-1a, 64 bits: names a tensor's stream independently of where the tensor lies in the file.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The safetensors header as Hugging Face writes it, its length in front, padded to 8 bytes.
fn header(tensors: &[Planned]) -> Vec<u8> {
    let mut text = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut at = 0_u64;
    for tensor in tensors {
        let end = at + 4 * tensor.elements as u64;
        let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
        text.push_str(&format!(
            r#","{}":{{"dtype":"F32","shape":[{}],"data_offsets":[{at},{end}]}}"#,
            tensor.name,
            shape.join(",")
        ));
        at = end;
    }
    text.push('}');
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The fields Hugging Face's `GPT2Config` writes.
fn config_json(config: &Config) -> serde_json::Value {
    let activation = match config.activation {
        Activation::GeluNew => "gelu_new",
    };
    let inner = (config.n_inner != 4 * config.n_embd).then_some(config.n_inner);
    json!({
        "activation_function": activation,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": config.bos_token_id,
        "embd_pdrop": 0.1,
        "eos_token_id": config.eos_token_id,
        "initializer_range": STANDARD_DEVIATION,
        // The shortest decimal that reads back as the same f32: 1e-5, not 9.999999747378752e-6.
        "layer_norm_epsilon": config.layer_norm_epsilon.to_string().parse::<f64>().unwrap_or(1e-5),
        "model_type": "gpt2",
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_inner": inner,
        "n_layer": config.n_layer,
        "n_positions": config.n_positions,
        "reorder_and_upcast_attn": false,
        "resid_pdrop": 0.1,
        "scale_attn_by_inverse_layer_idx": config.scale_attn_by_inverse_layer_idx,
        "scale_attn_weights": config.scale_attn_weights,
        "summary_activation": null,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": true,
        "summary_type": "cls_index",
        "summary_use_proj": true,
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": "float32",
        "use_cache": true,
        "vocab_size": config.vocab_size,
    })
}

fn generation_json(config: &Config) -> serde_json::Value {
    json!({
        "_from_model_config": true,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
    })
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), Error> {
    write_file(path, format!("{value:#}\n").as_bytes())
}

/// Writes a small file whole, by rename.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = Replacement::create(path)?;
    file.write(bytes)?;
    file.finish().map(drop)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements do not depend on how a tensor is cut into batches and threads.
    #[test]
    fn the_cut_does_not_show() {
        let draw = Draw::Normal(1.0);
        for elements in [1, 3, 4, 5, 31, 64, 1001] {
            let tensor = Planned { name: "t".to_owned(), shape: vec![elements], elements, draw };
            let mut whole = vec![0; 4 * elements];
            fill_part(&mut whole, &tensor, 9, 0);
            for from in (0..elements).step_by(4) {
                let mut rest = vec![0; 4 * (elements - from)];
                fill(&mut rest, &tensor, 9, from);
                assert_eq!(rest, whole[4 * from..], "{elements} from {from}");
            }
        }
    }
}
