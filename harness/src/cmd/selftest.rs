//! `assay selftest`: measures the instrument. Doubled work must take about twice the time; the same
//! engine against itself must raise no alarm; injected slow-downs must be seen; a wrong answer must be
//! caught.

use super::House;
use super::cmp::spend;
use super::measure::{Options as MeasureOptions, measure_plan};
use crate::Common;
use anyhow::{Context, Result};
use clap::Args;
use harness::cmp::compare_fully;
use harness::gate::{Outcome, judge_passes};
use harness::plan::Plan;
use harness::record::{Record, Status};
use harness::spec::{Contestant, Role, Workload};
use std::collections::BTreeMap;
use std::process::ExitCode;
use worker::TaskKind;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Seconds of one measuring pass.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How often the gate is tried on each pair.
    #[arg(long, default_value_t = 3)]
    trials: u32,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let house = House::open(&Common::default())?;
    let workload = test_workload(&house)?;
    let mut sound = true;
    let record = pass(&house, &workload, &["count", "count-2x"], options.seconds, 1)?;
    let seen = compare_fully(&record, "selftest/count", "selftest/count-2x", "");
    let ratio = seen.ratios.first().context("doubled work gave no ratio")?;
    let doubled = ratio.lo < 2.2 && ratio.hi > 1.8;
    sound &= doubled;
    println!(
        "doubled work: time ratio {:.3} [{:.3}, {:.3}] of 2: {}",
        ratio.ratio,
        ratio.lo,
        ratio.hi,
        if doubled { "as it should" } else { "UNSOUND" }
    );
    let record = pass(&house, &workload, &["count", "fault-wrong"], options.seconds.min(5.0), 1)?;
    let caught = record
        .samples
        .iter()
        .any(|row| row.engine == "selftest/fault-wrong" && row.status == Status::Wrong)
        && !record.samples.iter().any(|row| row.engine == "selftest/fault-wrong" && row.status == Status::Ok);
    sound &= caught;
    println!("a wrong answer: {}", if caught { "caught" } else { "NOT CAUGHT" });
    for (variant, slower) in [("count", 0), ("count-plus-2", 2), ("count-plus-5", 5), ("count-plus-10", 10)] {
        let mut alarms = 0;
        for trial in 0..options.trials {
            let names = ["count", if slower == 0 { "count:again" } else { variant }];
            let passes = [
                pass(&house, &workload, &names, options.seconds, u64::from(trial) * 2 + 10)?,
                pass(&house, &workload, &names, options.seconds, u64::from(trial) * 2 + 11)?,
            ];
            let gate = judge_passes(
                &passes.iter().collect::<Vec<_>>(),
                "selftest/count",
                &format!("selftest/{}", names[1].replace(':', "-")),
            );
            alarms += u32::from(gate.outcome == Outcome::Regressed);
        }
        let what = if slower == 0 { "no change".into() } else { format!("{slower} % slower") };
        println!("gate, {what}: {alarms} alarms in {} trials", options.trials);
        sound &= slower != 0 || alarms == 0;
    }
    Ok(ExitCode::from(if sound { 0 } else { 2 }))
}

fn test_workload(house: &House) -> Result<Workload> {
    let mut workload = house
        .workloads
        .iter()
        .find(|workload| workload.task.kind() == TaskKind::Encode && workload.input_bytes() == 65_536)
        .context("no encode workload of 64 KiB to test with")?
        .clone();
    workload.expect = None;
    Ok(workload)
}

fn pass(house: &House, workload: &Workload, variants: &[&str], seconds: f64, seed: u64) -> Result<Record> {
    let engines = variants
        .iter()
        .enumerate()
        .map(|(at, variant)| Contestant {
            name: format!("selftest/{}", variant.replace(':', "-")),
            run: vec!["{bin}/engine-echo".into(), variant.split(':').next().unwrap_or_default().into()],
            role: Role::Contestant,
            precision: String::new(),
            tasks: vec![TaskKind::Encode],
            reference_for: if at == 0 { vec![TaskKind::Encode] } else { vec![] },
            aa_for: if at == 0 { vec![TaskKind::Encode] } else { vec![] },
            environment: BTreeMap::new(),
            language: "rust".into(),
            note: "counts bytes, for the instrument's own test".into(),
            profiles: vec![],
            only: vec![],
            slow: false,
            needs: vec![],
            logit_budget: None,
        })
        .collect();
    let mut plan = Plan {
        profile: "full".into(),
        settings: Plan::settings("full")?,
        seed,
        workloads: vec![workload.clone()],
        engines,
    };
    spend(&mut plan, seconds);
    let out = house.site.made().join("selftest").join(format!("{}-{seed}", std::process::id()));
    measure_plan(house, &MeasureOptions::into_folder(out.clone()), plan)?;
    let record = Record::read(&out)?;
    std::fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    Ok(record)
}
