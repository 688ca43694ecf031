//! Versions of the libraries that decide speed or answer, read from the lock file this binary was
//! built with: a version written down by hand would one day be wrong.

use std::collections::BTreeMap;

const LOCK: &str = include_str!("../../../../Cargo.lock");

/// Name to version for each of `names`; a crate the lock does not hold is left out.
pub fn of(names: &[&str]) -> BTreeMap<String, String> {
    let found = names.iter().filter_map(|name| Some((name.to_string(), locked(name)?.to_string())));
    found.collect()
}

fn locked(name: &str) -> Option<&'static str> {
    let (_, entry) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    entry.split('"').next()
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_come_from_the_lock() {
        let versions = super::of(&["tokenizers", "no-such-crate"]);
        assert_eq!(versions.keys().collect::<Vec<_>>(), ["tokenizers"]);
        assert!(versions["tokenizers"].split('.').count() >= 3, "{versions:?}");
    }
}
