//! `assay gate BASE`: builds the base revision's engines beside this tree's and compares the two in
//! one run, twice. Exit status: 0 fine, 1 a regression confirmed in both passes, 2 the measurement is
//! unsound, 3 an error of our own.

use super::House;
use super::cmp::spend;
use super::measure::{Options as MeasureOptions, measure_plan};
use crate::Common;
use anyhow::{Context, Result, ensure};
use clap::Args;
use harness::gate::judge_passes;
use harness::glob::matches_any;
use harness::plan::Plan;
use harness::record::Record;
use harness::runner::{output, run as run_command};
use harness::spec::{Contestant, Role};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Base revision: anything git understands.
    #[arg(default_value = "HEAD~1")]
    base: String,
    /// Engines to compare (names or globs).
    #[arg(short = 'e', long = "engine", default_value = "native/*")]
    engines: Vec<String>,
    /// Workloads (names or globs).
    #[arg(short = 'f', long = "workload", default_values_t = ["encode/*-64k".to_string(), "decode/b1-ctx32".to_string(), "prefill/128".to_string()])]
    workloads: Vec<String>,
    /// Seconds a pass and engine.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let house = House::open(&Common::default())?;
    let revision = output(&["git", "rev-parse", "--short=10", &options.base], house.site.root())
        .with_context(|| format!("`{}` is no revision here", options.base))?;
    let base = build_base(&house, &revision)?;
    let heads: Vec<Contestant> = house
        .engines()
        .into_iter()
        .filter(|engine| engine.role == Role::Contestant && matches_any(&options.engines, &engine.name))
        .collect();
    ensure!(!heads.is_empty(), "no engine matches {}; `assay list` shows all", options.engines.join(", "));
    let mut worst = 0;
    for head in heads {
        worst = worst.max(gate_one(&house, options, &head, &revision, &base)?);
    }
    Ok(ExitCode::from(worst))
}

fn gate_one(house: &House, options: &Options, head: &Contestant, revision: &str, base: &Path) -> Result<u8> {
    let workloads: Vec<_> = house
        .workloads
        .iter()
        .filter(|w| head.does(w) && matches_any(&options.workloads, &w.name))
        .cloned()
        .collect();
    if workloads.is_empty() {
        return Ok(0);
    }
    // The floor comes from the engine under test, whether or not engine.toml gives it an A/A arm.
    let head = Contestant { aa_for: head.tasks.clone(), ..head.clone() };
    let mut old = head.clone();
    old.name = format!("{}@{revision}", head.name);
    old.run[0] = old.run[0].replace("{bin}", &base.to_string_lossy());
    old.aa_for.clear();
    old.reference_for = head.tasks.clone();
    let mut passes: Vec<Record> = Vec::new();
    for pass in 1..=2u64 {
        let mut plan = Plan {
            profile: "full".into(),
            settings: Plan::settings("full")?,
            seed: pass,
            workloads: workloads.clone(),
            engines: vec![old.clone(), head.clone()],
        };
        spend(&mut plan, options.seconds);
        let out = house.site.made().join("gate").join(format!("{}-{pass}", std::process::id()));
        measure_plan(house, &MeasureOptions::into_folder(out.clone()), plan)?;
        passes.push(Record::read(&out)?);
        std::fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    let gate = judge_passes(&passes.iter().collect::<Vec<_>>(), &old.name, &head.name);
    print!("{}", gate.text(&old.name, &head.name));
    Ok(gate.outcome.exit_code())
}

/// Checks the base out beside this tree and builds the engines that need neither Python nor libtorch.
fn build_base(house: &House, revision: &str) -> Result<PathBuf> {
    let root = house.site.root();
    let tree = house.site.made().join("base").join(revision);
    let shown = tree.to_string_lossy().into_owned();
    let none = BTreeMap::new();
    if !tree.join("Cargo.toml").exists() {
        let add = ["git", "worktree", "add", "--detach", "--force", &shown, revision].map(String::from);
        run_command(&add, &none, root, "cannot check the base revision out")?;
    }
    let target = house.site.made().join("base/target");
    let environment =
        BTreeMap::from([("CARGO_TARGET_DIR".to_string(), target.to_string_lossy().into_owned())]);
    let build = ["cargo", "build", "--release", "--locked", "-q", "-p", "engine-native"].map(String::from);
    run_command(&build, &environment, &tree, "cannot build the base revision")?;
    Ok(target.join("release"))
}
