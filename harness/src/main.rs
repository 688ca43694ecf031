//! `assay`: weighs claims about languages and runtimes for language models.
//!
//! One file a verb under `cmd`; this one reads the command line and prints an error once.
#![forbid(unsafe_code)]

mod cmd;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "assay",
    version,
    about = "Runs the benchmarks that articles only talk about, and judges their claims."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Set up what is missing, measure the quick profile, write the report.
    Quick(cmd::measure::Options),
    /// Set up what is missing, measure the full profile, write the report.
    Full(cmd::measure::Options),
    /// Make this installation ready: Python side, engines, model, vocabulary.
    Setup(cmd::Setup),
    /// Show workloads, engines, claims and what a run would take.
    List(cmd::list::Options),
    /// Run every cell once and check every answer; record nothing.
    Verify(cmd::verify::Options),
    /// Measure and record.
    Measure(cmd::measure::Options),
    /// Regenerate report, charts and tables from a record, without measuring.
    Compare(cmd::compare::Options),
    /// Ratio of two engines on every workload both did.
    Cmp(cmd::cmp::Options),
    /// Fail when this tree is slower than a base revision, beyond doubt.
    Gate(cmd::gate::Options),
    /// What this machine and installation can do; what is missing.
    Doctor,
    /// Measure the instrument itself: doubled work, false alarms, power.
    Selftest(cmd::selftest::Options),
    /// Make or fetch models.
    Model(cmd::model::Options),
}

/// What every verb that touches workloads understands.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    /// Only engines of this name or glob (repeatable).
    #[arg(short = 'e', long = "engine", global = false)]
    engines: Vec<String>,
    /// Only workloads of this name or glob, whatever their profile (repeatable).
    #[arg(short = 'f', long = "workload")]
    workloads: Vec<String>,
    /// Only this task (repeatable).
    #[arg(short = 't', long = "task", value_parser = cmd::task_kind)]
    tasks: Vec<worker::TaskKind>,
    /// A local Hugging Face GPT-2 folder in place of the seeded model.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Another seeded size (`gpt2 init --size`) in place of gpt2.
    #[arg(long, conflicts_with = "model")]
    size: Option<String>,
    /// A UTF-8 text file in place of the real texts.
    #[arg(long)]
    corpus: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Quick(options) => cmd::whole("quick", options),
        Verb::Full(options) => cmd::whole("full", options),
        Verb::Setup(options) => cmd::setup(&options),
        Verb::List(options) => cmd::list::run(&options),
        Verb::Verify(options) => cmd::verify::run(&options),
        Verb::Measure(options) => cmd::measure::run(&options),
        Verb::Compare(options) => cmd::compare::run(&options),
        Verb::Cmp(options) => cmd::cmp::run(&options),
        Verb::Gate(options) => cmd::gate::run(&options),
        Verb::Doctor => cmd::doctor::run(),
        Verb::Selftest(options) => cmd::selftest::run(&options),
        Verb::Model(options) => cmd::model::run(&options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("assay: {error:#}");
        ExitCode::from(3)
    })
}
