//! The report: a record's cells, ratios and judgements as Markdown, HTML, charts and tables.
//!
//! Pure: [`render`] reads no clock, no process, no file and no environment, so the same record gives
//! the same bytes twice. Sections are said once as a [`page::Page`] and printed in both formats.

pub mod chart;
mod figures;
pub mod format;
mod html;
mod markdown;
pub mod page;
pub mod palette;
mod sections;
mod splice;
mod tables;
mod view;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use splice::{insertions, splice, splice_file};

use crate::record::Record;
use crate::spec::{Contestant, Metric, Role};
use crate::summary::{Cell, Ratio, Summary};
use crate::verdict::Judgement;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use worker::TaskKind;

/// Everything a report is made from.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// The raw rows and where they were taken.
    pub record: &'a Record,
    /// One figure an engine and workload.
    pub cells: &'a [Cell],
    /// (workload, engine) whose peak memory includes workloads that the same process did before.
    pub shared_peaks: &'a [(String, String)],
    /// Workload -> what an engine differs from itself by (A/A arm), as a factor of at least 1.
    pub floors: &'a [(String, f64)],
    /// Comparisons of two engines on one workload, whoever is `a`; those of the claims come with
    /// `judgements` and need not be repeated.
    pub ratios: &'a [Ratio],
    /// The claims, judged, in the ledger's order.
    pub judgements: &'a [Judgement],
}

/// One file of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    /// Path below the report's folder, with `/`.
    pub path: String,
    /// Its whole text.
    pub text: String,
}

/// The report's files: `report.md`, `report.html`, `charts/*.svg`, `tables/*.csv`.
pub fn render(of: &Material) -> Result<Vec<Sheet>> {
    let charts = figures::all(of)?;
    let page = sections::page(of, &charts);
    let inline: BTreeMap<String, String> =
        charts.iter().map(|chart| (chart.name.clone(), chart.svg.clone())).collect();
    let mut sheets = vec![
        Sheet { path: "report.md".into(), text: markdown::render(&page) },
        Sheet { path: "report.html".into(), text: html::render(&page, &inline) },
    ];
    for chart in charts {
        sheets.push(Sheet { path: format!("charts/{}.svg", chart.name), text: chart.svg });
    }
    for (name, text) in tables::all(of)? {
        sheets.push(Sheet { path: format!("tables/{name}.csv"), text });
    }
    Ok(sheets)
}

/// Renders into `folder`, which is made where it does not exist. Charts and tables of an earlier
/// report that this one does not have are removed.
pub fn write(of: &Material, folder: &Path) -> Result<()> {
    write_sheets(&render(of)?, folder)
}

/// [`write()`] for what is rendered already.
pub fn write_sheets(sheets: &[Sheet], folder: &Path) -> Result<()> {
    for (sub, ending) in [("charts", "svg"), ("tables", "csv")] {
        let sub = folder.join(sub);
        std::fs::create_dir_all(&sub).with_context(|| refused(&sub))?;
        for entry in std::fs::read_dir(&sub).with_context(|| refused(&sub))? {
            let path = entry.with_context(|| refused(&sub))?.path();
            let ours = path.extension().is_some_and(|found| found == ending);
            if ours && !sheets.iter().any(|sheet| folder.join(&sheet.path) == path) {
                std::fs::remove_file(&path).with_context(|| refused(&path))?;
            }
        }
    }
    for sheet in sheets {
        let path = folder.join(&sheet.path);
        std::fs::write(&path, &sheet.text).with_context(|| refused(&path))?;
    }
    Ok(())
}

impl<'a> Material<'a> {
    /// A record with its summary, the comparisons of [`against_native`] and its judgements.
    pub fn new(
        record: &'a Record,
        summary: &'a Summary,
        ratios: &'a [Ratio],
        judgements: &'a [Judgement],
    ) -> Material<'a> {
        let Summary { cells, shared_peaks, floors } = summary;
        Material { record, cells, shared_peaks, floors, ratios, judgements }
    }
}

/// The comparisons behind “Where native loses”: every native engine with every other contestant of its
/// precision, on every workload that both were asked, by the metrics that workload is about. `ratio`
/// gives metric(b) / metric(a), or nothing where there are no rows.
pub fn against_native(
    record: &Record,
    mut ratio: impl FnMut(&str, Metric, &str, &str) -> Option<Ratio>,
) -> Vec<Ratio> {
    let contestants = || record.run.engines.iter().filter(|engine| engine.role == Role::Contestant);
    let mut found = Vec::new();
    for workload in &record.run.workloads {
        let kind = workload.task.kind();
        let asked = |engine: &&Contestant| engine.does(workload);
        let metrics: &[Metric] = match kind {
            // Only a process that was started for one workload has a peak of its own.
            TaskKind::Start => &[Metric::SinceSpawn, Metric::PeakMemory],
            TaskKind::Generate => &[Metric::Time, Metric::FirstToken],
            _ => &[Metric::Time],
        };
        for native in contestants().filter(asked).filter(|engine| view::is_native(&engine.name)) {
            for other in contestants().filter(asked).filter(|engine| !view::is_native(&engine.name)) {
                if native.precision == other.precision {
                    let all = metrics.iter();
                    found.extend(
                        all.filter_map(|metric| ratio(&workload.name, *metric, &native.name, &other.name)),
                    );
                }
            }
        }
    }
    found
}

fn refused(path: &Path) -> String {
    format!("cannot write {} (is the results folder writable, the disk full?)", path.display())
}
