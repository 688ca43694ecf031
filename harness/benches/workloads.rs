//! Criterion over engines: the workloads of harness/workloads, done by live workers.
//!
//! Each benchmark asks a worker for as many samples as criterion wants and adds up the worker's own
//! wall clock, so pipes and JSON are outside the figure, as in a record. This is a workbench for
//! whoever makes an engine faster: criterion's history says "faster than before my change". Figures
//! to quote come from `assay measure`, which interleaves engines and checks their answers.
//!
//! An engine that cannot run here (not built, no Python side) is a line that says so, never silence.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use harness::plan::{Filters, Group, Plan, group};
use harness::runner::{Site as _, Worker};
use harness::site::Site;
use harness::spec::{Contestant, Role, Workload, load_engines, load_workloads};
use std::time::Duration;
use worker::{Order, Prepare, Reply, SampleReply, Unit};

/// Workloads of models that are short enough to repeat: one of arithmetic, one of memory bandwidth,
/// one of fixed prices.
const MODEL_WORKLOADS: [&str; 3] = ["prefill/128", "decode/b1-ctx32", "decode/toy-b1"];
/// Longest wait for one reply.
const PATIENCE: Duration = Duration::from_secs(120);
/// An hour: nothing but the number of samples limits a turn.
const NO_LIMIT_NS: u64 = 3_600_000_000_000;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    if let Err(error) = bench_all(&mut criterion) {
        println!("workloads: skipped: {error:#}");
    }
    criterion.final_summary();
}

fn bench_all(criterion: &mut Criterion) -> anyhow::Result<()> {
    let site = Site::find(None, None, None)?;
    let workloads = load_workloads(&site.root().join("harness/workloads"))?;
    let families = load_engines(&site.root().join("harness/engines"))?;
    let engines: Vec<Contestant> = families.into_iter().flat_map(|family| family.engine).collect();
    let plan = Plan::new("quick", &workloads, &engines, &Filters::default(), 0)?;
    let meant = |w: &&Workload| group(w) == Group::Text || MODEL_WORKLOADS.contains(&w.name.as_str());
    for workload in plan.workloads.iter().filter(meant) {
        let mut here = criterion.benchmark_group(&workload.name);
        here.sampling_mode(SamplingMode::Flat);
        let contestants = engines.iter().filter(|e| {
            e.role != Role::Null && e.profiles != ["gpu"] && e.tasks.contains(&workload.task.kind())
        });
        for engine in contestants {
            match Running::start(&site, engine, workload) {
                Ok((mut running, first)) => {
                    here.throughput(throughput(workload, &first));
                    here.bench_function(BenchmarkId::from_parameter(&engine.name), |bencher| {
                        bencher.iter_custom(|runs| running.time(runs));
                    });
                }
                Err(reason) => println!("{}/{}: skipped: {reason}", workload.name, engine.name),
            }
        }
        here.finish();
    }
    Ok(())
}

/// Bytes of text where a run reads text, else units of work.
fn throughput(workload: &Workload, first: &SampleReply) -> Throughput {
    match (workload.input_bytes(), first.unit) {
        (0, Unit::Bytes) => Throughput::Bytes(first.units),
        (0, _) => Throughput::Elements(first.units),
        (bytes, _) => Throughput::Bytes(bytes),
    }
}

/// A worker that is ready for one workload.
struct Running {
    worker: Worker,
    name: String,
}

impl Running {
    /// Starts and prepares it and makes its first run; or says why not.
    fn start(
        site: &Site,
        engine: &Contestant,
        workload: &Workload,
    ) -> Result<(Running, SampleReply), String> {
        let launch = site.launch(engine)?;
        let files = site.files(workload).map_err(|error| format!("{error:#}"))?;
        if files.ids.as_ref().is_some_and(|ids| !ids.exists()) {
            return Err("its ids are not made yet (run scripts/assay verify)".into());
        }
        let mut worker = Worker::spawn(&launch, PATIENCE).map_err(|fault| fault.to_string())?;
        let order = Order::Prepare(Prepare {
            workload: workload.name.clone(),
            task: workload.task.clone(),
            files,
            threads: workload.threads,
        });
        match worker.ask(&order, PATIENCE).map_err(|fault| fault.to_string())? {
            Reply::Ready { .. } => {}
            Reply::Refused { reason, remedy } if remedy.is_empty() => return Err(reason),
            Reply::Refused { reason, remedy } => return Err(format!("{reason} ({remedy})")),
            Reply::Failed { error } => return Err(error),
            other => return Err(format!("{other:?} to prepare")),
        }
        let mut running = Running { worker, name: format!("{} on {}", engine.name, workload.name) };
        let first = running.samples(1)?.pop().ok_or("it took no sample")?;
        Ok((running, first))
    }

    /// Asks for `count` samples and collects what comes.
    fn samples(&mut self, count: u32) -> Result<Vec<SampleReply>, String> {
        self.worker.tell(&Order::Measure { samples: count, limit_ns: NO_LIMIT_NS });
        let mut taken = Vec::new();
        loop {
            match self.worker.next(PATIENCE).map_err(|fault| fault.to_string())? {
                Reply::Sample(sample) => taken.push(sample),
                Reply::Done { .. } => return Ok(taken),
                Reply::Failed { error } => return Err(error),
                other => return Err(format!("{other:?} while measuring")),
            }
        }
    }

    /// The wall clock of `runs` runs, as the worker read it. A worker lost in the middle ends the
    /// program: criterion has no word for it, and a made-up figure would be worse.
    fn time(&mut self, runs: u64) -> Duration {
        let mut left = runs;
        let mut wall_ns = 0;
        while left > 0 {
            let ask = u32::try_from(left).unwrap_or(u32::MAX);
            match self.samples(ask) {
                Ok(taken) if taken.len() == ask as usize => {
                    wall_ns += taken.iter().map(|sample| sample.wall_ns).sum::<u64>();
                }
                Ok(taken) => panic!("{}: {} samples of {ask}", self.name, taken.len()),
                Err(reason) => panic!("{}: {reason}", self.name),
            }
            left -= u64::from(ask);
        }
        Duration::from_nanos(wall_ns)
    }
}
