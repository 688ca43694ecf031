//! The record: raw rows of one measuring run, written as they come and never edited.
//!
//! A record is a folder: `run.json` (what was asked, of whom, of which revision), `machine.json`,
//! `identities.json`, and three CSV files of rows: `samples.csv`, `processes.csv`, `checks.csv`.
//! Every row is flushed before the next is measured, so a killed run keeps what it has.
//! harness/FORMAT.md describes every column.

use crate::spec::{Contestant, Workload};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use worker::{Footprint, Identity};

/// Raised with every change that an older reader would misunderstand.
pub const FORMAT: u32 = 1;

/// What became of one sample (or of the turn that should have produced it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Measured, and the answer was the reference answer.
    Ok,
    /// The engine sits this workload out and says why.
    Refused,
    /// The engine reported an error.
    Failed,
    /// The process ended without being asked to.
    Crashed,
    /// The process did not answer within its time; it was killed.
    TimedOut,
    /// The process said something that is no reply.
    Garbled,
    /// Measured, but the answer differs from the reference: it has no speed.
    Wrong,
    /// Not asked, because of an earlier row of this run that the reason names; or asked, and its answer
    /// could not be weighed.
    Skipped,
}

impl Status {
    /// The word used in CSV and prose.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Refused => "refused",
            Status::Failed => "failed",
            Status::Crashed => "crashed",
            Status::TimedOut => "timed_out",
            Status::Garbled => "garbled",
            Status::Wrong => "wrong",
            Status::Skipped => "skipped",
        }
    }
}

/// Which of an engine's two places in a round: everybody has the first, the A/A arm adds the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The engine's own place.
    First,
    /// The same engine once more, in a process of its own: the floor of what can be told apart.
    Again,
}

/// One line of samples.csv. A row whose status is not `ok` or `wrong` has no clocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // column by column in FORMAT.md
pub struct SampleRow {
    pub heat: u32,
    pub round: u32,
    pub turn: u32,
    pub workload: String,
    pub engine: String,
    pub arm: Arm,
    pub status: Status,
    pub reason: String,
    pub index: u32,
    pub first: bool,
    pub units: Option<u64>,
    pub unit: String,
    pub wall_ns: Option<u64>,
    pub cpu_ns: Option<u64>,
    pub run_delay_ns: Option<u64>,
    pub device_ns: Option<u64>,
    pub since_spawn_ns: Option<u64>,
    /// Space-separated in the file.
    #[serde(with = "spaced")]
    pub laps_ns: Vec<u64>,
    pub digest: String,
}

/// One line of processes.csv: one rung of one process's memory ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ProcessRow {
    pub heat: u32,
    pub engine: String,
    pub arm: Arm,
    pub pid: u32,
    /// Empty at `hello`.
    pub workload: String,
    pub moment: Moment,
    pub since_spawn_ns: Option<u64>,
    pub prepare_ns: Option<u64>,
    pub rss_bytes: u64,
    pub peak_bytes: u64,
    pub pss_bytes: u64,
    pub anonymous_bytes: u64,
    pub threads_seen: Option<u32>,
}

/// The rungs of the memory ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Booted: imports done, nothing loaded.
    Hello,
    /// Loaded: ready for the first run of `workload`; the peak includes loading.
    Ready,
    /// After the runs of one turn; the peak is counted from `ready`.
    Done,
}

/// One line of checks.csv: an engine's answer held against the reference answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CheckRow {
    pub heat: u32,
    pub workload: String,
    pub engine: String,
    /// Where the reference answer came from: an engine's name, or `pinned` (the workload's `expect`).
    pub reference: String,
    /// `answer`, `logits` or `divergence`.
    pub check: String,
    /// What it had to be: [`EXACT`], or near f32 within the budgets of this precision.
    #[serde(default = "exact")]
    pub rule: String,
    pub passed: bool,
    /// How far it lies from the reference, in the unit of rule and check; empty for equal or not.
    pub error: Option<f64>,
    pub budget: Option<f64>,
    pub detail: String,
}

/// The rule of f32 engines and tokenizers: the reference's very answer.
pub const EXACT: &str = "exact";

fn exact() -> String {
    EXACT.into()
}

/// run.json: what was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`FORMAT`].
    pub format: u32,
    /// `<date>-<revision>`, the folder's name.
    pub id: String,
    /// Seconds since 1970 at the start.
    pub started_unix: u64,
    /// Seconds since 1970 at the end; absent while running or after a kill.
    pub ended_unix: Option<u64>,
    /// True when every planned turn was taken or has a row that says why not.
    pub complete: bool,
    /// `quick` or `full`.
    pub profile: String,
    /// Heats, rounds, samples and limits of the profile.
    pub settings: RunSettings,
    /// Seed of the order of engines.
    pub seed: u64,
    /// git revision of the working tree.
    pub revision: String,
    /// True when the tree had uncommitted changes outside results/.
    pub dirty: bool,
    /// The command line's filters, as given.
    pub filters: Vec<String>,
    /// Name -> sha256 of what everybody was given: model, vocabulary, texts, ids.
    pub inputs: BTreeMap<String, String>,
    /// Lock file -> sha256.
    pub locks: BTreeMap<String, String>,
    /// The workloads that were planned.
    pub workloads: Vec<Workload>,
    /// The engines that were planned.
    pub engines: Vec<Contestant>,
}

/// How much was asked of everybody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RunSettings {
    pub heats: u32,
    pub rounds: u32,
    pub samples: u32,
    pub turn_limit_ms: u64,
    pub sample_limit_ms: u64,
}

/// One engine's entry in identities.json.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Introduced {
    /// As the process introduced itself.
    pub identity: Identity,
    /// What it needs on disk.
    pub footprint: Vec<Footprint>,
}

/// machine.json: what it ran on. Filled by `machine.rs`; free-form pairs, grouped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Short name used as a folder: `<cpu>-<cores>c`.
    pub name: String,
    /// CPU, flags, kernel, memory, toolchains, thread variables.
    pub facts: BTreeMap<String, String>,
    /// Steal time and pressure before the run.
    pub before: BTreeMap<String, String>,
    /// The same after it.
    pub after: BTreeMap<String, String>,
}

/// A whole record in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The folder it was read from.
    pub folder: PathBuf,
    /// run.json
    pub run: Run,
    /// machine.json
    pub machine: Machine,
    /// identities.json
    pub identities: BTreeMap<String, Introduced>,
    /// samples.csv
    pub samples: Vec<SampleRow>,
    /// processes.csv
    pub processes: Vec<ProcessRow>,
    /// checks.csv
    pub checks: Vec<CheckRow>,
}

impl Record {
    /// Reads a record folder. A last line torn by a kill is dropped; any other bad line is an error
    /// that names file and line.
    pub fn read(folder: &Path) -> Result<Record> {
        let run: Run = read_json(&folder.join("run.json"))?;
        anyhow::ensure!(
            run.format == FORMAT,
            "{}: written in format {}, this program reads format {FORMAT}; use the version that wrote it",
            folder.display(),
            run.format
        );
        Ok(Record {
            folder: folder.to_path_buf(),
            run,
            machine: read_json(&folder.join("machine.json"))?,
            identities: read_json(&folder.join("identities.json"))?,
            samples: read_rows(&folder.join("samples.csv"))?,
            processes: read_rows(&folder.join("processes.csv"))?,
            checks: read_rows(&folder.join("checks.csv"))?,
        })
    }

    /// The planned workload of this name.
    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.run.workloads.iter().find(|workload| workload.name == name)
    }

    /// The planned engine of this name.
    pub fn engine(&self, name: &str) -> Option<&Contestant> {
        self.run.engines.iter().find(|engine| engine.name == name)
    }
}

/// A record being written.
pub struct Writer {
    folder: PathBuf,
    samples: csv::Writer<File>,
    processes: csv::Writer<File>,
    checks: csv::Writer<File>,
}

impl Writer {
    /// Makes the folder and its CSV files, or goes on writing to existing ones (resume).
    pub fn open(folder: &Path) -> Result<Writer> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {} (is the results folder writable?)", folder.display()))?;
        Ok(Writer {
            folder: folder.to_path_buf(),
            samples: appender(&folder.join("samples.csv"))?,
            processes: appender(&folder.join("processes.csv"))?,
            checks: appender(&folder.join("checks.csv"))?,
        })
    }

    /// Appends one row and flushes it.
    pub fn sample(&mut self, row: &SampleRow) -> Result<()> {
        put(&mut self.samples, row, &self.folder, "samples.csv")
    }
    /// Appends one row and flushes it.
    pub fn process(&mut self, row: &ProcessRow) -> Result<()> {
        put(&mut self.processes, row, &self.folder, "processes.csv")
    }
    /// Appends one row and flushes it.
    pub fn check(&mut self, row: &CheckRow) -> Result<()> {
        put(&mut self.checks, row, &self.folder, "checks.csv")
    }
    /// Writes one of the JSON files whole, by way of a temporary file.
    pub fn json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let path = self.folder.join(name);
        let fresh = self.folder.join(format!("{name}.new"));
        let mut text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
        text.push('\n');
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("cannot write {} (disk full or read-only?)", path.display()))
    }
}

fn appender(path: &Path) -> Result<csv::Writer<File>> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {} (is the results folder writable?)", path.display()))?;
    let empty = file.metadata().map(|meta| meta.len() == 0).unwrap_or(true);
    Ok(csv::WriterBuilder::new().has_headers(empty).from_writer(file))
}

fn put<T: Serialize>(to: &mut csv::Writer<File>, row: &T, folder: &Path, name: &str) -> Result<()> {
    to.serialize(row).map_err(anyhow::Error::from).and_then(|()| Ok(to.flush()?)).with_context(|| {
        format!(
            "cannot write {} (disk full or read-only?); rows written before are kept",
            folder.join(name).display()
        )
    })
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not what FORMAT.md describes", path.display()))
}

fn read_rows<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Cut before decoding: a kill may tear a line inside a character.
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    csv::Reader::from_reader(&bytes[..whole])
        .deserialize()
        .enumerate()
        .map(|(at, row)| row.with_context(|| format!("{} row {}: bad row", path.display(), at + 1)))
        .collect()
}

mod spaced {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(values: &[u64], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&values.iter().map(u64::to_string).collect::<Vec<_>>().join(" "))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
        String::deserialize(from)?
            .split_ascii_whitespace()
            .map(|value| value.parse().map_err(D::Error::custom))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> SampleRow {
        SampleRow {
            heat: 0,
            round: 1,
            turn: 2,
            workload: "decode/b1".into(),
            engine: "native/cpu-f32".into(),
            arm: Arm::First,
            status: Status::Ok,
            reason: String::new(),
            index: 0,
            first: true,
            units: Some(3),
            unit: "tokens".into(),
            wall_ns: Some(9),
            cpu_ns: Some(8),
            run_delay_ns: Some(0),
            device_ns: None,
            since_spawn_ns: Some(100),
            laps_ns: vec![3, 6],
            digest: "00".into(),
        }
    }

    #[test]
    fn rows_survive_the_file_and_a_torn_last_line_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let refused = SampleRow {
            status: Status::Refused,
            reason: "no, \"thanks\"".into(),
            wall_ns: None,
            laps_ns: vec![],
            ..row()
        };
        let mut writer = Writer::open(folder.path()).unwrap();
        writer.sample(&row()).unwrap();
        drop(writer);
        let mut writer = Writer::open(folder.path()).unwrap(); // resume: no second header
        writer.sample(&refused).unwrap();
        drop(writer);
        let path = folder.path().join("samples.csv");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"0,1,2,decode/b1,nat\xe4\xb8"); // torn inside a character
        std::fs::write(&path, bytes).unwrap();
        let rows: Vec<SampleRow> = read_rows(&path).unwrap();
        assert_eq!(rows, [row(), refused]);
    }

    #[test]
    fn a_bad_row_names_file_and_row() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(folder.path()).unwrap();
        writer.sample(&row()).unwrap();
        let path = folder.path().join("samples.csv");
        let text = std::fs::read_to_string(&path).unwrap().replace(",9,", ",nine,");
        std::fs::write(&path, text).unwrap();
        let error = format!("{:#}", read_rows::<SampleRow>(&path).unwrap_err());
        assert!(error.contains("samples.csv row 1"), "{error}");
    }
}
