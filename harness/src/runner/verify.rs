//! Before a place takes part in rounds: prepare it, take its first run, hold its answer and logits
//! against the reference.
//!
//! Invariant: a place whose answer is wrong is told so in a row and never timed on that workload.

use super::heat::{End, Heats, PREPARE_LIMIT, Stable};
use super::process::Fault;
use super::references::{Reference, first_difference, logit_error};
use super::rows::Turn;
use crate::plan::Place;
use crate::record::{CheckRow, Moment, Status};
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
        let (answer, logits) = match self.explain(place, stable) {
            Ok(pair) => pair,
            Err(fault) => return self.lose(at, place, stable, fault),
        };
        let mut wrong = self.references.wrong(workload, &sample);
        if let (Some(text), Some(reference)) = (&mut wrong, self.references.get(workload)) {
            text.push_str("; ");
            text.push_str(&first_difference(&workload.task, &answer, &reference.answer));
        }
        let source = self.references.source(workload);
        if wrong.is_none() && self.references.get(workload).is_none() {
            let reference = Reference {
                engine: at.engine.into(),
                units: sample.units,
                digest: sample.digest.clone(),
                answer,
                logits: logits.clone(),
            };
            self.references.set(workload, reference);
        }
        self.writer.check(&CheckRow {
            heat: at.heat,
            workload: workload.name.clone(),
            engine: at.engine.into(),
            reference: if source.is_empty() { at.engine.into() } else { source },
            check: "answer".into(),
            passed: wrong.is_none(),
            error: None,
            budget: None,
            detail: wrong.clone().unwrap_or_default(),
        })?;
        if let Some(text) = self.check_logits(at, workload, &logits)? {
            wrong.get_or_insert(text);
        }
        let passed = wrong.is_none();
        if let Some(text) = &wrong {
            self.progress.note(&format!("{} on {}: WRONG ANSWER: {text}", at.engine, at.workload));
        }
        self.writer.sample(&at.measured(0, sample, wrong))?;
        Ok(passed)
    }

    fn check_logits(
        &mut self,
        at: Turn<'_>,
        workload: &Workload,
        logits: &[f32],
    ) -> Result<Option<String>, End> {
        let Some(reference) = self.references.get(workload) else { return Ok(None) };
        if logits.is_empty() || reference.logits.is_empty() || reference.engine == at.engine {
            return Ok(None);
        }
        let error = logit_error(logits, &reference.logits);
        let passed = error <= workload.logit_budget;
        let detail = if passed {
            String::new()
        } else {
            format!(
                "logits differ by {error:.3e} of the largest; the budget is {:.0e}",
                workload.logit_budget
            )
        };
        self.writer.check(&CheckRow {
            heat: at.heat,
            workload: workload.name.clone(),
            engine: at.engine.into(),
            reference: reference.engine.clone(),
            check: "logits".into(),
            passed,
            error: Some(error),
            budget: Some(workload.logit_budget),
            detail: detail.clone(),
        })?;
        Ok((!passed).then_some(detail))
    }

    /// Has a worker write down its last answer.
    fn explain(&self, place: Place, stable: &mut Stable) -> Result<(Vec<u8>, Vec<f32>), Fault> {
        let answer = self.scratch.join("answer.bin");
        let logits = self.scratch.join("logits.bin");
        let _ = std::fs::remove_file(&logits);
        let Some(worker) = stable.alive.get_mut(&place) else {
            return Err(Fault::Garbled("no process".into()));
        };
        let order = Order::Explain { answer: answer.clone(), logits: logits.clone() };
        match worker.ask(&order, PREPARE_LIMIT)? {
            Reply::Done { .. } => {}
            other => return Err(Fault::Garbled(format!("{other:?} to explain"))),
        }
        let bytes =
            std::fs::read(&answer).map_err(|error| Fault::Garbled(format!("no answer file: {error}")))?;
        let floats = std::fs::read(&logits).unwrap_or_default();
        let floats = floats
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        Ok((bytes, floats))
    }
}
