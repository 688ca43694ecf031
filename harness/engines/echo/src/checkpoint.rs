//! What a checkpoint's header says: names and shapes. The limits need no more of a model than its sizes.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A tensor's name, without the prefix `transformer.`, and its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
}

impl Tensor {
    /// Elements in all.
    pub fn elements(&self) -> Result<usize> {
        let size = self.shape.iter().try_fold(1usize, |size, &dim| size.checked_mul(dim));
        size.with_context(|| format!("{} has an impossible shape", self.name))
    }
}

/// The tensors of a model folder, shards included, by name; masks, which are buffers, left out.
pub fn tensors(model: &Path) -> Result<Vec<Tensor>> {
    let mut found = Vec::new();
    for file in files(model)? {
        let header = header(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for (name, tensor) in &header {
            let name = name.strip_prefix("transformer.").unwrap_or(name);
            let mask = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
            if name == "__metadata__" || mask {
                continue;
            }
            let shape = tensor["shape"].as_array().with_context(|| format!("{name} has no shape"))?;
            let dims = shape.iter().map(|dim| dim.as_u64().map(|dim| dim as usize));
            let shape = dims.collect::<Option<Vec<_>>>().context("a shape that is no list of sizes")?;
            found.push(Tensor { name: name.to_owned(), shape });
        }
    }
    ensure!(!found.is_empty(), "{}: no weights in its checkpoint", model.display());
    Ok(found)
}

fn files(model: &Path) -> Result<Vec<PathBuf>> {
    let index = model.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(vec![model.join("model.safetensors")]);
    }
    let text = std::fs::read_to_string(&index).with_context(|| format!("cannot read {}", index.display()))?;
    let json: serde_json::Value = serde_json::from_str(&text).with_context(|| index.display().to_string())?;
    let map =
        json["weight_map"].as_object().with_context(|| format!("{}: no weight_map", index.display()))?;
    let names: BTreeSet<&str> = map.values().filter_map(|name| name.as_str()).collect();
    Ok(names.into_iter().map(|name| model.join(name)).collect())
}

/// The JSON object at the head of a safetensors file: eight bytes of length, then the text.
fn header(path: &Path) -> Result<serde_json::Map<String, serde_json::Value>> {
    const LIMIT: u64 = 100 << 20;
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    ensure!(length <= LIMIT, "its header claims {length} bytes");
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A checkpoint of a header and nothing else.
    pub fn write(folder: &Path, header: &str) {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    }

    #[test]
    fn masks_and_prefixes_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let header =
            r#"{"transformer.h.0.attn.bias":{"shape":[1,1,8,8]},"transformer.wte.weight":{"shape":[9,4]}}"#;
        write(folder.path(), header);
        let expected = Tensor { name: "wte.weight".into(), shape: vec![9, 4] };
        assert_eq!(tensors(folder.path()).unwrap(), std::slice::from_ref(&expected));
        assert_eq!(expected.elements().unwrap(), 36);
        let huge = Tensor { name: "x".into(), shape: vec![usize::MAX, 2] };
        assert!(huge.elements().unwrap_err().to_string().contains("impossible"));
    }

    #[test]
    fn a_broken_header_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.safetensors"), [0xff; 8]).unwrap();
        let error = format!("{:#}", tensors(folder.path()).unwrap_err());
        assert!(error.contains("model.safetensors") && error.contains("claims"), "{error}");
        assert!(tensors(&folder.path().join("none")).is_err());
    }
}
