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
use std::time::UNIX_EPOCH;

use memmap2::Mmap;
use sha2::{Digest, Sha256};

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

    /// Adds what [`Checkpoint::fingerprint`](super::Checkpoint::fingerprint) says to `digest`.
    pub(super) fn digest(&self, digest: &mut Sha256) -> Result<(), Error> {
        const SAMPLES: usize = 64;
        const SAMPLE: usize = 4096;
        let asked = |e| Error::io(&self.path, "open", e);
        let path = fs::canonicalize(&self.path).map_err(asked)?;
        let changed = fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(asked)?;
        // Before 1970 is a time too.
        let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_else(|before| before.duration());
        let path = path.as_os_str().as_encoded_bytes();
        let (header, data) = (self.layout.data, self.data().len());
        for number in [path.len() as u128, header as u128, data as u128, changed.as_nanos()] {
            digest.update(number.to_le_bytes());
        }
        digest.update(path);
        digest.update(&self.map.as_deref().unwrap_or_default()[..header]);
        // Read, lest a fault bring in all the pages around a sample.
        let mut sample = [0; SAMPLE];
        for start in (0..data).step_by((data / SAMPLES).max(SAMPLE)) {
            let sample = &mut sample[..SAMPLE.min(data - start)];
            self.read(start, sample)?;
            digest.update(&*sample);
        }
        Ok(())
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
