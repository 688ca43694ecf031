//! A file that appears whole or not at all: written beside its final place, then renamed.
//!
//! Invariant: whatever fails, the temporary file is removed and a former file of the final name stays.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;

/// A file being written under a temporary name.
pub(crate) struct Replacement {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Replacement {
    /// Begins to write what will become `path`.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        // Distinct within the process and between processes: two may fill the same cache at once.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_file_name(format!(".{name}.{}.{unique}.tmp", std::process::id()));
        let file = File::create_new(&temporary).map_err(|e| Error::io(path, "create", e))?;
        Ok(Self { file, temporary, path: path.to_owned() })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, "write", e))
    }

    /// Waits until everything written is on the disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|e| Error::io(&self.path, "write", e))
    }

    /// Renames into place and returns the final path.
    pub(crate) fn finish(mut self) -> Result<PathBuf, Error> {
        self.file.flush().map_err(|e| Error::io(&self.path, "write", e))?;
        fs::rename(&self.temporary, &self.path).map_err(|e| Error::io(&self.path, "rename", e))?;
        Ok(self.path.clone())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // After a successful rename there is nothing under this name and the error means just that.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dev/full` stands for the full disk.
    #[test]
    fn a_full_disk_is_told_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "former").unwrap();
        let mut replacement = Replacement::create(&path).unwrap();
        replacement.file = File::options().write(true).open("/dev/full").unwrap();
        let error = replacement.write(b"x").unwrap_err().to_string();
        assert!(error.contains("file: cannot write") && error.contains("free some disk space"), "{error}");
        drop(replacement);
        assert_eq!(fs::read_to_string(&path).unwrap(), "former");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
