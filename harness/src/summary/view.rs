//! A record with its rows sorted by who and what, so that thousands of comparisons stay cheap.

use super::Clock;
use crate::record::{Arm, CheckRow, Record, SampleRow};
use crate::spec::Metric;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// (workload, metric word, clock) -> the A/A floor, once it was asked for.
type Floors = BTreeMap<(String, &'static str, Clock), Option<f64>>;

/// A reading of one record. Make one and ask it often.
pub struct View<'a> {
    /// The record.
    pub record: &'a Record,
    rows: BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a SampleRow>>>,
    twice: BTreeMap<&'a str, BTreeSet<&'a str>>,
    failed: Vec<&'a CheckRow>,
    pub(super) floors: RefCell<Floors>,
}

impl<'a> View<'a> {
    /// Sorts the rows.
    pub fn new(record: &'a Record) -> View<'a> {
        let mut rows: BTreeMap<&str, BTreeMap<&str, Vec<&SampleRow>>> = BTreeMap::new();
        let mut twice: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for row in &record.samples {
            rows.entry(&row.workload).or_default().entry(&row.engine).or_default().push(row);
            if row.arm == Arm::Again {
                twice.entry(&row.workload).or_default().insert(&row.engine);
            }
        }
        let failed = record.checks.iter().filter(|check| !check.passed).collect();
        View { record, rows, twice, failed, floors: RefCell::default() }
    }

    /// Rows of an engine on a workload, both arms, in the order they were taken.
    pub(crate) fn rows(&self, workload: &str, engine: &str) -> &[&'a SampleRow] {
        let engines = self.rows.get(workload);
        engines.and_then(|of| of.get(engine)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The first check that the engine's answer on the workload did not pass.
    pub(crate) fn failed_check(&self, workload: &str, engine: &str) -> Option<&'a CheckRow> {
        self.failed.iter().copied().find(|check| check.engine == engine && check.workload == workload)
    }

    /// Engines with an A/A arm on the workload.
    pub(super) fn twice(&self, workload: &str) -> impl Iterator<Item = &'a str> {
        self.twice.get(workload).into_iter().flatten().copied()
    }

    /// The key under which a floor is kept.
    pub(super) fn key(workload: &str, metric: Metric, clock: Clock) -> (String, &'static str, Clock) {
        (workload.into(), metric.word(), clock)
    }
}
