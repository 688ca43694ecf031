//! The shape of a GPT-2 model: `config.json` in, a checked [`Config`] out.
//!
//! Why checked here: everything behind this door multiplies these numbers into buffer sizes. Once
//! [`Config::check`] has passed, no product of two dimensions overflows and no tensor exceeds
//! [`MAX_PARAMETERS`], so the engine can do plain arithmetic.
//!
//! Invariant: a `Config` that came from a file has passed the check; one built in code passes it before
//! anything is written or loaded with it.

mod read;

use std::path::Path;

use crate::Error;

/// Upper bound on a model's parameter count: 2^36, forty times GPT-2 XL.
pub const MAX_PARAMETERS: u64 = 1 << 36;

/// The feed-forward non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`; Hugging Face names `gelu_new` and `gelu_pytorch_tanh`.
    GeluNew,
}

/// A GPT-2 configuration. Names follow Hugging Face's `GPT2Config`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// V: number of token ids.
    pub vocab_size: usize,
    /// Longest context, in tokens.
    pub n_positions: usize,
    /// C: width of the residual stream.
    pub n_embd: usize,
    /// Number of transformer blocks.
    pub n_layer: usize,
    /// H: attention heads; divides `n_embd`.
    pub n_head: usize,
    /// Width of the feed-forward layer; 4 C unless `n_inner` is given.
    pub n_inner: usize,
    /// Epsilon inside every LayerNorm's square root.
    pub layer_norm_epsilon: f32,
    /// The feed-forward non-linearity.
    pub activation: Activation,
    /// Divide attention scores by sqrt(C / H).
    pub scale_attn_weights: bool,
    /// Divide attention scores by (layer index + 1) as well.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// The output head is the token embedding.
    pub tie_word_embeddings: bool,
    /// Id that begins a text, where the vocabulary has it.
    pub bos_token_id: Option<u32>,
    /// Id that ends a text, where the vocabulary has it.
    pub eos_token_id: Option<u32>,
}

impl Config {
    /// `gpt2`: 124M parameters.
    pub fn gpt2() -> Self {
        Self::of(12, 12, 768)
    }

    /// `distilgpt2`: 82M parameters.
    pub fn distil() -> Self {
        Self::of(6, 12, 768)
    }

    /// `gpt2-medium`: 355M parameters.
    pub fn medium() -> Self {
        Self::of(24, 16, 1024)
    }

    /// `gpt2-large`: 774M parameters.
    pub fn large() -> Self {
        Self::of(36, 20, 1280)
    }

    /// `gpt2-xl`: 1.5B parameters.
    pub fn xl() -> Self {
        Self::of(48, 25, 1600)
    }

    /// Two layers, four heads, 64 wide, the full vocabulary and context: for tests.
    pub fn tiny() -> Self {
        Self::of(2, 4, 64)
    }

    /// [`Config::tiny`] with a vocabulary of `vocab_size` ids. The end-of-text id is dropped where it does not fit.
    pub fn tiny_with_vocabulary(vocab_size: usize) -> Self {
        let end = special_id(vocab_size);
        Self { vocab_size, bos_token_id: end, eos_token_id: end, ..Self::tiny() }
    }

    /// The depth of `gpt2` at a width of 24 and 1,024 ids: next to no arithmetic, so that what is left of a
    /// step is its fixed price.
    pub fn toy() -> Self {
        Self { vocab_size: 1024, bos_token_id: None, eos_token_id: None, ..Self::of(12, 12, 24) }
    }

    fn of(n_layer: usize, n_head: usize, n_embd: usize) -> Self {
        Self {
            vocab_size: 50257,
            n_positions: 1024,
            n_embd,
            n_layer,
            n_head,
            n_inner: 4 * n_embd,
            layer_norm_epsilon: 1e-5,
            activation: Activation::GeluNew,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            tie_word_embeddings: true,
            bos_token_id: Some(50256),
            eos_token_id: Some(50256),
        }
    }

    /// Width of one attention head, C / H.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Number of parameters, a tied head counted once. Saturates instead of overflowing.
    pub fn parameters(&self) -> u64 {
        let [v, t, c, l, f] = [self.vocab_size, self.n_positions, self.n_embd, self.n_layer, self.n_inner]
            .map(|n| u128::try_from(n).unwrap_or(u128::MAX).min(1 << 40));
        let block = 4 * c + (3 * c * c + 3 * c) + (c * c + c) + (c * f + f) + (f * c + c);
        let head = if self.tie_word_embeddings { 0 } else { v * c };
        let total = block.saturating_mul(l) + v * c + t * c + 2 * c + head;
        u64::try_from(total).unwrap_or(u64::MAX)
    }

    /// Every parameter tensor of this configuration: Hugging Face name without the `transformer.` prefix,
    /// and shape (Conv1D layout, `[in, out]`). `lm_head.weight` only if the head is not tied.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (c, f) = (self.n_embd, self.n_inner);
        let mut list = vec![
            ("wte.weight".to_owned(), vec![self.vocab_size, c]),
            ("wpe.weight".to_owned(), vec![self.n_positions, c]),
        ];
        for layer in 0..self.n_layer {
            let block: [(&str, &[usize]); 12] = [
                ("ln_1.weight", &[c]),
                ("ln_1.bias", &[c]),
                ("attn.c_attn.weight", &[c, 3 * c]),
                ("attn.c_attn.bias", &[3 * c]),
                ("attn.c_proj.weight", &[c, c]),
                ("attn.c_proj.bias", &[c]),
                ("ln_2.weight", &[c]),
                ("ln_2.bias", &[c]),
                ("mlp.c_fc.weight", &[c, f]),
                ("mlp.c_fc.bias", &[f]),
                ("mlp.c_proj.weight", &[f, c]),
                ("mlp.c_proj.bias", &[c]),
            ];
            list.extend(block.map(|(name, shape)| (format!("h.{layer}.{name}"), shape.to_vec())));
        }
        list.push(("ln_f.weight".to_owned(), vec![c]));
        list.push(("ln_f.bias".to_owned(), vec![c]));
        if !self.tie_word_embeddings {
            list.push(("lm_head.weight".to_owned(), vec![self.vocab_size, c]));
        }
        list
    }

    /// Checks every bound of a configuration built in code.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first bad field.
    pub fn check(&self) -> Result<(), Error> {
        self.check_at(Path::new("(config)"))
    }

    fn check_at(&self, path: &Path) -> Result<(), Error> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("n_positions", self.n_positions, 1 << 20),
            ("n_embd", self.n_embd, 1 << 16),
            ("n_layer", self.n_layer, 1 << 12),
            ("n_head", self.n_head, 1 << 12),
            ("n_inner", self.n_inner, 1 << 18),
        ];
        for (field, found, most) in sizes {
            if !(1..=most).contains(&found) {
                let remedy = format!("use a value from 1 to {most}");
                return Err(Error::config(path, field, found.to_string(), remedy));
            }
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            return Err(Error::config(
                path,
                "n_head",
                format!("{} does not divide n_embd = {}", self.n_head, self.n_embd),
                "use a number of heads that divides the width",
            ));
        }
        let eps = self.layer_norm_epsilon;
        if !(eps.is_finite() && eps > 0.0 && eps < 1.0) {
            return Err(Error::config(
                path,
                "layer_norm_epsilon",
                eps.to_string(),
                "use a number above 0 and below 1, such as 1e-5",
            ));
        }
        for (field, id) in [("bos_token_id", self.bos_token_id), ("eos_token_id", self.eos_token_id)] {
            if let Some(id) = id.filter(|&id| id as usize >= self.vocab_size) {
                return Err(Error::config(
                    path,
                    field,
                    format!("{id}, but vocab_size is {}", self.vocab_size),
                    "use an id below vocab_size",
                ));
            }
        }
        let parameters = self.parameters();
        if parameters > MAX_PARAMETERS {
            return Err(Error::config(
                path,
                "(sizes together)",
                format!("{parameters} parameters"),
                format!("at most {MAX_PARAMETERS} are supported"),
            ));
        }
        Ok(())
    }
}

/// GPT-2's end-of-text id, where a vocabulary of `vocab_size` ids has it.
fn special_id(vocab_size: usize) -> Option<u32> {
    (vocab_size > 50256).then_some(50256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes() {
        let expected = [
            (Config::gpt2(), 124_439_808),
            (Config::distil(), 81_912_576),
            (Config::medium(), 354_823_168),
            (Config::large(), 774_030_080),
            (Config::xl(), 1_557_611_200),
        ];
        for (config, parameters) in expected {
            config.check().unwrap();
            assert_eq!(config.parameters(), parameters);
            let listed = config.tensors().into_iter().map(|(_, s)| s.iter().product::<usize>());
            assert_eq!(listed.sum::<usize>() as u64, parameters);
        }
        Config::tiny().check().unwrap();
        Config::tiny_with_vocabulary(1).check().unwrap();
    }

    #[test]
    fn impossible_products_are_refused() {
        let config = Config { n_embd: 1 << 16, n_head: 1, n_layer: 1 << 12, ..Config::gpt2() };
        assert!(matches!(config.check(), Err(Error::Config { field, .. }) if field == "(sizes together)"));
        let config = Config { n_head: 5, ..Config::gpt2() };
        assert!(matches!(config.check(), Err(Error::Config { field, .. }) if field == "n_head"));
    }
}
