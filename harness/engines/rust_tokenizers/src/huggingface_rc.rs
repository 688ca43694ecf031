//! `rust/tokenizers-rc`: the next major version of Hugging Face's crate, which is another tokenizer than
//! `rust/tokenizers`: SIMD splitting, a word cache a thread, ids alone and no offsets.
//!
//! One text is `encode_into`, the call that allocates nothing, into one buffer for all runs. A batch is the
//! library's own call over texts it is given to keep, as it wants them; they are copied off the clock.
//! The upgrade of an older tokenizer.json is off the clock too: a saved file needs it once.

use crate::versions;
use anyhow::{Context, Result, anyhow};
use std::path::{Path, PathBuf};
use tokenizers_rc::parallelism::set_num_threads;
use tokenizers_rc::pipeline::{EncodeOptions, Inputs, PipelineToken, PipelineTokenizer};
use tokenizers_rc::{canonicalize_file, from_json};
use worker::{Engine, Identity, Job, Laps, Prepare, Receipt, Stop, Task};

/// The engine; keeps the tokenizer of one file and, inside it, the word caches of earlier runs.
#[derive(Default)]
pub struct HuggingFaceRc {
    loaded: Option<Loaded>,
}

struct Loaded {
    file: PathBuf,
    /// The file's content in the form this version reads.
    json: String,
    tokenizer: PipelineTokenizer,
}

impl Engine for HuggingFaceRc {
    fn identity(&self) -> Identity {
        Identity {
            engine: "rust/tokenizers-rc".into(),
            language: "rust".into(),
            versions: versions::of(&["tokenizers@1", "tk-encode", "bitcannon", "rayon"]),
            settings: [("call".to_string(), "encode_into, encode of a batch".to_string())].into(),
            ..Identity::default()
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        match order.task {
            Task::Encode { batch, fresh } => {
                // One thread means no pool: the calling thread does the work.
                set_num_threads(order.threads.max(1));
                let texts = order.files.read_texts()?;
                let loaded = self.load(order.files.vocabulary()?)?;
                Ok(match batch {
                    true => Box::new(Batch { loaded, fresh, texts, given: None, ids: Vec::new() }),
                    false => Box::new(Encode { loaded, fresh, texts, ids: Vec::new() }),
                })
            }
            Task::Detokenize {} => {
                let ids = order.files.read_ids()?;
                let loaded = self.load(order.files.vocabulary()?)?;
                Ok(Box::new(Detokenize { loaded, ids, text: String::new() }))
            }
            _ => Err(Stop::refused(format!("tokenizes only; no {}", order.task.kind()), "")),
        }
    }
}

impl HuggingFaceRc {
    fn load(&mut self, vocabulary: &Path) -> Result<&mut Loaded> {
        let file = vocabulary.join("tokenizer.json");
        if self.loaded.as_ref().is_none_or(|loaded| loaded.file != file) {
            let json = canonicalize_file(&file).with_context(|| format!("cannot load {}", file.display()))?;
            let tokenizer = build(&json)?;
            self.loaded = Some(Loaded { file, json, tokenizer });
        }
        self.loaded.as_mut().context("a tokenizer was just loaded")
    }
}

fn build(json: &str) -> Result<PipelineTokenizer> {
    from_json(json).map_err(|error| anyhow!("cannot load tokenizer.json: {error}"))
}

impl Loaded {
    /// In place of the tokenizer one that remembers nothing.
    fn forget(&mut self) -> Result<()> {
        self.tokenizer = build(&self.json)?;
        Ok(())
    }
}

/// Ids out of what the library gives, and special tokens found in the text, as in the reference.
fn options() -> EncodeOptions {
    EncodeOptions::no_specials()
}

struct Encode<'a> {
    loaded: &'a mut Loaded,
    fresh: bool,
    texts: Vec<String>,
    ids: Vec<PipelineToken>,
}

impl Job for Encode<'_> {
    fn reset(&mut self) -> Result<()> {
        self.ids.clear();
        if self.fresh {
            self.loaded.forget()?;
        }
        Ok(())
    }

    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        let options = options();
        for text in &self.texts {
            self.loaded.tokenizer.encode_into(text, &options, &mut self.ids).map_err(|e| anyhow!(e))?;
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt::of_ids(PipelineToken::cast_slice(&self.ids).to_vec()))
    }
}

struct Batch<'a> {
    loaded: &'a mut Loaded,
    fresh: bool,
    texts: Vec<String>,
    /// The texts of the next run, which takes them.
    given: Option<Inputs>,
    ids: Vec<u32>,
}

impl Job for Batch<'_> {
    fn reset(&mut self) -> Result<()> {
        self.ids.clear();
        if self.fresh {
            self.loaded.forget()?;
        }
        self.given = Some(Inputs::from(self.texts.clone()));
        Ok(())
    }

    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        let given = self.given.take().context("a run takes the texts that `reset` gave it")?;
        let encodings = self.loaded.tokenizer.encode(given, &options()).wait().map_err(|e| anyhow!(e))?;
        for encoding in encodings {
            self.ids.extend_from_slice(PipelineToken::cast_slice(encoding.ids()));
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt::of_ids(self.ids.clone()))
    }
}

struct Detokenize<'a> {
    loaded: &'a Loaded,
    ids: Vec<u32>,
    text: String,
}

impl Job for Detokenize<'_> {
    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        self.text = self.loaded.tokenizer.decode(&self.ids, false).map_err(|e| anyhow!(e))?;
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt::of_text(self.ids.len(), self.text.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{SPECIAL, measure, sample, vocabulary, write_texts};
    use worker::{Reply, digest_bytes, digest_ids, write_ids};

    #[test]
    fn single_calls_and_batches_of_any_width_give_the_ids_of_the_stable_version() {
        let folder = tempfile::tempdir().unwrap();
        vocabulary(folder.path());
        let texts = folder.path().join("texts.jsonl");
        // Beyond the size from which the library spreads a batch over threads.
        let long = "the other ".repeat(2000);
        write_texts(&texts, &["the the", "", "t\u{e9}h\n", &format!("a{SPECIAL}b"), &long, &long]);
        let files = format!(r#"{{"vocabulary":{:?},"texts":{texts:?}}}"#, folder.path());
        let mut stable = crate::huggingface::HuggingFace::default();
        let known = sample(&mut stable, r#"{"kind":"encode"}"#, &files, 1);
        let mut engine = HuggingFaceRc::default();
        let one = sample(&mut engine, r#"{"kind":"encode"}"#, &files, 1);
        assert_eq!((one.units, &one.digest), (known.units, &known.digest));
        let fresh = sample(&mut engine, r#"{"kind":"encode","fresh":true}"#, &files, 1);
        assert_eq!((fresh.units, &fresh.digest), (one.units, &one.digest));
        let fresh = sample(&mut engine, r#"{"kind":"encode","batch":true,"fresh":true}"#, &files, 2);
        assert_eq!((fresh.units, &fresh.digest), (one.units, &one.digest));
        for threads in [1, 2, 3] {
            let batch = sample(&mut engine, r#"{"kind":"encode","batch":true}"#, &files, threads);
            assert_eq!((batch.units, &batch.digest), (one.units, &one.digest), "{threads} threads");
        }
    }

    #[test]
    fn known_ids_and_their_text() {
        let folder = tempfile::tempdir().unwrap();
        vocabulary(folder.path());
        let texts = folder.path().join("texts.jsonl");
        write_texts(&texts, &["the!"]);
        let ids = folder.path().join("ids");
        write_ids(&ids, &[257, 0]).unwrap();
        let files = format!(r#"{{"vocabulary":{:?},"texts":{texts:?},"ids":{ids:?}}}"#, folder.path());
        let mut engine = HuggingFaceRc::default();
        assert_eq!(sample(&mut engine, r#"{"kind":"encode"}"#, &files, 1).digest, digest_ids(&[257, 0]));
        let text = sample(&mut engine, r#"{"kind":"detokenize"}"#, &files, 1);
        assert_eq!((text.units, text.digest), (2, digest_bytes(b"the!")));
    }

    #[test]
    fn a_missing_vocabulary_fails() {
        let folder = tempfile::tempdir().unwrap();
        let texts = folder.path().join("texts.jsonl");
        write_texts(&texts, &["a"]);
        let files = format!(r#"{{"vocabulary":{:?},"texts":{texts:?}}}"#, folder.path());
        let failed = measure(&mut HuggingFaceRc::default(), r#"{"kind":"encode"}"#, &files, 1);
        assert!(
            matches!(&failed[0], Reply::Failed { error } if error.contains("tokenizer.json")),
            "{failed:?}"
        );
    }

    #[test]
    fn its_version_is_not_that_of_the_stable_one() {
        let identity = HuggingFaceRc::default().identity();
        assert!(identity.versions["tokenizers"].starts_with("1."), "{identity:?}");
    }
}
