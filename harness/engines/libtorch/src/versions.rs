//! Versions that decide speed or answer: crates from the lock file this binary was built with,
//! libtorch from the wheel that was really mapped.

use std::collections::BTreeMap;
use std::path::Path;

const LOCK: &str = include_str!("../../../../Cargo.lock");

/// tch, tokenizers, and torch where its folder says which it is.
pub fn all() -> BTreeMap<String, String> {
    let crates = ["tch", "tokenizers"];
    let mut versions: BTreeMap<String, String> =
        crates.iter().filter_map(|name| Some((name.to_string(), locked(name)?.to_string()))).collect();
    versions.extend(torch().map(|version| ("torch".to_string(), version)));
    versions
}

fn locked(name: &str) -> Option<&'static str> {
    let (_, entry) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    entry.split('"').next()
}

/// The version in `torch/version.py` beside the mapped `torch/lib/libtorch_cpu.so`; a libtorch that
/// came as an archive carries `build-version` instead.
fn torch() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        path.ends_with("/libtorch_cpu.so").then(|| Path::new(path).to_path_buf())
    })?;
    let home = library.parent()?.parent()?;
    if let Ok(text) = std::fs::read_to_string(home.join("version.py")) {
        return version_line(&text);
    }
    let version = std::fs::read_to_string(home.join("build-version")).ok()?;
    Some(version.trim().to_string())
}

fn version_line(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(line.trim().trim_matches(['\'', '"']).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_and_the_mapped_library_are_named() {
        let versions = all();
        assert_eq!(versions.keys().collect::<Vec<_>>(), ["tch", "tokenizers", "torch"]);
        assert_eq!(version_line("x\n__version__ = '2.1+cpu'\n").as_deref(), Some("2.1+cpu"));
    }
}
