//! Vocabularies from files: `vocab.json` with `merges.txt`, `tokenizer.json`, or ranks (`ranks`).
//!
//! Why so strict: a tokenizer with one merge missing still encodes everything, only differently, and
//! nobody notices. So a file that does not describe a complete byte-level BPE is refused, with the line.
//!
//! Invariant: after loading, ids are dense from 0 up to the last token that is not special, every byte has
//! a token, every merge joins two known tokens into a known one, and every token that is neither a byte nor
//! special has a merge, unless pieces are looked up before they are merged.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::gpt2::{self, END_OF_TEXT};
use super::{Tokenizer, alphabet, merges, tokenizer_json};
use crate::{Error, json};

/// Vocabulary files above this many bytes are refused unread.
const MAX_BYTES: u64 = 256 << 20;

/// A merge as spelled in a file, with the words for its place.
pub(super) struct SpelledMerge<'a> {
    pub(super) left: &'a str,
    pub(super) right: &'a str,
    /// Line or index, counted as [`Source::place`] says.
    pub(super) number: usize,
}

/// Where a vocabulary's parts come from, for messages.
pub(super) struct Source<'a> {
    pub(super) vocabulary: &'a Path,
    pub(super) merges: &'a Path,
    /// `line` in merges.txt, `merge` in tokenizer.json.
    pub(super) place: &'static str,
    /// A piece that is a token is not merged; then a token may have no merge.
    pub(super) ignore_merges: bool,
}

impl Tokenizer {
    /// Loads a folder (see [`Tokenizer::from_dir`]), a `tokenizer.json`, or, where the name ends in
    /// `.tiktoken`, one of the files of ranks that [`Tokenizer::from_tiktoken`] knows.
    ///
    /// # Errors
    /// As [`Tokenizer::from_dir`].
    pub fn from_path(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            Self::from_dir(path)
        } else if path.extension().is_some_and(|ending| ending == "tiktoken") {
            Self::from_tiktoken(path)
        } else {
            Self::from_tokenizer_json(path)
        }
    }

    /// Loads a folder in Hugging Face layout: GPT-2's own `vocab.json` and `merges.txt`, or else
    /// `tokenizer.json`, or else any `vocab.json` and `merges.txt`. These two do not say how text is split:
    /// with them alone it is by GPT-2's pattern.
    ///
    /// # Errors
    /// [`Error::Io`] for what cannot be read, [`Error::Vocabulary`] for what is damaged, incomplete or not
    /// byte-level BPE.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        let (vocabulary, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
        let whole = dir.join("tokenizer.json");
        if vocabulary.exists() && merges.exists() {
            let (spellings, text) = (read(&vocabulary)?, read(&merges)?);
            if !whole.exists() || gpt2::are_published(&spellings, &text) {
                return Self::from_both((&vocabulary, spellings), (&merges, text));
            }
        }
        if whole.exists() {
            Self::from_tokenizer_json(&whole)
        } else {
            Err(problem(
                dir,
                "vocabulary",
                "neither vocab.json with merges.txt nor tokenizer.json",
                "point to a folder that has them, or write one with `gpt2 vocabulary`",
            ))
        }
    }

    /// Loads `vocab.json` and `merges.txt`, with GPT-2's pattern. A token spelled `<|endoftext|>` is special.
    ///
    /// # Errors
    /// As [`Tokenizer::from_dir`].
    pub fn from_vocabulary_and_merges(vocabulary: &Path, merges: &Path) -> Result<Self, Error> {
        Self::from_both((vocabulary, read(vocabulary)?), (merges, read(merges)?))
    }

    fn from_both(
        (vocabulary, spellings): (&Path, Vec<u8>),
        (merges, text): (&Path, Vec<u8>),
    ) -> Result<Self, Error> {
        // Checking and building all over again what is embedded takes ten times as long as knowing it.
        if gpt2::are_published(&spellings, &text) {
            return Ok(Self::gpt2());
        }
        let map = match json::parse(&spellings) {
            Ok(Value::Object(map)) => map,
            Ok(_) => {
                return Err(problem(vocabulary, "file", "not a JSON object", "fetch it again"));
            }
            Err(why) => {
                let found = format!("not valid JSON: {why}");
                return Err(problem(vocabulary, "file", found, "fetch it again"));
            }
        };
        let text = String::from_utf8(text).map_err(|error| Error::Utf8 {
            input: merges.display().to_string(),
            offset: error.utf8_error().valid_up_to(),
        })?;
        let spelled = merge_lines(merges, &text)?;
        let specials = id_of(&map, END_OF_TEXT).map(|id| (END_OF_TEXT.to_owned(), id));
        let source = Source { vocabulary, merges, place: "line", ignore_merges: false };
        assemble(&source, &map, &spelled, specials.into_iter().collect())
    }

    /// Loads a `tokenizer.json` that describes byte-level BPE, split by any patterns; another kind is refused by
    /// name. Ids are those of `encode(text, add_special_tokens=False)`: what a template puts around a text is
    /// the caller's to add.
    ///
    /// # Errors
    /// As [`Tokenizer::from_dir`].
    pub fn from_tokenizer_json(path: &Path) -> Result<Self, Error> {
        let value = json::parse(&read(path)?)
            .map_err(|why| problem(path, "file", format!("not valid JSON: {why}"), "fetch it again"))?;
        tokenizer_json::load(path, &value)
    }
}

/// Splits merges.txt into its merges; the first line may be `#version: …`.
fn merge_lines<'a>(path: &Path, text: &'a str) -> Result<Vec<SpelledMerge<'a>>, Error> {
    let mut merges = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let number = i + 1;
        if i == 0 && line.starts_with("#version") {
            continue;
        }
        match line.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
                merges.push(SpelledMerge { left, right, number });
            }
            _ => {
                return Err(problem(
                    path,
                    &format!("line {number}"),
                    format!("{} is not two tokens with a space between", quoted(line)),
                    "the file is truncated or damaged: fetch it again",
                ));
            }
        }
    }
    Ok(merges)
}

/// Checks everything together and builds the tokenizer.
pub(super) fn assemble(
    source: &Source<'_>,
    vocabulary: &Map<String, Value>,
    spelled: &[SpelledMerge<'_>],
    specials: Vec<(String, u32)>,
) -> Result<Tokenizer, Error> {
    let names = dense(source, vocabulary, &specials)?;
    let special_ids: HashSet<usize> = specials.iter().map(|&(_, id)| id as usize).collect();
    let special = |id: usize| special_ids.contains(&id);
    let mut bytes = Vec::new();
    let mut starts = vec![0];
    let mut byte_ids = [u32::MAX; 256];
    for (id, name) in names.iter().enumerate() {
        let token = if special(id) {
            name.as_bytes().to_vec()
        } else {
            let token = alphabet::bytes_of(name).map_err(|c| {
                let found = format!("{c:?} is not in GPT-2's byte alphabet");
                bad_token(source, name, found, "only byte-level BPE is supported")
            })?;
            if let [byte] = token[..] {
                byte_ids[usize::from(byte)] = id as u32;
            }
            token
        };
        bytes.extend_from_slice(&token);
        starts.push(u32::try_from(bytes.len()).map_err(|_| {
            bad_token(source, name, "the tokens exceed 4 GiB".to_owned(), "is this a vocabulary?")
        })?);
    }
    if let Some(byte) = byte_ids.iter().position(|&id| id == u32::MAX) {
        let name = alphabet::spell(&[byte as u8]);
        let found = format!("missing; byte {byte:#04x} could not be encoded");
        return Err(bad_token(source, &name, found, "only complete byte-level BPE is supported"));
    }
    let used = names.iter().zip(0..).filter(|(name, _)| !name.is_empty());
    let ids: HashMap<&str, u32> = used.map(|(name, id)| (*name, id)).collect();
    let merges = checked_merges(source, spelled, &ids)?;
    let mut made = vec![false; names.len()];
    for &(_, _, result) in &merges {
        made[result as usize] = true;
    }
    // A byte needs no merge, and where there is no token nothing does.
    let made = |id: usize| made[id] || starts[id + 1] - starts[id] <= 1 || special(id);
    if let Some(id) = (0..names.len()).find(|&id| !source.ignore_merges && !made(id)) {
        let found = format!(
            "ends at {} {}, but token {} (id {id}) has no merge",
            source.place,
            spelled.last().map_or(0, |merge| merge.number),
            quoted(names[id])
        );
        let remedy = "the file is truncated, or the token is special: fetch it again, or use a \
                      tokenizer.json that says so";
        return Err(problem(source.merges, "merges", found, remedy));
    }
    let tokenizer = Tokenizer::new(bytes, starts, byte_ids, &merges, specials, source.ignore_merges);
    Ok(if source.ignore_merges { tokenizer.with_whole_tokens() } else { tokenizer })
}

/// The tokens by id, special ones included; an empty one for an id without a token, of which there are some
/// among the special tokens that come last.
fn dense<'a>(
    source: &Source<'_>,
    vocabulary: &'a Map<String, Value>,
    specials: &'a [(String, u32)],
) -> Result<Vec<&'a str>, Error> {
    let special: HashSet<&str> = specials.iter().map(|(name, _)| name.as_str()).collect();
    let mut names: Vec<Option<&str>> = Vec::new();
    let mut place = |name: &'a str, id: usize| {
        if id >= merges::MAX_IDS - 1 {
            let found = format!("id {id}");
            return Err(bad_token(source, name, found, "ids must be below 2,097,151"));
        }
        if names.len() <= id {
            names.resize(id + 1, None);
        }
        match names[id].replace(name) {
            Some(other) if other != name => {
                let found = format!("id {id}, which is also that of {}", quoted(other));
                Err(bad_token(source, name, found, "the file is damaged: fetch it again"))
            }
            _ => Ok(()),
        }
    };
    let mut ordinary = 0;
    for (name, id) in vocabulary {
        let found = id.as_u64().and_then(|id| usize::try_from(id).ok());
        let Some(id) = found else {
            return Err(bad_token(source, name, format!("id {id}"), "ids are integers from 0"));
        };
        if name.is_empty() {
            return Err(bad_token(source, name, "empty".to_owned(), "the file is damaged: fetch it again"));
        }
        place(name, id)?;
        if !special.contains(name.as_str()) {
            ordinary = ordinary.max(id);
        }
    }
    for (name, id) in specials {
        if let Some(other) = id_of(vocabulary, name).filter(|other| other != id) {
            let found = format!("special id {id}, but the vocabulary says {other}");
            return Err(bad_token(source, name, found, "make both equal"));
        }
        place(name, *id as usize)?;
    }
    let count = names.len();
    // Hugging Face's tokenizers number the special tokens that the vocabulary lacks by counting on.
    let counted = specials.iter().filter(|(name, _)| !vocabulary.contains_key(name));
    let counted = counted.map(|&(_, id)| id as usize).max().unwrap_or(0);
    let token = |(id, name): (usize, Option<&'a str>)| match name {
        None if id < ordinary.max(counted) => {
            let found = format!("id {id} of {count} has no token");
            Err(problem(source.vocabulary, "vocabulary", found, "the file is damaged: fetch it again"))
        }
        name => Ok(name.unwrap_or_default()),
    };
    names.into_iter().enumerate().map(token).collect()
}

/// Merges as ids, every symbol known, no pair twice.
fn checked_merges(
    source: &Source<'_>,
    spelled: &[SpelledMerge<'_>],
    ids: &HashMap<&str, u32>,
) -> Result<Vec<(u32, u32, u32)>, Error> {
    if spelled.len() > merges::MAX_MERGES {
        let found = format!("{} of them", spelled.len());
        return Err(problem(source.merges, "merges", found, "at most 4,194,304 are supported"));
    }
    let mut seen: HashMap<(u32, u32), usize> = HashMap::with_capacity(spelled.len());
    let mut merges = Vec::with_capacity(spelled.len());
    let mut joined = String::new();
    for &SpelledMerge { left, right, number } in spelled {
        let item = format!("{} {number}", source.place);
        let find = |symbol: &str| {
            ids.get(symbol).copied().ok_or_else(|| {
                let found = format!("{} is not in the vocabulary", quoted(symbol));
                let remedy = "the file is truncated, or belongs to another vocabulary: fetch both again";
                problem(source.merges, &item, found, remedy)
            })
        };
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let merge = (find(left)?, find(right)?, find(&joined)?);
        if let Some(first) = seen.insert((merge.0, merge.1), number) {
            let found = format!("the same merge as {} {first}", source.place);
            return Err(problem(source.merges, &item, found, "the file is damaged: fetch it again"));
        }
        merges.push(merge);
    }
    Ok(merges)
}

pub(super) fn id_of(vocabulary: &Map<String, Value>, token: &str) -> Option<u32> {
    vocabulary.get(token)?.as_u64().and_then(|id| u32::try_from(id).ok())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let size = fs::metadata(path).map_err(|e| Error::io(path, "read", e))?.len();
    if size > MAX_BYTES {
        let found = format!("{size} bytes, above the bound of {MAX_BYTES}");
        return Err(problem(path, "file", found, "is this a vocabulary file?"));
    }
    fs::read(path).map_err(|e| Error::io(path, "read", e))
}

/// A token or line in quotes, shortened to what fits a message.
fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

fn bad_token(source: &Source<'_>, name: &str, found: String, remedy: &str) -> Error {
    problem(source.vocabulary, &format!("token {}", quoted(name)), found, remedy)
}

/// An [`Error::Vocabulary`] in short.
pub(super) fn problem(file: &Path, item: &str, found: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::Vocabulary {
        file: file.to_owned(),
        item: item.to_owned(),
        found: found.into(),
        remedy: remedy.into(),
    }
}
