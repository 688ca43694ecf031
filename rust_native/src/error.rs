//! The one error type of this crate.
//!
//! Why one: a user sees one line, and every line has the same four parts: where (file), what (tensor,
//! field, line or argument), what was found, and the remedy. A variant names the broken promise and
//! carries the values, so callers can match on it without reading text.
//!
//! Invariant: no message asks the reader to look at a backtrace or at this source.

use std::io;
use std::path::{Path, PathBuf};

/// What went wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused: `action` is a verb phrase such as `read` or `write`.
    #[error("{}: cannot {action}: {cause}; {remedy}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done: `open`, `read`, `write`, `rename` …
        action: &'static str,
        /// What the system said; part of the message, so not a `source` that would say it twice.
        cause: io::Error,
        /// What to do, in the imperative.
        remedy: String,
    },

    /// A field of `config.json` (or of a [`crate::Config`] built in code) is missing, impossible or unsupported.
    #[error("{}: field `{field}`: {found}; {remedy}", .file.display())]
    Config {
        /// `config.json`'s path, or `(config)` for one built in code.
        file: PathBuf,
        /// The field's name as Hugging Face spells it.
        field: String,
        /// What was found there.
        found: String,
        /// What to do, in the imperative.
        remedy: String,
    },

    /// A weights file breaks the safetensors format or does not fit the model.
    #[error("{}: {item}: {found}; {remedy}", .file.display())]
    Checkpoint {
        /// The safetensors or index file.
        file: PathBuf,
        /// The tensor or part of the file: ``tensor `wte.weight` ``, `header length`, …
        item: String,
        /// What was found there.
        found: String,
        /// What to do, in the imperative.
        remedy: String,
    },

    /// A vocabulary file is damaged or is of a kind that is not byte-level BPE.
    #[error("{}: {item}: {found}; {remedy}", .file.display())]
    Vocabulary {
        /// `vocab.json`, `merges.txt`, `tokenizer.json` or a file of ranks.
        file: PathBuf,
        /// The line, field or token.
        item: String,
        /// What was found there.
        found: String,
        /// What to do, in the imperative.
        remedy: String,
    },

    /// Text contains the spelling of a special token and the caller asked for that to be refused.
    #[error(
        "text contains the special token `{token}` at byte {offset}; allow it, spell it out as ordinary text, or remove it"
    )]
    SpecialToken {
        /// The special token's spelling.
        token: String,
        /// Byte offset of its first occurrence.
        offset: usize,
    },

    /// The regular expression of a tokenizer gave up on a text.
    #[error("pattern `{pattern}`: {cause}; split the text, or use a tokenizer whose pattern backtracks less")]
    Pattern {
        /// The regular expression.
        pattern: String,
        /// What its engine said.
        cause: String,
    },

    /// A token id outside the vocabulary, or one of those between special tokens that it does not use.
    #[error(
        "token id {id} is outside the vocabulary of {vocabulary} ids; use ids from 0 to {}{}",
        .vocabulary.saturating_sub(1),
        if (*.id as usize) < *.vocabulary { " that have a token" } else { "" }
    )]
    UnknownId {
        /// The id.
        id: u32,
        /// How many ids there are.
        vocabulary: usize,
    },

    /// Bytes promised to be UTF-8 are not.
    #[error("{input}: invalid UTF-8 at byte {offset}; convert the text to UTF-8 first")]
    Utf8 {
        /// The file's name or `standard input`.
        input: String,
        /// Offset of the first byte that is not part of a valid character.
        offset: usize,
    },

    /// A request to run the model that cannot be carried out.
    #[error(transparent)]
    Generate(#[from] crate::GenerateError),

    /// An argument is outside its range.
    #[error("{argument}: {found}; {remedy}")]
    Argument {
        /// The argument's name.
        argument: &'static str,
        /// What was given.
        found: String,
        /// What to do, in the imperative.
        remedy: String,
    },
}

impl Error {
    /// Wraps an [`io::Error`] with the path, the action, and a remedy guessed from its kind.
    pub fn io(path: impl Into<PathBuf>, action: &'static str, cause: io::Error) -> Self {
        let remedy = match cause.kind() {
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::PermissionDenied => "check the permissions or choose another folder",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some disk space or choose another folder"
            }
            io::ErrorKind::ReadOnlyFilesystem => "choose a folder that can be written",
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                "check that files and folders in the path are what they should be"
            }
            _ => "check the disk and try again",
        };
        Self::Io { path: path.into(), action, cause, remedy: remedy.to_owned() }
    }

    /// A [`Error::Config`] in short.
    pub(crate) fn config(
        file: &Path,
        field: &str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Config {
            file: file.to_owned(),
            field: field.to_owned(),
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    /// A [`Error::Argument`] in short, for the request checks of this crate.
    pub fn argument(argument: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Argument { argument, found: found.into(), remedy: remedy.into() }
    }
}
