//! A validated weights file: mapped for whoever wants a tensor's values where they lie, and open for
//! reading into memory of the reader's.
//!
//! Why both: values that are looked at need not be copied, and processes that open the same file share
//! its pages. Whoever copies all of it anyway, as a model that is loaded does, reads: mapping costs a fault
//! and a page-table entry for what a read takes along, and leaves the pages with the process.
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
    #[cfg(unix)]
    file: File,
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
        Ok(Self {
            path: path.to_owned(),
            #[cfg(unix)]
            file,
            map,
            layout,
        })
    }

    /// Fills `out` from `start`, counted as tensor offsets are.
    pub(super) fn read(&self, start: usize, out: &mut [u8]) -> Result<(), Error> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::FileExt;
            let at = (self.layout.data + start) as u64;
            self.file.read_exact_at(out, at).map_err(|e| Error::io(&self.path, "read", e))
        }
        #[cfg(not(unix))]
        {
            out.copy_from_slice(&self.data()[start..][..out.len()]);
            Ok(())
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

/// Values as bytes in this machine's order, to be written.
pub(super) fn f32_bytes(values: &mut [f32]) -> &mut [u8] {
    // SAFETY: the bytes of initialised floats, as borrowed as they are; every bit pattern is a valid f32.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}
