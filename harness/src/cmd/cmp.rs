//! `assay cmp A B`: one ratio a workload, from a record or measured now.

use super::measure::{Options as MeasureOptions, measure_plan};
use super::{House, read_record};
use crate::Common;
use anyhow::{Result, bail, ensure};
use clap::Args;
use harness::cmp::{admits, compare_fully};
use harness::plan::Plan;
use harness::record::Record;
use harness::runner::INTERRUPTED;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The engine said to be faster.
    a: String,
    /// The other.
    b: String,
    /// Only workloads whose name contains this (or matches it, with `*`).
    #[arg(long, default_value = "")]
    workload: String,
    /// Measure now, for about so many seconds, instead of reading the newest record.
    #[arg(long, value_name = "SECONDS")]
    measure: Option<f64>,
    /// Read this record.
    #[arg(long, conflicts_with = "measure")]
    record: Option<PathBuf>,
    /// A list of {workload, metric, clock, a, b, precisions, ratio, lo, hi, n, floor}.
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let mut house = House::open(&Common::default())?;
    let engines = [options.a.clone(), options.b.clone()];
    // Unknown names are answered with the nearest before anything is read or measured.
    house.filters.engines = engines.to_vec();
    house.plan("full", 0)?;
    let record = match options.measure {
        Some(seconds) => measure_now(&mut house, options, seconds)?,
        None => read_record(&house.site, options.record.as_ref())?,
    };
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Ok(ExitCode::from(130));
    }
    let seen = compare_fully(&record, &options.a, &options.b, &options.workload);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&seen.ratios)?);
    } else {
        print!("{}", seen.table());
    }
    for text in seen.missing.iter().filter(|_| options.json) {
        eprintln!("no ratio: {text}");
    }
    if seen.ratios.is_empty() {
        bail!("no workload that both did in {}; `--measure 60` measures one now", record.run.id);
    }
    Ok(ExitCode::SUCCESS)
}

fn measure_now(house: &mut House, options: &Options, seconds: f64) -> Result<Record> {
    ensure!(seconds.is_finite() && seconds >= 1.0, "--measure takes seconds, at least 1");
    let both = |workload: &&harness::spec::Workload| {
        let engines = house.engines();
        admits(&options.workload, &workload.name)
            && [&options.a, &options.b]
                .iter()
                .all(|name| engines.iter().any(|e| &&e.name == name && e.does(workload)))
    };
    let names: Vec<String> = house.workloads.iter().filter(both).map(|w| w.name.clone()).collect();
    ensure!(
        !names.is_empty(),
        "no workload matches `{}` that both {} and {} do",
        options.workload,
        options.a,
        options.b
    );
    house.filters.workloads = names;
    let mut plan = house.plan("full", 0)?;
    spend(&mut plan, seconds);
    let out = house.site.made().join("cmp").join(std::process::id().to_string());
    let measured = MeasureOptions::into_folder(out.clone());
    measure_plan(house, &measured, plan)?;
    let record = Record::read(&out)?;
    std::fs::remove_dir_all(&out)?;
    Ok(record)
}

/// Spreads `seconds` over heats, rounds and turns: heats first (fresh processes are what makes blocks
/// independent), then as long a turn as is left.
pub fn spend(plan: &mut Plan, seconds: f64) {
    plan.settings.heats = if seconds < 20.0 { 2 } else { 4 };
    plan.settings.rounds = 2;
    plan.settings.samples = 1000;
    let turns = plan.turns_in_all() as f64;
    plan.settings.turn_limit_ms = (seconds * 1000.0 / turns).clamp(1.0, 5000.0) as u64;
}
