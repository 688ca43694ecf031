//! The pattern that splits text into pieces, chosen when a tokenizer is loaded.
//!
//! Four are known and have scanners of their own; any other regular expression runs as one, by
//! `fancy-regex`. Which of them it is decides once a text, never once a piece.
//!
//! Invariant: pieces are never empty and concatenate to the text, for bytes that are not UTF-8 too; each of
//! these counts as U+FFFD.

use std::sync::Arc;

use kernels::text::Scanner;

use super::pieces::{self, Gpt2, Later};
use super::regexes::Regexes;
use super::{split, split_cl100k, split_o200k};
use crate::Error;

/// How text is split into the pieces that merges never cross.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// GPT-2's, which tiktoken calls r50k, and p50k's.
    Gpt2,
    /// tiktoken's cl100k.
    Cl100k,
    /// The same as Llama 3 and Hugging Face's files have it: other pieces where whitespace with a line's end
    /// in it ends the text.
    Llama3,
    /// o200k's, which gpt-4o and gpt-oss use.
    O200k,
    /// Regular expressions.
    Other(Arc<Regexes>),
}

/// GPT-2's as Hugging Face's tokenizers hold it.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// As [`GPT2`], shorter.
const GPT2_SHORT: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// tiktoken's in Oniguruma's dialect: there `$` is the end of a line and `+` behind braces a repetition.
const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++\z|\s*[\r\n]|\s+(?!\S)|\s";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As [`LLAMA3`], shorter.
const LLAMA3_SHORT: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Pattern {
    /// The pattern with a scanner of its own that means this regular expression, if there is one: known by
    /// its spelling.
    pub(super) fn known(regex: &str) -> Option<Self> {
        match regex {
            GPT2 | GPT2_SHORT => Some(Self::Gpt2),
            CL100K => Some(Self::Cl100k),
            LLAMA3 | LLAMA3_SHORT => Some(Self::Llama3),
            O200K => Some(Self::O200k),
            _ => None,
        }
    }

    /// A pattern from a regular expression in Oniguruma's dialect, which Hugging Face's tokenizers use. What
    /// it matches is a piece, and so is what lies between two matches. The well-known ones get their scanner.
    ///
    /// # Errors
    /// [`Error::Argument`] for what does not compile.
    pub fn new(regex: &str) -> Result<Self, Error> {
        if let Some(known) = Self::known(regex) {
            return Ok(known);
        }
        match Regexes::new(vec![regex.to_owned()]) {
            Ok(regexes) => Ok(Self::Other(Arc::new(regexes))),
            Err((_, why)) => {
                Err(Error::argument("regex", format!("`{regex}` does not compile: {why}"), "correct it"))
            }
        }
    }

    /// The regular expressions that say the same to Hugging Face's tokenizers, to be applied in turn.
    pub(super) fn regexes(&self) -> Vec<&str> {
        match self {
            Self::Gpt2 => vec![GPT2],
            Self::Cl100k => vec![CL100K],
            Self::Llama3 => vec![LLAMA3],
            Self::O200k => vec![O200K],
            Self::Other(regexes) => regexes.sources().collect(),
        }
    }

    /// The end of the piece that begins at `start`, one character at a time; `None` for a regular expression.
    pub(super) fn scalar(&self) -> Option<fn(&[u8], usize) -> usize> {
        match self {
            Self::Gpt2 => Some(split::piece_end),
            Self::Cl100k => Some(split_cl100k::piece_end::<true>),
            Self::Llama3 => Some(split_cl100k::piece_end::<false>),
            Self::O200k => Some(split_o200k::piece_end),
            Self::Other(_) => None,
        }
    }

    /// The ends of the pieces of a text, found one character at a time where the pattern has a scanner.
    ///
    /// # Errors
    /// [`Error::Pattern`] if a regular expression gives up.
    pub fn ends(&self, text: &[u8]) -> Result<Vec<usize>, Error> {
        let mut ends = Vec::new();
        match (self, self.scalar()) {
            (Self::Other(regexes), _) => regexes.ends(text, &mut ends)?,
            (_, Some(end)) => {
                let mut at = 0;
                while at < text.len() {
                    at = end(text, at);
                    ends.push(at);
                }
            }
            (_, None) => {}
        }
        Ok(ends)
    }

    /// The same ends by the encoder's way of finding them, on the instruction set of `scanner`.
    ///
    /// # Errors
    /// As [`Pattern::ends`].
    pub fn ends_by_blocks(&self, scanner: Scanner, text: &[u8]) -> Result<Vec<usize>, Error> {
        Ok(match self {
            Self::Gpt2 => pieces::ends(scanner, Gpt2, text),
            Self::Cl100k => pieces::ends(scanner, Later::Cl100k, text),
            Self::Llama3 => pieces::ends(scanner, Later::Llama3, text),
            Self::O200k => pieces::ends(scanner, Later::O200k, text),
            Self::Other(_) => self.ends(text)?,
        })
    }
}
