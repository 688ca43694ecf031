//! GPT-2 as tensor operations of libtorch, in the order the original computes them.
//!
//! Projections are `addmm` on the checkpoint's own [in, out] matrices (GPT-2's "Conv1D"), attention
//! is the fused `scaled_dot_product_attention`, the head is the token table. Logits are computed for
//! the last position alone. Fallible calls throughout: an error of libtorch is an error here and
//! never a panic.

use crate::cache::{Cache, CacheKind, CacheShape};
use crate::place::Place;
use crate::weights::{Config, Weights};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The weights, ready to compute with.
pub struct Model {
    config: Config,
    place: Place,
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    last_norm: Norm,
    /// V x C.
    head: Tensor,
}

struct Block {
    attention_norm: Norm,
    qkv: Projection,
    attention_out: Projection,
    mlp_norm: Norm,
    mlp_in: Projection,
    mlp_out: Projection,
}

/// y = x W + b, W of in x out.
struct Projection {
    weight: Tensor,
    bias: Tensor,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
    width: i64,
    epsilon: f64,
}

impl Model {
    /// Loads a Hugging Face GPT-2 folder; it is where `place` says when this returns.
    pub fn load(folder: &Path, place: Place) -> Result<Model> {
        let config = Config::read(folder)?;
        let mut weights = Weights::read(folder, place)?;
        place.wait();
        Model::build(config, place, &mut weights)
            .with_context(|| format!("the model in {}", folder.display()))
    }

    fn build(config: Config, place: Place, weights: &mut Weights) -> Result<Model> {
        let (width, inner, vocabulary) = (config.n_embd, config.inner(), config.vocab_size);
        let epsilon = config.layer_norm_epsilon;
        let tokens = weights.take("wte.weight", &[vocabulary, width])?;
        let head = match config.tied() {
            true => tokens.shallow_clone(),
            false => weights.take("lm_head.weight", &[vocabulary, width])?,
        };
        let positions = weights.take("wpe.weight", &[config.n_positions, width])?;
        let mut blocks = Vec::new();
        for at in 0..config.n_layer {
            let name = |part: &str| format!("h.{at}.{part}");
            blocks.push(Block {
                attention_norm: Norm::take(weights, &name("ln_1"), width, epsilon)?,
                qkv: Projection::take(weights, &name("attn.c_attn"), width, 3 * width)?,
                attention_out: Projection::take(weights, &name("attn.c_proj"), width, width)?,
                mlp_norm: Norm::take(weights, &name("ln_2"), width, epsilon)?,
                mlp_in: Projection::take(weights, &name("mlp.c_fc"), width, inner)?,
                mlp_out: Projection::take(weights, &name("mlp.c_proj"), inner, width)?,
            });
        }
        let last_norm = Norm::take(weights, "ln_f", width, epsilon)?;
        Ok(Model { config, place, tokens, positions, blocks, last_norm, head })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        self.place
    }

    /// An empty cache for `batch` sequences of at most `capacity` positions.
    pub fn cache(&self, kind: CacheKind, batch: i64, capacity: i64) -> Result<Cache> {
        let Config { n_layer, n_head, n_embd, n_positions, .. } = self.config;
        ensure!(capacity <= n_positions, "{capacity} positions; the model knows {n_positions}");
        let head_width = n_embd / n_head;
        let layers = n_layer as usize;
        Cache::new(kind, CacheShape { layers, batch, heads: n_head, capacity, head_width }, self.place)
    }

    /// Runs `ids` (B x T, i64) behind the positions in `cache` and adds theirs to it.
    /// Logits of the last position, B x V. More than one id a sequence needs an empty cache.
    pub fn forward(&self, ids: &Tensor, cache: &mut Cache) -> Result<Tensor> {
        let (batch, steps) = ids.size2()?;
        let past = cache.length();
        ensure!(steps == 1 || past == 0, "a prompt of {steps} ids behind {past} positions");
        let logits = self.pass(ids, past, |at, keys, values| cache.extend(at, keys, values))?;
        cache.advance(steps);
        debug_assert_eq!(logits.size(), [batch, self.config.vocab_size]);
        Ok(logits)
    }

    /// Runs `ids` (B x T, i64) and keeps nothing: what generation without a cache repeats.
    pub fn forward_uncached(&self, ids: &Tensor) -> Result<Tensor> {
        self.pass(ids, 0, |_, keys, values| Ok((keys.shallow_clone(), values.shallow_clone())))
    }

    fn pass(
        &self,
        ids: &Tensor,
        past: i64,
        mut remember: impl FnMut(usize, &Tensor, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        let (batch, steps) = ids.size2()?;
        let ids = &ids.f_to_device(self.place.device)?;
        let known = self.config.n_positions;
        ensure!(past + steps <= known, "{} positions; the model knows {known}", past + steps);
        let width = self.config.n_embd;
        // B x T x C, flat as BT x C: what addmm takes.
        let table = Tensor::f_embedding(&self.tokens, ids, -1, false, false)?;
        let positions = self.positions.f_narrow(0, past, steps)?;
        let mut x = table.f_add(&positions)?.f_view([batch * steps, width])?;
        for (at, block) in self.blocks.iter().enumerate() {
            let qkv = block.qkv.apply(&block.attention_norm.apply(&x)?)?;
            let mixed = self.attention(&qkv, batch, steps, |keys, values| remember(at, keys, values))?;
            x = x.f_add(&block.attention_out.apply(&mixed)?)?;
            let inner = block.mlp_in.apply(&block.mlp_norm.apply(&x)?)?.f_gelu("tanh")?;
            x = x.f_add(&block.mlp_out.apply(&inner)?)?;
        }
        let last = x.f_view([batch, steps, width])?.f_select(1, steps - 1)?;
        Ok(self.last_norm.apply(&last)?.f_linear(&self.head, None::<&Tensor>)?)
    }

    /// `qkv` is BT x 3C; the result BT x C.
    fn attention(
        &self,
        qkv: &Tensor,
        batch: i64,
        steps: i64,
        remember: impl FnOnce(&Tensor, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        let (heads, width) = (self.config.n_head, self.config.n_embd);
        // B x T x 3 x H x D; each third as B x H x T x D without a copy.
        let parts = qkv.f_view([batch, steps, 3, heads, width / heads])?;
        let part = |at| -> Result<Tensor> { Ok(parts.f_select(2, at)?.f_transpose(1, 2)?) };
        let (keys, values) = remember(&part(1)?, &part(2)?)?;
        let no_mask = None::<&Tensor>;
        let mixed = Tensor::f_scaled_dot_product_attention(
            &part(0)?,
            &keys,
            &values,
            no_mask,
            0.0,
            steps > 1,
            None,
            false,
        )?;
        Ok(mixed.f_transpose(1, 2)?.f_reshape([batch * steps, width])?)
    }
}

impl Projection {
    fn take(weights: &mut Weights, name: &str, inputs: i64, outputs: i64) -> Result<Projection> {
        Ok(Projection {
            weight: weights.take(&format!("{name}.weight"), &[inputs, outputs])?,
            bias: weights.take(&format!("{name}.bias"), &[outputs])?,
        })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.bias.f_addmm(x, &self.weight)?)
    }
}

impl Norm {
    fn take(weights: &mut Weights, name: &str, width: i64, epsilon: f64) -> Result<Norm> {
        Ok(Norm {
            weight: weights.take(&format!("{name}.weight"), &[width])?,
            bias: weights.take(&format!("{name}.bias"), &[width])?,
            width,
            epsilon,
        })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_layer_norm([self.width], Some(&self.weight), Some(&self.bias), self.epsilon, false)?)
    }
}

/// Ids of `batch` equally long sequences as a B x T tensor.
pub fn ids_tensor(ids: &[u32], batch: usize) -> Result<Tensor> {
    ensure!(
        batch > 0 && !ids.is_empty() && ids.len().is_multiple_of(batch),
        "{} ids for {batch} sequences",
        ids.len()
    );
    let wide: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    Ok(Tensor::f_from_slice(&wide)?.f_view([batch as i64, (ids.len() / batch) as i64])?)
}

/// The likeliest id of each row, B x 1, still a tensor.
pub fn greedy(logits: &Tensor) -> Result<Tensor> {
    Ok(logits.f_argmax(-1, true)?)
}

/// Ids in host memory.
pub fn host_ids(ids: &Tensor) -> Result<Vec<u32>> {
    let wide: Vec<i64> = Vec::try_from(ids.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)?;
    Ok(wide.into_iter().map(|id| id as u32).collect())
}

/// Logits in host memory, row after row.
pub fn host_logits(logits: &Tensor) -> Result<Vec<f32>> {
    Ok(Vec::try_from(logits.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_flatten(0, -1)?)?)
}
