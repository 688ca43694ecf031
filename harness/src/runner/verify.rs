//! Before a place takes part in rounds: prepare it, take its first run, hold its answer and logits
//! against the reference, or, in lower precision, have them weighed.
//!
//! Invariant: a place whose answer is wrong, or could not be held against anything it should be, is told
//! so in a row and never timed on that workload.

use super::answers::{Answered, Checked};
use super::heat::{End, Heats, PREPARE_LIMIT, Stable};
use super::process::Fault;
use super::rows::Turn;
use crate::plan::Place;
use crate::record::{Moment, Status};
use crate::spec::{Role, Workload};
use std::time::Duration;
use worker::{Order, Prepare, Reply};

impl Heats<'_> {
    /// Prepare and one first run, its answer (and logits) checked. True: take part in the rounds.
    pub(super) fn verify(
        &mut self,
        heat: u32,
        turn: u32,
        workload: &Workload,
        place: Place,
        stable: &mut Stable,
    ) -> Result<bool, End> {
        let at = self.at(heat, 0, turn, workload, place);
        self.verify_at(at, workload, place, stable)
    }

    pub(super) fn verify_at(
        &mut self,
        at: Turn<'_>,
        workload: &Workload,
        place: Place,
        stable: &mut Stable,
    ) -> Result<bool, End> {
        self.tell(at.heat, workload, place);
        let key = (at.engine.to_string(), workload.name.clone());
        if let Some(reason) = self.barred.get(&key) {
            let row = at.without_clocks(Status::Skipped, reason.clone());
            self.writer.sample(&row)?;
            return Ok(false);
        }
        if let Err((status, reason)) = self.enter(at, place, stable)? {
            self.writer.sample(&at.without_clocks(status, reason))?;
            return Ok(false);
        }
        let files = match self.site.files(workload) {
            Ok(files) => files,
            Err(error) => {
                self.writer.sample(&at.without_clocks(Status::Failed, format!("{error:#}")))?;
                return Ok(false);
            }
        };
        let order = Order::Prepare(Prepare {
            workload: workload.name.clone(),
            task: workload.task.clone(),
            files,
            threads: workload.threads,
        });
        let Some(worker) = stable.alive.get_mut(&place) else { return Ok(false) };
        let pid = worker.pid();
        match worker.ask(&order, PREPARE_LIMIT) {
            Ok(Reply::Ready { prepare_ns, since_spawn_ns, memory, threads_seen }) => {
                let mut rung = at.rung(pid, Moment::Ready, memory);
                rung.prepare_ns = Some(prepare_ns);
                rung.since_spawn_ns = Some(since_spawn_ns);
                rung.threads_seen = Some(threads_seen);
                self.writer.process(&rung)?;
            }
            Ok(Reply::Refused { reason, remedy }) => {
                let reason = if remedy.is_empty() { reason } else { format!("{reason} ({remedy})") };
                self.writer.sample(&at.without_clocks(Status::Refused, reason))?;
                return Ok(false);
            }
            Ok(Reply::Failed { error }) => {
                self.writer.sample(&at.without_clocks(Status::Failed, error))?;
                return Ok(false);
            }
            Ok(other) => {
                return self.lose(at, place, stable, Fault::Garbled(format!("{other:?} to prepare")));
            }
            Err(fault) => return self.lose(at, place, stable, fault),
        }
        self.first_run(at, workload, place, stable)
    }

    fn first_run(
        &mut self,
        at: Turn<'_>,
        workload: &Workload,
        place: Place,
        stable: &mut Stable,
    ) -> Result<bool, End> {
        let patience = Duration::from_millis(self.plan.settings.sample_limit_ms);
        let (taken, ended) = self.measure(at, place, stable, 1, 0, patience)?;
        // A sample without its `done` has no checked answer: only the row of the fault is kept.
        if !self.ended(at, place, stable, ended)? {
            return Ok(false);
        }
        let compared = self.plan.engines[place.engine].role == Role::Contestant;
        let Some(sample) = taken.into_iter().next() else { return Ok(false) };
        if !compared {
            self.writer.sample(&at.measured(0, sample, None))?;
            return Ok(true);
        }
        let Some(worker) = stable.alive.get_mut(&place) else { return Ok(false) };
        let answered = match worker.explain(&self.scratch, PREPARE_LIMIT) {
            Ok((answer, logits)) => Answered { sample, answer, logits },
            Err(fault) => return self.lose(at, place, stable, fault),
        };
        let checked = match self.plan.engines[place.engine].tolerance() {
            None => self.compare(at, workload, place, &answered)?,
            Some(tolerance) => self.weigh_answer(at, workload, place, tolerance, &answered)?,
        };
        let wrong = match checked {
            Checked::Right => None,
            Checked::Wrong(text) => Some(text),
            Checked::Not(reason) => {
                let reason = format!("its answer could not be weighed: {reason}");
                self.progress.note(&format!("{} on {}: {reason}", at.engine, at.workload));
                self.writer.sample(&at.without_clocks(Status::Skipped, reason))?;
                return Ok(false);
            }
        };
        let passed = wrong.is_none();
        if let Some(text) = &wrong {
            self.progress.note(&format!("{} on {}: WRONG ANSWER: {text}", at.engine, at.workload));
        }
        self.writer.sample(&at.measured(0, answered.sample, wrong))?;
        Ok(passed)
    }
}
