//! `assay list`: workloads, who does them, and what a run would take.

use super::House;
use super::progress::minutes;
use crate::Common;
use anyhow::Result;
use clap::Args;
use harness::plan::{Group, Plan, group};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Which profile's workloads.
    #[arg(long, default_value = "quick")]
    profile: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let house = House::open(&options.common)?;
    let plan = house.plan(&options.profile, 0)?;
    if options.json {
        let cells: Vec<_> = plan
            .workloads
            .iter()
            .map(|workload| serde_json::json!({ "workload": workload, "engines": names(&plan, workload) }))
            .collect();
        println!("{}", serde_json::to_string_pretty(&cells)?);
        return Ok(ExitCode::SUCCESS);
    }
    for workload in &plan.workloads {
        let threads =
            if workload.threads == 1 { "1 thread".into() } else { format!("{} threads", workload.threads) };
        println!(
            "{:34} {:10} {threads:10} {}",
            workload.name,
            workload.task.kind().word(),
            names(&plan, workload).join(" ")
        );
    }
    println!(
        "\nprofile {}: {} workloads, {} engines, {} heats x {} rounds, {} turns, about {} after set-up",
        plan.profile,
        plan.workloads.len(),
        plan.engines.len(),
        plan.settings.heats,
        plan.settings.rounds,
        plan.turns_in_all(),
        minutes(estimate(&plan))
    );
    Ok(ExitCode::SUCCESS)
}

fn names(plan: &Plan, workload: &harness::spec::Workload) -> Vec<String> {
    plan.places(workload)
        .iter()
        .filter(|place| place.arm == harness::record::Arm::First)
        .map(|place| plan.engines[place.engine].name.clone())
        .collect()
}

/// A rough guess: a turn takes its limit, or a model's longest step; a Python process some seconds to
/// boot.
fn estimate(plan: &Plan) -> Duration {
    let limit = plan.settings.turn_limit_ms as f64 / 1000.0;
    let heats = f64::from(plan.settings.heats);
    let rounds = f64::from(plan.settings.rounds);
    let boots: f64 =
        plan.engines.iter().map(|engine| if engine.language.contains("python") { 5.0 } else { 0.5 }).sum();
    let turns: f64 = plan
        .workloads
        .iter()
        .map(|workload| {
            let places = plan.places(workload).len() as f64;
            let turn = match group(workload) {
                Group::Text => limit * 0.8,
                Group::Model => limit * 2.0,
                Group::Fresh => 1.0,
            };
            places * (1.5 + 2.0 * rounds) * turn
        })
        .sum();
    Duration::from_secs_f64(heats * (turns + boots))
}
