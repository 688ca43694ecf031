//! Hugging Face's `tokenizer.json`, as far as it describes byte-level BPE.
//!
//! The format can describe many kinds; a part that would change the ids and is not implemented is refused
//! by name, never ignored. Post-processors of type `ByteLevel` only touch offsets, templates only act where
//! special tokens are to be added, which encoding here never does, and decoders of type `ByteLevel` are ours.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::load::{Source, SpelledMerge, assemble, problem};
use super::regexes::Regexes;
use super::{Pattern, Tokenizer, pattern};
use crate::Error;

/// The one supported kind, for the remedies.
const KIND: &str = "only byte-level BPE is supported";
/// The supported pre-tokenizers.
const SPLITTERS: &str = "only ByteLevel, or a Sequence of Splits that ends with it, is supported";

/// Reads a parsed `tokenizer.json`.
pub(super) fn load(path: &Path, value: &Value) -> Result<Tokenizer, Error> {
    let file = Parts { path };
    let top = file.object(value, "file")?;
    for part in ["truncation", "padding", "normalizer"] {
        if let Some(value) = present(top, part) {
            return Err(file.refuse(part, value, "only null is supported"));
        }
    }
    let pattern = match present(top, "pre_tokenizer") {
        Some(value) => file.pattern(value)?,
        None => return Err(problem(path, "pre_tokenizer", "none", SPLITTERS)),
    };
    if let Some(value) = present(top, "post_processor") {
        file.post_processor(value)?;
    }
    if let Some(value) = present(top, "decoder") {
        file.byte_level(value, "decoder")?;
    }
    let model = file.object(top.get("model").unwrap_or(&Value::Null), "model")?;
    file.check_model(model)?;
    let vocabulary = file.object(model.get("vocab").unwrap_or(&Value::Null), "model.vocab")?;
    let merges = file.merges(model)?;
    let specials = file.added_tokens(top)?;
    let ignore_merges = model.get("ignore_merges") == Some(&Value::Bool(true));
    let source = Source { vocabulary: path, merges: path, place: "merge", ignore_merges };
    Ok(assemble(&source, vocabulary, &merges, specials)?.with_pattern(pattern))
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

    /// The pattern of a pre-tokenizer: `ByteLevel`, or a sequence of splits that ends with it.
    fn pattern(&self, value: &Value) -> Result<Pattern, Error> {
        let sequence = value.get("type").and_then(Value::as_str) == Some("Sequence");
        let item = "pre_tokenizer.pretokenizers";
        let steps = match value.get("pretokenizers").and_then(Value::as_array) {
            Some(steps) if sequence => steps,
            None if sequence => return Err(problem(self.path, item, "missing or not a list", SPLITTERS)),
            _ => std::slice::from_ref(value),
        };
        let name = |i: usize| if sequence { format!("{item}[{i}]") } else { "pre_tokenizer".to_owned() };
        let Some((last, splits)) = steps.split_last() else {
            return Err(problem(self.path, item, "empty", SPLITTERS));
        };
        let regexes = splits.iter().enumerate().map(|(i, split)| self.split(split, &name(i)));
        let mut regexes = regexes.collect::<Result<Vec<String>, Error>>()?;
        if self.last_step(last, &name(splits.len()))? {
            regexes.push(pattern::GPT2.to_owned());
        }
        if let [regex] = regexes.as_slice()
            && let Some(known) = Pattern::known(regex)
        {
            return Ok(known);
        }
        let compiled = Regexes::new(regexes).map_err(|(i, why)| {
            let found = format!("a pattern that does not compile: {why}");
            let remedy =
                "rewrite it in the syntax of the crate fancy-regex, and compare ids before you rely on it";
            problem(self.path, &name(i), found, remedy)
        })?;
        Ok(Pattern::Other(Arc::new(compiled)))
    }

    /// Checks the `ByteLevel` at the end; whether it splits by GPT-2's pattern.
    fn last_step(&self, value: &Value, item: &str) -> Result<bool, Error> {
        if value.get("type").and_then(Value::as_str) != Some("ByteLevel") {
            return Err(self.refuse(item, value, SPLITTERS));
        }
        if value.get("add_prefix_space") != Some(&Value::Bool(false)) {
            let item = format!("{item}.add_prefix_space");
            return Err(problem(self.path, &item, "not false", "only false is supported"));
        }
        Ok(value.get("use_regex") != Some(&Value::Bool(false)))
    }

    /// The regular expression of a `Split`.
    fn split(&self, value: &Value, item: &str) -> Result<String, Error> {
        if value.get("type").and_then(Value::as_str) != Some("Split") {
            return Err(self.refuse(item, value, SPLITTERS));
        }
        let field = |kind: &str| value.get("pattern").and_then(|pattern| pattern.get(kind)?.as_str());
        let regex = match (field("Regex"), field("String")) {
            (Some(regex), None) => regex.to_owned(),
            (None, Some(text)) => fancy_regex::escape(text).into_owned(),
            _ => {
                let item = format!("{item}.pattern");
                return Err(problem(self.path, &item, "neither Regex nor String", "a Split has one of them"));
            }
        };
        let behavior = value.get("behavior").and_then(Value::as_str).unwrap_or("missing");
        let inverted = value.get("invert") == Some(&Value::Bool(true));
        // The known patterns match all of a text, so what to do with the rest does not matter.
        let all = inverted && behavior == "Removed" && Pattern::known(&regex).is_some();
        if behavior != "Isolated" && !all {
            let item = format!("{item}.behavior");
            return Err(problem(self.path, &item, behavior, "only Isolated is supported"));
        }
        Ok(regex)
    }

    /// What stands behind the model and leaves the ids of the text as they are.
    fn post_processor(&self, value: &Value) -> Result<(), Error> {
        let kind = |value: &Value| {
            matches!(value.get("type").and_then(Value::as_str), Some("ByteLevel" | "TemplateProcessing"))
        };
        let parts = value.get("processors").and_then(Value::as_array);
        let sequence = value.get("type").and_then(Value::as_str) == Some("Sequence");
        match parts.filter(|_| sequence).map(|parts| parts.iter().find(|part| !kind(part))) {
            Some(None) => Ok(()),
            None if kind(value) => Ok(()),
            other => {
                let remedy = "only ByteLevel, TemplateProcessing or a Sequence of them is supported";
                Err(self.refuse("post_processor", other.flatten().unwrap_or(value), remedy))
            }
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
        if model.get("byte_fallback") == Some(&Value::Bool(true)) {
            return Err(problem(self.path, "model.byte_fallback", "true", "only false is supported"));
        }
        if let Some(value) = present(model, "ignore_merges").filter(|value| !value.is_boolean()) {
            return Err(self.refuse("model.ignore_merges", value, "it is true or false"));
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
