//! Claims held against the record. Pure: reads no clock, no process, no environment.
//!
//! Each comparison gets a verdict of its own from its interval, widened on both sides by the A/A
//! floor, so that nothing is decided more finely than an engine differs from itself. The claim's
//! verdict is theirs where they agree and `mixed` where they do not; no average is ever formed.

use crate::glob::matches_glob;
use crate::record::Record;
use crate::spec::{Claim, Document, Metric, Reading};
use crate::summary::{Ratio, Side, View, between, overspent, precisions};
use serde::Serialize;
use std::collections::BTreeMap;
use worker::Task;

/// What the rows say about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The interval lies inside the bounds, everywhere.
    Supported,
    /// The interval lies above the bounds, everywhere.
    Exceeded,
    /// The interval lies below the bounds or on the wrong side of 1, everywhere.
    Refuted,
    /// Different on different workloads or against different rivals.
    Mixed,
    /// The interval straddles a bound.
    Inconclusive,
    /// No hardware, data or contestant; or no rows in this record.
    OutOfReach,
}

impl Verdict {
    /// The words used in prose.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Supported => "supported",
            Verdict::Exceeded => "exceeded",
            Verdict::Refuted => "refuted",
            Verdict::Mixed => "mixed",
            Verdict::Inconclusive => "inconclusive",
            Verdict::OutOfReach => "out of reach",
        }
    }
}

/// One claim, judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// `S0`, …
    pub document: String,
    /// The document's title.
    pub title: String,
    /// The claim as declared.
    pub claim: Claim,
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence: the range of ratios seen, or why there is none.
    pub finding: String,
    /// The rows it rests on, each with its own verdict.
    pub rows: Vec<(Ratio, Verdict)>,
    /// Comparisons that were asked for and had no rows, with the reason.
    pub missing: Vec<String>,
}

/// Judges every claim of every document, in their order.
pub fn judge(record: &Record, documents: &[Document]) -> Vec<Judgement> {
    let view = View::new(record);
    documents
        .iter()
        .flat_map(|document| document.claim.iter().map(move |claim| (document, claim)))
        .map(|(document, claim)| {
            let case = match &claim.test {
                Reading::OutOfReach { because } => Case { missing: vec![because.clone()], ..Case::default() },
                test => hear(&view, test, claim.across_precisions),
            };
            let verdict = overall(&case.rows);
            Judgement {
                document: document.document.clone(),
                title: document.title.clone(),
                claim: claim.clone(),
                verdict,
                finding: case.finding(verdict),
                rows: case.rows,
                missing: case.missing,
            }
        })
        .collect()
}

/// The verdict on one comparison: its interval, widened by its floor, against `bounds`
/// (`[lo, hi]`, or `[lo]` for "at least").
pub fn verdict_of(ratio: &Ratio, bounds: &[f64]) -> Verdict {
    let (lo, hi) = widened(ratio);
    let least = bounds.first().copied().unwrap_or(1.0);
    let most = bounds.get(1).copied().unwrap_or(f64::INFINITY);
    if hi < least {
        Verdict::Refuted
    } else if lo > most {
        Verdict::Exceeded
    } else if lo >= least && hi <= most {
        Verdict::Supported
    } else {
        Verdict::Inconclusive
    }
}

/// The verdict on a share: supported wholly below `minor`, refuted wholly above `major`.
pub fn verdict_of_share(share: &Ratio, minor: f64, major: f64) -> Verdict {
    let (lo, hi) = widened(share);
    if hi < minor {
        Verdict::Supported
    } else if lo > major {
        Verdict::Refuted
    } else {
        Verdict::Inconclusive
    }
}

fn widened(ratio: &Ratio) -> (f64, f64) {
    (ratio.lo / ratio.floor, ratio.hi * ratio.floor)
}

/// The claim's verdict from its comparisons': theirs where all agree, else mixed.
pub fn overall(rows: &[(Ratio, Verdict)]) -> Verdict {
    match rows {
        [] => Verdict::OutOfReach,
        [(_, first), rest @ ..] if rest.iter().all(|(_, verdict)| verdict == first) => *first,
        _ => Verdict::Mixed,
    }
}

/// What was heard on one claim.
#[derive(Default)]
struct Case {
    rows: Vec<(Ratio, Verdict)>,
    missing: Vec<String>,
    remarks: Vec<String>,
    is_share: bool,
    /// The claim itself is about precisions.
    across_precisions: bool,
}

fn hear(view: &View<'_>, test: &Reading, across_precisions: bool) -> Case {
    let mut case = Case { across_precisions, ..Case::default() };
    match test {
        Reading::Engines { faster, slower, over, metric, bounds } => {
            for workload in workloads(view, over, &mut case) {
                for (a, b) in faster.iter().flat_map(|a| slower.iter().map(move |b| (a, b))) {
                    let (a, b) = (Side { engine: a, workload }, Side { engine: b, workload });
                    case.compare(view, a, b, *metric, 1.0, |ratio| verdict_of(ratio, bounds));
                }
            }
        }
        Reading::Workloads { engines, faster_on, slower_on, metric, bounds } => {
            let (Some(fast), Some(slow)) =
                (named(view, faster_on, &mut case), named(view, slower_on, &mut case))
            else {
                return case;
            };
            for engine in engines {
                let (a, b) = (Side { engine, workload: fast }, Side { engine, workload: slow });
                case.compare(view, a, b, *metric, crossings(fast) / crossings(slow), |ratio| {
                    verdict_of(ratio, bounds)
                });
            }
        }
        Reading::Share { part_engine, part_on, whole_engine, whole_on, metric, minor, major } => {
            case.is_share = true;
            let (Some(part), Some(whole)) =
                (named(view, part_on, &mut case), named(view, whole_on, &mut case))
            else {
                return case;
            };
            let part = Side { engine: part_engine, workload: part };
            let whole = Side { engine: whole_engine, workload: whole };
            match share_of_work(view, part, whole) {
                Ok(scale) => case.compare(view, whole, part, *metric, scale, |share| {
                    verdict_of_share(share, *minor, *major)
                }),
                Err(reason) => case.miss(reason),
            }
        }
        Reading::OutOfReach { because } => case.miss(because.clone()),
    }
    case
}

type Planned = crate::spec::Workload;

fn workloads<'a>(view: &View<'a>, over: &[String], case: &mut Case) -> Vec<&'a Planned> {
    let planned = &view.record.run.workloads;
    for glob in over {
        if !planned.iter().any(|workload| matches_glob(glob, &workload.name)) {
            case.miss(format!("{glob} was not part of this run"));
        }
    }
    planned.iter().filter(|workload| over.iter().any(|glob| matches_glob(glob, &workload.name))).collect()
}

fn named<'a>(view: &View<'a>, name: &str, case: &mut Case) -> Option<&'a Planned> {
    let found = view.record.workload(name);
    if found.is_none() {
        case.miss(format!("{name} was not part of this run"));
    }
    found
}

/// Crossings in one run of a boundary workload, so that two of them are compared by the crossing; 1
/// for every other task.
fn crossings(workload: &Planned) -> f64 {
    match workload.task {
        Task::Boundary { repeat, .. } => repeat as f64,
        _ => 1.0,
    }
}

/// How much of the part's run the whole contains: bytes of text for encode, new tokens for
/// detokenize, one crossing a token for boundary, the same run for everything else.
fn share_of_work(view: &View<'_>, part: Side<'_>, whole: Side<'_>) -> Result<f64, String> {
    let (texts, tokens, bytes) = match &whole.workload.task {
        Task::Generate { tokens, .. } => {
            let input = whole.workload.input.as_ref().map(|input| (input.texts, input.bytes));
            let (texts, bytes) = input.unwrap_or((1, 0));
            (texts as f64, *tokens as f64, bytes as f64)
        }
        Task::Decode { tokens, .. } => (1.0, *tokens as f64, 0.0),
        _ => return Ok(1.0),
    };
    let part_bytes = part.workload.input.as_ref().map_or(0, |input| input.bytes) as f64;
    let scale = match &part.workload.task {
        Task::Encode { .. } => bytes / part_bytes,
        Task::Detokenize {} => {
            let units = view
                .record
                .samples
                .iter()
                .find(|row| {
                    row.workload == part.workload.name && row.engine == part.engine && row.units > Some(0)
                })
                .and_then(|row| row.units);
            texts * tokens / units.map_or(0.0, |units| units as f64)
        }
        Task::Boundary { repeat, .. } => texts * tokens / *repeat as f64,
        _ => 1.0,
    };
    match scale.is_finite() && scale > 0.0 {
        true => Ok(scale),
        false => Err(format!("{} has no rows to scale to {}", part.workload.name, whole.workload.name)),
    }
}

impl Case {
    fn miss(&mut self, reason: String) {
        if !self.missing.contains(&reason) {
            self.missing.push(reason);
        }
    }

    fn compare(
        &mut self,
        view: &View<'_>,
        a: Side<'_>,
        b: Side<'_>,
        metric: Metric,
        scale: f64,
        verdict: impl Fn(&Ratio) -> Verdict,
    ) {
        if a.engine == b.engine && a.workload.name == b.workload.name {
            return;
        }
        let precisions = precisions(view, a.engine, b.engine);
        if !precisions.is_empty() && !self.across_precisions {
            let (a, b) = (a.engine, b.engine);
            return self
                .miss(format!("{a} and {b} compute in different precisions, {precisions}: not compared"));
        }
        let mut remarks = overspent(view, a, b);
        if !precisions.is_empty() {
            remarks.insert(0, format!("precisions differ: {precisions}"));
        }
        match between(view, a, b, metric, scale) {
            Ok(ratio) => {
                let verdict = verdict(&ratio);
                self.rows.push((ratio, verdict));
                for remark in remarks {
                    if !self.remarks.contains(&remark) {
                        self.remarks.push(remark);
                    }
                }
            }
            Err(reason) => self.miss(reason),
        }
    }

    /// One sentence or two: the range seen, how the comparisons split, what to know.
    fn finding(&self, verdict: Verdict) -> String {
        if self.rows.is_empty() {
            return self.missing.join("; ");
        }
        let show = |value: f64| match self.is_share {
            true => format!("{:.2} %", 100.0 * value),
            false => format!("{}x", digits(value)),
        };
        let lowest = self.rows.iter().map(|(ratio, _)| ratio.ratio).fold(f64::INFINITY, f64::min);
        let highest = self.rows.iter().map(|(ratio, _)| ratio.ratio).fold(0.0, f64::max);
        let mut finding = match self.rows.as_slice() {
            [(one, _)] => {
                format!("{} [{}, {}], n = {}", show(one.ratio), show(one.lo), show(one.hi), one.n)
            }
            rows => format!("{} to {} in {} comparisons", show(lowest), show(highest), rows.len()),
        };
        if verdict == Verdict::Mixed {
            finding += &format!(": {}", self.split());
        }
        if !self.missing.is_empty() {
            finding += &format!("; {} without rows", self.missing.len());
        }
        for remark in &self.remarks {
            finding += &format!("; {remark}");
        }
        finding
    }

    /// `3 supported; 1 refuted (decode/b8 native/cpu-f32)`: the rarer ones by name.
    fn split(&self) -> String {
        let mut kinds: BTreeMap<Verdict, Vec<&Ratio>> = BTreeMap::new();
        for (ratio, verdict) in &self.rows {
            kinds.entry(*verdict).or_default().push(ratio);
        }
        let parts = kinds.iter().map(|(verdict, ratios)| {
            let names: Vec<String> = ratios
                .iter()
                .take(4)
                .map(|ratio| {
                    format!("{}: {} against {} {}x", ratio.workload, ratio.a, ratio.b, digits(ratio.ratio))
                })
                .collect();
            let more = if ratios.len() > 4 { ", …" } else { "" };
            format!("{} {} ({}{more})", ratios.len(), verdict.words(), names.join(", "))
        });
        parts.collect::<Vec<_>>().join("; ")
    }
}

/// Three significant digits.
fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.2e}"),
    }
}

#[cfg(test)]
mod tests;
