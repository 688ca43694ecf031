//! Cells, ratios and verdicts as CSV: base units, nothing rounded, an empty field where there is none.

use super::Material;
use crate::summary::{Clock, Estimate, Ratio};
use anyhow::{Context, Result};

/// Name and text of each table.
pub fn all(of: &Material) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![("cells", cells(of)?), ("ratios", ratios(of)?), ("verdicts", verdicts(of)?)])
}

fn table(rows: impl IntoIterator<Item = Vec<String>>) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(&row).context("cannot write a table")?;
    }
    let bytes = writer.into_inner().context("cannot write a table")?;
    String::from_utf8(bytes).context("a table is not UTF-8")
}

fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

fn estimate(of: &Option<Estimate>) -> [String; 4] {
    match of {
        Some(found) => [number(found.value), number(found.lo), number(found.hi), found.n.to_string()],
        None => Default::default(),
    }
}

fn clock(clock: Clock) -> &'static str {
    match clock {
        Clock::Wall => "wall",
        Clock::Cpu => "cpu",
        Clock::SinceSpawn => "since_spawn",
        Clock::Device => "device",
        Clock::None => "none",
    }
}

const FIGURES: [&str; 7] = [
    "time_ns",
    "first_time_ns",
    "first_token_ns",
    "token_time_ns",
    "since_spawn_ns",
    "units_per_s",
    "bytes_per_s",
];

fn cells(of: &Material) -> Result<String> {
    let mut header: Vec<String> =
        ["workload", "engine", "task", "threads", "status", "reason", "clock"].map(String::from).to_vec();
    for name in FIGURES {
        header.extend(["", "_lo", "_hi", "_n"].map(|end| format!("{name}{end}")));
    }
    let rest = [
        "tail",
        "tail_ns",
        "tail_n",
        "unit",
        "booted_bytes",
        "loaded_bytes",
        "peak_bytes",
        "samples",
        "rejected",
    ];
    header.extend(rest.map(String::from));
    let rows = of.cells.iter().map(|cell| {
        let mut row = vec![
            cell.workload.clone(),
            cell.engine.clone(),
            cell.task.word().into(),
            cell.threads.to_string(),
            cell.status.word().into(),
            cell.reason.clone(),
            clock(cell.clock).into(),
        ];
        for figure in [
            &cell.time,
            &cell.first_time,
            &cell.first_token,
            &cell.token_time,
            &cell.since_spawn,
            &cell.units_per_s,
            &cell.bytes_per_s,
        ] {
            row.extend(estimate(figure));
        }
        let bytes = |bytes: Option<u64>| bytes.map_or(String::new(), |bytes| bytes.to_string());
        match &cell.token_tail {
            Some(tail) => row.extend([tail.name.clone(), number(tail.value), tail.n.to_string()]),
            None => row.extend([String::new(), String::new(), String::new()]),
        }
        row.extend([
            cell.unit.clone(),
            bytes(cell.booted_bytes),
            bytes(cell.loaded_bytes),
            bytes(cell.peak_bytes),
            cell.samples.to_string(),
            cell.rejected.to_string(),
        ]);
        row
    });
    table(std::iter::once(header).chain(rows))
}

fn ratios(of: &Material) -> Result<String> {
    let header = [
        "claim",
        "verdict",
        "workload",
        "metric",
        "clock",
        "a",
        "b",
        "precisions",
        "ratio",
        "lo",
        "hi",
        "n",
        "floor",
    ];
    let row = |claim: &str, verdict: &str, ratio: &Ratio| {
        vec![
            claim.to_string(),
            verdict.to_string(),
            ratio.workload.clone(),
            ratio.metric.clone(),
            clock(ratio.clock).into(),
            ratio.a.clone(),
            ratio.b.clone(),
            ratio.precisions.clone(),
            number(ratio.ratio),
            number(ratio.lo),
            number(ratio.hi),
            ratio.n.to_string(),
            number(ratio.floor),
        ]
    };
    let of_claims = of.judgements.iter().flat_map(|judgement| {
        judgement.rows.iter().map(move |(ratio, verdict)| row(&judgement.claim.id, verdict.words(), ratio))
    });
    let others = of.ratios.iter().map(|ratio| row("", "", ratio));
    table(std::iter::once(header.map(String::from).to_vec()).chain(of_claims).chain(others))
}

fn verdicts(of: &Material) -> Result<String> {
    let header = ["claim", "document", "verdict", "quote", "finding", "rows", "missing"];
    let rows = of.judgements.iter().map(|judgement| {
        vec![
            judgement.claim.id.clone(),
            judgement.document.clone(),
            judgement.verdict.words().into(),
            judgement.claim.quote.clone(),
            judgement.finding.clone(),
            judgement.rows.len().to_string(),
            judgement.missing.len().to_string(),
        ]
    });
    table(std::iter::once(header.map(String::from).to_vec()).chain(rows))
}
