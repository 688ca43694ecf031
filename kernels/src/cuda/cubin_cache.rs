//! Machine code kept on disk, so that a second start compiles nothing.
//!
//! One file for each source text, its name the SHA-256 of everything that decides the code: source, name, options,
//! architecture, NVRTC's version. A file is written beside its place and renamed into it, so that readers
//! see a whole one or none, and it begins with the digest of its content: a damaged one is compiled anew.
//!
//! Invariant: the cache decides how long a start takes and nothing else. A folder that cannot be read or
//! written costs a compilation, and no message.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sha2::{Digest, Sha256};

use super::{Architecture, Compiled, CudaError, Nvrtc, source};

/// What every file begins with; the number changes with the layout behind it.
const MAGIC: &[u8] = b"kernels cubin 1\n";

/// A folder of compiled kernels, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CubinCache {
    folder: Option<PathBuf>,
}

impl CubinCache {
    /// In `folder`, which is made when something is first kept.
    pub fn at(folder: impl Into<PathBuf>) -> CubinCache {
        CubinCache { folder: Some(folder.into()) }
    }

    /// Keeps nothing.
    pub fn none() -> CubinCache {
        CubinCache::default()
    }

    /// As [`Nvrtc::compile`], or what it gave an earlier time.
    ///
    /// # Errors
    /// As [`Nvrtc::compile`]; what failed is not kept.
    pub fn compile(
        &self,
        nvrtc: Nvrtc,
        name: &str,
        source: &str,
        architecture: &Architecture,
        options: &[String],
    ) -> Result<Compiled, CudaError> {
        let key = key(nvrtc.version(), name, source, architecture, options);
        self.get_or(&key, || nvrtc.compile(name, source, architecture, options))
    }

    /// All kernels of [`source`], for one architecture.
    ///
    /// # Errors
    /// As [`Nvrtc::compile`].
    pub fn kernels(&self, nvrtc: Nvrtc, architecture: &Architecture) -> Result<Compiled, CudaError> {
        self.compile(nvrtc, "kernels.cu", &source::source(), architecture, &[])
    }

    fn get_or(
        &self,
        key: &str,
        compile: impl FnOnce() -> Result<Compiled, CudaError>,
    ) -> Result<Compiled, CudaError> {
        let Some(folder) = &self.folder else { return compile() };
        let path = folder.join(format!("{key}.cubin"));
        if let Some(kept) = std::fs::read(&path).ok().and_then(|bytes| decode(&bytes)) {
            return Ok(kept);
        }
        let compiled = compile()?;
        // The caller has what was asked for; that it could not be kept shows in the next start's time only.
        let _ = write(folder, &path, &encode(&compiled));
        Ok(compiled)
    }
}

/// Each part with its length in front: no two lists of parts give the same bytes.
fn key(
    version: (i32, i32),
    name: &str,
    source: &str,
    architecture: &Architecture,
    options: &[String],
) -> String {
    let mut digest = Sha256::new();
    let version = format!("{}.{}", version.0, version.1);
    let parts = [name, source, architecture.name(), &version];
    for part in parts.into_iter().chain(options.iter().map(String::as_str)) {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    hex(&digest.finalize())
}

/// `MAGIC`, SHA-256 of what follows (32 bytes), length of the log (8 bytes, little end first), log, code.
fn encode(compiled: &Compiled) -> Vec<u8> {
    let mut content = (compiled.log.len() as u64).to_le_bytes().to_vec();
    content.extend_from_slice(compiled.log.as_bytes());
    content.extend_from_slice(&compiled.cubin);
    [MAGIC, &Sha256::digest(&content), &content].concat()
}

/// Nothing where a bit is other than it was written.
fn decode(bytes: &[u8]) -> Option<Compiled> {
    let (digest, content) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    if Sha256::digest(content).as_slice() != digest {
        return None;
    }
    let (length, rest) = content.split_first_chunk::<8>()?;
    let (log, cubin) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some(Compiled { cubin: cubin.to_vec(), log: String::from_utf8(log.to_vec()).ok()? })
}

fn write(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    std::fs::create_dir_all(folder)?;
    // Nobody else's: two processes, or two threads, may compile the same source at the same time.
    let own = format!("{}-{}.part", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let part = folder.join(own);
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn made() -> Compiled {
        Compiled { cubin: b"\x7fELF and so on".to_vec(), log: "ptxas info: ä\n".into() }
    }

    /// Asks for the key `k`; says whether it was compiled.
    fn ask(cache: &CubinCache) -> bool {
        let compiled = Cell::new(false);
        let got = cache.get_or("k", || {
            compiled.set(true);
            Ok(made())
        });
        assert_eq!(got.unwrap(), made());
        compiled.get()
    }

    #[test]
    fn what_is_kept_is_not_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CubinCache::at(folder.path().join("made/when/needed"));
        assert!(ask(&cache) && !ask(&cache) && !ask(&cache.clone()));
        let kept: Vec<_> =
            std::fs::read_dir(folder.path().join("made/when/needed")).unwrap().flatten().collect();
        assert_eq!(kept.len(), 1, "a part was left behind: {kept:?}");
        let none = CubinCache::none();
        assert!(ask(&none) && ask(&none));
    }

    #[test]
    fn a_damaged_file_is_compiled_anew_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, path) = (CubinCache::at(folder.path()), folder.path().join("k.cubin"));
        assert!(ask(&cache));
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
            assert_eq!(decode(&whole[..at]), None, "cut at {at}");
        }
        for damaged in [&whole[..whole.len() - 1], b"", b"something else"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(ask(&cache), "{damaged:?} was taken for machine code");
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        // A length behind the end, with its digest right: no slice out of bounds.
        let content = [&u64::MAX.to_le_bytes()[..], b"short"].concat();
        assert_eq!(decode(&[MAGIC, &Sha256::digest(&content), &content].concat()), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_a_compilation_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        std::fs::write(&file, "in the way").unwrap();
        for cache in [CubinCache::at(&file), CubinCache::at(file.join("below")), CubinCache::at("/proc/none")]
        {
            assert!(ask(&cache) && ask(&cache));
        }
        // A folder where the file should be: the rename fails, and its part goes.
        std::fs::create_dir(folder.path().join("k.cubin")).unwrap();
        assert!(ask(&CubinCache::at(folder.path())));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CubinCache::at(folder.path());
        let wrong = CudaError::NoDevice { reason: "none".into() };
        assert_eq!(cache.get_or("k", || Err(wrong.clone())), Err(wrong));
        assert!(ask(&cache));
    }

    #[test]
    fn everything_that_decides_the_code_is_in_the_key() {
        let [a, b] = ["sm_80", "sm_90a"].map(Architecture::named);
        let one = ["-DA=1".to_string()];
        let two = ["-DA=1".to_string(), "-DB".to_string()];
        let joined = ["-DA=1-DB".to_string()];
        let keys = [
            key((13, 0), "n", "source", &a, &one),
            key((13, 1), "n", "source", &a, &one),
            key((13, 0), "m", "source", &a, &one),
            key((13, 0), "n", "source ", &a, &one),
            key((13, 0), "ns", "ource", &a, &one),
            key((13, 0), "n", "source", &b, &one),
            key((13, 0), "n", "source", &a, &two),
            key((13, 0), "n", "source", &a, &joined),
            key((13, 0), "n", "source", &a, &[]),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(keys[0], key((13, 0), "n", "source", &a, &one));
        assert!(keys[0].len() == 64 && keys[0].bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn the_compiler_is_asked_once_for_a_source() {
        let Some(nvrtc) = crate::cuda::nvrtc::tests::here("the_compiler_is_asked_once") else { return };
        let folder = tempfile::tempdir().unwrap();
        let cache = CubinCache::at(folder.path());
        let source = "extern \"C\" __global__ void nothing() {}";
        let architecture = Architecture::of(9, 0);
        let first = cache.compile(nvrtc, "n.cu", source, &architecture, &[]).unwrap();
        assert!(first.cubin.starts_with(b"\x7fELF"));
        assert_eq!(cache.compile(nvrtc, "n.cu", source, &architecture, &[]), Ok(first));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
