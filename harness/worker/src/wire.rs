//! The wire: one JSON object a line, orders in on stdin, replies out on a private copy of stdout.
//!
//! harness/FORMAT.md is the same contract in prose, for workers in other languages. Integers are in
//! base units (ns, bytes); nothing on the wire is rounded.

use crate::{Footprint, Memory, Task};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Raised with every change that an older reader would misunderstand.
pub const PROTOCOL: u32 = 1;

/// What the harness says to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Off the clock: get ready for one workload. Replaces the job before it.
    Prepare(Prepare),
    /// Time up to `samples` runs; stop early once `limit_ns` has passed since the order came (at
    /// least one run is made). The first run after `prepare` is marked `first`.
    Measure {
        /// Most runs to make.
        samples: u32,
        /// Time after which no further run is begun.
        limit_ns: u64,
    },
    /// Write the answer of the last run to files, to compare it with another engine's.
    Explain {
        /// Receives the answer: ids as little-endian u32, or bytes.
        answer: PathBuf,
        /// Receives the last logits as little-endian f32, if the task has any.
        logits: PathBuf,
    },
    /// Say what this engine needs on disk.
    Footprint,
    /// Drop the job and what it holds.
    Release,
    /// End the process.
    Quit,
}

/// Everything an engine may know about a workload. Files are absolute paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// The workload's name: for messages only.
    pub workload: String,
    /// What to do.
    pub task: Task,
    /// What to do it with.
    pub files: Files,
    /// Threads the engine may use for its work.
    pub threads: usize,
}

/// Paths an order hands over. A task uses those it needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Files {
    /// Hugging Face model folder: config.json and model.safetensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Folder with vocab.json, merges.txt and tokenizer.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<PathBuf>,
    /// Texts: one JSON string a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<PathBuf>,
    /// Token ids: little-endian u32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<PathBuf>,
}

impl Files {
    /// The model folder, or an error that says the order lacked it.
    pub fn model(&self) -> Result<&Path> {
        self.model.as_deref().context("the order names no model folder (files.model)")
    }
    /// The vocabulary folder, or an error that says the order lacked it.
    pub fn vocabulary(&self) -> Result<&Path> {
        self.vocabulary.as_deref().context("the order names no vocabulary (files.vocabulary)")
    }
    /// The texts, read.
    pub fn read_texts(&self) -> Result<Vec<String>> {
        read_texts(self.texts.as_deref().context("the order names no texts (files.texts)")?)
    }
    /// The ids, read.
    pub fn read_ids(&self) -> Result<Vec<u32>> {
        read_ids(self.ids.as_deref().context("the order names no ids (files.ids)")?)
    }
}

impl Prepare {
    /// The ids of the order, sequence after sequence, which must be `batch` sequences of `tokens` ids and
    /// not none.
    pub fn prompts(&self, batch: usize, tokens: usize) -> Result<Vec<u32>> {
        let ids = self.files.read_ids()?;
        let expected = ids.len() == batch * tokens && !ids.is_empty();
        ensure!(expected, "{} ids in the file; the task is {batch} x {tokens}", ids.len());
        Ok(ids)
    }
}

/// Who is in this process: stamped on every row it earns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `family/variant`.
    pub engine: String,
    /// The language the work is asked for in: "rust", "python", "rust+python".
    pub language: String,
    /// "f32", "bf16", "int8"; empty for tokenizers.
    #[serde(default)]
    pub precision: String,
    /// Library name to version, of whatever decides speed or answer.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// Settings in force: instruction set, attention path, cache kind, thread variables, …
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// What one unit of work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Token ids made or read.
    #[default]
    Tokens,
    /// Bytes moved.
    Bytes,
    /// Calls made.
    Calls,
    /// Words found.
    Words,
    /// Models loaded.
    Loads,
    /// Multiplications and additions made.
    Operations,
}

/// What a run computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Token ids.
    Ids(Vec<u32>),
    /// Text or other bytes.
    Bytes(Vec<u8>),
    /// Ids, then bytes: generated ids and their text.
    IdsThenBytes(Vec<u32>, Vec<u8>),
    /// The work has no answer to compare (sampled tokens, a memory stream).
    Nothing,
}

impl Answer {
    /// The bytes that digests and answer files are made of.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Answer::Ids(ids) => ids_to_bytes(ids),
            Answer::Bytes(bytes) => bytes.clone(),
            Answer::IdsThenBytes(ids, bytes) => [ids_to_bytes(ids), bytes.clone()].concat(),
            Answer::Nothing => Vec::new(),
        }
    }

    /// 16 hexadecimal digits; empty for [`Answer::Nothing`].
    pub fn digest(&self) -> String {
        match self {
            Answer::Nothing => String::new(),
            other => digest_bytes(&other.to_bytes()),
        }
    }
}

/// Proof of what the last run computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// How many units of work the run did.
    pub units: u64,
    /// What a unit is.
    pub unit: Unit,
    /// What came out.
    pub answer: Answer,
    /// Logits of the last position, B x V, where the task has them.
    pub logits: Option<Vec<f32>>,
}

impl Receipt {
    /// A receipt for token ids, one unit an id.
    pub fn of_ids(ids: Vec<u32>) -> Receipt {
        Receipt { units: ids.len() as u64, unit: Unit::Tokens, answer: Answer::Ids(ids), logits: None }
    }

    /// A receipt for the text, as bytes, of `ids` token ids: one unit an id.
    pub fn of_text(ids: usize, text: impl Into<Vec<u8>>) -> Receipt {
        Receipt { units: ids as u64, unit: Unit::Tokens, answer: Answer::Bytes(text.into()), logits: None }
    }
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// First line of every worker, before any order.
    Hello {
        /// See [`PROTOCOL`].
        protocol: u32,
        /// Who is here.
        identity: Identity,
        /// From the harness's spawn call to this line.
        since_spawn_ns: u64,
        /// The ladder's first rung.
        memory: Memory,
    },
    /// Prepared. The peak is reset right after `memory` was read.
    Ready {
        /// From order to ready.
        prepare_ns: u64,
        /// From spawn to ready.
        since_spawn_ns: u64,
        /// The ladder's second rung; its peak includes loading.
        memory: Memory,
        /// Threads this process has.
        threads_seen: u32,
    },
    /// This engine sits this workload out, and why.
    Refused {
        /// One line.
        reason: String,
        /// What would change it; may be empty.
        remedy: String,
    },
    /// One timed run.
    Sample(SampleReply),
    /// The order is done.
    Done {
        /// The ladder's third rung: peak since `ready`.
        memory: Memory,
        /// Threads this process has.
        threads_seen: u32,
    },
    /// Answer to `footprint`.
    Footprint {
        /// Name and size of each part.
        parts: Vec<Footprint>,
    },
    /// The order could not be carried out; the worker stays for the next one.
    Failed {
        /// The whole chain of causes on one line.
        error: String,
    },
}

/// The clocks and the proof of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleReply {
    /// True for the first run after `prepare`: cold caches, lazy initialisation.
    pub first: bool,
    /// Wall clock.
    pub wall_ns: u64,
    /// Processor time of all threads.
    pub cpu_ns: u64,
    /// Time threads waited for a processor.
    pub run_delay_ns: u64,
    /// Device clock, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_ns: Option<u64>,
    /// From spawn to the last lap (or the end of the run where there are no laps).
    pub since_spawn_ns: u64,
    /// Durations from token to token; the first from the start of the run.
    pub laps_ns: Vec<u64>,
    /// Units of work.
    pub units: u64,
    /// What a unit is.
    pub unit: Unit,
    /// Digest of the answer.
    pub digest: String,
}

/// First 16 hexadecimal digits of SHA-256.
pub fn digest_bytes(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// [`digest_bytes`] over the ids as little-endian u32.
pub fn digest_ids(ids: &[u32]) -> String {
    digest_bytes(&ids_to_bytes(ids))
}

fn ids_to_bytes(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// Reads a texts file: one JSON string a line.
pub fn read_texts(path: &Path) -> Result<Vec<String>> {
    let file = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.lines()
        .enumerate()
        .map(|(at, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{} line {}: not a JSON string", path.display(), at + 1))
        })
        .collect()
}

/// Reads an ids file: little-endian u32.
pub fn read_ids(path: &Path) -> Result<Vec<u32>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        bytes.len() % 4 == 0,
        "{}: {} bytes are no whole number of u32 ids",
        path.display(),
        bytes.len()
    );
    Ok(bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}

/// Writes an ids file: little-endian u32.
pub fn write_ids(path: &Path, ids: &[u32]) -> Result<()> {
    std::fs::write(path, ids_to_bytes(ids)).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_replies_survive_the_wire() {
        let order = Order::Prepare(Prepare {
            workload: "decode/b1-ctx32".into(),
            task: Task::Decode { context: 32, tokens: 8, batch: 1 },
            files: Files { ids: Some("/tmp/ids".into()), ..Files::default() },
            threads: 2,
        });
        let line = serde_json::to_string(&order).unwrap();
        assert!(
            line.starts_with(r#"{"order":"prepare","workload":"decode/b1-ctx32","task":{"kind":"decode""#),
            "{line}"
        );
        assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
        let reply = Reply::Sample(SampleReply { wall_ns: 5, laps_ns: vec![2, 3], ..SampleReply::default() });
        let line = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply);
    }

    #[test]
    fn digest_is_the_head_of_sha256() {
        // sha256("abc") begins ba7816bf 8f01cfea.
        assert_eq!(digest_bytes(b"abc"), "ba7816bf8f01cfea");
        assert_eq!(digest_ids(&[0x0063_6261]), digest_bytes(b"abc\0"));
    }
}
