//! GPT-2: the weights in the kernels' layout, and how they come there.
//!
//! A [`Gpt2`] is immutable and may be shared; what changes while it runs lives in a
//! [`Cache`]. The forward pass is in `forward`.

mod forward;
mod jobs;
mod kept;

pub(crate) use forward::CHUNK;
pub use forward::{NewTokens, Want};

use std::borrow::Cow;
use std::path::PathBuf;

use kernels::{Cpu, Isa, KvPrecision, Linear, Packed, PackedFile, Packer, Pinning, Precision};

use self::kept::Kept;

use crate::checkpoint::Elements;
use crate::generate::GenerateError;
use crate::{Cache, Checkpoint, Config, Error};

/// How a model runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Threads, the caller's included.
    pub threads: usize,
    /// Instruction set; `None` takes the fastest this CPU has.
    pub isa: Option<Isa>,
    /// Number format of the weight matrices and of the products with them. Layer norms, biases,
    /// positions, scores and the residual stream stay f32. A checkpoint of any readable type is
    /// brought to it while it is loaded, one tensor at a time.
    pub precision: Precision,
    /// Number format of the keys and values that texts leave in the caches made for this model. Bf16
    /// halves a cache's memory, and what a step reads of it.
    pub cache: KvPrecision,
    /// "Resonance feedback": a constant by which every attention score is multiplied before the
    /// softmax, as a temperature of 1/theta_hat on attention. It is no more than that. `None`, and
    /// `Some(1.0)`, leave the model as it was trained.
    pub theta_hat: Option<f32>,
    /// Which threads are held to one CPU each, from the load on.
    pub pinning: Pinning,
    /// The folder, created where it is missing, in which [`Gpt2::load`] keeps the packed matrices: as many
    /// bytes as the weights have in `precision`. Who loads the same checkpoint from then on has them from
    /// there, on Linux mapped, in the page cache's memory and not in its own: the start is a matter of
    /// opening a file. A step may read small pages then, and wait for them. `None` packs at every
    /// load.
    pub packed: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Options {
            threads,
            isa: None,
            precision: Precision::F32,
            cache: KvPrecision::F32,
            theta_hat: None,
            pinning: Pinning::None,
            packed: None,
        }
    }
}

/// A GPT-2 language model, ready to run.
#[derive(Debug)]
pub struct Gpt2 {
    config: Config,
    cpu: Cpu,
    precision: Precision,
    cache: KvPrecision,
    theta_hat: f32,
    /// Whether the matrices lie in a file of [`Options::packed`].
    mapped: bool,
    /// Token table `[V, C]`, packed as `[C, V]`: the embedding, and the head when tied.
    tokens: Linear,
    /// Position table `[P, C]`.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: Norm,
    /// The head `[C, V]` when it is not the token table.
    head: Option<Linear>,
}

/// Gain and bias of a layer norm, `[C]` each.
#[derive(Debug)]
struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

#[derive(Debug)]
struct Block {
    norm_1: Norm,
    /// `[C, 3C]`
    qkv: Linear,
    /// `[C, C]`
    attention_out: Linear,
    norm_2: Norm,
    /// `[C, F]`
    inner: Linear,
    /// `[F, C]`
    inner_out: Linear,
}

impl Block {
    /// In the order in which they were loaded.
    fn matrices(&self) -> [&Packed; 4] {
        [&self.qkv, &self.attention_out, &self.inner, &self.inner_out].map(|linear| &linear.weight)
    }
}

impl Gpt2 {
    /// Loads a checkpoint.
    ///
    /// # Errors
    /// As [`Gpt2::from_tensors`], and what the checkpoint says of a missing or misshapen tensor;
    /// [`Error::Io`] naming the file if [`Options::packed`] cannot be read or written. A file there that is
    /// damaged, or of other weights, is replaced.
    pub fn load(checkpoint: &Checkpoint, options: &Options) -> Result<Gpt2, Error> {
        let build = |file| {
            Gpt2::build(checkpoint.config(), options, file, |name, shape| {
                checkpoint.elements(name, shape).map(Values::File)
            })
        };
        let Some(folder) = &options.packed else { return build(None) };
        let kept = Kept::of(folder, checkpoint, options.precision)?;
        if let Some(file) = kept.open()? {
            return build(Some((&kept, file)));
        }
        let model = build(None)?;
        kept.write(model.matrices())?;
        Ok(model)
    }

    /// Builds a model from any source of tensors. `tensor(name, shape)` gives the row-major values
    /// under Hugging Face's name without the `transformer.` prefix; each is asked for once. Nothing is
    /// kept in [`Options::packed`].
    ///
    /// # Errors
    /// An impossible `config`, the source's own error, `BadSampling` for a `theta_hat` that is not
    /// finite, or the machine's refusal of the threads, their pinning or the instruction set.
    pub fn from_tensors<'a, E: From<GenerateError> + From<Error>>(
        config: &Config,
        options: &Options,
        mut tensor: impl FnMut(&str, &[usize]) -> Result<Cow<'a, [f32]>, E>,
    ) -> Result<Gpt2, E> {
        Gpt2::build(config, options, None, |name, shape| tensor(name, shape).map(Values::Memory))
    }

    /// Matrices are taken from `file` if there is one.
    fn build<'a, E: From<GenerateError> + From<Error>>(
        config: &Config,
        options: &Options,
        file: Option<(&Kept, PackedFile)>,
        tensor: impl FnMut(&str, &[usize]) -> Result<Values<'a>, E>,
    ) -> Result<Gpt2, E> {
        config.check()?;
        let theta_hat = options.theta_hat.unwrap_or(1.0);
        if !theta_hat.is_finite() {
            let remedy = "use a finite factor; 1 changes nothing";
            return Err(GenerateError::option("theta_hat", theta_hat, remedy).into());
        }
        let cpu = Cpu::with(options.threads, options.isa, options.pinning).map_err(GenerateError::from)?;
        let (packer, mapped) = (Packer::new(&cpu, options.precision), file.is_some());
        let mut source = Source { packer, file, tensor, prefix: String::new() };
        let (c, f, v) = (config.n_embd, config.n_inner, config.vocab_size);
        let tokens = source.head("wte.weight", v, c)?;
        let positions = source.vector("wpe.weight", &[config.n_positions, c])?;
        let mut blocks = Vec::with_capacity(config.n_layer);
        for layer in 0..config.n_layer {
            source.prefix = format!("h.{layer}.");
            blocks.push(Block {
                norm_1: source.norm("ln_1", c)?,
                qkv: source.linear("attn.c_attn", c, 3 * c)?,
                attention_out: source.linear("attn.c_proj", c, c)?,
                norm_2: source.norm("ln_2", c)?,
                inner: source.linear("mlp.c_fc", c, f)?,
                inner_out: source.linear("mlp.c_proj", f, c)?,
            });
        }
        source.prefix.clear();
        let norm = source.norm("ln_f", c)?;
        let head =
            if config.tie_word_embeddings { None } else { Some(source.head("lm_head.weight", v, c)?) };
        let (config, precision, cache) = (config.clone(), options.precision, options.cache);
        Ok(Gpt2 { config, cpu, precision, cache, theta_hat, mapped, tokens, positions, blocks, norm, head })
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// An empty cache for `batch` sequences of `capacity` positions each, as [`Options::cache`] says.
    ///
    /// # Errors
    /// As [`Cache::new`].
    pub fn cache(&self, batch: usize, capacity: usize) -> Result<Cache, GenerateError> {
        Cache::with_precision(&self.config, batch, capacity, self.cache)
    }

    /// What is running, for a record: precision, the path its products take, threads, whether they are
    /// pinned, what is not the default of cache and `theta_hat`, and whether the weights lie in a file, such as `f32 avx512 threads=2` or
    /// `int8 avx512-vnni threads=2 cache=bf16`.
    pub fn identity(&self) -> String {
        let mut name =
            format!("{} {} threads={}", self.precision, self.cpu.path(self.precision), self.cpu.threads());
        if self.cpu.pinning() != Pinning::None {
            name.push_str(" pinned");
        }
        if self.cache != KvPrecision::F32 {
            name.push_str(&format!(" cache={}", self.cache));
        }
        if self.theta_hat != 1.0 {
            name.push_str(&format!(" theta_hat={}", self.theta_hat));
        }
        if self.mapped {
            name.push_str(" mapped");
        }
        name
    }

    /// Whether the weight matrices lie in a file of [`Options::packed`].
    pub fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// What the weight matrices are kept in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What the caches made for it are kept in.
    pub fn cache_precision(&self) -> KvPrecision {
        self.cache
    }

    /// Bytes of weights one decode step reads at batch 1, scales included: the price of a token in
    /// memory traffic.
    pub fn bytes_per_token(&self) -> usize {
        let of_blocks = self.blocks.iter().flat_map(Block::matrices);
        of_blocks.map(Packed::bytes).sum::<usize>() + self.head().weight.bytes()
    }

    pub(crate) fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// In the order in which they were loaded.
    fn matrices(&self) -> impl Iterator<Item = &Packed> {
        let blocks = self.blocks.iter().flat_map(Block::matrices);
        let head = self.head.iter().map(|head| &head.weight);
        std::iter::once(&self.tokens.weight).chain(blocks).chain(head)
    }

    fn head(&self) -> &Linear {
        self.head.as_ref().unwrap_or(&self.tokens)
    }

    /// The factor on layer `layer`'s attention scores.
    fn score_scale(&self, layer: usize) -> f32 {
        let config = &self.config;
        let mut scale = self.theta_hat;
        if config.scale_attn_weights {
            scale /= ((config.n_embd / config.n_head) as f32).sqrt();
        }
        if config.scale_attn_by_inverse_layer_idx {
            scale /= (layer + 1) as f32;
        }
        scale
    }
}

/// The values of a tensor.
enum Values<'a> {
    Memory(Cow<'a, [f32]>),
    File(Elements<'a>),
}

impl Values<'_> {
    /// Puts elements `start..start + out.len()` into `out`.
    fn read(&self, start: usize, out: &mut [f32]) -> Result<(), Error> {
        match self {
            Values::Memory(values) => out.copy_from_slice(&values[start..][..out.len()]),
            Values::File(elements) => elements.read(start, out)?,
        }
        Ok(())
    }
}

/// A source of tensors with the names of one block in front, and what packs them.
struct Source<'c, F> {
    packer: Packer<'c>,
    /// Where the matrices are packed already.
    file: Option<(&'c Kept, PackedFile)>,
    tensor: F,
    prefix: String,
}

impl<'a, E: From<Error>, F: FnMut(&str, &[usize]) -> Result<Values<'a>, E>> Source<'_, F> {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Values<'a>, E> {
        let values = (self.tensor)(&format!("{}{name}", self.prefix), shape)?;
        if let Values::Memory(values) = &values {
            assert_eq!(values.len(), shape.iter().product::<usize>(), "values of `{name}` {shape:?}");
        }
        Ok(values)
    }

    fn vector(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, E> {
        match self.get(name, shape)? {
            Values::Memory(values) => Ok(values.into_owned()),
            Values::File(elements) => {
                let mut values = vec![0.0; elements.len()];
                elements.read(0, &mut values)?;
                Ok(values)
            }
        }
    }

    fn norm(&mut self, name: &str, c: usize) -> Result<Norm, E> {
        Ok(Norm {
            gain: self.vector(&format!("{name}.weight"), &[c])?,
            bias: self.vector(&format!("{name}.bias"), &[c])?,
        })
    }

    /// A Conv1D: weight `[k, n]`, bias `[n]`.
    fn linear(&mut self, name: &str, k: usize, n: usize) -> Result<Linear, E> {
        let weight = match &mut self.file {
            Some((kept, file)) => kept.next(file, k, n)?,
            None => {
                let values = self.get(&format!("{name}.weight"), &[k, n])?;
                self.packer.kn(k, n, |start, out| values.read(start, out))?
            }
        };
        Ok(Linear { weight, bias: self.vector(&format!("{name}.bias"), &[n])? })
    }

    /// A token table or head `[v, c]`, without bias.
    fn head(&mut self, name: &str, v: usize, c: usize) -> Result<Linear, E> {
        let weight = match &mut self.file {
            Some((kept, file)) => kept.next(file, c, v)?,
            None => {
                let values = self.get(name, &[v, c])?;
                self.packer.nk(v, c, |start, out| values.read(start, out))?
            }
        };
        Ok(Linear { weight, bias: Vec::new() })
    }
}
