//! `config.json` into a [`Config`].
//!
//! Invariant: a feature of the Hugging Face class that would change the numbers and is not implemented
//! is refused by name; it is never ignored.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Activation, Config, special_id};
use crate::{Error, json};

/// `config.json` files above this many bytes are refused unread.
const MAX_BYTES: u64 = 1 << 20;

impl Config {
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
    fn rubbish_is_an_error() {
        for text in ["", "[]", "{", "nul", "\u{0}", "{}"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
