//! Real text out of the packages that Cargo.lock pins.
//!
//! Prose: the documentation comments (`///`, `//!`) of [`PROSE`]; code blocks, tables, reference links
//! and lines that are not English are left out. Longer prose goes on with comments of every kind and with
//! Markdown, each line once. Code: the sources of [`CODE`], file after file. The lists are fixed, the packages
//! come with every build, their bytes are pinned by the lock's checksums. A longer text begins with the
//! shorter ones, so the lists grow at their ends only.

use anyhow::{Context, Result, bail, ensure};
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
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
/// Packages whose comments and Markdown go on after [`PROSE`]'s, in this order.
const MORE_PROSE: [&str; 31] = [
    "pyo3",
    "zerocopy",
    "rustix",
    "nix",
    "bitvec",
    "rustls",
    "libc",
    "fancy-regex",
    "bindgen",
    "llama-cpp-sys-2",
    "cc",
    "portable-atomic",
    "regex-syntax",
    "ring",
    "time",
    "ureq",
    "nom",
    "http",
    "winnow",
    "zerovec",
    "indexmap",
    "wide",
    "tch",
    "rayon-core",
    "bstr",
    "allocator-api2",
    "rustls-webpki",
    "miniz_oxide",
    "bytes",
    "numpy",
    "compact_str",
];
/// Packages whose sources are read as code, in this order.
const CODE: [&str; 9] = [
    "serde_json",
    "csv",
    "regex-automata",
    "clap_builder",
    "memchr",
    "aho-corasick",
    "rayon",
    "proptest",
    "winnow",
];

const DOCUMENTATION: [&str; 2] = ["///", "//!"];
const COMMENTS: [&str; 3] = ["///", "//!", "//"];
/// Of Markdown every line is prose.
const EVERY_LINE: [&str; 1] = [""];

/// Package name to the folder of each locked version.
type Folders = BTreeMap<String, Vec<PathBuf>>;

/// Where each locked package's sources lie; asked for when the first real text is made, so that
/// generated texts and a user's own corpus need no cargo.
pub struct Packages {
    ask: Box<dyn Fn() -> Result<String>>,
    folders: OnceCell<Folders>,
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

    fn folders(&self) -> Result<&Folders> {
        if let Some(folders) = self.folders.get() {
            return Ok(folders);
        }
        let folders = folders_of(&(self.ask)()?)?;
        Ok(self.folders.get_or_init(|| folders))
    }

    /// At least `bytes` bytes of English prose.
    pub fn prose(&self, bytes: usize) -> Result<String> {
        let mut text = String::new();
        self.gather(&PROSE, sources, bytes, "prose", &mut text, |_, source| {
            prose_of(source, &DOCUMENTATION)
        })?;
        if text.len() < bytes {
            let mut seen: HashSet<String> = text.lines().map(String::from).collect();
            let all = [&PROSE[..], &MORE_PROSE].concat();
            self.gather(&all, writings, bytes, "prose", &mut text, |path, writing| {
                let marks = if is(path, "rs") { &COMMENTS[..] } else { &EVERY_LINE };
                unseen(&prose_of(writing, marks), &mut seen)
            })?;
        }
        enough(text, bytes, "prose")
    }

    /// At least `bytes` bytes of source code.
    pub fn code(&self, bytes: usize) -> Result<String> {
        let mut text = String::new();
        self.gather(&CODE, sources, bytes, "code", &mut text, |_, source| source.into())?;
        enough(text, bytes, "code")
    }

    /// Appends what `take` finds in the `files` of the packages, one after another, until there are `bytes`.
    fn gather(
        &self,
        names: &[&str],
        files: fn(&Path) -> Result<Vec<PathBuf>>,
        bytes: usize,
        what: &str,
        text: &mut String,
        mut take: impl FnMut(&Path, &str) -> String,
    ) -> Result<()> {
        let folders = self.folders()?;
        for name in names {
            let folder = match folders.get(*name).map(Vec::as_slice) {
                Some([folder]) => folder,
                Some(_) => bail!("the {what} is made of pinned packages and Cargo.lock has several `{name}`"),
                None => bail!(
                    "the {what} is made of pinned packages and `{name}` is not among them; run scripts/setup"
                ),
            };
            for path in files(folder)? {
                let source = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {} (package `{name}`)", path.display()))?;
                text.push_str(&take(&path, &source));
                if text.len() >= bytes {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn enough(text: String, bytes: usize, what: &str) -> Result<String> {
    ensure!(
        text.len() >= bytes,
        "the pinned packages hold {} bytes of {what}, {bytes} are asked for",
        text.len()
    );
    Ok(text)
}

fn folders_of(json: &str) -> Result<Folders> {
    let value: serde_json::Value = serde_json::from_str(json).context("`cargo metadata` printed no JSON")?;
    let packages = value["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let mut folders = Folders::new();
    for package in packages {
        let (Some(name), Some(manifest)) = (package["name"].as_str(), package["manifest_path"].as_str())
        else {
            continue;
        };
        if let Some(folder) = Path::new(manifest).parent() {
            folders.entry(name.to_string()).or_default().push(folder.to_path_buf());
        }
    }
    Ok(folders)
}

fn is(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

/// The library itself.
fn sources(package: &Path) -> Result<Vec<PathBuf>> {
    below(&package.join("src"), &["rs"])
}

/// Whatever people wrote: the library, its tests and examples, its Markdown.
fn writings(package: &Path) -> Result<Vec<PathBuf>> {
    below(package, &["rs", "md"])
}

/// The files below `folder` with one of these endings, sorted.
fn below(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))? {
            let path = entry.with_context(|| format!("cannot read {}", next.display()))?.path();
            if path.is_dir() {
                open.push(path);
            } else if endings.iter().any(|ending| is(&path, ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The sentences of a source file's comments of the kinds that begin with one of `marks`, longest first.
fn prose_of(source: &str, marks: &[&str]) -> String {
    let mut text = String::new();
    let mut fenced = false;
    let mut inside = false;
    for line in source.lines() {
        let line = line.trim_start();
        let Some(comment) = marks.iter().find_map(|mark| line.strip_prefix(mark)) else {
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

/// The lines of `comments` that are no code and that nobody has `seen`, which are seen from now on: licences
/// stand in every file, notes in several, headings everywhere.
fn unseen(comments: &str, seen: &mut HashSet<String>) -> String {
    let mut text = String::new();
    for line in comments.lines() {
        let is_code = line.ends_with([';', '{', '}']);
        let is_rule = !line.is_empty() && !line.contains(char::is_alphabetic);
        let is_gap = line.is_empty() && (text.is_empty() || text.ends_with("\n\n"));
        if is_code || is_rule || is_gap || !(line.is_empty() || seen.insert(line.into())) {
            continue;
        }
        text.push_str(line);
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
        assert_eq!(prose_of(source, &DOCUMENTATION), "A crate.\n\n\nAdds one.\n\n");
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
        assert_eq!(packages.folders().unwrap()["csv"], [Path::new("/x/csv-1")]);
        assert!(Packages::new(|| Ok("{".into())).folders().is_err());
    }

    #[test]
    fn longer_prose_takes_other_comments_and_no_line_twice() {
        let licence = "// Licensed under terms that stand at the head of every file.\n";
        let one = format!("{licence}/// A sentence long enough to be known again.\nfn f() {{}} // call();\n");
        let two = format!(
            "{licence}// ----\n//\n//\n// Why it is so.\n// old(code);\n//! A sentence long enough to be known again.\n// Why it is so.\n"
        );
        let mut seen = HashSet::new();
        let first = unseen(&prose_of(&one, &COMMENTS), &mut seen);
        assert_eq!(
            first,
            "Licensed under terms that stand at the head of every file.\nA sentence long enough to be known again.\n\n"
        );
        assert_eq!(unseen(&prose_of(&two, &COMMENTS), &mut seen), "Why it is so.\n");
    }

    /// Packages of one file each, every file with one comment.
    fn made_up(folder: &Path, names: &[&str]) -> String {
        let packages = names.iter().map(|name| {
            let package = folder.join(name);
            std::fs::create_dir_all(package.join("src")).unwrap();
            let source = format!(
                "/// What {name} does, and why it is done like that.\n// Inside {name}: a plain note.\n"
            );
            std::fs::write(package.join("src/lib.rs"), source).unwrap();
            std::fs::write(package.join("README.md"), format!("# The package {name}\n")).unwrap();
            serde_json::json!({"name": name, "manifest_path": package.join("Cargo.toml")})
        });
        serde_json::json!({"packages": packages.collect::<Vec<_>>()}).to_string()
    }

    #[test]
    fn a_longer_text_begins_with_the_shorter_ones_and_never_repeats() {
        let folder = tempfile::tempdir().unwrap();
        let json = made_up(folder.path(), &[&PROSE[..], &MORE_PROSE].concat());
        let packages = Packages::new(move || Ok(json.clone()));
        let short = packages.prose(1).unwrap();
        assert_eq!(short, "What csv does, and why it is done like that.\n\n");
        let long = (1..).map_while(|step| packages.prose(step * 100).ok()).last().unwrap();
        assert!(long.starts_with(&short), "{long}");
        for part in ["# The package csv\nInside csv: a plain note.\n", "What pyo3 does"] {
            assert!(long.contains(part), "{part}: {long}");
        }
        let lines: Vec<&str> = long.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.iter().collect::<HashSet<_>>().len(), lines.len());
        let error = packages.prose(1 << 20).unwrap_err().to_string();
        assert!(error.contains("of prose, 1048576 are asked for"), "{error}");
    }

    #[test]
    fn a_package_of_two_versions_is_refused() {
        let package = r#"{"name":"csv","manifest_path":"/x/csv-1/Cargo.toml"}"#;
        let json = format!(r#"{{"packages":[{package},{package}]}}"#);
        let error = Packages::new(move || Ok(json.clone())).prose(10).unwrap_err().to_string();
        assert!(error.contains("several `csv`"), "{error}");
    }
}
