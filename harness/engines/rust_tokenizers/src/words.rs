//! `rust/regex-words`: counts the matches of `\w+` in each text with the crate regex.
//!
//! Articles time this split and call it tokenization; kept so that its figures can be set beside
//! BPE's and seen to be another task. `\w` is that of Unicode's Annex 18, which counts marks as part
//! of a word; Python's re does not, so the two agree on English and differ on Indic scripts.

use crate::versions;
use anyhow::{Context, Result};
use regex::Regex;
use worker::{Answer, Engine, Identity, Job, Laps, Prepare, Receipt, Stop, Task, Unit};

/// The engine; the pattern is compiled off the clock.
pub struct Words;

impl Engine for Words {
    fn identity(&self) -> Identity {
        Identity {
            engine: "rust/regex-words".into(),
            language: "rust".into(),
            versions: versions::of(&["regex", "regex-automata"]),
            settings: [("pattern".to_string(), r"\w+".to_string())].into(),
            ..Identity::default()
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        let Task::WordSplit {} = order.task else {
            return Err(Stop::refused(format!("splits words only; no {}", order.task.kind()), ""));
        };
        let word = Regex::new(r"\w+").context("the pattern is fixed")?;
        Ok(Box::new(Split { word, texts: order.files.read_texts()?, counts: Vec::new() }))
    }
}

struct Split {
    word: Regex,
    texts: Vec<String>,
    counts: Vec<u32>,
}

impl Job for Split {
    fn reset(&mut self) -> Result<()> {
        self.counts.clear();
        Ok(())
    }

    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        self.counts.extend(self.texts.iter().map(|text| self.word.find_iter(text).count() as u32));
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt {
            units: self.counts.iter().map(|&count| u64::from(count)).sum(),
            unit: Unit::Words,
            answer: Answer::Ids(self.counts.clone()),
            logits: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{sample, write_texts};
    use worker::digest_ids;

    #[test]
    fn words_are_unicode_letters_digits_and_underscores() {
        let folder = tempfile::tempdir().unwrap();
        let texts = folder.path().join("texts.jsonl");
        write_texts(&texts, &["it's a_b, 42!", "", "\u{e9}t\u{e9} \u{4e16}\u{754c}"]);
        let files = format!(r#"{{"texts":{texts:?}}}"#);
        let split = sample(&mut Words, r#"{"kind":"word_split"}"#, &files, 1);
        assert_eq!((split.units, split.unit), (6, Unit::Words));
        assert_eq!(split.digest, digest_ids(&[4, 0, 2]));
    }
}
