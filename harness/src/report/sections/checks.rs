//! Whether everybody gave the same answer, and who gave none.

use crate::record::{CheckRow, EXACT, Status};
use crate::report::Material;
use crate::report::format::{MISSING, scientific};
use crate::report::page::{Line, Page, code, line};
use std::collections::BTreeMap;

/// Answers held against the reference.
pub fn same_answer(of: &Material, page: &mut Page) {
    page.heading(2, "Same answer");
    page.para(
        "A figure counts only where the answer was the reference answer: token ids and text by digest on every sample, \
         logits of the last position within a stated budget (largest difference over largest magnitude).",
    );
    #[derive(Default)]
    struct Tally {
        answers: usize,
        wrong: usize,
        worst: Option<(f64, Option<f64>)>,
        logits: usize,
    }
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for check in of.record.checks.iter().filter(|check| check.rule == EXACT) {
        let tally = tallies.entry(&check.engine).or_default();
        tally.wrong += usize::from(!check.passed);
        if check.check == "answer" {
            tally.answers += 1;
        } else {
            tally.logits += 1;
        }
        // Closest to (or furthest beyond) its own budget, not merely largest.
        let near = |error: f64, budget: Option<f64>| error / budget.unwrap_or(f64::INFINITY);
        if let Some(error) = check.error {
            let worse = tally.worst.is_none_or(|(old, budget)| {
                near(error, check.budget) > near(old, budget) || !error.is_finite()
            });
            if worse {
                tally.worst = Some((error, check.budget));
            }
        }
    }
    let rows = tallies
        .into_iter()
        .map(|(engine, tally)| {
            let budget = tally.worst.and_then(|(_, budget)| budget);
            vec![
                code(engine),
                Line::from(tally.answers.to_string()),
                Line::from(tally.logits.to_string()),
                match tally.wrong {
                    0 => Line::from("none"),
                    n => line().strong(n.to_string()),
                },
                Line::from(tally.worst.map_or(MISSING.into(), |(error, _)| scientific(error))),
                Line::from(budget.map_or(MISSING.into(), scientific)),
            ]
        })
        .collect();
    page.table(
        "The logit error is the one that came closest to its budget.",
        &["Engine", ">Answers compared", ">Logits compared", ">Failed", ">Logit error", ">Its budget"],
        rows,
        "No answer was compared in this record.",
    );
    weighed(of, page);
    closer(of, page);
    let rows = of
        .record
        .checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| {
            vec![
                code(&check.workload),
                code(&check.engine),
                code(&check.reference),
                Line::from(check.check.as_str()),
                Line::from(check.error.map_or(MISSING.into(), scientific)),
                Line::from(check.detail.as_str()),
            ]
        })
        .collect();
    page.table(
        "Wrong answers; none of these has a speed.",
        &["Workload", "Engine", "Reference", "Check", ">Error", "First difference"],
        rows,
        "No answer was wrong.",
    );
}

/// Answers in lower precision: how far from f32 the worst of each engine lay.
fn weighed(of: &Material, page: &mut Page) {
    let mut engines: BTreeMap<(&str, &str), Vec<&CheckRow>> = BTreeMap::new();
    for check in of.record.checks.iter().filter(|check| check.rule != EXACT && check.error.is_some()) {
        engines.entry((check.rule.as_str(), check.engine.as_str())).or_default().push(check);
    }
    let rows: Vec<Vec<Line>> = engines
        .into_iter()
        .map(|((rule, engine), checks)| {
            let answers = checks.iter().filter(|check| check.check == "answer");
            let equal = answers.clone().filter(|check| check.detail.contains("equal to ")).count();
            let worst = |kind: &str| {
                let of = checks.iter().filter(|check| check.check == kind);
                let error = of.clone().filter_map(|check| check.error).fold(f64::NAN, f64::max);
                let budget = of.clone().find_map(|check| check.budget);
                Line::from(budget.map_or(MISSING.into(), |budget| {
                    format!("{} of {}", scientific(error), scientific(budget))
                }))
            };
            vec![
                code(engine),
                Line::from(rule),
                Line::from(answers.count().to_string()),
                Line::from(equal.to_string()),
                worst("answer"),
                worst("logits"),
                worst("divergence"),
            ]
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    page.table(
        "Below f32 ids part at near ties, so answers are weighed: an f32 engine is asked what it expects behind the \
         engine's own ids. Worst figure of its budget: how clearly f32 preferred another id, and how far the last \
         logits lie, both in standard deviations of f32's logits; divergence from f32 in nats. Every run repeats the \
         engine's own first answer.",
        &["Engine", "Precision", ">Weighed", ">With f32's ids", ">Ids", ">Logits", ">Divergence"],
        rows,
        "",
    );
}

/// Families that compute with PyTorch's own kernels.
const PYTORCH: [&str; 3] = ["libtorch", "python", "python-alone"];

/// In one lower precision: whose last logits lie closer to f32's, ours or PyTorch's. Of PyTorch's engines the
/// closest counts, of an engine's runs the furthest.
fn closer(of: &Material, page: &mut Page) {
    let mut found: BTreeMap<(&str, &str), BTreeMap<&str, f64>> = BTreeMap::new();
    for check in of.record.checks.iter().filter(|check| check.check == "divergence") {
        if let Some(error) = check.error {
            let engines = found.entry((&check.workload, &check.rule)).or_default();
            let worst = engines.entry(&check.engine).or_insert(error);
            *worst = worst.max(error);
        }
    }
    let family = |engine: &str| engine.split('/').next().unwrap_or_default().to_string();
    let mut rows = Vec::new();
    for ((workload, rule), engines) in &found {
        let theirs = engines.iter().filter(|(engine, _)| PYTORCH.contains(&family(engine).as_str()));
        let Some((closest, least)) = theirs.min_by(|a, b| a.1.total_cmp(b.1)) else { continue };
        for (engine, error) in engines.iter().filter(|(engine, _)| family(engine) == "native") {
            rows.push(vec![
                code(workload),
                Line::from(*rule),
                code(engine),
                Line::from(scientific(*error)),
                code(closest),
                Line::from(scientific(*least)),
                if error <= least { Line::from("no further") } else { line().strong("further") },
            ]);
        }
    }
    if rows.is_empty() {
        return;
    }
    page.table(
        "Divergence from f32 in nats beside that of PyTorch in the same precision, whichever of its engines came closest. \
         Both are within the budget; this says who rounds less.",
        &["Workload", "Precision", "Ours", ">Divergence", "PyTorch's closest", ">Its divergence", "Ours is"],
        rows,
        "",
    );
}

/// Cells without a figure, and notes on those with one.
pub fn sat_out(of: &Material, page: &mut Page) {
    page.heading(2, "Who sat out, and why");
    let mut grouped: BTreeMap<(&str, Status, &str), Vec<&str>> = BTreeMap::new();
    let mut notes: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for cell in of.cells {
        if cell.status != Status::Ok {
            grouped.entry((&cell.engine, cell.status, &cell.reason)).or_default().push(&cell.workload);
        } else if !cell.reason.is_empty() {
            notes.entry((&cell.engine, &cell.reason)).or_default().push(&cell.workload);
        }
    }
    let names = |workloads: &[&str]| {
        workloads.iter().enumerate().fold(line(), |told, (at, name)| match at {
            0 => told.code(*name),
            _ => told.text(", ").code(*name),
        })
    };
    let rows = grouped
        .iter()
        .map(|((engine, status, reason), workloads)| {
            let reason = if reason.is_empty() { "no reason was recorded" } else { reason };
            vec![
                code(engine),
                Line::from(status.word().replace('_', " ")),
                Line::from(reason),
                names(workloads),
            ]
        })
        .collect();
    page.table(
        "An engine is asked only for tasks it offers; these were asked and have no figure.",
        &["Engine", "What happened", "Reason", "Workloads"],
        rows,
        "Every engine that was asked has a figure.",
    );
    let rows: Vec<_> = notes
        .iter()
        .map(|((engine, reason), workloads)| vec![code(engine), Line::from(*reason), names(workloads)])
        .collect();
    if !rows.is_empty() {
        page.table("Figures with a note.", &["Engine", "Note", "Workloads"], rows, "");
    }
}
