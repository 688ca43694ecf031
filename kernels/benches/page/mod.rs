//! Where benches that keep a record put it, and the page that shows it. Other crates' benches and the tests of
//! the pages use this file too.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find(|path| path.join("Cargo.lock").exists())
        .expect("a lock")
}

/// `results/<room>/<machine>/<date>-<revision>.csv`, from the root.
///
/// # Panics
/// If the crate's folder holds changes: the record would name a revision that was not measured.
#[allow(dead_code, reason = "benches write, tests read")]
pub fn record(room: &str) -> PathBuf {
    let git = |words: &[&str]| {
        let output = Command::new("git").args(words).output().expect("git, which names the revision");
        String::from_utf8(output.stdout).expect("names in UTF-8").trim().to_string()
    };
    let changed = git(&["status", "--porcelain", "--", "."]);
    assert!(
        changed.is_empty(),
        "the record would name a revision that this is not; commit first:\n{changed}"
    );
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model
        .trim_start_matches([' ', '\t', ':'])
        .to_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let name = git(&["log", "-1", "--format=%cs-%h"]);
    Path::new("results").join(room).join(format!("{model}-{count}c")).join(format!("{name}.csv"))
}

/// Writes the record, and the page anew with what `splice` makes of it.
///
/// # Panics
/// If a file cannot be written, or the page has no place for a part.
#[allow(dead_code, reason = "benches write, tests read")]
pub fn keep(source: &Path, record: &str, page: &str, splice: impl FnOnce(&str) -> Result<String, String>) {
    let folder = source.parent().expect("a folder of records");
    std::fs::create_dir_all(root().join(folder))
        .and_then(|()| std::fs::write(root().join(source), record))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", source.display()));
    let place = root().join(page);
    let text = std::fs::read_to_string(&place).unwrap_or_else(|error| panic!("cannot read {page}: {error}"));
    let text = splice(&text).unwrap_or_else(|error| panic!("{page}: {error}"));
    std::fs::write(&place, text).unwrap_or_else(|error| panic!("cannot write {page}: {error}"));
}

/// `page` with `new` between the markers of `name`.
///
/// # Errors
/// If the markers are not there.
pub fn between(page: &str, name: &str, new: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- end of {name} -->"));
    let found = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) =
        found.ok_or_else(|| format!("no place for `{name}`: put `{begin}` and `{end}` there"))?;
    Ok(format!("{before}{begin}\n{}\n{end}{after}", new.trim_end()))
}

/// The page and the record that it names, behind `Figures from [`.
///
/// # Panics
/// If the page names none, or either cannot be read.
#[allow(dead_code, reason = "benches write, tests read")]
pub fn shown(page: &str) -> (String, String, String) {
    let text = std::fs::read_to_string(root().join(page)).expect("the page");
    let source = text.split("Figures from [").nth(1).and_then(|rest| rest.split(']').next());
    let source = source.expect("a page that names its record").to_string();
    let record = std::fs::read_to_string(root().join(&source)).expect("the record that the page names");
    (text, source, record)
}
