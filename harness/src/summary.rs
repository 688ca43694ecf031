//! Rows -> one table of cells and one of ratios. Pure: reads no clock, no process, no environment.

use crate::record::Status;
use serde::Serialize;
use worker::TaskKind;

/// Which clock a figure was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Wall clock; samples with much run delay rejected.
    Wall,
    /// Processor time: single-threaded work on a shared machine.
    Cpu,
    /// Time since the process was spawned.
    SinceSpawn,
    /// Device clock.
    Device,
    /// No clock: bytes.
    None,
}

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Median.
    pub value: f64,
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
    /// Samples it rests on.
    pub n: usize,
}

/// One engine on one workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// Workload name.
    pub workload: String,
    /// Engine name.
    pub engine: String,
    /// The workload's task.
    pub task: TaskKind,
    /// Threads allowed.
    pub threads: usize,
    /// `Ok` when there are good samples; otherwise the commonest reason there are none.
    pub status: Status,
    /// Why, where the status is not `Ok`; also notes (samples rejected, some rows failed).
    pub reason: String,
    /// The clock `time` was read from.
    pub clock: Clock,
    /// ns a warm run.
    pub time: Option<Estimate>,
    /// ns the first run after preparation.
    pub first_time: Option<Estimate>,
    /// ns to the first token inside a warm run.
    pub first_token: Option<Estimate>,
    /// ns between tokens (laps after the first; every lap for decode).
    pub token_time: Option<Estimate>,
    /// Tail of the time between tokens: its largest supported percentile.
    pub token_tail: Option<Tail>,
    /// ns from spawn to the first token (task start).
    pub since_spawn: Option<Estimate>,
    /// Units of work a second.
    pub units_per_s: Option<Estimate>,
    /// What a unit is.
    pub unit: String,
    /// Input bytes a second, for tasks over text.
    pub bytes_per_s: Option<Estimate>,
    /// Resident bytes at hello.
    pub booted_bytes: Option<u64>,
    /// Resident bytes at ready.
    pub loaded_bytes: Option<u64>,
    /// Highest resident bytes of the process up to the end of its runs of this workload.
    pub peak_bytes: Option<u64>,
    /// Warm samples used.
    pub samples: usize,
    /// Warm samples set aside because of run delay.
    pub rejected: usize,
}

/// The tail of a distribution, named honestly: `p99` only with enough samples, else `max`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tail {
    /// `p90`, `p95`, `p99` or `max`.
    pub name: String,
    /// ns.
    pub value: f64,
    /// Laps it rests on.
    pub n: usize,
}

/// time(b) / time(a): above 1, `a` is faster. The element of `assay cmp --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Workload name.
    pub workload: String,
    /// What was compared.
    pub metric: String,
    /// By which clock.
    pub clock: Clock,
    /// The engine said to be faster.
    pub a: String,
    /// The other.
    pub b: String,
    /// The ratio, from rounds in which both took their turns.
    pub ratio: f64,
    /// Lower end of its 95 % interval.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
    /// Rounds it rests on.
    pub n: usize,
    /// What an engine differs from itself on this workload by (A/A arm), as a factor above 1; 1 where
    /// no such arm ran.
    pub floor: f64,
}
