//! From replies to rows.

use super::process::Fault;
use crate::record::{Arm, CheckRow, Moment, ProcessRow, SampleRow, Status};
use worker::{Memory, SampleReply, Unit};

/// Where in a run a row belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn<'a> {
    pub heat: u32,
    /// 0: the verifying run before the rounds.
    pub round: u32,
    pub turn: u32,
    pub workload: &'a str,
    pub engine: &'a str,
    pub arm: Arm,
}

impl Turn<'_> {
    /// A row without clocks: what stood in the way, on one line (a record torn by a kill is cut at a
    /// line end, and engines say what they like).
    pub fn without_clocks(&self, status: Status, reason: String) -> SampleRow {
        let reason = reason.replace(char::is_control, " ");
        SampleRow {
            heat: self.heat,
            round: self.round,
            turn: self.turn,
            workload: self.workload.into(),
            engine: self.engine.into(),
            arm: self.arm,
            status,
            reason,
            index: 0,
            first: false,
            units: None,
            unit: String::new(),
            wall_ns: None,
            cpu_ns: None,
            run_delay_ns: None,
            device_ns: None,
            since_spawn_ns: None,
            laps_ns: Vec::new(),
            digest: String::new(),
        }
    }

    /// A measured row, its status decided by the check of its answer.
    pub fn measured(&self, index: u32, sample: SampleReply, wrong: Option<String>) -> SampleRow {
        let status = if wrong.is_some() { Status::Wrong } else { Status::Ok };
        SampleRow {
            index,
            first: sample.first,
            units: Some(sample.units),
            unit: unit_word(sample.unit).into(),
            wall_ns: Some(sample.wall_ns),
            cpu_ns: Some(sample.cpu_ns),
            run_delay_ns: Some(sample.run_delay_ns),
            device_ns: sample.device_ns,
            since_spawn_ns: Some(sample.since_spawn_ns),
            laps_ns: sample.laps_ns,
            digest: sample.digest,
            ..self.without_clocks(status, wrong.unwrap_or_default())
        }
    }

    /// A check of this place's answer by `rule`, passed until said otherwise.
    pub fn check(&self, check: &str, rule: &str, reference: &str) -> CheckRow {
        CheckRow {
            heat: self.heat,
            workload: self.workload.into(),
            engine: self.engine.into(),
            reference: reference.into(),
            check: check.into(),
            rule: rule.into(),
            passed: true,
            error: None,
            budget: None,
            detail: String::new(),
        }
    }

    /// One rung of the ladder.
    pub fn rung(&self, pid: u32, moment: Moment, memory: Memory) -> ProcessRow {
        ProcessRow {
            heat: self.heat,
            engine: self.engine.into(),
            arm: self.arm,
            pid,
            workload: self.workload.into(),
            moment,
            since_spawn_ns: None,
            prepare_ns: None,
            rss_bytes: memory.rss_bytes,
            peak_bytes: memory.peak_bytes,
            pss_bytes: memory.pss_bytes,
            anonymous_bytes: memory.anonymous_bytes,
            threads_seen: None,
        }
    }
}

/// The status a fault is recorded under.
pub(super) fn fault_status(fault: &Fault) -> Status {
    match fault {
        Fault::Crashed { .. } => Status::Crashed,
        Fault::TimedOut(_) => Status::TimedOut,
        Fault::Garbled(_) => Status::Garbled,
        Fault::Interrupted => Status::Skipped,
    }
}

fn unit_word(unit: Unit) -> &'static str {
    match unit {
        Unit::Tokens => "tokens",
        Unit::Bytes => "bytes",
        Unit::Calls => "calls",
        Unit::Words => "words",
        Unit::Loads => "loads",
        Unit::Operations => "operations",
    }
}
