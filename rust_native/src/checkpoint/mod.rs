//! A Hugging Face GPT-2 folder, opened by memory map and validated in full.
//!
//! Why everything is checked on opening: the engine asks for tensors by name and shape deep inside
//! set-up, where an error could only say "bad slice". Here it names the file, the tensor, what was
//! found and what to do. After [`Checkpoint::open`] every tensor of the configuration is known to be
//! there, in a readable type, with the shape the configuration implies.
//!
//! Names: Hugging Face's, without the `transformer.` prefix; files with and without it are accepted.
//! Linear weights keep Hugging Face's Conv1D layout, `[in, out]`.
//!
//! Invariant: no byte of a file is interpreted before its header has passed [`mod@format`]'s checks.

mod elements;
pub mod format;
mod half;
mod map;
mod shards;

pub use elements::Elements;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::format::{Dtype, Tensor};
use self::map::MappedFile;
use crate::init::hex;
use crate::{Config, Error};

/// The single-file name.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The index of a sharded checkpoint.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// The configuration's name.
pub const CONFIG_FILE: &str = "config.json";

/// An opened model folder. Tensors are borrowed from the memory map where the file holds aligned f32.
#[derive(Debug)]
pub struct Checkpoint {
    config: Config,
    dir: PathBuf,
    files: Vec<MappedFile>,
    /// Bare name -> (index into `files`, where it lies).
    tensors: HashMap<String, (usize, Tensor)>,
}

impl Checkpoint {
    /// Opens `dir`: `config.json` and either `model.safetensors` or a sharded index.
    ///
    /// # Errors
    /// [`Error::Io`] for what cannot be read, [`Error::Config`] for the configuration,
    /// [`Error::Checkpoint`] for a weights file that breaks the format or does not fit the configuration.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let config = Config::from_json(&dir.join(CONFIG_FILE))?;
        let single = dir.join(WEIGHTS_FILE);
        let index = dir.join(INDEX_FILE);
        let listed = if single.exists() {
            vec![shards::Shard { path: single, expected: None }]
        } else if index.exists() {
            shards::read_index(dir, &index)?
        } else {
            return Err(no_weights(dir));
        };
        let mut opened = Self { config, dir: dir.to_owned(), files: Vec::new(), tensors: HashMap::new() };
        for shard in listed {
            opened.add(shard)?;
        }
        opened.check_against_config()?;
        Ok(opened)
    }

    /// The checked configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The folder this was opened from.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The weights files, in the order they were opened.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(MappedFile::path)
    }

    /// What tells these files from others: SHA-256, in lower-case hexadecimal, over path, length, time of
    /// the last change, header and 64 samples of 4 KiB of each. Other values in all other places of a file
    /// of the same length and time go unnoticed; that is the price of not reading half a gigabyte.
    ///
    /// # Errors
    /// [`Error::Io`] if a file can no longer be asked.
    pub fn fingerprint(&self) -> Result<String, Error> {
        let mut digest = Sha256::new();
        for file in &self.files {
            file.digest(&mut digest)?;
        }
        Ok(hex(&digest.finalize()))
    }

    /// Whether the tensor `name` (no `transformer.` prefix) is in the files. `lm_head.weight` is absent in
    /// a tied model.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The elements of tensor `name` in row-major order, checked to have `shape`. Borrowed from the map if
    /// the file holds f32 at a multiple of four bytes, otherwise converted (f16, bf16 and f32).
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the tensor is missing, has another shape, or is of a type without an exact
    /// f32 value.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>, Error> {
        let (file, tensor) = self.find(name, shape)?;
        let bytes = &file.data()[tensor.start..tensor.end];
        Ok(match tensor.dtype {
            Dtype::F32 => {
                map::f32_view(bytes).map_or_else(|| Cow::Owned(half::f32_from_le(bytes)), Cow::Borrowed)
            }
            Dtype::F16 => Cow::Owned(bytes.as_chunks().0.iter().map(|&two| half::f16(two)).collect()),
            Dtype::Bf16 => Cow::Owned(bytes.as_chunks().0.iter().map(|&two| half::bf16(two)).collect()),
            Dtype::Other(_) => return Err(wrong_dtype(file.path(), name, tensor)),
        })
    }

    /// The same elements, to be read from the file piece by piece: for whoever copies them anyway. Nothing
    /// of the file is in this process's memory then.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`].
    pub fn elements(&self, name: &str, shape: &[usize]) -> Result<Elements<'_>, Error> {
        let (file, tensor) = self.find(name, shape)?;
        Elements::new(file, tensor).ok_or_else(|| wrong_dtype(file.path(), name, tensor))
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<(&MappedFile, &Tensor), Error> {
        let Some((file, tensor)) = self.tensors.get(name) else {
            let file = self.files.first().map_or(self.dir.as_path(), MappedFile::path);
            return Err(problem(
                file,
                &format!("tensor `{name}`"),
                "missing",
                "the file is not a GPT-2 model of this configuration, or is incomplete: fetch it again",
            ));
        };
        let file = &self.files[*file];
        if tensor.shape != shape {
            return Err(problem(
                file.path(),
                &format!("tensor `{name}`"),
                format!("shape {:?}, expected {shape:?}", tensor.shape),
                "check that config.json belongs to these weights",
            ));
        }
        Ok((file, tensor))
    }

    fn add(&mut self, shard: shards::Shard) -> Result<(), Error> {
        let file = MappedFile::open(&shard.path)?;
        let slot = self.files.len();
        shard.check(file.tensors())?;
        for tensor in file.tensors() {
            let name = tensor.name.strip_prefix("transformer.").unwrap_or(&tensor.name);
            if let Some((other, _)) = self.tensors.get(name) {
                let other = self.files.get(*other).map_or(file.path(), MappedFile::path);
                return Err(problem(
                    file.path(),
                    &format!("tensor `{name}`"),
                    format!("a second one; the first is in {}", other.display()),
                    "keep one of the two",
                ));
            }
            self.tensors.insert(name.to_owned(), (slot, tensor.clone()));
        }
        self.files.push(file);
        Ok(())
    }

    /// Every tensor the configuration implies is there; nothing of the transformer is left over.
    fn check_against_config(&self) -> Result<(), Error> {
        let mut expected = std::collections::HashSet::new();
        for (name, shape) in self.config.tensors() {
            let (file, tensor) = self.find(&name, &shape)?;
            if let Dtype::Other(_) = tensor.dtype {
                return Err(wrong_dtype(file.path(), &name, tensor));
            }
            expected.insert(name);
        }
        let mut left_over: Vec<&String> = self
            .tensors
            .keys()
            .filter(|name| !expected.contains(*name) && belongs_to_transformer(name))
            .collect();
        left_over.sort();
        if let Some(name) = left_over.first() {
            let (file, _) = self.tensors[*name];
            return Err(problem(
                self.files[file].path(),
                &format!("tensor `{name}`"),
                format!("not part of a model with n_layer = {}", self.config.n_layer),
                "check that config.json belongs to these weights",
            ));
        }
        Ok(())
    }
}

/// The causal-mask buffers that older Hugging Face releases saved are not parameters; heads of other
/// tasks do not concern us.
fn belongs_to_transformer(name: &str) -> bool {
    let buffer = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
    let part = ["h.", "wte.", "wpe.", "ln_f."].iter().any(|prefix| name.starts_with(prefix));
    part && !buffer
}

fn no_weights(dir: &Path) -> Error {
    let remedy = if dir.join("pytorch_model.bin").exists() {
        "there is a pytorch_model.bin: save the model again with safe_serialization=True"
    } else {
        "point to a folder in Hugging Face layout, or write one with `gpt2 init`"
    };
    problem(dir, "weights", format!("neither {WEIGHTS_FILE} nor {INDEX_FILE}"), remedy)
}

fn wrong_dtype(path: &Path, name: &str, tensor: &Tensor) -> Error {
    problem(
        path,
        &format!("tensor `{name}`"),
        format!("type {}", tensor.dtype),
        "save the model as F32, F16 or BF16",
    )
}

/// An [`Error::Checkpoint`] in short.
fn problem(file: &Path, item: &str, found: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::Checkpoint {
        file: file.to_owned(),
        item: item.to_owned(),
        found: found.into(),
        remedy: remedy.into(),
    }
}
