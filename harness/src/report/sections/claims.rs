//! Every claim in full: the words, our reading, the rows, the verdict.

use super::front::{claim_anchor, floor_figure};
use crate::report::Material;
use crate::report::format::{MISSING, Quantity, clock_words};
use crate::report::page::{Line, Page, code, line};
use crate::spec::{Metric, Reading};

/// One part a claim, in the ledger's order.
pub fn details(of: &Material, page: &mut Page) {
    page.heading(2, "Claims in detail");
    if of.judgements.is_empty() {
        return page.para("No claim was judged.");
    }
    for judgement in of.judgements {
        let claim = &judgement.claim;
        page.heading_at(3, &claim_anchor(&claim.id), &format!("{}: {}", claim.id, judgement.verdict.words()));
        page.quote(format!("“{}” ({}, {})", claim.quote, judgement.document, judgement.title));
        page.items(vec![
            line().strong("Reading. ").text(claim.reading.as_str()),
            line().strong("Test. ").text(test_words(&claim.test)),
            line().strong("Finding. ").text(judgement.finding.as_str()),
        ]);
        let rows: Vec<Vec<Line>> = judgement
            .rows
            .iter()
            .map(|(ratio, verdict)| {
                let floor = if ratio.floor > 1.0 { floor_figure(ratio.floor) } else { MISSING.into() };
                vec![
                    code(&ratio.workload),
                    code(&ratio.a),
                    code(&ratio.b),
                    Line::from(ratio.metric.as_str()),
                    Line::from(Quantity::Factor.show_interval(ratio.ratio, ratio.lo, ratio.hi)),
                    Line::from(ratio.n.to_string()),
                    Line::from(clock_words(ratio.clock)),
                    Line::from(floor),
                    Line::from(verdict.words()),
                ]
            })
            .collect();
        if !rows.is_empty() {
            page.table(
                "",
                &["Workload", "Engine", "Against", "Metric", ">Ratio", ">n", "Clock", ">Floor", "Verdict"],
                rows,
                "",
            );
        }
        if matches!(claim.test, Reading::OutOfReach { .. }) {
            continue; // the test has said why
        }
        page.items(
            judgement.missing.iter().map(|what| line().strong("No rows: ").text(what.as_str())).collect(),
        );
    }
}

/// The metric in prose.
pub fn metric_words(metric: Metric) -> &'static str {
    match metric {
        Metric::Time => "time of a warm run",
        Metric::FirstTime => "time of the first run",
        Metric::FirstToken => "time to the first token",
        Metric::TokenTime => "time between tokens",
        Metric::Jitter => "spread of the time between tokens",
        Metric::SinceSpawn => "time from spawn to the first token",
        Metric::PeakMemory => "peak resident memory",
        Metric::Footprint => "bytes on disk",
    }
}

fn bounds_words(bounds: &[f64]) -> String {
    match bounds {
        [lo, hi] => format!("between {lo} and {hi}"),
        [lo] => format!("at least {lo}"),
        _ => MISSING.into(),
    }
}

fn test_words(test: &Reading) -> String {
    match test {
        Reading::Engines { faster, slower, over, metric, bounds } => format!(
            "{} of {} over that of {}, on {}, is {}.",
            metric_words(*metric),
            slower.join(", "),
            faster.join(", "),
            over.join(", "),
            bounds_words(bounds)
        ),
        Reading::Workloads { engines, faster_on, slower_on, metric, bounds } => format!(
            "For {}: {} on {slower_on} over that on {faster_on} is {}.",
            engines.join(", "),
            metric_words(*metric),
            bounds_words(bounds)
        ),
        Reading::Share { part_engine, part_on, whole_engine, whole_on, metric, minor, major } => format!(
            "The share of {part_engine} on {part_on} in {whole_engine} on {whole_on} ({}) is below {} (minor) or above {} (major).",
            metric_words(*metric),
            Quantity::Share.show(*minor),
            Quantity::Share.show(*major)
        ),
        Reading::OutOfReach { because } => format!("Not measured: {because}"),
    }
}
