//! A validated weights file in memory-mapped form.
//!
//! Why mapped: half a gigabyte need not be copied to be read, and processes that load the same file
//! share its pages.
//!
//! Invariant: the tensors' offsets lie inside `data()`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::format::{self, Layout, Tensor};
use super::problem;
use crate::Error;

/// A mapped file whose header has passed [`format::parse`].
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    map: Option<Mmap>,
    layout: Layout,
}

impl MappedFile {
    /// Maps and validates `path`.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        // Asked before opening: opening a pipe would wait for a writer for ever.
        let metadata = fs::metadata(path).map_err(|e| Error::io(path, "open", e))?;
        if !metadata.is_file() {
            return Err(problem(path, "file", "not a regular file", "put the weights themselves there"));
        }
        let file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
        let length = metadata.len();
        // An empty file cannot be mapped; `parse` has the words for it.
        let map = if length == 0 {
            None
        } else {
            // SAFETY: the map is private to this struct and only read. The one hazard is another
            // process shrinking the file while it is open; the files here are written under another
            // name and renamed into place, so writers of ours never do that.
            Some(unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, "map", e))?)
        };
        let layout = format::parse(map.as_deref().unwrap_or_default(), path)?;
        Ok(Self { path: path.to_owned(), map, layout })
    }

    /// Hands the map's resident pages back to the system; the next reader faults them in again.
    pub(super) fn release(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            // SAFETY: the map is file-backed, private and never written to, so a page that is dropped
            // comes back with the same bytes. A refusal changes nothing and is ignored.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn tensors(&self) -> &[Tensor] {
        &self.layout.tensors
    }

    /// The bytes after the header; tensor offsets count from here.
    pub(super) fn data(&self) -> &[u8] {
        &self.map.as_deref().unwrap_or_default()[self.layout.data..]
    }
}

/// Little-endian f32 bytes as values, without a copy; `None` where alignment or byte order forbids it.
pub(super) fn f32_view(bytes: &[u8]) -> Option<&[f32]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: every bit pattern is a valid f32 and `align_to` only returns aligned elements inside `bytes`.
    let (before, values, after) = unsafe { bytes.align_to::<f32>() };
    (before.is_empty() && after.is_empty()).then_some(values)
}
