//! The verbs. Each file reads its options, calls the library, prints.

pub mod cmp;
pub mod compare;
pub mod doctor;
pub mod gate;
pub mod list;
pub mod measure;
pub mod model;
mod progress;
pub mod selftest;
pub mod verify;

use crate::Common;
use anyhow::{Context, Result};
use harness::plan::{Filters, Plan, nearest};
use harness::record::Record;
use harness::runner::{INTERRUPTED, Launch, Site as _, Worker};
use harness::setup::Ready;
use harness::site::Site;
use harness::spec::{Contestant, Family, Workload, load_engines, load_workloads};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use worker::{Prepare, Task, TaskKind};

/// A task's word on the command line; an unknown one is answered with the nearest.
pub fn task_kind(word: &str) -> Result<TaskKind, String> {
    let words = TaskKind::ALL.iter().map(|kind| kind.word());
    word.parse().map_err(|_| format!("unknown task; the nearest are {}", nearest(word, words)))
}

/// Site, workloads and engines as the command line and the repository give them.
pub struct House {
    pub site: Site,
    pub workloads: Vec<Workload>,
    pub families: Vec<Family>,
    pub filters: Filters,
}

impl House {
    pub fn open(common: &Common) -> Result<House> {
        let site = Site::find(common.model.clone(), common.size.clone(), common.corpus.clone())?;
        let workloads = load_workloads(&site.root().join("harness/workloads"))?;
        let families = load_engines(&site.root().join("harness/engines"))?;
        let filters = Filters {
            engines: common.engines.clone(),
            workloads: common.workloads.clone(),
            tasks: common.tasks.clone(),
        };
        Ok(House { site, workloads, families, filters })
    }

    pub fn engines(&self) -> Vec<Contestant> {
        self.families.iter().flat_map(|family| family.engine.clone()).collect()
    }

    pub fn plan(&self, profile: &str, seed: u64) -> Result<Plan> {
        Plan::new(profile, &self.workloads, &self.engines(), &self.filters, seed)
    }

    pub fn set_up(&self) -> Result<Ready> {
        harness::setup::setup(&self.site, &self.families)
    }

    /// Makes every input of a plan before anything is measured, among them what comes from the reference
    /// encoder: the ids that `detokenize` starts from, and those of the prompts behind which answers in
    /// lower precision are weighed.
    pub fn make_inputs(&self, plan: &Plan) -> Result<()> {
        let weighed = plan.engines.iter().any(|engine| engine.tolerance().is_some());
        for workload in &plan.workloads {
            if let Some(input) = &workload.input {
                let ids = self.site.ids_of(input);
                match workload.task.kind() {
                    TaskKind::Detokenize if !ids.exists() => self.encode_by_reference(input, &ids)?,
                    TaskKind::Generate if weighed => self.prompt(input, &ids),
                    _ => {}
                }
            }
            self.site.files(workload)?;
        }
        Ok(())
    }

    /// The ids of a request's text, made anew: the vocabulary may be another model's now. Without them
    /// its answers in lower precision are not weighed, which their rows say.
    fn prompt(&self, input: &harness::spec::Input, ids: &Path) {
        let _ = std::fs::remove_file(ids);
        if let Err(error) = self.encode_by_reference(input, ids) {
            eprintln!("note: no answer in lower precision to this text can be weighed: {error:#}");
        }
    }

    fn encode_by_reference(&self, input: &harness::spec::Input, ids: &Path) -> Result<()> {
        let engines = self.engines();
        let reference = engines
            .iter()
            .find(|engine| engine.reference_for.contains(&TaskKind::Encode))
            .context("no engine is the reference for encode")?;
        let launch: Launch = self.site.launch(reference).map_err(anyhow::Error::msg)?;
        let patience = Duration::from_secs(300);
        let mut worker = Worker::spawn(&launch, patience)?;
        let files = worker::Files {
            vocabulary: Some(self.site.vocabulary()?),
            texts: Some(self.site.inputs().texts(input)?),
            ..worker::Files::default()
        };
        let task = Task::Encode { batch: false, fresh: false };
        let prepare = Prepare { workload: "inputs".into(), task, files, threads: 1 };
        let scratch = self.site.scratch();
        std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        let (bytes, _) = worker
            .once(prepare, &scratch, patience)
            .with_context(|| format!("{} cannot encode a text for others", reference.name))?;
        let fresh = ids.with_extension("new");
        std::fs::write(&fresh, bytes).with_context(|| format!("cannot write {}", fresh.display()))?;
        std::fs::rename(&fresh, ids).with_context(|| format!("cannot write {}", ids.display()))
    }
}

/// `assay setup`
#[derive(clap::Args, Clone, Debug)]
pub struct Setup {
    /// Do nothing but print the variables that builds and tests of Python and libtorch engines need,
    /// for `eval` in a shell.
    #[arg(long)]
    print_environment: bool,
}

/// `assay setup`
pub fn setup(options: &Setup) -> Result<ExitCode> {
    let house = House::open(&Common::default())?;
    if options.print_environment {
        for (name, value) in house.site.python_environment() {
            println!("export {name}='{}'", value.replace('\'', "'\\''"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let ready = house.set_up()?;
    if ready.without.is_empty() {
        eprintln!("setup: ready");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("setup: ready, but: {}", ready.without.join("; "));
    Ok(ExitCode::from(3))
}

/// `assay quick` and `assay full`: set-up, measure, compare.
pub fn whole(profile: &str, mut options: measure::Options) -> Result<ExitCode> {
    options.profile = profile.into();
    let house = House::open(&options.common)?;
    house.set_up()?;
    let folder = measure::measure(&house, &options)?;
    let (derived, out) = (compare::Derived::from(&house.site, &folder)?, house.site.results());
    derived.write(&out, Some(&house.site))?;
    derived.print(&out);
    Ok(if INTERRUPTED.load(Ordering::Relaxed) { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// The record to read: the one named, or the newest below results/record.
pub fn record_folder(site: &Site, named: Option<&PathBuf>) -> Result<PathBuf> {
    if let Some(folder) = named {
        return Ok(folder.clone());
    }
    let root = site.results().join("record");
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for machine in std::fs::read_dir(&root).into_iter().flatten().flatten() {
        for record in std::fs::read_dir(machine.path()).into_iter().flatten().flatten() {
            let path = record.path();
            if let Ok(text) = std::fs::read_to_string(path.join("run.json"))
                && let Ok(run) = serde_json::from_str::<harness::record::Run>(&text)
            {
                found.push((run.started_unix, path));
            }
        }
    }
    found.sort();
    found
        .pop()
        .map(|(_, path)| path)
        .with_context(|| format!("no record below {}; `scripts/assay quick` makes one", root.display()))
}

/// Reads the newest (or the named) record.
pub fn read_record(site: &Site, named: Option<&PathBuf>) -> Result<Record> {
    Record::read(&record_folder(site, named)?)
}
