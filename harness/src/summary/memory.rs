//! The memory ladder of an engine on a workload, and its bytes on disk.
//!
//! A process keeps what earlier workloads made it grow to, so only a fresh process (a `start`
//! workload) tells what one workload needs.

use crate::record::{Arm, Moment, ProcessRow, Record};
use crate::stats::median;
use std::collections::BTreeMap;

/// Resident bytes, medians over processes.
pub(super) struct Ladder {
    pub booted: Option<u64>,
    pub loaded: Option<u64>,
    pub peak: Option<u64>,
}

pub(super) fn ladder(record: &Record, workload: &str, engine: &str) -> Ladder {
    let processes = peaks(record, workload, engine, Arm::First);
    let rung = |moment: Moment| {
        let bytes: Vec<f64> = record
            .processes
            .iter()
            .filter(|row| {
                row.engine == engine
                    && row.moment == moment
                    && (moment == Moment::Hello || row.workload == workload)
                    && processes.contains_key(&(row.heat, row.pid))
            })
            .map(|row| row.rss_bytes as f64)
            .collect();
        middle(&bytes)
    };
    let peaks: Vec<f64> = processes.values().copied().collect();
    Ladder { booted: rung(Moment::Hello), loaded: rung(Moment::Ready), peak: middle(&peaks) }
}

fn middle(bytes: &[f64]) -> Option<u64> {
    (!bytes.is_empty()).then(|| median(bytes).round() as u64)
}

fn of<'a>(
    record: &'a Record,
    workload: &'a str,
    engine: &'a str,
    arm: Arm,
) -> impl Iterator<Item = &'a ProcessRow> {
    record
        .processes
        .iter()
        .filter(move |row| row.engine == engine && row.arm == arm && row.workload == workload)
}

/// (heat, pid) -> highest resident bytes while loading for and doing the workload.
fn peaks(record: &Record, workload: &str, engine: &str, arm: Arm) -> BTreeMap<(u32, u32), f64> {
    let mut peaks: BTreeMap<(u32, u32), f64> = BTreeMap::new();
    for row in of(record, workload, engine, arm).filter(|row| row.peak_bytes > 0) {
        let peak = peaks.entry((row.heat, row.pid)).or_default();
        *peak = peak.max(row.peak_bytes as f64);
    }
    peaks
}

/// Peak bytes by (heat, place of the process in the heat), so that the k-th process of one engine
/// meets the k-th of another.
pub(super) fn peak_blocks(
    record: &Record,
    workload: &str,
    engine: &str,
    arm: Arm,
) -> BTreeMap<(u32, u32), f64> {
    let peaks = peaks(record, workload, engine, arm);
    let mut order: Vec<(u32, u32)> = vec![];
    for row in of(record, workload, engine, arm) {
        let process = (row.heat, row.pid);
        if peaks.contains_key(&process) && !order.contains(&process) {
            order.push(process);
        }
    }
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    order
        .into_iter()
        .map(|process| {
            let place = next.entry(process.0).or_default();
            *place += 1;
            ((process.0, *place - 1), peaks[&process])
        })
        .collect()
}

/// True where a process that did the workload had done another one before.
pub(super) fn is_shared(record: &Record, workload: &str, engine: &str) -> bool {
    let mut seen: BTreeMap<(u32, u32), &str> = BTreeMap::new();
    record.processes.iter().filter(|row| row.engine == engine && !row.workload.is_empty()).any(|row| {
        let first = *seen.entry((row.heat, row.pid)).or_insert(&row.workload);
        row.workload == workload && first != workload
    })
}

/// Bytes the engine needs on disk; nothing where it did not say.
pub(super) fn footprint(record: &Record, engine: &str) -> Option<u64> {
    let bytes = record.identities.get(engine)?.footprint.iter().map(|part| part.bytes).sum();
    (bytes > 0).then_some(bytes)
}
