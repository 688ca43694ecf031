//! Versions of the libraries that decide speed or answer, read from the lock file this binary was
//! built with: a version written down by hand would one day be wrong.

use std::collections::BTreeMap;

const LOCK: &str = include_str!("../../../../Cargo.lock");

/// Name to version for each of `names`; a crate the lock does not hold is left out. Where it holds several
/// versions, `name@1` is the one that begins with `1`, and `name` the first.
pub fn of(names: &[&str]) -> BTreeMap<String, String> {
    let found = names.iter().filter_map(|&wanted| {
        let (name, begins) = wanted.split_once('@').unwrap_or((wanted, ""));
        Some((name.to_string(), locked(name, begins)?.to_string()))
    });
    found.collect()
}

fn locked(name: &str, begins: &str) -> Option<&'static str> {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let mut versions = LOCK.split("[[package]]\n").filter_map(|package| package.strip_prefix(&entry));
    versions.find(|version| version.starts_with(begins))?.split('"').next()
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_come_from_the_lock() {
        let versions = super::of(&["tokenizers", "no-such-crate"]);
        assert_eq!(versions.keys().collect::<Vec<_>>(), ["tokenizers"]);
        assert!(versions["tokenizers"].split('.').count() >= 3, "{versions:?}");
        let next = super::of(&["tokenizers@1"]);
        assert!(next["tokenizers"].starts_with("1."), "{next:?}");
        assert!(super::of(&["tokenizers@99"]).is_empty());
    }
}
