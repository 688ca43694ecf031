//! The default model: GPT-2's 124M configuration, seed 0, written once into a cache folder.
//!
//! Why: everything works with no network and no download; speed does not depend on the weights' values.
//!
//! Invariant: whoever asks, in whichever order and however many at once, gets the same bytes.

use std::env;
use std::path::{Path, PathBuf};

use super::write_model_with;
use crate::checkpoint::WEIGHTS_FILE;
use crate::{Config, Error, Tokenizer};

/// Seed of the default model.
pub const SEED: u64 = 0;
/// The variable that names the cache folder.
const VARIABLE: &str = "ASSAY_CACHE_DIR";

/// The cache folder: `$ASSAY_CACHE_DIR`, else `$XDG_CACHE_HOME/assay`, else `~/.cache/assay`. Not created.
///
/// # Errors
/// [`Error::Argument`] if none of the variables is set.
pub fn cache_dir() -> Result<PathBuf, Error> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(VARIABLE)
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("assay")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache").join("assay")))
        .ok_or_else(|| {
            Error::argument(
                "cache folder",
                "neither ASSAY_CACHE_DIR, XDG_CACHE_HOME nor HOME is set",
                "set ASSAY_CACHE_DIR to a folder that can be written",
            )
        })
}

/// The default model's folder inside `cache`, written if it is not there: model and vocabulary, half a
/// gigabyte. `progress(bytes so far, bytes in all)` is only called while writing.
///
/// # Errors
/// [`Error::Io`] naming the file if the folder cannot be written.
pub fn ensure(cache: &Path, progress: impl FnMut(u64, u64)) -> Result<PathBuf, Error> {
    let dir = cache.join(format!("gpt2-seed{SEED}"));
    // The weights are renamed into place last, so their presence means that all is there.
    if !dir.join(WEIGHTS_FILE).is_file() {
        Tokenizer::gpt2().write_vocabulary(&dir)?;
        write_model_with(&dir, &Config::gpt2(), SEED, progress)?;
    }
    Ok(dir)
}
