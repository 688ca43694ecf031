//! Heats, rounds and turns: who is alive, who is asked next, what is written down.
//!
//! Invariant: whatever happens to one engine becomes rows of that engine, and the run goes on. Only
//! Ctrl-C and a record that cannot be written end a run, and both keep every row taken before.

use super::judge::Judge;
use super::process::{Fault, Launch, Worker};
use super::references::References;
use super::rows::{Turn, fault_status};
use crate::plan::{Group, Place, Plan, weight};
use crate::record::{Arm, Introduced, Moment, Status, Writer};
use crate::spec::{Role, Workload};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use worker::{Files, Order, Reply, SampleReply};

/// Longest time an engine may take to boot or to prepare.
pub(super) const PREPARE_LIMIT: Duration = Duration::from_secs(300);

/// A turn of short runs goes on until they have taken this long together: after others' turns the caches
/// are theirs, and of five runs of 0.4 ms the median was a cold one.
const FILL_NS: u64 = 10_000_000;
/// Runs that a turn may be filled up to; more would swell the record and no longer move the median.
const FILL_MOST: u64 = 20;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every planned turn was taken or has a row that says why not.
    Complete,
    /// Ctrl-C.
    Interrupted,
}

/// Told before every turn.
pub trait Progress {
    /// `done` of `total` is behind us, turns by their [`weight`].
    fn turn(&mut self, done: u64, total: u64, heat: u32, workload: &str, engine: &str);
    /// Something a reader should see at once.
    fn note(&mut self, text: &str);
}

/// What the runner needs to know about this installation.
pub trait Site {
    /// How to start an engine, or why it cannot be (reason and remedy).
    fn launch(&self, engine: &crate::spec::Contestant) -> Result<Launch, String>;
    /// The files a workload is done with.
    fn files(&self, workload: &Workload) -> Result<Files>;
    /// The ids that stand before the first id of its answer, sequence after sequence.
    fn prompt(&self, workload: &Workload) -> Result<Vec<u32>>;
}

/// One measuring run under way.
pub struct Heats<'a> {
    /// What to measure.
    pub plan: &'a Plan,
    /// Where things are.
    pub site: &'a dyn Site,
    /// Where rows go.
    pub writer: &'a mut Writer,
    /// Whom to tell.
    pub progress: &'a mut dyn Progress,
    /// What answers are held against.
    pub references: References,
    /// Who weighs answers that need not be equal.
    pub judge: Judge,
    /// A folder for answers on their way to a comparison.
    pub scratch: PathBuf,
    /// Everybody met so far.
    pub identities: BTreeMap<String, Introduced>,
    /// (engine, workload) -> why it is not asked again in this run.
    pub barred: BTreeMap<(String, String), String>,
    /// What is behind us, in the unit of [`Plan::weight_in_all`].
    pub done: u64,
}

/// The workers of one group within one heat.
#[derive(Default)]
pub(super) struct Stable {
    pub(super) alive: BTreeMap<Place, Worker>,
    /// Places that are not entered again in this heat: could not be started, or lost three times.
    pub(super) given_up: BTreeMap<Place, (Status, String)>,
    pub(super) failures: BTreeMap<Place, u32>,
    /// How long a place's latest run took.
    latest_ns: BTreeMap<Place, u64>,
}

impl Stable {
    /// Runs of a place's next turn: as many as the plan says, or more where they are short.
    fn samples(&self, place: Place, planned: u32) -> u32 {
        let latest = self.latest_ns.get(&place).map_or(FILL_NS, |&ns| ns.max(1));
        planned.max((FILL_NS / latest).min(FILL_MOST) as u32)
    }
}

/// How a turn ended.
pub(super) enum Ended {
    /// As asked.
    Done,
    /// The worker reported an error and stays.
    Failed(String),
    /// The process is lost.
    Lost(Fault),
    /// There was no process; an earlier row says why.
    Known,
}

/// Ends a run early.
pub(super) enum End {
    Interrupted,
    Broken(anyhow::Error),
}
impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> End {
        End::Broken(error)
    }
}

impl Heats<'_> {
    /// Runs every heat of the plan.
    pub fn run(&mut self) -> Result<Outcome> {
        std::fs::create_dir_all(&self.scratch)
            .with_context(|| format!("cannot make {}", self.scratch.display()))?;
        for heat in 0..self.plan.settings.heats {
            for (group, workloads) in self.plan.groups() {
                let ended = if group == Group::Fresh {
                    self.fresh(heat, &workloads)
                } else {
                    self.shared(heat, &workloads)
                };
                match ended {
                    Ok(()) => {}
                    Err(End::Interrupted) => return Ok(Outcome::Interrupted),
                    Err(End::Broken(error)) => return Err(error),
                }
            }
        }
        Ok(Outcome::Complete)
    }

    /// Processes that live through all workloads of the group.
    fn shared(&mut self, heat: u32, workloads: &[&Workload]) -> Result<(), End> {
        let mut stable = Stable::default();
        for workload in workloads {
            let places = self.plan.places(workload);
            let mut ready: BTreeSet<Place> = BTreeSet::new();
            for (turn, &place) in places.iter().enumerate() {
                if self.verify(heat, turn as u32, workload, place, &mut stable)? {
                    ready.insert(place);
                }
            }
            for round in 1..=self.plan.settings.rounds {
                let turns = self.plan.turns(heat, round, workload, &places);
                for (turn, place) in turns.into_iter().enumerate() {
                    self.tell(heat, workload, place);
                    if !ready.contains(&place) {
                        continue;
                    }
                    let at = self.at(heat, round, turn as u32, workload, place);
                    if !self.turn(at, workload, place, &mut stable)? {
                        ready.remove(&place);
                    }
                }
            }
            for place in ready {
                self.release(place, &mut stable)?;
            }
        }
        self.judge.retire();
        self.footprints(&mut stable)
    }

    /// A process for every sample: spawn, prepare, one run, gone.
    fn fresh(&mut self, heat: u32, workloads: &[&Workload]) -> Result<(), End> {
        for workload in workloads {
            let places = self.plan.places(workload);
            let mut out: BTreeSet<Place> = BTreeSet::new();
            for round in 1..=self.plan.settings.rounds {
                let mut turns = self.plan.turns(heat, round, workload, &places);
                // Forth only: a process start is seconds long, and each is verified by itself.
                turns.truncate(places.len());
                for (turn, place) in turns.into_iter().enumerate() {
                    if out.contains(&place) {
                        self.tell(heat, workload, place);
                        continue;
                    }
                    let mut stable = Stable::default();
                    let at = self.at(heat, round, turn as u32, workload, place);
                    if !self.verify_at(at, workload, place, &mut stable)? {
                        out.insert(place);
                    }
                }
            }
        }
        self.judge.retire();
        Ok(())
    }

    /// One turn of a round. False: this place sits out the rest of the workload.
    fn turn(
        &mut self,
        at: Turn<'_>,
        workload: &Workload,
        place: Place,
        stable: &mut Stable,
    ) -> Result<bool, End> {
        let settings = &self.plan.settings;
        let samples = stable.samples(place, settings.samples);
        let limit_ns = settings.turn_limit_ms * 1_000_000;
        let patience = Duration::from_millis(settings.sample_limit_ms + settings.turn_limit_ms);
        let (taken, ended) = self.measure(at, place, stable, samples, limit_ns, patience)?;
        let compared = self.plan.engines[place.engine].role == Role::Contestant;
        for (index, sample) in taken.into_iter().enumerate() {
            let wrong = if compared { self.differs(workload, place, &sample) } else { None };
            self.writer.sample(&at.measured(index as u32, sample, wrong))?;
        }
        self.ended(at, place, stable, ended)
    }

    /// What is wrong with a sample, if anything: held against the reference's answer, or, in lower
    /// precision, against the engine's own first.
    pub(super) fn differs(
        &mut self,
        workload: &Workload,
        place: Place,
        sample: &SampleReply,
    ) -> Option<String> {
        let engine = &self.plan.engines[place.engine];
        match engine.tolerance() {
            Some(_) => self.references.strays(&engine.name, workload, sample),
            None => self.references.wrong(workload, sample),
        }
    }

    /// Asks for samples and collects them until `done` or a fault: what was taken, and how it ended.
    pub(super) fn measure(
        &mut self,
        at: Turn<'_>,
        place: Place,
        stable: &mut Stable,
        samples: u32,
        limit_ns: u64,
        patience: Duration,
    ) -> Result<(Vec<SampleReply>, Ended), End> {
        let mut taken = Vec::new();
        let Some(worker) = stable.alive.get_mut(&place) else { return Ok((taken, Ended::Known)) };
        worker.tell(&Order::Measure { samples, limit_ns });
        let ended = loop {
            match worker.next(patience) {
                Ok(Reply::Sample(sample)) => taken.push(sample),
                Ok(Reply::Done { memory, threads_seen }) => {
                    let mut rung = at.rung(worker.pid(), Moment::Done, memory);
                    rung.threads_seen = Some(threads_seen);
                    self.writer.process(&rung)?;
                    break Ended::Done;
                }
                Ok(Reply::Failed { error }) => break Ended::Failed(error),
                Ok(other) => break Ended::Lost(Fault::Garbled(format!("{other:?} while measuring"))),
                Err(fault) => break Ended::Lost(fault),
            }
        };
        if let Some(sample) = taken.last() {
            stable.latest_ns.insert(place, sample.wall_ns);
        }
        Ok((taken, ended))
    }

    /// Writes the row that says why a turn ended early. False: this place sits out the workload.
    pub(super) fn ended(
        &mut self,
        at: Turn<'_>,
        place: Place,
        stable: &mut Stable,
        ended: Ended,
    ) -> Result<bool, End> {
        match ended {
            Ended::Done => Ok(true),
            Ended::Known => Ok(false),
            Ended::Failed(error) => {
                self.writer.sample(&at.without_clocks(Status::Failed, error))?;
                Ok(false)
            }
            Ended::Lost(fault) => self.lose(at, place, stable, fault),
        }
    }

    /// Makes sure a place's process lives; otherwise says why not.
    pub(super) fn enter(
        &mut self,
        at: Turn<'_>,
        place: Place,
        stable: &mut Stable,
    ) -> Result<Result<(), (Status, String)>, End> {
        if stable.alive.contains_key(&place) {
            return Ok(Ok(()));
        }
        if let Some(known) = stable.given_up.get(&place) {
            return Ok(Err(known.clone()));
        }
        let launch = match self.site.launch(&self.plan.engines[place.engine]) {
            Ok(launch) => launch,
            Err(reason) => {
                let known = (Status::Refused, reason);
                stable.given_up.insert(place, known.clone());
                return Ok(Err(known));
            }
        };
        match Worker::spawn(&launch, PREPARE_LIMIT) {
            Ok(worker) => {
                let mut rung = at.rung(worker.pid(), Moment::Hello, worker.memory);
                rung.workload = String::new();
                rung.since_spawn_ns = Some(worker.boot_ns);
                self.writer.process(&rung)?;
                let met = self.identities.entry(at.engine.into()).or_default();
                if met.identity != worker.identity {
                    met.identity = worker.identity.clone();
                    self.writer.json("identities.json", &self.identities)?;
                }
                stable.alive.insert(place, worker);
                Ok(Ok(()))
            }
            Err(Fault::Interrupted) => Err(End::Interrupted),
            Err(fault) => {
                let known = (fault_status(&fault), fault.to_string());
                self.progress.note(&format!("{}: {}", at.engine, known.1));
                stable.given_up.insert(place, known.clone());
                Ok(Err(known))
            }
        }
    }

    /// A process is lost: its row is written, the process dropped. Always `Ok(false)` or the end.
    pub(super) fn lose(
        &mut self,
        at: Turn<'_>,
        place: Place,
        stable: &mut Stable,
        fault: Fault,
    ) -> Result<bool, End> {
        if matches!(fault, Fault::Interrupted) {
            return Err(End::Interrupted);
        }
        let (status, reason) = (fault_status(&fault), fault.to_string());
        self.progress.note(&format!("{} on {}: {reason}", at.engine, at.workload));
        self.writer.sample(&at.without_clocks(status, reason.clone()))?;
        stable.alive.remove(&place);
        let failures = stable.failures.entry(place).or_default();
        *failures += 1;
        if *failures >= 3 {
            stable.given_up.insert(
                place,
                (Status::Skipped, format!("its process was lost 3 times in this heat, last: {reason}")),
            );
        }
        if status == Status::TimedOut {
            let why = format!("it timed out on this workload in heat {}", at.heat);
            self.barred.insert((at.engine.into(), at.workload.into()), why);
        }
        Ok(false)
    }

    fn release(&mut self, place: Place, stable: &mut Stable) -> Result<(), End> {
        let Some(worker) = stable.alive.get_mut(&place) else { return Ok(()) };
        match worker.ask(&Order::Release, PREPARE_LIMIT) {
            Ok(Reply::Done { .. }) => Ok(()),
            Err(Fault::Interrupted) => Err(End::Interrupted),
            Ok(_) | Err(_) => {
                stable.alive.remove(&place);
                Ok(())
            }
        }
    }

    /// Asks every engine, once a run, what it needs on disk.
    fn footprints(&mut self, stable: &mut Stable) -> Result<(), End> {
        for (place, worker) in &mut stable.alive {
            let name = self.plan.engines[place.engine].name.clone();
            if place.arm == Arm::Again
                || self.identities.get(&name).is_some_and(|met| !met.footprint.is_empty())
            {
                continue;
            }
            match worker.ask(&Order::Footprint, PREPARE_LIMIT) {
                Ok(Reply::Footprint { parts }) => {
                    self.identities.entry(name).or_default().footprint = parts;
                }
                Ok(Reply::Failed { error }) => self.progress.note(&format!("{name}: no footprint: {error}")),
                Err(Fault::Interrupted) => return Err(End::Interrupted),
                Ok(_) | Err(_) => {}
            }
        }
        self.writer.json("identities.json", &self.identities)?;
        Ok(())
    }

    pub(super) fn at<'t>(
        &self,
        heat: u32,
        round: u32,
        turn: u32,
        workload: &'t Workload,
        place: Place,
    ) -> Turn<'t>
    where
        Self: 't,
    {
        Turn { heat, round, turn, workload: &workload.name, engine: self.name(place), arm: place.arm }
    }

    pub(super) fn tell(&mut self, heat: u32, workload: &Workload, place: Place) {
        let total = self.plan.weight_in_all();
        let name = self.plan.engines[place.engine].name.clone();
        self.progress.turn(self.done, total, heat, &workload.name, &name);
        self.done += weight(workload);
    }
}

impl<'a> Heats<'a> {
    fn name(&self, place: Place) -> &'a str {
        &self.plan.engines[place.engine].name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_of_short_runs_are_filled_up() {
        let place = Place { engine: 0, arm: Arm::First };
        let samples = |latest_ns, planned| {
            Stable { latest_ns: BTreeMap::from([(place, latest_ns)]), ..Stable::default() }
                .samples(place, planned)
        };
        assert_eq!(samples(50_000_000, 5), 5, "long runs as planned");
        assert_eq!(samples(1_000_000, 5), 10);
        assert_eq!(samples(0, 5), 20, "up to a bound");
        assert_eq!(samples(0, 1000), 1000, "never fewer than planned");
        assert_eq!(Stable::default().samples(place, 3), 3, "nobody has run yet");
    }
}
