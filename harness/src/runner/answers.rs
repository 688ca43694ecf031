//! The same answer, two rules: equal to the reference's, or, in lower precision, weighed in f32.
//!
//! Equal: ids or bytes by digest, the last logits within the workload's budget. Weighed: the ids are the
//! engine's own first ones at every run, and those are held to what f32 expects behind them, within the
//! budgets of the precision. Every check is a row that names its rule.

use super::heat::{End, Heats};
use super::judge::Weighed;
use super::references::{Reference, first_difference, logit_error};
use super::rows::Turn;
use super::weigh;
use crate::plan::Place;
use crate::record::EXACT;
use crate::spec::{Tolerance, Workload};
use worker::SampleReply;

/// A verifying run and what it computed.
pub(super) struct Answered {
    pub sample: SampleReply,
    /// Ids as little-endian u32, or bytes, or both.
    pub answer: Vec<u8>,
    /// Of the last position, B x V, or none.
    pub logits: Vec<f32>,
}

/// What became of the check of an answer.
pub(super) enum Checked {
    Right,
    Wrong(String),
    /// Nobody could say.
    Not(String),
}

impl From<Option<String>> for Checked {
    fn from(wrong: Option<String>) -> Checked {
        wrong.map_or(Checked::Right, Checked::Wrong)
    }
}

impl Heats<'_> {
    /// Holds an answer against the reference's. It becomes the reference where there is none yet.
    pub(super) fn compare(
        &mut self,
        at: Turn<'_>,
        workload: &Workload,
        place: Place,
        of: &Answered,
    ) -> Result<Checked, End> {
        let mut wrong = self.references.wrong(workload, &of.sample);
        if let (Some(text), Some(reference)) = (&mut wrong, self.references.get(workload)) {
            text.push_str("; ");
            text.push_str(&first_difference(&workload.task, &of.answer, &reference.answer));
        }
        let source = self.references.source(workload);
        if wrong.is_none() && self.references.get(workload).is_none() {
            let reference = Reference {
                engine: at.engine.into(),
                units: of.sample.units,
                digest: of.sample.digest.clone(),
                answer: of.answer.clone(),
                logits: of.logits.clone(),
            };
            self.references.set(workload, reference);
        }
        let mut row = at.check("answer", EXACT, if source.is_empty() { at.engine } else { &source });
        (row.passed, row.detail) = (wrong.is_none(), wrong.clone().unwrap_or_default());
        self.writer.check(&row)?;
        if let Some(text) = self.compare_logits(at, workload, place, &of.logits)? {
            wrong.get_or_insert(text);
        }
        Ok(wrong.into())
    }

    fn compare_logits(
        &mut self,
        at: Turn<'_>,
        workload: &Workload,
        place: Place,
        logits: &[f32],
    ) -> Result<Option<String>, End> {
        let Some(reference) = self.references.get(workload) else { return Ok(None) };
        if logits.is_empty() || reference.logits.is_empty() || reference.engine == at.engine {
            return Ok(None);
        }
        let budget = self.plan.engines[place.engine].logit_budget.unwrap_or(workload.logit_budget);
        let error = logit_error(logits, &reference.logits);
        let mut row = at.check("logits", EXACT, &reference.engine);
        (row.error, row.budget, row.passed) = (Some(error), Some(budget), error <= budget);
        if !row.passed {
            row.detail = format!("logits differ by {error:.3e} of the largest; the budget is {budget:.0e}");
        }
        self.writer.check(&row)?;
        Ok((!row.passed).then_some(row.detail))
    }

    /// Holds an answer in lower precision to the engine's own first, and has it weighed.
    pub(super) fn weigh_answer(
        &mut self,
        at: Turn<'_>,
        workload: &Workload,
        place: Place,
        tolerance: &Tolerance,
        of: &Answered,
    ) -> Result<Checked, End> {
        let strays = self.differs(workload, place, &of.sample);
        // Prompts of many texts differ in length and stand in no table of B x T ids.
        let one_text = workload.input.as_ref().is_none_or(|input| input.texts == 1);
        let reading = weigh::reading(&workload.task).filter(|_| one_text);
        let (Some(reading), None) = (reading, &strays) else {
            // Nothing to weigh (a load, a draw, many texts), or nothing worth it.
            let mut row = at.check("answer", tolerance.precision, at.engine);
            (row.passed, row.detail) = (strays.is_none(), strays.clone().unwrap_or_default());
            self.writer.check(&row)?;
            return Ok(strays.into());
        };
        let Some(ids) = reading.ids(&of.answer) else {
            return Ok(Checked::Wrong(format!("its answer has {} bytes, too few", of.answer.len())));
        };
        let reference = self.references.get(workload);
        let theirs = reference.and_then(|reference| reading.ids(&reference.answer));
        let engine = &self.plan.engines[place.engine];
        let weighed = self.judge.weigh(self.site, engine, workload, reading, &ids, theirs.as_deref());
        let weighed = match weighed {
            Ok(weighed) => weighed,
            Err(unweighed) => return Ok(Checked::Not(unweighed.reason()?)),
        };
        let beside = reference.map(|reference| beside(workload, of, reference)).unwrap_or_default();
        let mut wrong = None;
        for finding in findings(&weighed, tolerance, &of.logits, reading.batch) {
            let mut row = at.check(finding.check, tolerance.precision, &weighed.judge);
            (row.error, row.budget) = (Some(finding.error), Some(finding.budget));
            row.passed = finding.error <= finding.budget;
            if finding.check == "answer" {
                row.detail = format!("{beside}{} of {} steps weighed", weighed.steps, weighed.of);
            }
            if !row.passed {
                row.detail = [finding.words(), row.detail].join("; ").trim_end_matches("; ").to_string();
                wrong.get_or_insert(row.detail.clone());
            }
            self.writer.check(&row)?;
        }
        Ok(wrong.into())
    }
}

/// How an answer's ids lie to those of f32, for readers: no rule rests on it.
fn beside(workload: &Workload, of: &Answered, reference: &Reference) -> String {
    if reference.answer == of.answer {
        return format!("equal to {}'s; ", reference.engine);
    }
    let text = first_difference(&workload.task, &of.answer, &reference.answer);
    format!("{text} of {}; ", reference.engine)
}

/// One figure of a weighed answer and its budget.
struct Finding {
    check: &'static str,
    error: f64,
    budget: f64,
}

impl Finding {
    fn words(&self) -> String {
        let Finding { error, budget, .. } = self;
        match self.check {
            "answer" => format!(
                "f32 would rather have other ids, by {error:.3} standard deviations of its logits; \
                 the budget is {budget}"
            ),
            "logits" => {
                format!("logits differ from f32's by {error:.3} standard deviations; the budget is {budget}")
            }
            _ => format!("diverges from f32 by {error:.3e} nats; the budget is {budget}"),
        }
    }
}

fn findings(weighed: &Weighed, tolerance: &Tolerance, logits: &[f32], batch: usize) -> Vec<Finding> {
    let mut all = vec![Finding { check: "answer", error: weighed.regret, budget: tolerance.regret }];
    if !logits.is_empty() {
        let error = weigh::deviation(logits, &weighed.last, batch);
        all.push(Finding { check: "logits", error, budget: tolerance.deviation });
        let error = weigh::divergence(logits, &weighed.last, batch);
        all.push(Finding { check: "divergence", error, budget: tolerance.divergence });
    }
    all
}
