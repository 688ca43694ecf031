//! `rust/bpe`: GitHub's crates bpe and bpe-openai over GPT-2's tokens, one `encode` a text.
//!
//! bpe merges by exact backtracking over an automaton of all tokens and remembers no words, so its time
//! grows with the text and with nothing else. bpe-openai brings the splitting, but no r50k_base: the tokens
//! come from tiktoken-rs, and GPT-2's pattern is written in the form that its `new_lookahead` wants. Special
//! tokens are unknown to it: their spelling is ordinary text, and their ids have no text.

use crate::versions;
use anyhow::{Context, Result, anyhow};
use bpe_openai::Tokenizer;
use bpe_openai::byte_pair_encoding::BytePairEncoding;
use tiktoken_rs::r50k_base_singleton;
use worker::{Engine, Identity, Job, Laps, Prepare, Receipt, Stop, Task};

/// r50k_base without its one special token.
const TOKENS: u32 = 50_256;

/// Makes the hashes of r50k_base's tokens differ from one another, which bpe requires and checks.
const HASH_FACTOR: u64 = 17_846_336_922_010_275_747;

/// GPT-2's pattern without look-ahead, most preferred first; true: the last character is given back.
const PATTERNS: [(&str, bool); 3] = [
    (r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+$", false),
    (r"\s+\s", true),
    (r"\s+", false),
];

/// The engine; building its automata takes longer than most runs, so they are kept.
#[derive(Default)]
pub struct RustGems {
    built: Option<Tokenizer>,
}

impl RustGems {
    fn build(&mut self) -> Result<&mut Tokenizer> {
        if self.built.is_none() {
            let r50k = r50k_base_singleton();
            let tokens: Result<Vec<Vec<u8>>, _> = (0..TOKENS).map(|id| r50k.decode_bytes(&[id])).collect();
            let tokens = tokens.map_err(|error| anyhow!("r50k_base lacks a token: {error:?}"))?;
            self.built =
                Some(split_by_pattern(BytePairEncoding::from_dictionary(tokens, Some(HASH_FACTOR)))?);
        }
        self.built.as_mut().context("a tokenizer was just built")
    }
}

fn split_by_pattern(bpe: BytePairEncoding) -> Result<Tokenizer> {
    Tokenizer::new_lookahead(bpe, &PATTERNS, false).map_err(|error| anyhow!("GPT-2's pattern: {error}"))
}

impl Engine for RustGems {
    fn identity(&self) -> Identity {
        Identity {
            engine: "rust/bpe".into(),
            language: "rust".into(),
            versions: versions::of(&["bpe", "bpe-openai", "regex-automata"]),
            settings: [("call".to_string(), "Tokenizer::encode".to_string())].into(),
            ..Identity::default()
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        match order.task {
            Task::Encode { batch: true, .. } if order.threads > 1 => {
                Err(Stop::refused("bpe has no batch call over threads", "ask for one thread"))
            }
            Task::Encode { fresh, .. } => {
                let texts = order.files.read_texts()?;
                self.build()?;
                Ok(Box::new(Encode { built: &mut self.built, fresh, texts, ids: Vec::new() }))
            }
            Task::Detokenize {} => {
                let ids = order.files.read_ids()?;
                if let Some(id) = ids.iter().find(|&&id| id >= TOKENS) {
                    let reason = format!("id {id} is special or none at all, and bpe knows neither");
                    return Err(Stop::refused(reason, "give ids of ordinary text"));
                }
                Ok(Box::new(Detokenize { tokenizer: self.build()?, ids, text: None }))
            }
            _ => Err(Stop::refused(format!("tokenizes only; no {}", order.task.kind()), "")),
        }
    }
}

struct Encode<'a> {
    /// There between runs; empty only inside a `reset` that failed.
    built: &'a mut Option<Tokenizer>,
    fresh: bool,
    texts: Vec<String>,
    ids: Vec<u32>,
}

impl Job for Encode<'_> {
    fn reset(&mut self) -> Result<()> {
        self.ids.clear();
        if self.fresh {
            // The automata never change; what a kept tokenizer remembers are the states its regex has met.
            let bpe = self.built.take().context("a tokenizer was built")?.bpe;
            *self.built = Some(split_by_pattern(bpe)?);
        }
        Ok(())
    }

    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        let tokenizer = self.built.as_ref().context("a tokenizer was built")?;
        for text in &self.texts {
            self.ids.extend(tokenizer.encode(text.as_str()));
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt::of_ids(self.ids.clone()))
    }
}

struct Detokenize<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    text: Option<String>,
}

impl Job for Detokenize<'_> {
    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        self.text = self.tokenizer.decode(&self.ids);
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let text = self.text.as_ref().context("the ids' bytes are no UTF-8, which `decode` does not give")?;
        Ok(Receipt::of_text(self.ids.len(), text.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{measure, sample, write_texts};
    use worker::{Reply, digest_bytes, digest_ids, write_ids};

    #[test]
    fn published_ids_of_a_known_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let (texts, ids) = (folder.path().join("texts.jsonl"), folder.path().join("ids"));
        write_texts(&texts, &["Hello", " world"]);
        write_ids(&ids, &[15496, 995]).unwrap();
        let files = format!(r#"{{"texts":{texts:?},"ids":{ids:?}}}"#);
        let mut engine = RustGems::default();
        let encoded = sample(&mut engine, r#"{"kind":"encode"}"#, &files, 1);
        assert_eq!((encoded.units, encoded.digest), (2, digest_ids(&[15496, 995])));
        let fresh = sample(&mut engine, r#"{"kind":"encode","fresh":true}"#, &files, 1);
        assert_eq!(fresh.digest, digest_ids(&[15496, 995]));
        let decoded = sample(&mut engine, r#"{"kind":"detokenize"}"#, &files, 1);
        assert_eq!(decoded.digest, digest_bytes(b"Hello world"));
    }

    /// Whatever stands around whitespace, apostrophes and borders between classes, against tiktoken-rs,
    /// which has the pattern with its look-ahead.
    #[test]
    fn pieces_are_those_of_the_pattern_with_look_ahead() {
        let mut engine = RustGems::default();
        let tokenizer = engine.build().unwrap();
        let atoms = [" ", "\n", "\t", "\u{a0}", "a", "\u{e9}", "1", "\u{bd}", "!", "'s", "'", "\u{4e16}"];
        for first in atoms {
            for second in atoms {
                for third in atoms {
                    for fourth in atoms {
                        let text = [first, second, third, fourth].concat();
                        let known = r50k_base_singleton().encode_ordinary(&text);
                        assert_eq!(tokenizer.encode(text.as_str()), known, "{text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn threads_and_special_ids_are_refused() {
        let refused = measure(&mut RustGems::default(), r#"{"kind":"encode","batch":true}"#, "{}", 2);
        assert!(matches!(&refused[0], Reply::Refused { remedy, .. } if remedy.contains("one thread")));
        let folder = tempfile::tempdir().unwrap();
        let ids = folder.path().join("ids");
        write_ids(&ids, &[0, TOKENS]).unwrap();
        let files = format!(r#"{{"ids":{ids:?}}}"#);
        let refused = measure(&mut RustGems::default(), r#"{"kind":"detokenize"}"#, &files, 1);
        assert!(matches!(&refused[0], Reply::Refused { reason, .. } if reason.contains("50256")));
    }
}
