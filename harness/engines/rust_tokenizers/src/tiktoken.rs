//! `rust/tiktoken`: tiktoken-rs over the r50k_base ranks it carries, one `encode_ordinary` a text.
//!
//! It has no batch call and no threads of its own, so batches are the same loop. It spells
//! `<|endoftext|>` out as ordinary text, where the reference makes it one special id.

use crate::versions;
use anyhow::Result;
use tiktoken_rs::{CoreBPE, r50k_base, r50k_base_singleton};
use worker::{Engine, Identity, Job, Laps, Prepare, Receipt, Stop, Task};

/// The engine; the ranks live in the library's own singleton.
pub struct Tiktoken;

impl Engine for Tiktoken {
    fn identity(&self) -> Identity {
        Identity {
            engine: "rust/tiktoken".into(),
            language: "rust".into(),
            versions: versions::of(&["tiktoken-rs", "fancy-regex"]),
            settings: [("call".to_string(), "encode_ordinary".to_string())].into(),
            ..Identity::default()
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        match order.task {
            Task::Encode { batch: true, .. } if order.threads > 1 => {
                Err(Stop::refused("tiktoken-rs has no batch call over threads", "ask for one thread"))
            }
            Task::Encode { fresh, .. } => {
                let texts = order.files.read_texts()?;
                let bpe = match fresh {
                    true => Bpe::Fresh(Box::new(r50k_base()?)),
                    false => Bpe::Kept(r50k_base_singleton()),
                };
                Ok(Box::new(Encode { bpe, texts, ids: Vec::new() }))
            }
            Task::Detokenize {} => {
                let ids = order.files.read_ids()?;
                Ok(Box::new(Detokenize { bpe: r50k_base_singleton(), ids, bytes: Vec::new() }))
            }
            _ => Err(Stop::refused(format!("tokenizes only; no {}", order.task.kind()), "")),
        }
    }
}

/// It keeps no words; what a kept one remembers are the states that its regex has met.
enum Bpe {
    Kept(&'static CoreBPE),
    Fresh(Box<CoreBPE>),
}

struct Encode {
    bpe: Bpe,
    texts: Vec<String>,
    ids: Vec<u32>,
}

impl Job for Encode {
    fn reset(&mut self) -> Result<()> {
        self.ids.clear();
        if let Bpe::Fresh(bpe) = &mut self.bpe {
            **bpe = r50k_base()?;
        }
        Ok(())
    }

    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        let bpe = match &self.bpe {
            Bpe::Kept(bpe) => bpe,
            Bpe::Fresh(bpe) => &**bpe,
        };
        for text in &self.texts {
            self.ids.extend(bpe.encode_ordinary(text));
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt::of_ids(self.ids.clone()))
    }
}

struct Detokenize {
    bpe: &'static CoreBPE,
    ids: Vec<u32>,
    bytes: Vec<u8>,
}

impl Job for Detokenize {
    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        self.bytes = self.bpe.decode_bytes(&self.ids)?;
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt::of_text(self.ids.len(), self.bytes.clone()))
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
        let encoded = sample(&mut Tiktoken, r#"{"kind":"encode"}"#, &files, 1);
        assert_eq!((encoded.units, encoded.digest), (2, digest_ids(&[15496, 995])));
        let fresh = sample(&mut Tiktoken, r#"{"kind":"encode","fresh":true}"#, &files, 1);
        assert_eq!(fresh.digest, digest_ids(&[15496, 995]));
        let decoded = sample(&mut Tiktoken, r#"{"kind":"detokenize"}"#, &files, 1);
        assert_eq!(decoded.digest, digest_bytes(b"Hello world"));
    }

    #[test]
    fn a_threaded_batch_is_refused() {
        let replies = measure(&mut Tiktoken, r#"{"kind":"encode","batch":true}"#, "{}", 2);
        assert!(matches!(&replies[0], Reply::Refused { remedy, .. } if remedy.contains("one thread")));
    }
}
