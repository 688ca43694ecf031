//! `assay doctor`: what this machine and installation can do, and what is missing, with the remedy.

use super::House;
use crate::Common;
use anyhow::{Context, Result, ensure};
use harness::machine;
use harness::runner::{Site as _, Worker, output};
use harness::stats::median;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;
use worker::{Order, Prepare, Reply, Task, Unit};

pub fn run() -> Result<ExitCode> {
    let house = House::open(&Common::default())?;
    let root = house.site.root();
    let seen = machine::read(root, &house.site.python());
    println!("machine {}", seen.name);
    for (name, value) in seen.facts.iter().chain(&seen.before) {
        println!("  {name:24} {value}");
    }
    println!("\ntools");
    for (tool, arguments, remedy) in [
        ("cargo", vec!["cargo", "--version"], "install Rust by rustup"),
        ("cc", vec!["cc", "--version"], "install gcc or clang"),
        ("python3", vec!["python3", "--version"], "install Python 3.11 or newer with its shared library"),
        ("uv", vec!["uv", "--version"], "not needed: set-up installs its own"),
        ("just", vec!["just", "--version"], "not needed: the recipes are one-line commands"),
        ("nvidia-smi", vec!["nvidia-smi", "-L"], "no NVIDIA GPU here: GPU claims are out of reach"),
    ] {
        let found = output(&arguments, root).and_then(|text| text.lines().next().map(String::from));
        println!("  {tool:24} {}", found.unwrap_or_else(|| format!("missing: {remedy}")));
    }
    println!("\nengines");
    let mut missing = 0;
    let mut cuda: BTreeMap<String, String> = BTreeMap::new();
    for engine in house.engines() {
        let state = house.site.launch(&engine).and_then(|launch| {
            Worker::spawn(&launch, Duration::from_secs(120)).map_err(|fault| fault.to_string())
        });
        match state {
            Ok(worker) => {
                let versions: Vec<String> = worker
                    .identity
                    .versions
                    .iter()
                    .map(|(name, version)| format!("{name} {version}"))
                    .collect();
                println!("  {:28} {}", engine.name, versions.join(", "));
                // The engines that use CUDA's libraries know where they looked for them.
                for (name, value) in &worker.identity.settings {
                    if let Some(part) = name.strip_prefix("cuda ") {
                        cuda.entry(part.to_string()).or_insert_with(|| value.clone());
                    }
                }
            }
            Err(reason) => {
                missing += 1;
                println!("  {:28} MISSING: {reason}", engine.name);
            }
        }
    }
    println!("\ncuda, for the profile gpu");
    for (part, found) in &cuda {
        println!("  {part:24} {found}");
    }
    println!("\nlimits");
    for threads in [1, 2] {
        for (engine, task) in LIMITS {
            match roof(&house, engine, task, threads) {
                Ok(text) => println!("  {engine:28} {threads} thread(s): {text}"),
                Err(error) => println!("  {engine:28} {threads} thread(s): not measured: {error:#}"),
            }
        }
    }
    Ok(ExitCode::from(if missing > 0 { 3 } else { 0 }))
}

const STEPS: Task = Task::Decode { context: 1, tokens: 8, batch: 1 };
const PROMPT: Task = Task::Prefill { tokens: 256, batch: 1 };
/// The engines that say what the machine allows, and the work they are asked about.
const LIMITS: [(&str, Task); 5] = [
    ("limit/stream", STEPS),
    ("limit/stream-int8", STEPS),
    ("limit/arithmetic", PROMPT),
    ("limit/arithmetic-bf16", PROMPT),
    ("limit/arithmetic-int8", PROMPT),
];

/// What a limit engine does in a second: bytes read, or multiplications and additions.
fn roof(house: &House, engine: &str, task: Task, threads: usize) -> Result<String> {
    let engines = house.engines();
    let limit =
        engines.iter().find(|other| other.name == engine).with_context(|| format!("no engine {engine}"))?;
    let launch = house.site.launch(limit).map_err(anyhow::Error::msg)?;
    let patience = Duration::from_secs(60);
    let mut worker = Worker::spawn(&launch, patience)?;
    let ids = house.site.inputs().prompt(1, 50_257)?;
    let model = Some(house.site.model("gpt2")?);
    let files = worker::Files { model, ids: Some(ids), ..worker::Files::default() };
    worker.ask(&Order::Prepare(Prepare { workload: "doctor".into(), task, files, threads }), patience)?;
    worker.tell(&Order::Measure { samples: 9, limit_ns: 2_000_000_000 });
    let mut rates: Vec<f64> = Vec::new();
    let mut unit = Unit::Bytes;
    while let Reply::Sample(sample) = worker.next(patience)? {
        // Units a nanosecond are thousands of millions a second.
        rates.push(sample.units as f64 / sample.wall_ns.max(1) as f64);
        unit = sample.unit;
    }
    ensure!(!rates.is_empty(), "it took no sample");
    let middle = median(&rates);
    let unit = if unit == Unit::Bytes { "GB/s" } else { "GFLOP/s (or as many operations on bytes)" };
    let how = worker.identity.settings.values().next().cloned().unwrap_or_default();
    Ok(format!("{middle:.1} {unit}, {how}"))
}
