//! What an engine needs on disk: the files its process really mapped.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// One thing an engine needs on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// A file or package name, no machine path.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// The executable and every shared library mapped into this process, by file name.
/// Model and input files are left out: they are the same for everybody.
pub fn mapped_files() -> Vec<Footprint> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut paths: BTreeSet<PathBuf> = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])))
        .filter(|path| path.to_string_lossy().contains(".so"))
        .collect();
    paths.extend(std::env::current_exe().ok());
    paths
        .into_iter()
        .filter_map(|path| {
            let bytes = std::fs::metadata(&path).ok()?.len();
            Some(Footprint { name: path.file_name()?.to_string_lossy().into_owned(), bytes })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn libc_is_among_the_mapped_files() {
        let files = super::mapped_files();
        assert!(files.iter().any(|file| file.name.starts_with("libc.so") && file.bytes > 0));
    }
}
