//! A GPT-2 of two layers with seeded weights, written as a checkpoint and computed by the formulas in
//! plain loops of f64: what llama.cpp's logits are held to.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use std::collections::BTreeMap;
use std::path::Path;

const LAYERS: usize = 2;
const HEADS: usize = 2;
/// Whole blocks of ggml's formats, so that every matrix is really quantised.
const WIDTH: usize = 64;
const POSITIONS: usize = 24;
pub const VOCABULARY: usize = 258;

/// Tensors by name: shape and values.
pub struct Reference {
    pub weights: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Reference {
    /// Weights with even noise, the same on every machine.
    pub fn new() -> Reference {
        let mut shapes = vec![
            ("wte.weight".to_string(), vec![VOCABULARY, WIDTH]),
            ("wpe.weight".to_string(), vec![POSITIONS, WIDTH]),
            ("ln_f.weight".to_string(), vec![WIDTH]),
            ("ln_f.bias".to_string(), vec![WIDTH]),
        ];
        for at in 0..LAYERS {
            for (part, inputs, outputs) in [
                ("attn.c_attn", WIDTH, 3 * WIDTH),
                ("attn.c_proj", WIDTH, WIDTH),
                ("mlp.c_fc", WIDTH, 4 * WIDTH),
                ("mlp.c_proj", 4 * WIDTH, WIDTH),
            ] {
                shapes.push((format!("h.{at}.{part}.weight"), vec![inputs, outputs]));
                shapes.push((format!("h.{at}.{part}.bias"), vec![outputs]));
            }
            for part in ["ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"] {
                shapes.push((format!("h.{at}.{part}"), vec![WIDTH]));
            }
        }
        let mut state = 7u64;
        let weights = shapes.into_iter().map(|(name, shape)| {
            let values = (0..shape.iter().product()).map(|_| noise(&mut state)).collect();
            (name, (shape, values))
        });
        Reference { weights: weights.collect() }
    }

    /// Writes config.json and model.safetensors; every name gets `prefix`.
    pub fn write(&self, folder: &Path, prefix: &str) {
        let config = format!(
            r#"{{"model_type":"gpt2","n_layer":{LAYERS},"n_head":{HEADS},"n_embd":{WIDTH},"n_ctx":{POSITIONS},
            "n_positions":{POSITIONS},"vocab_size":{VOCABULARY},"activation_function":"gelu_new"}}"#
        );
        std::fs::write(folder.join("config.json"), config).unwrap();
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .weights
            .iter()
            .map(|(name, (shape, values))| {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                (format!("{prefix}{name}"), shape.clone(), bytes)
            })
            .collect();
        let views: Vec<(&str, TensorView<'_>)> = bytes
            .iter()
            .map(|(name, shape, bytes)| {
                (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
            })
            .collect();
        serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    }

    fn get(&self, name: &str) -> &[f32] {
        &self.weights[name].1
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / WIDTH as f64;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / WIDTH as f64;
        let (weight, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let scale = 1.0 / (variance + 1e-5).sqrt();
        (0..WIDTH).map(|c| (x[c] - mean) * scale * f64::from(weight[c]) + f64::from(bias[c])).collect()
    }

    fn project(&self, x: &[f64], name: &str) -> Vec<f64> {
        let (shape, weight) = &self.weights[&format!("{name}.weight")];
        let bias = self.get(&format!("{name}.bias"));
        let column =
            |o: usize| -> f64 { (0..shape[0]).map(|i| x[i] * f64::from(weight[i * shape[1] + o])).sum() };
        (0..shape[1]).map(|o| f64::from(bias[o]) + column(o)).collect()
    }

    fn attend(&self, qkv: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let d = WIDTH / HEADS;
        let mut mixed = vec![vec![0.0; WIDTH]; qkv.len()];
        for (t, mixed) in mixed.iter_mut().enumerate() {
            for head in 0..HEADS {
                let (q, k, v) = (head * d, WIDTH + head * d, 2 * WIDTH + head * d);
                let score =
                    |s: usize| (0..d).map(|c| qkv[t][q + c] * qkv[s][k + c]).sum::<f64>() / (d as f64).sqrt();
                let weights: Vec<f64> = (0..=t).map(|s| score(s).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (s, weight) in weights.iter().enumerate() {
                    (0..d).for_each(|c| mixed[head * d + c] += weight / total * qkv[s][v + c]);
                }
            }
        }
        mixed
    }

    /// Logits behind the last of `ids`.
    pub fn logits(&self, ids: &[u32]) -> Vec<f64> {
        let row = |table: &[f32], at: usize| -> Vec<f64> {
            table[at * WIDTH..][..WIDTH].iter().map(|&v| f64::from(v)).collect()
        };
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<f64>>();
        let (wte, wpe) = (self.get("wte.weight"), self.get("wpe.weight"));
        let mut x: Vec<Vec<f64>> =
            ids.iter().enumerate().map(|(at, &id)| sum(&row(wte, id as usize), &row(wpe, at))).collect();
        for layer in 0..LAYERS {
            let name = |part: &str| format!("h.{layer}.{part}");
            let qkv: Vec<_> =
                x.iter().map(|x| self.project(&self.norm(x, &name("ln_1")), &name("attn.c_attn"))).collect();
            for (x, mixed) in x.iter_mut().zip(self.attend(&qkv)) {
                *x = sum(x, &self.project(&mixed, &name("attn.c_proj")));
            }
            for x in &mut x {
                let inner = self.project(&self.norm(x, &name("ln_2")), &name("mlp.c_fc"));
                let active: Vec<f64> = inner.into_iter().map(gelu).collect();
                *x = sum(x, &self.project(&active, &name("mlp.c_proj")));
            }
        }
        let last = self.norm(&x[x.len() - 1], "ln_f");
        (0..VOCABULARY).map(|id| row(wte, id).iter().zip(&last).map(|(a, b)| a * b).sum()).collect()
    }

    /// `tokens` greedy ids behind `prompt`.
    pub fn greedy(&self, prompt: &[u32], tokens: usize) -> Vec<u32> {
        let mut ids = prompt.to_vec();
        for _ in 0..tokens {
            let logits = self.logits(&ids);
            let best = (0..VOCABULARY).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            ids.push(best as u32);
        }
        ids.split_off(prompt.len())
    }
}

fn gelu(v: f64) -> f64 {
    0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh())
}

fn noise(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    ((*state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.7
}
