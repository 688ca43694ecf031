//! The index of a sharded checkpoint: which tensor lies in which file.
//!
//! Invariant: a shard is a plain file name beside the index, so an index cannot make this process read
//! files elsewhere; and index and shards name exactly the same tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::format::Tensor;
use super::problem;
use crate::{Error, json};

/// Index files above this many bytes are refused unread.
const MAX_INDEX: u64 = 64 << 20;

/// One weights file and, if an index promised them, the tensors it must hold.
pub(super) struct Shard {
    pub(super) path: PathBuf,
    pub(super) expected: Option<BTreeSet<String>>,
}

impl Shard {
    /// The file's tensors are exactly those the index promised.
    pub(super) fn check(&self, tensors: &[Tensor]) -> Result<(), Error> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let found: BTreeSet<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
        for name in expected {
            if !found.contains(name.as_str()) {
                let item = format!("tensor `{name}`");
                let why = "promised by the index, but not in this shard";
                return Err(problem(&self.path, &item, why, "fetch the shard and the index again"));
            }
        }
        match found.iter().find(|name| !expected.contains(**name)) {
            Some(name) => Err(problem(
                &self.path,
                &format!("tensor `{name}`"),
                "in the shard, but not in the index",
                "fetch the shard and the index again",
            )),
            None => Ok(()),
        }
    }
}

/// Reads `model.safetensors.index.json` and checks that every shard it names is there.
pub(super) fn read_index(dir: &Path, path: &Path) -> Result<Vec<Shard>, Error> {
    let size = fs::metadata(path).map_err(|e| Error::io(path, "read", e))?.len();
    if size > MAX_INDEX {
        let found = format!("{size} bytes, above the bound of {MAX_INDEX}");
        return Err(problem(path, "index", found, "is this an index file?"));
    }
    let text = fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    let value = json::parse(&text)
        .map_err(|why| problem(path, "index", format!("not valid JSON: {why}"), "fetch the index again"))?;
    let Some(Value::Object(map)) = value.get("weight_map") else {
        return Err(problem(path, "weight_map", "missing or not an object", "fetch the index again"));
    };
    let mut shards: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (tensor, file) in map {
        let Some(file) = file.as_str() else {
            let item = format!("weight_map of `{tensor}`");
            return Err(problem(path, &item, format!("{file}, not a file name"), "fetch the index again"));
        };
        if !is_plain_name(file) {
            let item = format!("weight_map of `{tensor}`");
            let found = format!("shard {file:?}");
            return Err(problem(path, &item, found, "name a .safetensors file beside the index"));
        }
        shards.entry(file).or_default().insert(tensor.clone());
    }
    let mut list = Vec::with_capacity(shards.len());
    for (file, expected) in shards {
        let shard = dir.join(file);
        if !shard.is_file() {
            let found = format!("shard {file} is missing");
            return Err(problem(path, "weight_map", found, "fetch that file into the same folder"));
        }
        list.push(Shard { path: shard, expected: Some(expected) });
    }
    if list.is_empty() {
        return Err(problem(path, "weight_map", "names no shard", "fetch the index again"));
    }
    Ok(list)
}

/// A bare `*.safetensors` name: no separators of any system, no parent, no hidden tricks.
fn is_plain_name(file: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    file.ends_with(".safetensors")
        && !file.starts_with('.')
        && !file.contains("..")
        && file.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::is_plain_name;

    #[test]
    fn traversal_is_not_a_plain_name() {
        assert!(is_plain_name("model-00001-of-00002.safetensors"));
        for bad in [
            "../model.safetensors",
            "/etc/model.safetensors",
            "a/b.safetensors",
            "a\\b.safetensors",
            "C:model.safetensors",
            "..safetensors",
            ".safetensors",
            "model.bin",
            "",
            "a\u{0}.safetensors",
        ] {
            assert!(!is_plain_name(bad), "{bad:?}");
        }
    }
}
