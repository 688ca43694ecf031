//! The model as llama.cpp wants it: a GGUF file, in f32 or made smaller by llama.cpp's own quantiser.
//!
//! Files are made once for each content of a model folder and kept in `$CONVERTED_MODELS` (or a folder
//! of the user's cache) as `<digest>-<kind>.gguf`. The digest is taken over config.json and the
//! safetensors files; because reading half a gigabyte takes longer than llama.cpp takes to start, it is
//! kept in a stamp beside them, together with the sizes and times of the files it was taken of.
//!
//! Invariant: a file under its final name is whole. It is written under another name and renamed.

use crate::checkpoint::{Checkpoint, Config, map, sources};
use crate::gguf::{self, Tensor, Value};
use crate::llama;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As they are.
    F32,
    /// Matrices in bfloat16.
    Bf16,
    /// Matrices in blocks of 32 bytes with a scale each.
    Q8,
    /// Matrices in blocks of 32 halves of a byte with a scale each; the head stays larger.
    Q4,
}

impl Kind {
    /// The word in names of files and engines.
    pub fn word(self) -> &'static str {
        match self {
            Kind::F32 => "f32",
            Kind::Bf16 => "bf16",
            Kind::Q8 => "q8_0",
            Kind::Q4 => "q4_0",
        }
    }
}

/// A converted model.
pub struct Converted {
    /// Where it lies.
    pub path: PathBuf,
    /// False where it had to be made now.
    pub was_there: bool,
}

/// The GGUF file of `model` in `home`, made where it is missing; `threads` for the quantiser.
pub fn converted(home: &Path, model: &Path, kind: Kind, threads: usize) -> Result<Converted> {
    let digest = digest(home, model)?;
    let place = |kind: Kind| home.join(format!("{digest}-{}.gguf", kind.word()));
    let path = place(kind);
    if path.is_file() {
        return Ok(Converted { path, was_there: true });
    }
    if kind == Kind::F32 {
        whole(&path, |draft| write_f32(model, draft))?;
    } else {
        let source = converted(home, model, Kind::F32, threads)?.path;
        whole(&path, |draft| llama::quantise(&source, draft, kind, threads))?;
    }
    Ok(Converted { path, was_there: false })
}

/// `$CONVERTED_MODELS`, or a folder of the user's cache.
pub fn home() -> PathBuf {
    if let Some(named) = std::env::var_os("CONVERTED_MODELS") {
        return named.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let own = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    cache.unwrap_or_else(own).join("converted-models")
}

/// Lets `make` write a draft, and gives it its name when it is whole.
fn whole(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let made = make(&draft).and_then(|()| {
        std::fs::rename(&draft, path).with_context(|| format!("cannot name {}", path.display()))
    });
    if made.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    made.with_context(|| format!("cannot make {}", path.display()))
}

/// The digest of a model's files, from its stamp where sizes and times are still the same.
fn digest(home: &Path, model: &Path) -> Result<String> {
    let mut seen = Vec::new();
    let files = sources(model)?;
    for file in &files {
        let about = file.metadata().with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let time = i128::from(about.mtime()) * 1_000_000_000 + i128::from(about.mtime_nsec());
        seen.push((name, about.len(), time as i64));
    }
    let resolved = model.canonicalize().unwrap_or_else(|_| model.to_path_buf());
    let place = worker::digest_bytes(resolved.to_string_lossy().as_bytes());
    let stamp = home.join(format!("{place}.json"));
    let known = std::fs::read_to_string(&stamp).ok();
    let known: Option<Stamp> = known.and_then(|text| serde_json::from_str(&text).ok());
    if let Some(known) = known.filter(|known| known.files == seen) {
        return Ok(known.digest);
    }
    let mut parts = String::new();
    for path in &files {
        parts.push_str(&worker::digest_bytes(&map(path)?));
    }
    let digest = worker::digest_bytes(parts.as_bytes());
    std::fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
    let text = serde_json::to_string(&Stamp { files: seen, digest: digest.clone() })?;
    whole(&stamp, |draft| Ok(std::fs::write(draft, text)?))?;
    Ok(digest)
}

/// What a digest was taken of: name, bytes and time of change in nanoseconds of each file.
#[derive(serde::Serialize, serde::Deserialize)]
struct Stamp {
    files: Vec<(String, u64, i64)>,
    digest: String,
}

/// Writes the folder's model as f32 GGUF.
fn write_f32(model: &Path, draft: &Path) -> Result<()> {
    let (config, checkpoint) = (Config::read(model)?, Checkpoint::open(model)?);
    let mut out = BufWriter::new(File::create(draft).with_context(|| draft.display().to_string())?);
    gguf::write(&mut out, &head(&config), &tensors(&config, &checkpoint))
        .with_context(|| format!("cannot convert {}", model.display()))?;
    Ok(out.flush()?)
}

/// The head that llama.cpp reads a GPT-2 from. It gets no vocabulary: ids go in and come out.
fn head(config: &Config) -> Vec<(&'static str, Value)> {
    vec![
        ("general.architecture", Value::Text("gpt2".into())),
        ("general.file_type", Value::U32(0)),
        ("gpt2.context_length", Value::U32(config.n_positions as u32)),
        ("gpt2.embedding_length", Value::U32(config.n_embd as u32)),
        ("gpt2.feed_forward_length", Value::U32(config.inner() as u32)),
        ("gpt2.block_count", Value::U32(config.n_layer as u32)),
        ("gpt2.attention.head_count", Value::U32(config.n_head as u32)),
        ("gpt2.attention.layer_norm_epsilon", Value::F32(config.layer_norm_epsilon)),
        ("gpt2.vocab_size", Value::U32(config.vocab_size as u32)),
        ("tokenizer.ggml.model", Value::Text("no_vocab".into())),
    ]
}

/// Every tensor under llama.cpp's name. GPT-2 keeps matrices as [in, out]; here rows are outputs.
fn tensors<'a>(config: &Config, from: &'a Checkpoint) -> Vec<Tensor<'a>> {
    let (c, f) = (config.n_embd, config.inner());
    let mut all = vec![
        as_is(from, "token_embd.weight", "wte.weight", &[config.vocab_size, c]),
        as_is(from, "position_embd.weight", "wpe.weight", &[config.n_positions, c]),
    ];
    for at in 0..config.n_layer {
        for (to, name, inputs, outputs) in [
            ("attn_qkv", "attn.c_attn", c, 3 * c),
            ("attn_output", "attn.c_proj", c, c),
            ("ffn_up", "mlp.c_fc", c, f),
            ("ffn_down", "mlp.c_proj", f, c),
        ] {
            let (to, name) = (format!("blk.{at}.{to}"), format!("h.{at}.{name}"));
            all.push(transposed(from, &format!("{to}.weight"), &format!("{name}.weight"), inputs, outputs));
            all.push(as_is(from, &format!("{to}.bias"), &format!("{name}.bias"), &[outputs]));
        }
        for (to, name) in [("attn_norm", "ln_1"), ("ffn_norm", "ln_2")] {
            for part in ["weight", "bias"] {
                let name = format!("h.{at}.{name}.{part}");
                all.push(as_is(from, &format!("blk.{at}.{to}.{part}"), &name, &[c]));
            }
        }
    }
    all.push(as_is(from, "output_norm.weight", "ln_f.weight", &[c]));
    all.push(as_is(from, "output_norm.bias", "ln_f.bias", &[c]));
    if !config.tie_word_embeddings {
        all.push(as_is(from, "output.weight", "lm_head.weight", &[config.vocab_size, c]));
    }
    all
}

fn as_is<'a>(from: &'a Checkpoint, to: &str, name: &str, shape: &[usize]) -> Tensor<'a> {
    let (name, shape) = (name.to_string(), shape.to_vec());
    let sizes = shape.iter().rev().map(|&size| size as u64).collect();
    Tensor { name: to.into(), sizes, values: Box::new(move || from.values(&name, &shape)) }
}

fn transposed<'a>(from: &'a Checkpoint, to: &str, name: &str, inputs: usize, outputs: usize) -> Tensor<'a> {
    let name = name.to_string();
    let values = move || {
        let values = from.values(&name, &[inputs, outputs])?;
        let mut turned = Vec::with_capacity(values.len());
        for output in 0..outputs {
            turned.extend(values[output..].iter().step_by(outputs));
        }
        Ok(turned)
    };
    Tensor { name: to.into(), sizes: vec![inputs as u64, outputs as u64], values: Box::new(values) }
}
