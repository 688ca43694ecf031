//! Real text out of the packages that Cargo.lock pins.
//!
//! Prose: the documentation comments (`///`, `//!`) of [`PROSE`]; code blocks, tables, reference links
//! and lines that are not English are left out. Code: the sources of [`CODE`], file after file. The lists are fixed, the packages
//! come with every build, their bytes are pinned by the lock's checksums.

use anyhow::{Context, Result, ensure};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Packages whose documentation is read as English prose, in this order.
const PROSE: [&str; 12] = [
    "csv",
    "serde",
    "regex",
    "clap_builder",
    "serde_json",
    "anyhow",
    "memchr",
    "aho-corasick",
    "regex-automata",
    "proptest",
    "plotters",
    "rayon",
];
/// Packages whose sources are read as code, in this order.
const CODE: [&str; 6] = ["serde_json", "csv", "regex-automata", "clap_builder", "memchr", "aho-corasick"];

/// Where each locked package's sources lie; asked for when the first real text is made, so that
/// generated texts and a user's own corpus need no cargo.
pub struct Packages {
    ask: Box<dyn Fn() -> Result<String>>,
    folders: OnceCell<BTreeMap<String, PathBuf>>,
}

impl Packages {
    /// No packages: real text is then an error that says what is missing.
    pub fn none() -> Packages {
        Packages::new(|| Ok(r#"{"packages":[]}"#.into()))
    }

    /// From the output of `cargo metadata --format-version 1`, which `ask` gives.
    pub fn new(ask: impl Fn() -> Result<String> + 'static) -> Packages {
        Packages { ask: Box::new(ask), folders: OnceCell::new() }
    }

    fn folders(&self) -> Result<&BTreeMap<String, PathBuf>> {
        if let Some(folders) = self.folders.get() {
            return Ok(folders);
        }
        let folders = folders_of(&(self.ask)()?)?;
        Ok(self.folders.get_or_init(|| folders))
    }

    /// At least `bytes` bytes of English prose.
    pub fn prose(&self, bytes: usize) -> Result<String> {
        self.gather(&PROSE, bytes, "prose", |source| prose_of(&source))
    }

    /// At least `bytes` bytes of source code.
    pub fn code(&self, bytes: usize) -> Result<String> {
        self.gather(&CODE, bytes, "code", |source| source)
    }

    fn gather(&self, names: &[&str], bytes: usize, what: &str, take: fn(String) -> String) -> Result<String> {
        let folders = self.folders()?;
        let mut text = String::new();
        for name in names {
            let folder = folders.get(*name).with_context(|| {
                format!(
                    "the {what} is made of pinned packages and `{name}` is not among them; run scripts/setup"
                )
            })?;
            for path in sources(&folder.join("src"))? {
                let source = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {} (package `{name}`)", path.display()))?;
                text.push_str(&take(source));
                if text.len() >= bytes {
                    return Ok(text);
                }
            }
        }
        ensure!(
            text.len() >= bytes,
            "the pinned packages hold {} bytes of {what}, {bytes} are asked for",
            text.len()
        );
        Ok(text)
    }
}

fn folders_of(json: &str) -> Result<BTreeMap<String, PathBuf>> {
    let value: serde_json::Value = serde_json::from_str(json).context("`cargo metadata` printed no JSON")?;
    let packages = value["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let mut folders = BTreeMap::new();
    for package in packages {
        let (Some(name), Some(manifest)) = (package["name"].as_str(), package["manifest_path"].as_str())
        else {
            continue;
        };
        if let Some(folder) = Path::new(manifest).parent() {
            folders.insert(name.to_string(), folder.to_path_buf());
        }
    }
    Ok(folders)
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))? {
            let path = entry.with_context(|| format!("cannot read {}", next.display()))?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The sentences of a source file's documentation comments.
fn prose_of(source: &str) -> String {
    let mut text = String::new();
    let mut fenced = false;
    let mut inside = false;
    for line in source.lines() {
        let line = line.trim_start();
        let Some(comment) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            if inside {
                text.push('\n');
            }
            (inside, fenced) = (false, false);
            continue;
        };
        let comment = comment.strip_prefix(' ').unwrap_or(comment);
        if comment.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let is_table = comment.starts_with('|');
        let is_reference = comment.starts_with('[') && comment.contains("]: ");
        let is_code = comment.starts_with("    ");
        // Examples of other scripts have a workload of their own; what English needs stays.
        let is_english = comment.chars().all(|c| c.is_ascii() || "—–‘’“”…•".contains(c));
        if fenced || is_table || is_reference || is_code || !is_english {
            continue;
        }
        inside = true;
        text.push_str(comment);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_sentences_without_code_tables_and_links() {
        let source = "//! A crate.\n//!\n//! ```\n//! let x = 1;\n//! ```\n//! | a | b |\n//! [x]: y\n//! Ünï.\n\
                      use std;\n/// Adds one.\nfn f() {} // not this\n";
        assert_eq!(prose_of(source), "A crate.\n\n\nAdds one.\n\n");
    }

    #[test]
    fn a_missing_package_is_named_with_the_remedy() {
        let error = Packages::none().prose(10).unwrap_err().to_string();
        assert!(error.contains("csv") && error.contains("scripts/setup"), "{error}");
    }

    #[test]
    fn metadata_gives_folders() {
        let json = r#"{"packages":[{"name":"csv","manifest_path":"/x/csv-1/Cargo.toml"}]}"#;
        let packages = Packages::new(move || Ok(json.into()));
        assert_eq!(packages.folders().unwrap()["csv"], Path::new("/x/csv-1"));
        assert!(Packages::new(|| Ok("{".into())).folders().is_err());
    }
}
