//! Rows -> one table of cells and one of ratios. Pure: reads no clock, no process, no environment.
//!
//! Cells show one engine by itself, over all its samples. Ratios compare two and are formed inside
//! rounds, because only there both met the same machine; they are never quotients of two cells.
//! Invariant: a cell whose status is not `ok` has no speed.

mod memory;
mod ratios;
mod runs;
mod view;

pub(crate) use ratios::{Side, between, overspent, precisions};
pub use ratios::{floor, percent_of_limit, ratio};
pub(crate) use runs::{Runs, clock_of};
pub use view::View;

use crate::record::{Arm, Record, Status};
use crate::spec::{Contestant, Metric, Workload};
use crate::stats::{median_interval, tail};
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
    /// Where the two compute in different precisions, which: `int8 against f32`, a's first; else empty.
    pub precisions: String,
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

/// Everything a report shows apart from ratios.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Every planned engine on every planned workload it has rows on, in the order they were planned.
    pub cells: Vec<Cell>,
    /// (workload, engine) whose peak memory includes workloads that the same process did before.
    /// Only `start` workloads are sure to be absent here; memory is compared on those.
    pub shared_peaks: Vec<(String, String)>,
    /// Workload -> A/A floor of its time, as a factor of at least 1; absent where no such arm ran.
    pub floors: Vec<(String, f64)>,
}

impl Summary {
    /// The cell of an engine on a workload.
    pub fn cell(&self, workload: &str, engine: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.workload == workload && cell.engine == engine)
    }
}

/// One table of everything the record has rows of.
pub fn summarize(record: &Record) -> Summary {
    let view = View::new(record);
    let mut summary = Summary { cells: vec![], shared_peaks: vec![], floors: vec![] };
    for workload in &record.run.workloads {
        for engine in &record.run.engines {
            if view.rows(&workload.name, &engine.name).is_empty() {
                continue;
            }
            summary.cells.push(cell(&view, workload, engine));
            if memory::is_shared(record, &workload.name, &engine.name) {
                summary.shared_peaks.push((workload.name.clone(), engine.name.clone()));
            }
        }
        if let Some(floor) = view.floor(&workload.name, Metric::Time) {
            summary.floors.push((workload.name.clone(), floor));
        }
    }
    summary
}

fn cell(view: &View<'_>, workload: &Workload, engine: &Contestant) -> Cell {
    let clock = clock_of(workload);
    let runs = Runs::of(view, workload, &engine.name, Arm::First, clock);
    let by = |metric| estimate(&runs.values(metric));
    let ladder = memory::ladder(view.record, &workload.name, &engine.name);
    let since_spawn = by(Metric::SinceSpawn).filter(|_| clock == Clock::SinceSpawn);
    let rates: Vec<f64> =
        runs.rows().iter().filter_map(|row| Some(row.units? as f64 / runs.time_of(row)? * 1e9)).collect();
    let bytes = workload.input_bytes();
    let byte_rates: Vec<f64> = match bytes {
        0 => vec![],
        _ => runs.values(Metric::Time).iter().map(|ns| bytes as f64 / ns * 1e9).collect(),
    };
    let later_laps = runs.values(Metric::TokenTime);
    Cell {
        workload: workload.name.clone(),
        engine: engine.name.clone(),
        task: workload.task.kind(),
        threads: workload.threads,
        status: runs.status,
        reason: runs.reason(),
        clock,
        time: by(Metric::Time),
        first_time: by(Metric::FirstTime).filter(|_| clock != Clock::SinceSpawn),
        first_token: by(Metric::FirstToken),
        token_time: estimate(&later_laps),
        token_tail: (!later_laps.is_empty()).then(|| {
            let (name, value) = tail(&later_laps);
            Tail { name: name.into(), value, n: later_laps.len() }
        }),
        since_spawn,
        units_per_s: estimate(&rates),
        unit: runs.rows().first().map(|row| row.unit.clone()).unwrap_or_default(),
        bytes_per_s: estimate(&byte_rates),
        booted_bytes: ladder.booted,
        loaded_bytes: ladder.loaded,
        peak_bytes: ladder.peak,
        samples: runs.rows().len(),
        rejected: runs.rejected,
    }
}

fn estimate(values: &[f64]) -> Option<Estimate> {
    (!values.is_empty()).then(|| {
        let (value, lo, hi) = median_interval(values);
        Estimate { value, lo, hi, n: values.len() }
    })
}

#[cfg(test)]
mod tests;
