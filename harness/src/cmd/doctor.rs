//! `assay doctor`: what this machine and installation can do, and what is missing, with the remedy.

use super::House;
use crate::Common;
use anyhow::Result;
use harness::machine;
use harness::runner::{Site as _, Worker, output};
use std::process::ExitCode;
use std::time::Duration;
use worker::{Order, Prepare, Reply, Task};

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
            }
            Err(reason) => {
                missing += 1;
                println!("  {:28} MISSING: {reason}", engine.name);
            }
        }
    }
    println!("\nlimits");
    for threads in [1, 2] {
        match stream(&house, threads) {
            Ok(rate) => println!("  weights read by {threads} thread(s) {:.1} GB/s", rate / 1e9),
            Err(error) => println!("  weights read by {threads} thread(s): not measured: {error:#}"),
        }
    }
    Ok(ExitCode::from(if missing > 0 { 3 } else { 0 }))
}

/// Bytes a second at which `limit/stream` reads the weights.
fn stream(house: &House, threads: usize) -> Result<f64> {
    let engines = house.engines();
    let limit = engines.iter().find(|engine| engine.name == "limit/stream");
    let limit = limit.ok_or_else(|| anyhow::anyhow!("no engine limit/stream"))?;
    let launch = house.site.launch(limit).map_err(anyhow::Error::msg)?;
    let patience = Duration::from_secs(60);
    let mut worker = Worker::spawn(&launch, patience)?;
    let model = house.site.model("gpt2")?;
    let bytes = std::fs::metadata(model.join("model.safetensors"))?.len() as f64;
    let task = Task::Decode { context: 1, tokens: 8, batch: 1 };
    let ids = house.site.inputs().prompt(1, 50_257)?;
    let files = worker::Files { model: Some(model), ids: Some(ids), ..worker::Files::default() };
    worker.ask(&Order::Prepare(Prepare { workload: "doctor".into(), task, files, threads }), patience)?;
    worker.tell(&Order::Measure { samples: 3, limit_ns: 2_000_000_000 });
    let mut laps: Vec<u64> = Vec::new();
    while let Reply::Sample(sample) = worker.next(patience)? {
        laps.extend(sample.laps_ns);
    }
    laps.sort_unstable();
    let middle = laps.get(laps.len() / 2).copied().ok_or_else(|| anyhow::anyhow!("it took no sample"))?;
    Ok(bytes / (middle as f64 / 1e9))
}
