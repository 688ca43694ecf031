//! `assay verify`: every cell once, every answer checked, nothing recorded.

use super::House;
use super::measure::{Options as MeasureOptions, measure};
use crate::Common;
use anyhow::{Context, Result};
use clap::Args;
use harness::record::{EXACT, Record, Status};
use harness::runner::INTERRUPTED;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Which profile's workloads.
    #[arg(long, default_value = "quick")]
    profile: String,
    /// Print `expect = …` of every workload whose text is pinned, to paste into its stanza.
    #[arg(long)]
    pins: bool,
    /// Fail when a family could not take part.
    #[arg(long)]
    strict: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let house = House::open(&options.common)?;
    let out = house.site.made().join("verify").join(std::process::id().to_string());
    let measured = MeasureOptions {
        common: options.common.clone(),
        profile: options.profile.clone(),
        seed: Some(1),
        heats: Some(1),
        rounds: Some(1),
        turn_limit_ms: None,
        sample_limit_ms: None,
        out: Some(out.clone()),
    };
    measure(&house, &measured)?;
    let record = Record::read(&out)?;
    std::fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    if options.pins {
        print_pins(&record);
    }
    let answers = record.checks.iter().filter(|check| check.check == "answer").count();
    let logits = record.checks.iter().filter(|check| check.check == "logits").count();
    let weighed = record.checks.iter().filter(|check| check.check == "answer" && check.rule != EXACT).count();
    let of_them = match weighed {
        0 => String::new(),
        n => format!(", {n} answers of them weighed in lower precision"),
    };
    let mut bad = 0;
    let mut out_of_it = 0;
    for row in record.samples.iter().filter(|row| row.status != Status::Ok) {
        let line = format!("{} on {}: {}: {}", row.engine, row.workload, row.status.word(), row.reason);
        if matches!(row.status, Status::Refused | Status::Skipped | Status::TimedOut) {
            out_of_it += 1;
            eprintln!("sits out: {line}");
        } else {
            bad += 1;
            println!("{line}");
        }
    }
    println!(
        "{answers} answers and {logits} logits compared{of_them}; {bad} wrong or failed, {out_of_it} sat out"
    );
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Ok(ExitCode::from(130));
    }
    let failed = bad > 0 || answers == 0 || (options.strict && out_of_it > 0);
    Ok(ExitCode::from(u8::from(failed)))
}

fn print_pins(record: &Record) {
    for workload in &record.run.workloads {
        let found = record.samples.iter().find(|row| {
            row.workload == workload.name
                && !row.digest.is_empty()
                && record
                    .engine(&row.engine)
                    .is_some_and(|engine| engine.reference_for.contains(&workload.task.kind()))
        });
        if let Some(row) = found {
            let units = row.units.unwrap_or_default();
            println!("{}\nexpect = {{ units = {units}, digest = \"{}\" }}", workload.name, row.digest);
        }
    }
}
