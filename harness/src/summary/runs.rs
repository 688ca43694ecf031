//! Which rows of an engine on a workload count, and what each metric reads from them.
//!
//! Invariant: a wrong answer anywhere (either arm, any heat) takes every figure from the engine on
//! that workload; nothing but `ok` rows is ever read.

use super::{Clock, View};
use crate::record::{Arm, SampleRow, Status};
use crate::spec::{Metric, Workload};
use std::collections::BTreeMap;
use worker::{Task, TaskKind};

/// A run that waited for a processor longer than this share of its time (threads x wall) is set
/// aside where the wall clock judges.
const MOST_DELAY: f64 = 0.02;

/// The clock a workload is judged by. Single-threaded processor work: processor time, which a busy
/// neighbour hardly touches. Several threads: wall, since their sum would hide a bad split. A start
/// is judged from the spawn on.
pub(crate) fn clock_of(workload: &Workload) -> Clock {
    match workload.task.kind() {
        TaskKind::Start => Clock::SinceSpawn,
        TaskKind::Encode
        | TaskKind::Detokenize
        | TaskKind::WordSplit
        | TaskKind::Boundary
        | TaskKind::Load
            if workload.threads == 1 =>
        {
            Clock::Cpu
        }
        _ => Clock::Wall,
    }
}

/// The runs of one engine on one workload in one arm that count.
pub(crate) struct Runs<'a> {
    /// `Ok` with good rows; otherwise why there are none.
    pub status: Status,
    /// The clock `time` is read from.
    pub clock: Clock,
    /// Warm runs set aside because of run delay.
    pub rejected: usize,
    task: &'a Task,
    rows: Vec<&'a SampleRow>,
    firsts: Vec<&'a SampleRow>,
    notes: Vec<String>,
}

impl<'a> Runs<'a> {
    /// Selects the rows. `clock` is the workload's own unless two workloads are compared.
    pub fn of(view: &View<'a>, workload: &'a Workload, engine: &str, arm: Arm, clock: Clock) -> Runs<'a> {
        let all = view.rows(&workload.name, engine);
        let mut runs = Runs {
            status: Status::Ok,
            clock,
            rejected: 0,
            task: &workload.task,
            rows: vec![],
            firsts: vec![],
            notes: vec![],
        };
        if let Some(reason) = wrong(view, all, workload, engine) {
            runs.status = Status::Wrong;
            runs.notes.push(reason);
            return runs;
        }
        let (good, bad): (Vec<_>, Vec<_>) = all
            .iter()
            .filter(|row| row.arm == arm)
            .partition(|row| row.status == Status::Ok && row.wall_ns.is_some());
        if good.is_empty() {
            (runs.status, runs.notes) = commonest(&bad);
            return runs;
        }
        if let Some(row) = bad.first() {
            runs.notes.push(format!("{} rows not ok ({}: {})", bad.len(), row.status.word(), row.reason));
        }
        let (firsts, warm): (Vec<_>, Vec<_>) = good.iter().partition(|row| row.first);
        runs.firsts = firsts;
        runs.rows = match (clock, warm.is_empty()) {
            (Clock::SinceSpawn, _) => good,
            (_, false) => warm,
            (_, true) => {
                runs.notes.push("no warm runs: the first runs stand in for them".into());
                good
            }
        };
        runs.set_aside_delayed(workload.threads);
        runs
    }

    fn set_aside_delayed(&mut self, threads: usize) {
        if self.clock != Clock::Wall {
            return;
        }
        let calm: Vec<&SampleRow> = self
            .rows
            .iter()
            .copied()
            .filter(|row| {
                let allowed = MOST_DELAY * row.wall_ns.unwrap_or(0) as f64 * threads as f64;
                row.run_delay_ns.unwrap_or(0) as f64 <= allowed
            })
            .collect();
        let delayed = self.rows.len() - calm.len();
        if calm.len() * 2 < self.rows.len() {
            self.notes.push(format!(
                "{delayed} of {} runs waited for a processor more than 2 % of their time; all kept, read with care",
                self.rows.len()
            ));
            return;
        }
        if delayed > 0 {
            self.notes.push(format!("{delayed} runs set aside: they waited for a processor"));
        }
        self.rejected = delayed;
        self.rows = calm;
    }

    /// The runs that count, warm ones wherever there are any.
    pub fn rows(&self) -> &[&'a SampleRow] {
        &self.rows
    }

    /// Why there is no figure, or notes on the figures.
    pub fn reason(&self) -> String {
        self.notes.join("; ")
    }

    /// Time of one run by the clock.
    pub fn time_of(&self, row: &SampleRow) -> Option<f64> {
        let ns = match self.clock {
            Clock::Wall => row.wall_ns,
            Clock::Cpu => row.cpu_ns,
            Clock::SinceSpawn => row.since_spawn_ns,
            Clock::Device => row.device_ns,
            Clock::None => None,
        };
        ns.filter(|&ns| ns > 0).map(|ns| ns as f64)
    }

    /// Every value of a metric that is read from samples (jitter: the laps it is formed of).
    pub fn values(&self, metric: Metric) -> Vec<f64> {
        self.source(metric).iter().flat_map(|row| self.read(row, metric)).collect()
    }

    /// The same, by (heat, round).
    pub fn values_by_round(&self, metric: Metric) -> BTreeMap<(u32, u32), Vec<f64>> {
        let mut rounds: BTreeMap<(u32, u32), Vec<f64>> = BTreeMap::new();
        for row in self.source(metric) {
            let values = self.read(row, metric);
            if !values.is_empty() {
                rounds.entry((row.heat, row.round)).or_default().extend(values);
            }
        }
        rounds
    }

    fn source(&self, metric: Metric) -> &[&'a SampleRow] {
        if metric == Metric::FirstTime { &self.firsts } else { &self.rows }
    }

    fn read(&self, row: &SampleRow, metric: Metric) -> Vec<f64> {
        let as_ns = |laps: &[u64]| laps.iter().map(|&ns| ns as f64).filter(|&ns| ns > 0.0).collect();
        let laps = row.laps_ns.as_slice();
        match metric {
            Metric::Time | Metric::FirstTime => self.time_of(row).into_iter().collect(),
            Metric::FirstToken
                if matches!(self.task, Task::Generate { beams: None, .. } | Task::Prefill { .. }) =>
            {
                as_ns(&laps[..laps.len().min(1)])
            }
            Metric::TokenTime | Metric::Jitter => match self.task {
                Task::Decode { .. } => as_ns(laps),
                Task::Generate { .. } => as_ns(&laps[laps.len().min(1)..]),
                _ => vec![],
            },
            Metric::SinceSpawn => row.since_spawn_ns.map(|ns| ns as f64).into_iter().collect(),
            Metric::FirstToken | Metric::PeakMemory | Metric::Footprint => vec![],
        }
    }
}

/// The reason, if any answer of the engine on the workload was wrong.
fn wrong(view: &View<'_>, rows: &[&SampleRow], workload: &Workload, engine: &str) -> Option<String> {
    let of_row = rows.iter().find(|row| row.status == Status::Wrong).map(|row| row.reason.clone());
    let of_check = view
        .failed_check(&workload.name, engine)
        .map(|check| format!("{} differs from {}: {}", check.check, check.reference, check.detail));
    of_row.or(of_check)
}

fn commonest(bad: &[&SampleRow]) -> (Status, Vec<String>) {
    let mut counts: BTreeMap<Status, usize> = BTreeMap::new();
    bad.iter().for_each(|row| *counts.entry(row.status).or_default() += 1);
    // Of equally common ones the first in the order of `Status`: the same rows, the same words.
    let most = counts.iter().max_by_key(|&(&status, &n)| (n, std::cmp::Reverse(status)));
    match most.and_then(|(&status, _)| bad.iter().find(|row| row.status == status)) {
        Some(row) if row.status == Status::Ok => {
            (Status::Failed, vec!["a row says ok and has no clocks".into()])
        }
        Some(row) => (row.status, vec![row.reason.clone()]),
        None => (Status::Skipped, vec!["not asked in this run".into()]),
    }
}
