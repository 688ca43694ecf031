//! Hugging Face's `tokenizer.json`, as far as it describes GPT-2's kind of tokenizer.
//!
//! The format can describe many kinds; a part that would change the ids and is not implemented is refused
//! by name, never ignored. Post-processors of type `ByteLevel` only touch offsets, decoders of that type
//! are ours.

use std::path::Path;

use serde_json::{Map, Value};

use super::Tokenizer;
use super::load::{Source, SpelledMerge, assemble, problem};
use crate::Error;

/// The one supported description of a part, for the remedies.
const KIND: &str = "only byte-level BPE with GPT-2's pre-tokenizer is supported";

/// Reads a parsed `tokenizer.json`.
pub(super) fn load(path: &Path, value: &Value) -> Result<Tokenizer, Error> {
    let file = Parts { path };
    let top = file.object(value, "file")?;
    for part in ["truncation", "padding", "normalizer"] {
        if let Some(value) = present(top, part) {
            return Err(file.refuse(part, value, "only null is supported"));
        }
    }
    let Some(splitter) = present(top, "pre_tokenizer") else {
        return Err(problem(path, "pre_tokenizer", "none", KIND));
    };
    file.byte_level(splitter, "pre_tokenizer")?;
    if splitter.get("add_prefix_space") != Some(&Value::Bool(false)) {
        return Err(problem(path, "pre_tokenizer.add_prefix_space", "not false", KIND));
    }
    if let Some(Value::Bool(false)) = splitter.get("use_regex") {
        return Err(problem(path, "pre_tokenizer.use_regex", "false", KIND));
    }
    for part in ["post_processor", "decoder"] {
        if let Some(value) = present(top, part) {
            file.byte_level(value, part)?;
        }
    }
    let model = file.object(top.get("model").unwrap_or(&Value::Null), "model")?;
    file.check_model(model)?;
    let vocabulary = file.object(model.get("vocab").unwrap_or(&Value::Null), "model.vocab")?;
    let merges = file.merges(model)?;
    let specials = file.added_tokens(top)?;
    let source = Source { vocabulary: path, merges: path, place: "merge" };
    assemble(&source, vocabulary, &merges, specials)
}

/// A field, `null` counted as absent.
fn present<'a>(map: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    map.get(field).filter(|value| !value.is_null())
}

/// The file under inspection, for messages.
struct Parts<'a> {
    path: &'a Path,
}

impl Parts<'_> {
    fn object<'v>(&self, value: &'v Value, item: &str) -> Result<&'v Map<String, Value>, Error> {
        value.as_object().ok_or_else(|| problem(self.path, item, "missing or not an object", KIND))
    }

    /// Names what was found: its `type` if it has one.
    fn refuse(&self, item: &str, value: &Value, remedy: &str) -> Error {
        let found = match value.get("type").and_then(Value::as_str) {
            Some(kind) => format!("type {kind}"),
            None => {
                let mut shown: String = value.to_string().chars().take(40).collect();
                if shown.chars().count() == 40 {
                    shown.push('…');
                }
                shown
            }
        };
        problem(self.path, item, found, remedy)
    }

    fn byte_level(&self, value: &Value, item: &str) -> Result<(), Error> {
        match value.get("type").and_then(Value::as_str) {
            Some("ByteLevel") => Ok(()),
            _ => Err(self.refuse(item, value, KIND)),
        }
    }

    fn check_model(&self, model: &Map<String, Value>) -> Result<(), Error> {
        // Files of 2019 have no type; a vocabulary with merges is BPE.
        if let Some(kind) = present(model, "type").filter(|kind| kind.as_str() != Some("BPE")) {
            let found = format!("type {}", kind.as_str().unwrap_or("that is no text"));
            return Err(problem(self.path, "model", found, KIND));
        }
        for field in ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"] {
            let empty = |value: &&Value| value.as_str() != Some("") && value.as_f64() != Some(0.0);
            if let Some(value) = present(model, field).filter(empty) {
                return Err(self.refuse(&format!("model.{field}"), value, "only null is supported"));
            }
        }
        for field in ["byte_fallback", "ignore_merges"] {
            if model.get(field) == Some(&Value::Bool(true)) {
                let item = format!("model.{field}");
                return Err(problem(self.path, &item, "true", "only false is supported"));
            }
        }
        Ok(())
    }

    /// Merges are spelled `"a b"` in older files and `["a", "b"]` in newer ones.
    fn merges<'v>(&self, model: &'v Map<String, Value>) -> Result<Vec<SpelledMerge<'v>>, Error> {
        let Some(list) = model.get("merges").and_then(Value::as_array) else {
            return Err(problem(self.path, "model.merges", "missing or not a list", KIND));
        };
        let spelled = |(number, merge): (usize, &'v Value)| {
            let pair = match merge {
                Value::String(text) => text.split_once(' '),
                Value::Array(pair) => match pair.as_slice() {
                    [left, right] => left.as_str().zip(right.as_str()),
                    _ => None,
                },
                _ => None,
            };
            let Some((left, right)) = pair else {
                let item = format!("merge {number}");
                return Err(self.refuse(&item, merge, "a merge is two tokens"));
            };
            Ok(SpelledMerge { left, right, number })
        };
        list.iter().enumerate().map(spelled).collect()
    }

    fn added_tokens(&self, top: &Map<String, Value>) -> Result<Vec<(String, u32)>, Error> {
        let Some(list) = present(top, "added_tokens") else {
            return Ok(Vec::new());
        };
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut tokens: Vec<(String, u32)> = Vec::with_capacity(list.len());
        for (i, token) in list.iter().enumerate() {
            let item = format!("added token {i}");
            let content = token.get("content").and_then(Value::as_str);
            let id = token.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
            let Some((content, id)) = content.filter(|text| !text.is_empty()).zip(id) else {
                return Err(self.refuse(&item, token, "it needs a non-empty content and an id"));
            };
            for flag in ["single_word", "lstrip", "rstrip"] {
                if token.get(flag) == Some(&Value::Bool(true)) {
                    let found = format!("{flag} is true");
                    return Err(problem(self.path, &item, found, "only false is supported"));
                }
            }
            if tokens.iter().any(|(other, known)| other == content || *known == id) {
                let found = format!("{content:?} (id {id}) is given twice");
                return Err(problem(self.path, &item, found, "keep one of the two"));
            }
            tokens.push((content.to_owned(), id));
        }
        Ok(tokens)
    }
}
