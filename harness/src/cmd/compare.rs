//! `assay compare`: report, charts, tables and README from a record; nothing is measured.

use super::{read_record, record_folder};
use anyhow::{Context, Result};
use clap::Args;
use harness::record::Record;
use harness::report::{Material, against_native, insertions, splice_file, write as write_report};
use harness::site::Site;
use harness::spec::load_claims;
use harness::summary::{View, summarize};
use harness::verdict::judge;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The record's folder; the newest below results/record if absent.
    record: Option<PathBuf>,
    /// Where the report goes; results/ if absent.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Leave README.md as it is.
    #[arg(long)]
    no_readme: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let site = Site::find(None, None, None)?;
    let folder = match &options.record {
        Some(folder) => folder.clone(),
        None => committed_or_newest(&site)?,
    };
    let out = options.out.clone().unwrap_or_else(|| site.results());
    let readme = !options.no_readme && options.out.is_none();
    write(&site, &folder, &out, readme)?;
    Ok(ExitCode::SUCCESS)
}

/// The record that results/ is made from: the one that results/SOURCE names, else the newest.
fn committed_or_newest(site: &Site) -> Result<PathBuf> {
    let results = site.results();
    match std::fs::read_to_string(results.join("SOURCE")) {
        Ok(name) => Ok(results.join("record").join(name.trim())),
        Err(_) => record_folder(site, None),
    }
}

/// Writes everything that follows from one record and prints the verdict table.
pub fn write(site: &Site, folder: &Path, out: &Path, readme: bool) -> Result<()> {
    let record = Record::read(folder)?;
    let documents = load_claims(&site.root().join("harness/claims"))?;
    let summary = summarize(&record);
    let judgements = judge(&record, &documents);
    let view = View::new(&record);
    let ratios = against_native(&record, |workload, metric, a, b| view.ratio(workload, metric, a, b).ok());
    let material =
        Material { record: &record, cells: &summary.cells, ratios: &ratios, judgements: &judgements };
    write_report(&material, out)?;
    if readme {
        let path = site.root().join("README.md");
        splice_file(&path, &insertions(&material)?)
            .with_context(|| format!("cannot splice {}", path.display()))?;
    }
    println!("{:8} {:13} {:44} finding", "claim", "verdict", "quote");
    for judged in &judgements {
        let quote: String = judged.claim.quote.split_whitespace().collect::<Vec<_>>().join(" ");
        let quote = if quote.chars().count() > 42 {
            format!("{}…", quote.chars().take(41).collect::<String>())
        } else {
            quote
        };
        println!("{:8} {:13} {:44} {}", judged.claim.id, judged.verdict.words(), quote, judged.finding);
    }
    println!("\nreport: {}", out.join("report.html").display());
    Ok(())
}

/// The record that `cmp` reads when none is named.
pub fn newest(site: &Site, named: Option<&PathBuf>) -> Result<Record> {
    read_record(site, named)
}
