//! `rust/tokenizers`: Hugging Face's crate, called the way its documentation calls fastest.
//!
//! `encode_fast` leaves out character offsets; batches go to `encode_batch_fast` inside a pool of
//! exactly the ordered threads (the crate's parallelism is switched off for one thread). Its word
//! cache lives in the tokenizer, so all runs but the first find it warm where the tokenizer is kept. Text that spells
//! `<|endoftext|>` becomes the special id here, as everywhere in this crate.

use crate::versions;
use anyhow::{Context, Result, anyhow};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;
use tokenizers::utils::parallelism::set_parallelism;
use worker::{Engine, Identity, Job, Laps, Prepare, Receipt, Stop, Task};

/// The engine; keeps the tokenizer of one file and the pool of one thread count.
#[derive(Default)]
pub struct HuggingFace {
    loaded: Option<(PathBuf, Tokenizer)>,
    pool: Option<ThreadPool>,
}

impl Engine for HuggingFace {
    fn identity(&self) -> Identity {
        Identity {
            engine: "rust/tokenizers".into(),
            language: "rust".into(),
            versions: versions::of(&["tokenizers", "rayon", "onig"]),
            settings: [
                ("call".to_string(), "encode_fast, encode_batch_fast".to_string()),
                ("regex".to_string(), "onig".to_string()),
            ]
            .into(),
            ..Identity::default()
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        match order.task {
            Task::Encode { batch, fresh } => {
                let threads = order.threads.max(1);
                set_parallelism(batch && threads > 1);
                if batch
                    && threads > 1
                    && self.pool.as_ref().map(ThreadPool::current_num_threads) != Some(threads)
                {
                    self.pool = Some(ThreadPoolBuilder::new().num_threads(threads).build()?);
                }
                let texts = order.files.read_texts()?;
                self.load(order.files.vocabulary()?)?;
                let (file, tokenizer) = self.loaded.as_mut().context("a tokenizer was just loaded")?;
                let pool = self.pool.as_ref().filter(|_| threads > 1);
                let fresh = fresh.then(|| file.clone());
                Ok(Box::new(Encode { tokenizer, fresh, pool, batch, texts, ids: Vec::new() }))
            }
            Task::Detokenize {} => {
                let ids = order.files.read_ids()?;
                self.load(order.files.vocabulary()?)?;
                let (_, tokenizer) = self.loaded.as_ref().context("a tokenizer was just loaded")?;
                Ok(Box::new(Detokenize { tokenizer, ids, text: String::new() }))
            }
            _ => Err(Stop::refused(format!("tokenizes only; no {}", order.task.kind()), "")),
        }
    }
}

impl HuggingFace {
    fn load(&mut self, vocabulary: &Path) -> Result<()> {
        let file = vocabulary.join("tokenizer.json");
        if self.loaded.as_ref().is_none_or(|(path, _)| *path != file) {
            let tokenizer = read(&file)?;
            self.loaded = Some((file, tokenizer));
        }
        Ok(())
    }
}

fn read(file: &Path) -> Result<Tokenizer> {
    Tokenizer::from_file(file).map_err(|error| anyhow!("cannot load {}: {error}", file.display()))
}

struct Encode<'a> {
    tokenizer: &'a mut Tokenizer,
    /// Where a tokenizer without a memory is read from before every run; absent: the caches stay.
    fresh: Option<PathBuf>,
    pool: Option<&'a ThreadPool>,
    batch: bool,
    texts: Vec<String>,
    ids: Vec<u32>,
}

impl Job for Encode<'_> {
    fn reset(&mut self) -> Result<()> {
        self.ids.clear();
        if let Some(file) = &self.fresh {
            *self.tokenizer = read(file)?;
        }
        Ok(())
    }

    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        if !self.batch {
            for text in &self.texts {
                let encoding = self.tokenizer.encode_fast(text.as_str(), false).map_err(|e| anyhow!(e))?;
                self.ids.extend_from_slice(encoding.get_ids());
            }
            return Ok(());
        }
        let texts: Vec<&str> = self.texts.iter().map(String::as_str).collect();
        let call = || self.tokenizer.encode_batch_fast(texts, false);
        let encodings = match self.pool {
            Some(pool) => pool.install(call),
            None => call(),
        };
        for encoding in encodings.map_err(|e| anyhow!(e))? {
            self.ids.extend_from_slice(encoding.get_ids());
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
    text: String,
}

impl Job for Detokenize<'_> {
    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        self.text = self.tokenizer.decode(&self.ids, false).map_err(|e| anyhow!(e))?;
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt::of_text(self.ids.len(), self.text.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{measure, sample, vocabulary, write_texts};
    use worker::{Reply, digest_bytes, digest_ids, write_ids};

    #[test]
    fn single_calls_and_batches_of_any_width_give_the_same_ids() {
        let folder = tempfile::tempdir().unwrap();
        vocabulary(folder.path());
        let texts = folder.path().join("texts.jsonl");
        write_texts(&texts, &["the the", "", "t\u{e9}h\n", "other"]);
        let files = format!(r#"{{"vocabulary":{:?},"texts":{texts:?}}}"#, folder.path());
        let mut engine = HuggingFace::default();
        let one = sample(&mut engine, r#"{"kind":"encode"}"#, &files, 1);
        // the |Ġ|the || t|Ã|©|h|Ċ || o|the|r
        assert_eq!(one.units, 3 + 5 + 3);
        let fresh = sample(&mut engine, r#"{"kind":"encode","fresh":true}"#, &files, 1);
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
        // `!` is the first printable letter; 256 bytes, then `th`, then `the`.
        write_ids(&ids, &[257, 0]).unwrap();
        let files = format!(r#"{{"vocabulary":{:?},"texts":{texts:?},"ids":{ids:?}}}"#, folder.path());
        let mut engine = HuggingFace::default();
        assert_eq!(sample(&mut engine, r#"{"kind":"encode"}"#, &files, 1).digest, digest_ids(&[257, 0]));
        let text = sample(&mut engine, r#"{"kind":"detokenize"}"#, &files, 1);
        assert_eq!((text.units, text.digest), (2, digest_bytes(b"the!")));
    }

    #[test]
    fn a_missing_vocabulary_fails_and_another_task_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let texts = folder.path().join("texts.jsonl");
        write_texts(&texts, &["a"]);
        let files = format!(r#"{{"vocabulary":{:?},"texts":{texts:?}}}"#, folder.path());
        let failed = measure(&mut HuggingFace::default(), r#"{"kind":"encode"}"#, &files, 1);
        assert!(
            matches!(&failed[0], Reply::Failed { error } if error.contains("tokenizer.json")),
            "{failed:?}"
        );
        let refused = measure(&mut HuggingFace::default(), r#"{"kind":"load"}"#, "{}", 1);
        assert!(matches!(&refused[0], Reply::Refused { .. }), "{refused:?}");
    }
}
