//! `assay compare`: report, charts, tables and README from a record; nothing is measured.

use super::record_folder;
use anyhow::{Context, Result};
use clap::Args;
use harness::record::Record;
use harness::report::{
    Material, Sheet, against_native, insertions, render, splice, splice_file, write_sheets,
};
use harness::site::Site;
use harness::spec::load_claims;
use harness::summary::{View, summarize};
use harness::verdict::{Judgement, judge};
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
    /// Write nothing; fail if what is in results/ and README.md is not what the record says.
    #[arg(long)]
    check: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let site = Site::find(None, None, None)?;
    let folder = match &options.record {
        Some(folder) => folder.clone(),
        None => source_or_newest(&site)?,
    };
    let out = options.out.clone().unwrap_or_else(|| site.results());
    let derived = Derived::from(&site, &folder)?;
    if options.check {
        return derived.check(&site, &out);
    }
    derived.write(&out, options.out.is_none().then_some(&site))?;
    if !options.no_readme && options.out.is_none() {
        derived.splice_readme(&site)?;
    }
    derived.print(&out);
    Ok(ExitCode::SUCCESS)
}

/// The record that results/ is made from: the one that results/SOURCE names, else the newest.
fn source_or_newest(site: &Site) -> Result<PathBuf> {
    let results = site.results();
    match std::fs::read_to_string(results.join("SOURCE")) {
        Ok(name) => Ok(results.join("record").join(name.trim())),
        Err(_) => record_folder(site, None),
    }
}

/// Everything that follows from one record.
pub struct Derived {
    folder: PathBuf,
    sheets: Vec<Sheet>,
    readme: Vec<(&'static str, String)>,
    judgements: Vec<Judgement>,
    id: String,
}

impl Derived {
    /// Reads the record and computes; writes nothing.
    pub fn from(site: &Site, folder: &Path) -> Result<Derived> {
        let record = Record::read(folder)?;
        let documents = load_claims(&site.root().join("harness/claims"))?;
        let summary = summarize(&record);
        let judgements = judge(&record, &documents);
        let view = View::new(&record);
        let ratios =
            against_native(&record, |workload, metric, a, b| view.ratio(workload, metric, a, b).ok());
        let material = Material {
            record: &record,
            cells: &summary.cells,
            shared_peaks: &summary.shared_peaks,
            floors: &summary.floors,
            ratios: &ratios,
            judgements: &judgements,
        };
        let (sheets, readme) = (render(&material)?, insertions(&material)?);
        Ok(Derived { folder: folder.to_path_buf(), sheets, readme, judgements, id: record.run.id.clone() })
    }

    /// Writes report, charts and tables; with a site, also which record they come from.
    pub fn write(&self, out: &Path, site: Option<&Site>) -> Result<()> {
        write_sheets(&self.sheets, out)?;
        let Some(site) = site else { return Ok(()) };
        let below = site.results().join("record").canonicalize();
        let name = below.ok().and_then(|below| {
            self.folder
                .canonicalize()
                .ok()?
                .strip_prefix(below)
                .ok()
                .map(|name| name.to_string_lossy().into_owned())
        });
        if let Some(name) = name {
            let path = site.results().join("SOURCE");
            std::fs::write(&path, name + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn splice_readme(&self, site: &Site) -> Result<()> {
        let path = site.root().join("README.md");
        splice_file(&path, &self.readme).with_context(|| format!("cannot splice {}", path.display()))?;
        Ok(())
    }

    /// The verdict table and where the report lies, for people at a terminal.
    pub fn print(&self, out: &Path) {
        println!("{:8} {:13} {:44} finding", "claim", "verdict", "quote");
        for judged in &self.judgements {
            let quote: String = judged.claim.quote.split_whitespace().collect::<Vec<_>>().join(" ");
            let quote = if quote.chars().count() > 42 {
                format!("{}…", quote.chars().take(41).collect::<String>())
            } else {
                quote
            };
            println!("{:8} {:13} {:44} {}", judged.claim.id, judged.verdict.words(), quote, judged.finding);
        }
        println!("\nreport: {}", out.join("report.html").display());
    }

    fn check(&self, site: &Site, out: &Path) -> Result<ExitCode> {
        let mut stale: Vec<String> = self
            .sheets
            .iter()
            .filter(|sheet| std::fs::read_to_string(out.join(&sheet.path)).ok().as_ref() != Some(&sheet.text))
            .map(|sheet| sheet.path.clone())
            .collect();
        let readme = std::fs::read_to_string(site.root().join("README.md")).unwrap_or_default();
        // A README that shows another record (the committed one, after a run of one's own) is not stale.
        if readme.contains(&format!("`{}`", self.id)) && splice(&readme, &self.readme)? != readme {
            stale.push("README.md".into());
        }
        if stale.is_empty() {
            println!("{} files are what record {} says", self.sheets.len(), self.id);
            return Ok(ExitCode::SUCCESS);
        }
        println!("not what record {} says: {}; run scripts/assay compare", self.id, stale.join(", "));
        Ok(ExitCode::from(1))
    }
}
