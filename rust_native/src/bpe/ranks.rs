//! Files of ranks, as tiktoken reads them: a token in base64 and its rank, which is its id, on each line.
//!
//! Such a file has no merges. tiktoken merges, of all neighbours whose bytes together are a token, those of
//! lowest rank, leftmost first. In the merging of any piece, look at two tokens that are about to become
//! one: until then no merge has crossed either end of theirs, so between them all went as it would have with
//! these bytes alone. So of all pairs that spell a token only one ever meets: the one that merging the
//! token's own bytes joins last. One merge a token therefore says the same as the ranks, and the merges are
//! found by merging each token once. A token that its own bytes do not lead to has no merge at all, and
//! is still found as a whole piece, which tiktoken looks up first.
//!
//! Invariant: ids equal tiktoken's for the same ranks, pattern and special tokens.

use std::collections::HashMap;
use std::path::Path;
use std::str;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::gpt2::END_OF_TEXT;
use super::load::{problem, read};
use super::{Pattern, Tokenizer, merges};
use crate::Error;
use crate::init::hex;

/// Longest token: merging each one costs the square of its length. The longest published one has 128 bytes.
const MAX_TOKEN: usize = 1024;
/// No rank.
const NONE: u32 = u32::MAX;

/// A published file: SHA-256, pattern and special tokens, which tiktoken has in its source.
struct Published {
    digest: &'static str,
    pattern: Pattern,
    specials: &'static [(&'static str, u32)],
}

const PUBLISHED: [Published; 4] = [
    Published {
        digest: "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
        pattern: Pattern::Gpt2,
        specials: &[(END_OF_TEXT, 50_256)],
    },
    Published {
        digest: "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
        pattern: Pattern::Gpt2,
        specials: &[(END_OF_TEXT, 50_256)],
    },
    Published {
        digest: "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        pattern: Pattern::Cl100k,
        specials: &[
            (END_OF_TEXT, 100_257),
            ("<|fim_prefix|>", 100_258),
            ("<|fim_middle|>", 100_259),
            ("<|fim_suffix|>", 100_260),
            ("<|endofprompt|>", 100_276),
        ],
    },
    Published {
        digest: "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        pattern: Pattern::O200k,
        specials: &[(END_OF_TEXT, 199_999), ("<|endofprompt|>", 200_018)],
    },
];

impl Tokenizer {
    /// Loads one of OpenAI's published files of ranks: r50k_base, p50k_base, cl100k_base or o200k_base. They are
    /// known by their digest, because pattern and special tokens are in no such file.
    ///
    /// # Errors
    /// [`Error::Io`] for what cannot be read, [`Error::Vocabulary`] for a file that is none of the four.
    pub fn from_tiktoken(path: &Path) -> Result<Self, Error> {
        let text = read(path)?;
        let digest = hex(&Sha256::digest(&text));
        let Some(known) = PUBLISHED.into_iter().find(|known| known.digest == digest) else {
            let remedy =
                "use one of these unchanged, a tokenizer.json, or, in a program, `Tokenizer::from_ranks`";
            let found = "not r50k_base, p50k_base, cl100k_base or o200k_base, and ranks alone say neither pattern \
                         nor special tokens";
            return Err(problem(path, "file", found, remedy));
        };
        File { path }.tokenizer(&text, known.pattern, known.specials)
    }

    /// Loads any file of ranks, with the pattern and the special tokens that belong to it.
    ///
    /// # Errors
    /// [`Error::Io`] for what cannot be read, [`Error::Vocabulary`] naming the line or token for what is damaged.
    pub fn from_ranks(path: &Path, pattern: Pattern, specials: &[(&str, u32)]) -> Result<Self, Error> {
        File { path }.tokenizer(&read(path)?, pattern, specials)
    }
}

/// The file under inspection, for messages.
struct File<'a> {
    path: &'a Path,
}

impl File<'_> {
    fn tokenizer(&self, text: &[u8], pattern: Pattern, specials: &[(&str, u32)]) -> Result<Tokenizer, Error> {
        let tokens = self.tokens(text)?;
        let ids: HashMap<&[u8], u32> =
            tokens.iter().zip(0..).filter_map(|(token, id)| Some((token.as_deref()?, id))).collect();
        if ids.len() != tokens.iter().flatten().count() {
            let twice =
                tokens.iter().zip(0..).find(|(token, id)| token.as_deref().is_some_and(|t| ids[t] != *id));
            let item = format!("rank {}", twice.map_or(0, |(_, id)| id));
            return Err(problem(
                self.path,
                &item,
                "a token that has another rank too",
                "fetch the file again",
            ));
        }
        let mut byte_ids = [NONE; 256];
        for (byte, id) in (0..=255_u8).zip(&mut byte_ids) {
            let found = ids.get(&[byte][..]);
            *id = *found.ok_or_else(|| {
                let found = format!("no token for byte {byte:#04x}");
                problem(self.path, "file", found, "the file is truncated: fetch it again")
            })?;
        }
        let merges = merges_of(&tokens, &ids);
        let specials = self.specials(&tokens, &ids, specials)?;
        let (bytes, starts) = laid_out(tokens, &specials);
        Ok(Tokenizer::new(bytes, starts, byte_ids, &merges, specials, true)
            .with_pattern(pattern)
            .with_whole_tokens())
    }

    /// The tokens by rank; `None` where there is none.
    fn tokens(&self, text: &[u8]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut tokens: Vec<Option<Vec<u8>>> = Vec::new();
        for (line, number) in text.split(|&byte| byte == b'\n').zip(1_usize..) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let bad = |found: &str| {
                problem(self.path, &format!("line {number}"), found, "the file is damaged: fetch it again")
            };
            let mut fields = line.split(|&byte| byte == b' ');
            let (Some(token), Some(rank), None) = (fields.next(), fields.next(), fields.next()) else {
                return Err(bad("not a token and its rank with a space between"));
            };
            let token = STANDARD.decode(token).map_err(|error| bad(&format!("no base64: {error}")))?;
            if token.is_empty() || token.len() > MAX_TOKEN {
                return Err(bad(&format!("a token of {} bytes, not of 1 to {MAX_TOKEN}", token.len())));
            }
            let rank = str::from_utf8(rank).ok().and_then(|rank| rank.parse::<usize>().ok());
            let Some(rank) = rank.filter(|&rank| rank < merges::MAX_IDS - 1) else {
                return Err(bad("the rank is no number below 2,097,151"));
            };
            if tokens.len() <= rank {
                tokens.resize(rank + 1, None);
            }
            if tokens[rank].replace(token).is_some() {
                return Err(bad(&format!("rank {rank} is given twice")));
            }
        }
        Ok(tokens)
    }

    /// The special tokens, none of them at another's place; and no rank without a token before the last.
    fn specials(
        &self,
        tokens: &[Option<Vec<u8>>],
        ids: &HashMap<&[u8], u32>,
        specials: &[(&str, u32)],
    ) -> Result<Vec<(String, u32)>, Error> {
        let mut places: HashMap<u32, &str> = HashMap::new();
        for &(token, id) in specials {
            let taken =
                places.insert(id, token).is_some() || tokens.get(id as usize).is_some_and(Option::is_some);
            if taken
                || token.is_empty()
                || ids.contains_key(token.as_bytes())
                || id as usize >= merges::MAX_IDS - 1
            {
                let found = format!("id {id} or its spelling is in use already, empty or too large");
                let remedy = "give the special tokens that belong to this file";
                return Err(problem(self.path, &format!("special token {token:?}"), found, remedy));
            }
        }
        let hole = tokens.iter().zip(0..).find(|(token, id)| token.is_none() && !places.contains_key(id));
        if let Some((_, id)) = hole {
            let found = "no token, and no special one either";
            let remedy = "the file is truncated, or a special token was not given";
            return Err(problem(self.path, &format!("rank {id}"), found, remedy));
        }
        Ok(specials.iter().map(|&(token, id)| (token.to_owned(), id)).collect())
    }
}

/// The merge of each token that has one, in the order of their ranks.
fn merges_of(tokens: &[Option<Vec<u8>>], ids: &HashMap<&[u8], u32>) -> Vec<(u32, u32, u32)> {
    let mut pairs = vec![NONE; 1 << 16];
    for (token, &id) in ids {
        if let &[left, right] = *token {
            pairs[usize::from(left) << 8 | usize::from(right)] = id;
        }
    }
    let merge = |(token, id): (&Option<Vec<u8>>, u32)| {
        let (left, right) = last_pair(token.as_deref()?, &pairs, ids)?;
        Some((left, right, id))
    };
    tokens.iter().zip(0..).filter_map(merge).collect()
}

/// The two tokens that merging the bytes of a token joins last, if that gives the token.
fn last_pair(token: &[u8], pairs: &[u32], ids: &HashMap<&[u8], u32>) -> Option<(u32, u32)> {
    // Part `i` is from `places[i]` to `places[i + 1]`; with the next one it has rank `ranks[i]`.
    let mut places: Vec<usize> = (0..=token.len()).collect();
    let mut ranks: Vec<u32> =
        token.windows(2).map(|pair| pairs[usize::from(pair[0]) << 8 | usize::from(pair[1])]).collect();
    let rank =
        |places: &[usize], at: usize| ids.get(&token[places[at]..places[at + 2]]).copied().unwrap_or(NONE);
    while ranks.len() > 1 {
        let (at, &least) = ranks.iter().enumerate().min_by_key(|&(at, &rank)| (rank, at))?;
        if least == NONE {
            return None;
        }
        places.remove(at + 1);
        ranks.remove(at);
        if at < ranks.len() {
            ranks[at] = rank(&places, at);
        }
        if at > 0 {
            ranks[at - 1] = rank(&places, at - 1);
        }
    }
    let &[start, middle, end] = places.as_slice() else { return None };
    Some((*ids.get(&token[start..middle])?, *ids.get(&token[middle..end])?))
}

/// All tokens one after the other and where each begins; an id without one is empty.
fn laid_out(mut tokens: Vec<Option<Vec<u8>>>, specials: &[(String, u32)]) -> (Vec<u8>, Vec<u32>) {
    for (token, id) in specials {
        let id = *id as usize;
        if tokens.len() <= id {
            tokens.resize(id + 1, None);
        }
        tokens[id] = Some(token.as_bytes().to_vec());
    }
    let (mut bytes, mut starts) = (Vec::new(), vec![0]);
    for token in tokens {
        bytes.extend_from_slice(&token.unwrap_or_default());
        // A file is at most 256 MiB, so this is far below 2^32.
        starts.push(bytes.len() as u32);
    }
    (bytes, starts)
}
