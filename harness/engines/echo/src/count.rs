//! `echo/count`: a contestant whose answer and amount of work are known beforehand.
//!
//! `encode` answers with the bytes of the texts as ids; `detokenize` is the reverse. Each byte costs
//! [`STEPS`] dependent multiply-adds, about 2 ms for 64 KB on one core at 3 GHz: long enough to
//! judge, short enough to stay within one slice of the scheduler. `count-2x` does that work twice,
//! `count-plus-N` N per cent more: what a selftest needs to see doubled work as doubled time and to
//! measure how small a slow-down the gate can see. Answers do not depend on the extra work.

use anyhow::Result;
use std::hint::black_box;
use worker::{Engine, Identity, Job, Laps, Prepare, Receipt, Stop, Task};

/// Dependent multiply-adds per byte.
const STEPS: u64 = 24;

/// The engine and its share of extra work.
pub struct Count {
    variant: String,
    extra_percent: u64,
}

impl Count {
    /// `count`, `count-2x` or `count-plus-N`.
    pub fn parse(variant: &str) -> Option<Count> {
        let extra_percent = match variant {
            "count" => 0,
            "count-2x" => 100,
            _ => variant.strip_prefix("count-plus-")?.parse().ok()?,
        };
        Some(Count { variant: variant.into(), extra_percent })
    }
}

impl Engine for Count {
    fn identity(&self) -> Identity {
        identity(&self.variant)
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        Ok(Box::new(Counting::new(order, self.extra_percent)?))
    }
}

/// The identity of a test contestant of this binary.
pub fn identity(variant: &str) -> Identity {
    Identity { engine: format!("echo/{variant}"), language: "rust".into(), ..Identity::default() }
}

/// One workload of a counting engine.
pub struct Counting {
    input: Input,
    extra_percent: u64,
    /// Ids of an encode run.
    pub ids: Vec<u32>,
    bytes: Vec<u8>,
}

enum Input {
    Texts(Vec<String>),
    Ids(Vec<u32>),
}

impl Counting {
    /// Reads the input of an `encode` or `detokenize` order.
    pub fn new(order: &Prepare, extra_percent: u64) -> Result<Counting, Stop> {
        let input = match order.task {
            Task::Encode { .. } => Input::Texts(order.files.read_texts()?),
            Task::Detokenize {} => Input::Ids(order.files.read_ids()?),
            _ => return Err(Stop::refused(format!("counts bytes and knows no {}", order.task.kind()), "")),
        };
        Ok(Counting { input, extra_percent, ids: Vec::new(), bytes: Vec::new() })
    }
}

impl Job for Counting {
    fn reset(&mut self) -> Result<()> {
        self.ids.clear();
        self.bytes.clear();
        Ok(())
    }

    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        let mut state = 1u64;
        let units = match &self.input {
            Input::Texts(texts) => {
                for byte in texts.iter().flat_map(|text| text.bytes()) {
                    state = churn(state ^ u64::from(byte), STEPS);
                    self.ids.push(u32::from(byte));
                }
                self.ids.len()
            }
            Input::Ids(ids) => {
                for &id in ids {
                    state = churn(state ^ u64::from(id), STEPS);
                    self.bytes.push(id as u8);
                }
                self.bytes.len()
            }
        };
        black_box(churn(state, units as u64 * STEPS * self.extra_percent / 100));
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(match &self.input {
            Input::Texts(_) => Receipt::of_ids(self.ids.clone()),
            Input::Ids(ids) => Receipt::of_text(ids.len(), self.bytes.clone()),
        })
    }
}

/// A chain in which every step waits for the one before it, so that time follows `steps`.
#[inline]
fn churn(mut state: u64, steps: u64) -> u64 {
    for _ in 0..steps {
        state = black_box(state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407));
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::talk;
    use worker::{Reply, digest_bytes, digest_ids, write_ids};

    fn samples(engine: &mut dyn Engine, task: &str, files: &str) -> Vec<(u64, String)> {
        let orders = format!(
            "{{\"order\":\"prepare\",\"workload\":\"w\",\"task\":{task},\"files\":{files},\"threads\":1}}\n\
             {{\"order\":\"measure\",\"samples\":2,\"limit_ns\":1000000000}}\n"
        );
        talk(engine, &orders)
            .into_iter()
            .filter_map(|reply| match reply {
                Reply::Sample(sample) => Some((sample.units, sample.digest)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn bytes_are_the_ids_whatever_the_extra_work() {
        let folder = tempfile::tempdir().unwrap();
        let texts = folder.path().join("texts.jsonl");
        std::fs::write(&texts, "\"ab\"\n\"\u{e9}\\n\"\n").unwrap();
        let expected = digest_ids(&[97, 98, 0xc3, 0xa9, 10]);
        let files = format!(r#"{{"texts":{texts:?}}}"#);
        for variant in ["count", "count-2x", "count-plus-5"] {
            let mut engine = Count::parse(variant).unwrap();
            let got = samples(&mut engine, r#"{"kind":"encode"}"#, &files);
            assert_eq!(got, vec![(5, expected.clone()); 2], "{variant}");
        }
    }

    #[test]
    fn detokenize_is_the_reverse() {
        let folder = tempfile::tempdir().unwrap();
        let ids = folder.path().join("ids");
        write_ids(&ids, &[104, 105]).unwrap();
        let mut engine = Count::parse("count").unwrap();
        let got = samples(&mut engine, r#"{"kind":"detokenize"}"#, &format!(r#"{{"ids":{ids:?}}}"#));
        assert_eq!(got, vec![(2, digest_bytes(b"hi")); 2]);
    }

    #[test]
    fn other_tasks_are_refused_and_missing_files_fail() {
        let order = |task: &str| {
            format!(r#"{{"order":"prepare","workload":"w","task":{task},"files":{{}},"threads":1}}"#)
        };
        let mut engine = Count::parse("count").unwrap();
        let replies = talk(
            &mut engine,
            &format!("{}\n{}\n", order(r#"{"kind":"load"}"#), order(r#"{"kind":"encode"}"#)),
        );
        assert!(matches!(&replies[1], Reply::Refused { reason, .. } if reason.contains("load")));
        assert!(matches!(&replies[2], Reply::Failed { error } if error.contains("files.texts")));
    }
}
