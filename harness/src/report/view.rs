//! Questions sections and charts ask of a record, its cells, ratios and judgements.
//!
//! Order is decided here once: workloads as the record lists them, engines of one workload from
//! best to worst, those without a figure last.

use super::Material;
use super::palette::family;
use crate::record::{Arm, Moment, Record, SampleRow, Status};
use crate::spec::{Contestant, Role, Workload};
use crate::summary::{Cell, Estimate};
use std::cmp::Ordering;
use worker::{Task, TaskKind};

impl<'a> Material<'a> {
    /// Role of an engine; one that the record does not list takes part.
    pub(super) fn role(&self, engine: &str) -> Role {
        self.record.engine(engine).map_or(Role::Contestant, |found| found.role)
    }

    /// Planned workloads of one kind.
    pub(super) fn workloads(&self, kind: TaskKind) -> Vec<&'a Workload> {
        let record: &'a Record = self.record;
        record.run.workloads.iter().filter(|workload| workload.task.kind() == kind).collect()
    }

    /// Cells of one workload, null engines left out, best figure first.
    pub(super) fn ranked(&self, workload: &str, figure: impl Fn(&Cell) -> Option<f64>) -> Vec<&'a Cell> {
        let cells: &'a [Cell] = self.cells;
        let mut found: Vec<&Cell> = cells
            .iter()
            .filter(|cell| cell.workload == workload && self.role(&cell.engine) != Role::Null)
            .collect();
        found.sort_by(|a, b| {
            let key = |cell: &Cell| figure(cell).filter(|value| value.is_finite());
            match (key(a), key(b)) {
                (Some(x), Some(y)) => x.total_cmp(&y),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            }
            .then_with(|| a.engine.cmp(&b.engine))
        });
        found
    }

    /// Engines as the record lists them, null engines left out.
    pub(super) fn engines(&self) -> Vec<&'a Contestant> {
        let record: &'a Record = self.record;
        record.run.engines.iter().filter(|engine| engine.role != Role::Null).collect()
    }

    /// Warm good samples of an engine's own place.
    pub(super) fn warm(&self, workload: &str, engine: &str) -> Vec<&'a SampleRow> {
        let record: &'a Record = self.record;
        record
            .samples
            .iter()
            .filter(|row| row.workload == workload && row.engine == engine && row.arm == Arm::First)
            .filter(|row| row.status == Status::Ok && !row.first && row.wall_ns.is_some())
            .collect()
    }

    /// The request whose stages are taken apart: the first greedy generation with a cache.
    pub(super) fn request(&self) -> Option<&'a Workload> {
        self.workloads(TaskKind::Generate).into_iter().find(|workload| is_plain_request(workload))
    }

    /// Median time from spawn to hello.
    pub(super) fn boot_ns(&self, engine: &str) -> Option<f64> {
        median(
            self.record
                .processes
                .iter()
                .filter(|row| row.engine == engine && row.moment == Moment::Hello)
                .filter_map(|row| row.since_spawn_ns)
                .map(|ns| ns as f64)
                .collect(),
        )
    }

    /// Median time from the order to ready for a workload.
    pub(super) fn prepare_ns(&self, engine: &str, workload: &str) -> Option<f64> {
        median(
            self.record
                .processes
                .iter()
                .filter(|row| row.engine == engine && row.workload == workload && row.moment == Moment::Ready)
                .filter_map(|row| row.prepare_ns)
                .map(|ns| ns as f64)
                .collect(),
        )
    }

    /// The A/A factor of a workload; `None` where no arm ran twice.
    pub(super) fn floor(&self, workload: &str) -> Option<f64> {
        self.floors.iter().find(|(name, _)| name == workload).map(|(_, floor)| *floor)
    }

    /// True where a cell's peak memory includes workloads that the same process did before.
    pub(super) fn shares_peak(&self, cell: &Cell) -> bool {
        self.shared_peaks
            .iter()
            .any(|(workload, engine)| (workload, engine) == (&cell.workload, &cell.engine))
    }

    /// False where an engine computes in a precision below f32: another work than that of f32 engines.
    pub(super) fn in_full(&self, engine: &str) -> bool {
        self.record.engine(engine).is_none_or(|found| found.tolerance().is_none())
    }

    /// The cell of an engine on a workload.
    pub(super) fn cell(&self, workload: &str, engine: &str) -> Option<&'a Cell> {
        let cells: &'a [Cell] = self.cells;
        cells.iter().find(|cell| cell.workload == workload && cell.engine == engine)
    }

    /// Bytes an engine needs on disk; `None` where it did not say.
    pub(super) fn footprint(&self, engine: &str) -> Option<u64> {
        let parts = &self.record.identities.get(engine)?.footprint;
        (!parts.is_empty()).then(|| parts.iter().map(|part| part.bytes).sum())
    }
}

/// The workload's own variable, short enough for a panel's heading: what it does, in words.
pub fn describe(workload: &Workload) -> String {
    let threads = match workload.threads {
        1 => "1 thread".into(),
        n => format!("{n} threads"),
    };
    let text = workload.input.as_ref().map_or(String::new(), |input| {
        let size = super::format::Quantity::Bytes.show(input.bytes as f64);
        match input.texts {
            1 => format!("{} {size}", input.text.word()),
            n => format!(
                "{} {size} in {} {}texts{}",
                input.text.word(),
                super::format::grouped(n as u64),
                if input.uneven { "uneven " } else { "" },
                match input.shared {
                    0 => String::new(),
                    bytes => format!(
                        " behind {} that they share",
                        super::format::Quantity::Bytes.show(bytes as f64)
                    ),
                }
            ),
        }
    });
    let what = match &workload.task {
        Task::Encode { batch, fresh } => format!(
            "{text}{}{}",
            if *batch { ", batch call" } else { "" },
            if *fresh { ", fresh tokenizer" } else { "" }
        ),
        Task::Detokenize {} | Task::WordSplit {} => text,
        Task::Prefill { tokens, batch } => format!("prompt T = {tokens}, batch B = {batch}"),
        Task::Decode { context, tokens, batch } => {
            format!("batch B = {batch}, context {context}, {tokens} steps")
        }
        Task::Generate { tokens, cache, sampling, beams, lookup } => format!(
            "{text}, {tokens} new tokens{}{}{}{}",
            if *cache { "" } else { ", no KV cache" },
            if sampling.is_some() { ", sampled" } else { "" },
            beams.map_or(String::new(), |beams| format!(", {beams} beams")),
            lookup.map_or(String::new(), |tokens| format!(", guesses of {tokens}"))
        ),
        Task::Serve { slots, tokens } => {
            let tokens: Vec<String> = tokens.iter().map(usize::to_string).collect();
            format!("{text}, {slots} at a time, {} new tokens", tokens.join(", "))
        }
        Task::Load {} => "weights to a ready model".into(),
        Task::Start { tokens } => format!("fresh process, prompt T = {tokens}"),
        Task::Boundary { crossing, elements, .. } => {
            format!("{}, {} elements", crossing_word(*crossing), super::format::grouped(*elements as u64))
        }
    };
    let modelled = !matches!(
        workload.task,
        Task::Encode { .. } | Task::Detokenize {} | Task::WordSplit {} | Task::Boundary { .. }
    );
    match workload.model.as_str() {
        model if modelled && model != "gpt2" => format!("{what}, {threads}, model {model}"),
        _ => format!("{what}, {threads}"),
    }
}

/// One text continued greedily with a cache, one token after another: what others are switches of.
pub fn is_plain_request(workload: &Workload) -> bool {
    workload.input.as_ref().is_none_or(|input| input.texts == 1)
        && matches!(
            workload.task,
            Task::Generate { cache: true, sampling: None, beams: None, lookup: None, .. }
        )
}

/// How ids cross, in words.
pub fn crossing_word(crossing: worker::Crossing) -> &'static str {
    match crossing {
        worker::Crossing::Empty => "empty call",
        worker::Crossing::List => "list",
        worker::Crossing::Copy => "array copied",
        worker::Crossing::Shared => "array shared",
    }
}

/// True for our own engines.
pub fn is_native(engine: &str) -> bool {
    family(engine) == "native"
}

/// The middle value; `None` of nothing.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// A figure that can be shown.
pub fn shown(estimate: &Option<Estimate>) -> Option<&Estimate> {
    estimate.as_ref().filter(|estimate| estimate.value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_nothing_is_nothing() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
