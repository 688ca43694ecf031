//! The shape of a GPT-2 model: `config.json` in, a checked [`Config`] out.
//!
//! Why checked here: everything behind this door multiplies these numbers into buffer sizes. Once
//! [`Config::check`] has passed, no product of two dimensions overflows and no tensor exceeds
//! [`MAX_PARAMETERS`], so the engine can do plain arithmetic.
//!
//! Invariant: a feature of the Hugging Face class that would change the numbers and is not
//! implemented is refused by name; it is never ignored.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::Error;
use crate::json;

/// Upper bound on a model's parameter count: 2^36, forty times GPT-2 XL.
pub const MAX_PARAMETERS: u64 = 1 << 36;
/// `config.json` files above this many bytes are refused unread.
const MAX_BYTES: u64 = 1 << 20;

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

    /// Reads and checks a `config.json`. Missing optional fields take Hugging Face's defaults.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Config`] naming the first bad field.
    pub fn from_json(path: &Path) -> Result<Self, Error> {
        let size = fs::metadata(path).map_err(|e| Error::io(path, "read", e))?.len();
        if size > MAX_BYTES {
            return Err(Error::config(
                path,
                "(file)",
                format!("{size} bytes"),
                format!("a config.json has at most {MAX_BYTES} bytes"),
            ));
        }
        let text = fs::read(path).map_err(|e| Error::io(path, "read", e))?;
        Self::parse(&text, path)
    }

    /// Checks the bytes of a `config.json`; `path` only serves the messages.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first bad field.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, Error> {
        let value = json::parse(text).map_err(|why| {
            Error::config(path, "(file)", format!("not valid JSON: {why}"), "write the file anew")
        })?;
        let Value::Object(map) = value else {
            return Err(Error::config(path, "(file)", "not a JSON object", "write the file anew"));
        };
        let fields = Fields { map: &map, path };
        fields.refuse_unsupported()?;
        let vocab_size = fields.size("vocab_size")?;
        let n_embd = fields.size("n_embd")?;
        let config = Self {
            vocab_size,
            n_positions: fields.size("n_positions")?,
            n_embd,
            n_layer: fields.size("n_layer")?,
            n_head: fields.size("n_head")?,
            n_inner: match fields.get("n_inner") {
                None => n_embd.saturating_mul(4),
                Some(_) => fields.size("n_inner")?,
            },
            layer_norm_epsilon: fields.epsilon()?,
            activation: fields.activation()?,
            scale_attn_weights: fields.flag("scale_attn_weights", true)?,
            scale_attn_by_inverse_layer_idx: fields.flag("scale_attn_by_inverse_layer_idx", false)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", true)?,
            bos_token_id: fields.token("bos_token_id", vocab_size)?,
            eos_token_id: fields.token("eos_token_id", vocab_size)?,
        };
        if let Some(context) = fields.get("n_ctx")
            && context.as_u64() != Some(config.n_positions as u64)
        {
            return Err(Error::config(
                path,
                "n_ctx",
                format!("{context}, but n_positions is {}", config.n_positions),
                "make both equal or remove n_ctx",
            ));
        }
        config.check_at(path)?;
        Ok(config)
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

/// The parsed object together with the path its errors name.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a Path,
}

impl Fields<'_> {
    /// A field, `null` counted as absent, as Hugging Face does.
    fn get(&self, field: &str) -> Option<&Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn bad(&self, field: &str, found: &Value, remedy: &str) -> Error {
        let mut shown = found.to_string();
        if shown.len() > 60 {
            let end = (0..=57).rev().find(|&i| shown.is_char_boundary(i)).unwrap_or(0);
            shown.truncate(end);
            shown.push('…');
        }
        Error::config(self.path, field, shown, remedy)
    }

    fn size(&self, field: &str) -> Result<usize, Error> {
        let value = self
            .get(field)
            .ok_or_else(|| Error::config(self.path, field, "missing", "write it as an integer"))?;
        value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| self.bad(field, value, "use a positive integer"))
    }

    fn flag(&self, field: &str, default: bool) -> Result<bool, Error> {
        match self.get(field) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.bad(field, value, "use true or false")),
        }
    }

    /// A token id. One outside the vocabulary can never occur, so it is the same as none: Hugging
    /// Face writes 50256 even beside a smaller vocabulary.
    fn token(&self, field: &str, vocab_size: usize) -> Result<Option<u32>, Error> {
        match self.map.get(field) {
            None => Ok(special_id(vocab_size)),
            Some(Value::Null) => Ok(None),
            Some(value) => {
                let id = value.as_u64().ok_or_else(|| self.bad(field, value, "use a token id or null"))?;
                Ok(u32::try_from(id).ok().filter(|&id| (id as usize) < vocab_size))
            }
        }
    }

    fn epsilon(&self) -> Result<f32, Error> {
        match self.get("layer_norm_epsilon") {
            None => Ok(1e-5),
            Some(value) => {
                let eps = value
                    .as_f64()
                    .ok_or_else(|| self.bad("layer_norm_epsilon", value, "use a number such as 1e-5"))?;
                Ok(eps as f32)
            }
        }
    }

    fn activation(&self) -> Result<Activation, Error> {
        match self.get("activation_function") {
            None => Ok(Activation::GeluNew),
            Some(value) => match value.as_str() {
                Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluNew),
                _ => Err(self.bad(
                    "activation_function",
                    value,
                    "only gelu_new and gelu_pytorch_tanh are supported",
                )),
            },
        }
    }

    /// Refuses, by name, what would change the numbers. `reorder_and_upcast_attn` is accepted:
    /// in f32, upcasting to f32 changes nothing. Dropout does not act in inference.
    fn refuse_unsupported(&self) -> Result<(), Error> {
        if let Some(value) = self.get("model_type")
            && value.as_str() != Some("gpt2")
        {
            return Err(self.bad("model_type", value, "only gpt2 is supported"));
        }
        if let Some(value) = self.get("architectures") {
            let known = |name: &Value| {
                matches!(name.as_str(), Some("GPT2LMHeadModel" | "GPT2Model" | "GPT2DoubleHeadsModel"))
            };
            let list = value.as_array();
            if !list.is_some_and(|names| names.is_empty() || names.iter().any(known)) {
                return Err(self.bad("architectures", value, "only GPT2LMHeadModel is supported"));
            }
        }
        for field in ["add_cross_attention", "is_encoder_decoder"] {
            if self.flag(field, false)? {
                return Err(Error::config(self.path, field, "true", "only false is supported"));
            }
        }
        for field in ["quantization_config", "pruned_heads"] {
            if let Some(value) = self.get(field) {
                let empty = value.as_object().is_some_and(Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty);
                if !empty {
                    return Err(self.bad(field, value, "not supported: use the plain model"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(text.as_bytes(), Path::new("config.json"))
    }

    const SMALL: &str = r#""vocab_size":100,"n_positions":16,"n_embd":8,"n_layer":1,"n_head":2"#;

    fn refused(extra: &str, field: &str) {
        let text = format!("{{{SMALL},{extra}}}");
        match parse(&text) {
            Err(Error::Config { field: named, .. }) => assert_eq!(named, field, "{extra}"),
            other => panic!("{extra}: {other:?}"),
        }
    }

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
    fn published_config_is_read() {
        let text = r#"{"activation_function":"gelu_new","architectures":["GPT2LMHeadModel"],
            "attn_pdrop":0.1,"bos_token_id":50256,"embd_pdrop":0.1,"eos_token_id":50256,
            "initializer_range":0.02,"layer_norm_epsilon":1e-05,"model_type":"gpt2","n_ctx":1024,
            "n_embd":768,"n_head":12,"n_layer":12,"n_positions":1024,"resid_pdrop":0.1,
            "task_specific_params":{"text-generation":{"do_sample":true,"max_length":50}},
            "vocab_size":50257}"#;
        assert_eq!(parse(text).unwrap(), Config::gpt2());
    }

    #[test]
    fn optional_fields_have_defaults() {
        let config = parse(&format!("{{{SMALL}}}")).unwrap();
        assert_eq!((config.n_inner, config.eos_token_id), (32, None));
        let config = parse(&format!(r#"{{{SMALL},"n_inner":7,"eos_token_id":50256}}"#)).unwrap();
        assert_eq!((config.n_inner, config.eos_token_id), (7, None));
    }

    #[test]
    fn each_bad_field_is_named() {
        refused(r#""activation_function":"relu""#, "activation_function");
        refused(r#""model_type":"llama""#, "model_type");
        refused(r#""architectures":["Other"]"#, "architectures");
        refused(r#""add_cross_attention":true"#, "add_cross_attention");
        refused(r#""quantization_config":{"bits":4}"#, "quantization_config");
        refused(r#""scale_attn_weights":"yes""#, "scale_attn_weights");
        refused(r#""layer_norm_epsilon":0"#, "layer_norm_epsilon");
        refused(r#""layer_norm_epsilon":"small""#, "layer_norm_epsilon");
        refused(r#""n_inner":0"#, "n_inner");
        refused(r#""n_inner":-1"#, "n_inner");
        refused(r#""n_ctx":17"#, "n_ctx");
        refused(r#""eos_token_id":"x""#, "eos_token_id");
        refused(r#""n_head":2"#, "(file)"); // given twice
        for (field, value) in [
            ("n_embd", "0"),
            ("n_embd", "1.5"),
            ("n_layer", "99999999"),
            ("vocab_size", "18446744073709551615"),
            ("vocab_size", "18446744073709551616"),
            ("n_positions", "null"),
        ] {
            let text: String = format!("{{{SMALL}}}");
            let at = text.find(field).unwrap() + field.len() + 2;
            let end = at + text[at..].find([',', '}']).unwrap();
            let text = format!("{}{value}{}", &text[..at], &text[end..]);
            match parse(&text) {
                Err(Error::Config { field: named, .. }) => assert_eq!(named, field, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn impossible_products_are_refused() {
        let config = Config { n_embd: 1 << 16, n_head: 1, n_layer: 1 << 12, ..Config::gpt2() };
        assert!(matches!(config.check(), Err(Error::Config { field, .. }) if field == "(sizes together)"));
        let config = Config { n_head: 5, ..Config::gpt2() };
        assert!(matches!(config.check(), Err(Error::Config { field, .. }) if field == "n_head"));
    }

    #[test]
    fn rubbish_is_an_error() {
        for text in ["", "[]", "{", "nul", "\u{0}", "{}"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
