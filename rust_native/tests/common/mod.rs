//! Small random models and the forward pass in f64, written as the paper's formulas.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use kernels::Isa;
use rust_native::{Config, Error, Gpt2, KvPrecision, Options, Precision};

/// A model's tensors by Hugging Face's names.
pub struct Weights {
    pub config: Config,
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
}

/// Two layers, 64 wide, 4 heads, 211 tokens, 96 positions.
pub fn small() -> Config {
    Config { n_positions: 96, bos_token_id: None, eos_token_id: None, ..Config::tiny_with_vocabulary(211) }
}

/// Nothing divides anything: heads of 20, inner width 70, untied head, every scaling option.
pub fn odd() -> Config {
    Config {
        n_embd: 60,
        n_head: 3,
        n_layer: 3,
        n_inner: 70,
        tie_word_embeddings: false,
        scale_attn_by_inverse_layer_idx: true,
        ..small()
    }
}

impl Weights {
    /// Values spread wide enough for peaked attention and distinct logits.
    pub fn random(config: Config, seed: u64) -> Weights {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut x = state;
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let tensors = config.tensors().into_iter().map(|(name, shape)| {
            let len = shape.iter().product();
            let gain = name.contains("ln_") && name.ends_with("weight");
            let (centre, spread) = if gain { (1.0, 0.3) } else { (0.0, 0.25) };
            let values = (0..len).map(|_| centre + spread * next()).collect();
            (name, (shape, values))
        });
        Weights { tensors: tensors.collect(), config }
    }

    pub fn model(&self, options: &Options) -> Gpt2 {
        let source = |name: &str, shape: &[usize]| -> Result<Cow<'_, [f32]>, Error> {
            let (found, values) = &self.tensors[name];
            assert_eq!(found, shape, "{name}");
            Ok(Cow::Borrowed(values))
        };
        Gpt2::from_tensors(&self.config, options, source).unwrap()
    }

    /// The same with every matrix rounded to bf16, as a model in bf16 keeps it; positions stay f32.
    pub fn rounded(&self) -> Weights {
        let mut rounded = Weights { config: self.config.clone(), tensors: self.tensors.clone() };
        for (name, (shape, values)) in &mut rounded.tensors {
            if shape.len() == 2 && name != "wpe.weight" {
                values.iter_mut().for_each(|value| *value = bf16(*value));
            }
        }
        rounded
    }

    /// Writes them as a model folder.
    pub fn write(&self, dir: &Path) {
        rust_native::init::write_model(dir, &self.config, 0).unwrap();
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, (shape, values)) in &self.tensors {
            let begin = data.len();
            data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let entry = serde_json::json!({
                "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]
            });
            header.insert(format!("transformer.{name}"), entry);
        }
        let mut text = serde_json::Value::Object(header).to_string();
        while !text.len().is_multiple_of(8) {
            text.push(' ');
        }
        let mut file = (text.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(text.as_bytes());
        file.extend_from_slice(&data);
        std::fs::write(dir.join("model.safetensors"), file).unwrap();
    }

    fn get(&self, name: &str) -> Vec<f64> {
        self.tensors[name].1.iter().map(|&v| f64::from(v)).collect()
    }

    /// Logits of every position, `[T][V]`.
    pub fn logits64(&self, tokens: &[u32], theta_hat: f64) -> Vec<Vec<f64>> {
        let (config, c) = (&self.config, self.config.n_embd);
        let (wte, wpe) = (self.get("wte.weight"), self.get("wpe.weight"));
        let mut x: Vec<Vec<f64>> = tokens
            .iter()
            .enumerate()
            .map(|(t, &id)| (0..c).map(|i| wte[id as usize * c + i] + wpe[t * c + i]).collect())
            .collect();
        for layer in 0..config.n_layer {
            let name = |part: &str| format!("h.{layer}.{part}");
            let normed = self.norm(&x, &name("ln_1"));
            let qkv = self.linear(&normed, &name("attn.c_attn"));
            let mut scale = theta_hat;
            if config.scale_attn_weights {
                scale /= ((c / config.n_head) as f64).sqrt();
            }
            if config.scale_attn_by_inverse_layer_idx {
                scale /= (layer + 1) as f64;
            }
            add(&mut x, &self.linear(&attention(&qkv, config.n_head, scale), &name("attn.c_proj")));
            let mut inner = self.linear(&self.norm(&x, &name("ln_2")), &name("mlp.c_fc"));
            for v in inner.iter_mut().flatten() {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (*v + 0.044715 * v.powi(3));
                *v *= 0.5 * (1.0 + u.tanh());
            }
            add(&mut x, &self.linear(&inner, &name("mlp.c_proj")));
        }
        let head = if config.tie_word_embeddings { wte } else { self.get("lm_head.weight") };
        self.norm(&x, "ln_f")
            .iter()
            .map(|row| head.chunks(c).map(|w| w.iter().zip(row).map(|(a, b)| a * b).sum()).collect())
            .collect()
    }

    fn norm(&self, x: &[Vec<f64>], name: &str) -> Vec<Vec<f64>> {
        let (gain, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let eps = f64::from(self.config.layer_norm_epsilon);
        x.iter()
            .map(|row| {
                let n = row.len() as f64;
                let mean = row.iter().sum::<f64>() / n;
                let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                let of = |(i, v): (usize, &f64)| (v - mean) / (var + eps).sqrt() * gain[i] + bias[i];
                row.iter().enumerate().map(of).collect()
            })
            .collect()
    }

    fn linear(&self, x: &[Vec<f64>], name: &str) -> Vec<Vec<f64>> {
        let (w, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let n = bias.len();
        x.iter()
            .map(|row| {
                let of = |j| bias[j] + row.iter().zip(w.chunks(n)).map(|(v, w)| v * w[j]).sum::<f64>();
                (0..n).map(of).collect()
            })
            .collect()
    }
}

fn add(x: &mut [Vec<f64>], y: &[Vec<f64>]) {
    for (x, y) in x.iter_mut().flatten().zip(y.iter().flatten()) {
        *x += y;
    }
}

fn attention(qkv: &[Vec<f64>], heads: usize, scale: f64) -> Vec<Vec<f64>> {
    let c = qkv[0].len() / 3;
    let d = c / heads;
    let row = |t: usize| {
        let mut out = vec![0.0; c];
        for h in 0..heads {
            let part = |t: usize, which: usize| &qkv[t][which * c + h * d..][..d];
            let dot = |s| part(t, 0).iter().zip(part(s, 1)).map(|(a, b)| a * b).sum::<f64>();
            let weights: Vec<f64> = (0..=t).map(|s| (scale * dot(s)).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for (s, w) in weights.iter().enumerate() {
                for i in 0..d {
                    out[h * d + i] += w / sum * part(s, 2)[i];
                }
            }
        }
        out
    };
    (0..qkv.len()).map(row).collect()
}

/// The nearest bf16, of two equally near ones the even.
pub fn bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// `len` tokens that differ by `stream`.
pub fn tokens(stream: u32, len: usize, vocab: usize) -> Vec<u32> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) ^ stream.wrapping_mul(40_503)) >> 7)
        .map(|x| x % vocab as u32)
        .collect()
}

/// One option set per instruction set and number of threads.
pub fn every_path() -> impl Iterator<Item = Options> {
    Isa::available()
        .flat_map(|isa| [1, 2, 3].map(|threads| Options { threads, isa: Some(isa), ..Options::default() }))
}

/// [`every_path`] in every precision.
pub fn every_precision() -> impl Iterator<Item = Options> {
    every_path().flat_map(|path| Precision::ALL.map(|precision| Options { precision, ..path.clone() }))
}

/// [`every_path`] with caches in bf16.
pub fn every_narrow_cache() -> impl Iterator<Item = Options> {
    every_path().map(|path| Options { cache: KvPrecision::Bf16, ..path })
}

/// Each logit within 1e-4 of the row's largest magnitude.
#[track_caller]
pub fn close(what: &str, got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(0.0f64, |max, v| max.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(g) - w).abs() <= 1e-4 * scale, "{what}: logit {i} is {g}, not {w}");
    }
}

/// Numbers below a bound, by seed.
pub fn draws(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}
