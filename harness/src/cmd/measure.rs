//! `assay measure`: a plan becomes a record.

use super::House;
use super::progress::{Live, minutes};
use crate::Common;
use anyhow::{Context, Result, ensure};
use clap::Args;
use harness::inputs::sha256_of;
use harness::plan::Plan;
use harness::record::{FORMAT, Machine, Run, Writer};
use harness::runner::{Heats, INTERRUPTED, Judge, Outcome, References, output};
use harness::{machine, plan};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub common: Common,
    /// `quick`, `full` or `gpu`.
    #[arg(long, default_value = "quick")]
    pub profile: String,
    /// Seed of the order of turns; drawn from the time if absent, and recorded.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Heats of fresh processes, in place of the profile's.
    #[arg(long)]
    pub heats: Option<u32>,
    /// Rounds a heat, in place of the profile's.
    #[arg(long)]
    pub rounds: Option<u32>,
    /// Milliseconds after which no further run of a turn is begun, in place of the profile's.
    #[arg(long, value_name = "MS")]
    pub turn_limit_ms: Option<u64>,
    /// Milliseconds a single run may take before its process is killed, in place of the profile's.
    #[arg(long, value_name = "MS")]
    pub sample_limit_ms: Option<u64>,
    /// Put the record here (a folder without one) instead of results/record/<machine>/<date>-<revision>.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

impl Options {
    /// No filters; the record goes into `out`.
    pub fn into_folder(out: PathBuf) -> Options {
        Options {
            common: Common::default(),
            profile: "full".into(),
            seed: None,
            heats: None,
            rounds: None,
            turn_limit_ms: None,
            sample_limit_ms: None,
            out: Some(out),
        }
    }
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let house = House::open(&options.common)?;
    let folder = measure(&house, options)?;
    println!("{}", folder.display());
    Ok(if INTERRUPTED.load(Ordering::Relaxed) { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// Measures and returns the record's folder.
pub fn measure(house: &House, options: &Options) -> Result<PathBuf> {
    let seed = options.seed.unwrap_or_else(now);
    let mut plan = house.plan(&options.profile, seed)?;
    plan.settings.heats = options.heats.unwrap_or(plan.settings.heats).max(1);
    plan.settings.rounds = options.rounds.unwrap_or(plan.settings.rounds).max(1);
    let settings = &mut plan.settings;
    settings.turn_limit_ms = options.turn_limit_ms.unwrap_or(settings.turn_limit_ms).max(1);
    settings.sample_limit_ms = options.sample_limit_ms.unwrap_or(settings.sample_limit_ms).max(1);
    measure_plan(house, options, plan)
}

/// Measures a plan made elsewhere and returns the record's folder.
pub fn measure_plan(house: &House, options: &Options, plan: Plan) -> Result<PathBuf> {
    let machine = machine::read(house.site.root(), &house.site.python());
    let (revision, dirty) = revision(house.site.root());
    let folder = match &options.out {
        Some(folder) => folder.clone(),
        None => fresh_folder(&house.site.results().join("record").join(&machine.name), &revision)?,
    };
    ensure!(
        std::fs::metadata(folder.join("samples.csv")).map_or(0, |file| file.len()) == 0,
        "{} holds a record already, and records are never mixed; name another folder",
        folder.display()
    );
    let writer = Writer::open(&folder)?;
    writer.json("machine.json", &machine)?;
    writer.json("identities.json", &BTreeMap::<String, ()>::new())?;
    let run = describe(house, options, &plan, &folder, revision, dirty)?;
    writer.json("run.json", &run)?;
    house.make_inputs(&plan)?;
    record(house, &plan, writer, run, machine)?;
    Ok(folder)
}

/// Runs the plan into an opened record and closes it.
pub fn record(
    house: &House,
    plan: &Plan,
    mut writer: Writer,
    mut run: Run,
    mut machine: Machine,
) -> Result<()> {
    watch_interrupts()?;
    let mut digests = house.site.inputs().digests(&plan.workloads)?;
    for size in plan.workloads.iter().filter(|w| plan::group(w) != plan::Group::Text).map(|w| &w.model) {
        let name = format!("model {size}");
        if let std::collections::btree_map::Entry::Vacant(place) = digests.entry(name) {
            place.insert(model_digest(&house.site.model(size)?)?);
        }
    }
    run.inputs = digests;
    writer.json("run.json", &run)?;
    let started = Instant::now();
    let mut live = Live::new();
    eprintln!(
        "measuring {} workloads on {} engines: {} heats x {} rounds; rows go to {}",
        plan.workloads.len(),
        plan.engines.len(),
        plan.settings.heats,
        plan.settings.rounds,
        run.id
    );
    let scratch = house.site.scratch();
    let mut heats = Heats {
        plan,
        site: &house.site,
        writer: &mut writer,
        progress: &mut live,
        references: References::new(house.site.pins_hold()),
        judge: Judge::new(&house.engines(), &plan.profile, scratch.clone()),
        scratch,
        identities: BTreeMap::new(),
        barred: BTreeMap::new(),
        done: 0,
    };
    let outcome = heats.run();
    let _ = std::fs::remove_dir_all(&heats.scratch);
    live.finish();
    machine.after = harness::machine::load();
    run.ended_unix = Some(now());
    run.complete = matches!(outcome, Ok(Outcome::Complete));
    let closed = writer.json("machine.json", &machine).and_then(|()| writer.json("run.json", &run));
    // What ended the run is said first; a full disk would stop the closing as well.
    let outcome = outcome?;
    closed?;
    match outcome {
        Outcome::Complete => eprintln!("measured in {}", minutes(started.elapsed())),
        Outcome::Interrupted => {
            eprintln!("interrupted after {}; the rows taken so far are kept", minutes(started.elapsed()))
        }
    }
    Ok(())
}

fn describe(
    house: &House,
    options: &Options,
    plan: &Plan,
    folder: &Path,
    revision: String,
    dirty: bool,
) -> Result<Run> {
    let mut locks = BTreeMap::new();
    for lock in ["Cargo.lock", "python_ref/requirements.lock"] {
        let path = house.site.root().join(lock);
        if path.exists() {
            locks.insert(lock.to_string(), sha256_of(&path)?);
        }
    }
    let common = &options.common;
    let mut filters: Vec<String> = Vec::new();
    filters.extend(common.engines.iter().map(|name| format!("engine {name}")));
    filters.extend(common.workloads.iter().map(|name| format!("workload {name}")));
    filters.extend(common.tasks.iter().map(|task| format!("task {task}")));
    filters.extend(common.model.iter().map(|_| "model: the user's own".to_string()));
    filters.extend(common.size.iter().map(|size| format!("model size {size}")));
    filters.extend(common.corpus.iter().map(|_| "corpus: the user's own".to_string()));
    Ok(Run {
        format: FORMAT,
        id: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        started_unix: now(),
        ended_unix: None,
        complete: false,
        profile: plan.profile.clone(),
        settings: plan.settings.clone(),
        seed: plan.seed,
        revision,
        dirty,
        filters,
        inputs: BTreeMap::new(),
        locks,
        workloads: plan.workloads.clone(),
        engines: plan.engines.clone(),
    })
}

fn watch_interrupts() -> Result<()> {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let mut set = Ok(());
    ONCE.call_once(|| {
        set = ctrlc::set_handler(|| {
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!("\ninterrupted: closing the record (again to leave at once)");
        });
    });
    set.context("cannot watch for Ctrl-C")
}

fn revision(root: &Path) -> (String, bool) {
    // What `scripts/on-gpu --pack` bundled is no clone; it wrote down where it came from.
    if let Ok(text) = std::fs::read_to_string(root.join("REVISION")) {
        let mut words = text.split_whitespace().map(String::from);
        return (words.next().unwrap_or_else(|| "no-git".into()), words.next().is_some());
    }
    let revision =
        output(&["git", "rev-parse", "--short=10", "HEAD"], root).unwrap_or_else(|| "no-git".into());
    let changed = output(&["git", "status", "--porcelain", "--", ".", ":!results"], root).unwrap_or_default();
    (revision, !changed.is_empty())
}

fn fresh_folder(below: &Path, revision: &str) -> Result<PathBuf> {
    let date = output(&["date", "-u", "+%Y-%m-%d"], Path::new(".")).context("cannot ask `date` for today")?;
    let name = format!("{date}-{revision}");
    (1..1000)
        .map(|n| below.join(if n == 1 { name.clone() } else { format!("{name}-{n}") }))
        .find(|folder| !folder.exists())
        .with_context(|| format!("{}: 999 records of today exist already", below.display()))
}

fn model_digest(folder: &Path) -> Result<String> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "safetensors"))
        .collect();
    names.sort();
    let all: Result<Vec<String>> = names.iter().map(|path| sha256_of(path)).collect();
    Ok(all?.join(" "))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
