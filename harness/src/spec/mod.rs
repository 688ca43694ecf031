//! What users write: workloads, engines and claims as TOML, read into checked types.

mod claim;
mod contestant;
mod input;
mod precision;
mod workload;

pub use claim::{Claim, Document, Metric, Reading, load_claims, unknown_names};
pub use contestant::{Contestant, Family, Role, load_engines};
pub use input::{Input, TextKind};
pub use precision::{TOLERANCES, Tolerance};
pub use workload::{Expect, Workload, load_workloads};

/// The profiles there are. `gpu` is asked of those that name it, the others of everybody who names none.
pub const PROFILES: [&str; 3] = ["quick", "full", "gpu"];

/// Them in a sentence.
pub const PROFILES_IN_WORDS: &str = "there are `quick` and `full`, and `gpu` for machines with one";

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Every `*.toml` below `folder`, sorted, so that reading never depends on the file system.
fn toml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        let entries = std::fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read {}", next.display()))?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "toml") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads one TOML file into `T`; errors name the file, and the line where TOML gives one.
fn read_toml<T: for<'de> serde::Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))
}
