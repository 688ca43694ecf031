//! The gate: has head become slower than base? Pure over records.
//!
//! Head and base are two engines of the same record, so each ratio is formed inside rounds; stored
//! absolute times are never compared. A slow-down fails the gate only where its interval lies beyond
//! max(floor, 3 %) in two independent passes. What needs no quiet machine (right answers) is never
//! waived. Invariant: a measurement that could not have seen a regression is never green.

use crate::record::{Record, Status};
use crate::spec::Metric;
use crate::summary::{Ratio, View};
use serde::Serialize;

/// A slow-down below this factor is never called a regression.
pub const LEAST: f64 = 1.03;
/// With an A/A floor above this factor a 10 % slow-down could hide: unsound.
pub const LOUDEST: f64 = 1.10;

/// What the gate decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing regressed and a regression would have been seen.
    Fine,
    /// A regression in both passes, or an answer that is wrong or missing.
    Regressed,
    /// The measurement could not tell; see the reasons.
    Unsound,
    /// The question itself was wrong (an unknown engine).
    OwnError,
}

impl Outcome {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Fine => 0,
            Outcome::Regressed => 1,
            Outcome::Unsound => 2,
            Outcome::OwnError => 3,
        }
    }
}

/// The decision and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    /// The decision.
    pub outcome: Outcome,
    /// Slower in both passes: time(head) / time(base), first and second pass.
    pub regressions: Vec<[Ratio; 2]>,
    /// Slower in one pass only: noise until it recurs.
    pub suspects: Vec<Ratio>,
    /// Everything compared, in the order of the passes.
    pub ratios: Vec<Ratio>,
    /// Hard failures: wrong answers of head, or none where base has one.
    pub broken: Vec<String>,
    /// Why the measurement cannot be trusted.
    pub unsound: Vec<String>,
    /// What was wrong with the question.
    pub errors: Vec<String>,
}

/// Judges head against base over one or two passes, each a record of both. With a single pass a
/// suspicion cannot be confirmed: it makes the outcome unsound, and [`Gate::suspects`] names what the
/// second pass must measure.
pub fn judge_passes(passes: &[&Record], base: &str, head: &str) -> Gate {
    let mut gate = Gate {
        outcome: Outcome::Fine,
        regressions: vec![],
        suspects: vec![],
        ratios: vec![],
        broken: vec![],
        unsound: vec![],
        errors: vec![],
    };
    if passes.is_empty() || passes.len() > 2 {
        gate.errors.push(format!("the gate takes one or two passes, not {}", passes.len()));
    }
    for engine in [base, head] {
        if passes.iter().any(|record| record.engine(engine).is_none()) {
            gate.errors.push(format!("{engine} was not part of every pass"));
        }
    }
    if gate.errors.is_empty() {
        let seen: Vec<Vec<Ratio>> =
            passes.iter().enumerate().map(|(at, record)| gate.look_at(at + 1, record, base, head)).collect();
        gate.confirm(&seen);
        gate.ratios = seen.into_iter().flatten().collect();
    }
    gate.outcome = if !gate.errors.is_empty() {
        Outcome::OwnError
    } else if !gate.broken.is_empty() || !gate.regressions.is_empty() {
        Outcome::Regressed
    } else if !gate.unsound.is_empty() {
        Outcome::Unsound
    } else {
        Outcome::Fine
    };
    gate
}

/// Slower than base beyond what this machine could have made up.
fn is_slower(ratio: &Ratio) -> bool {
    ratio.lo > ratio.floor.max(LEAST)
}

impl Gate {
    /// Notes what is broken or unsound in one pass and returns its ratios.
    fn look_at(&mut self, pass: usize, record: &Record, base: &str, head: &str) -> Vec<Ratio> {
        if !record.run.complete {
            self.unsound.push(format!("pass {pass} was not finished"));
        }
        let view = View::new(record);
        let mut ratios = vec![];
        for workload in &record.run.workloads {
            let name = &workload.name;
            self.broken
                .extend(hard_failure(&view, name, base, head).filter(|line| !self.broken.contains(line)));
            let [did_base, did_head] = [base, head].map(|engine| did(&view, name, engine));
            if !did_base || !did_head {
                continue;
            }
            match (view.ratio(name, Metric::Time, base, head), view.floor(name, Metric::Time)) {
                (Err(reason), _) => self.unsound.push(format!("pass {pass}: {reason}")),
                (Ok(_), None) => self.unsound.push(format!("pass {pass}: {name} has no A/A arm")),
                (Ok(_), Some(floor)) if floor > LOUDEST => self.unsound.push(format!(
                    "pass {pass}: on {name} an engine differs from itself by up to {:.0} %; use a quieter machine or more rounds",
                    100.0 * (floor - 1.0)
                )),
                (Ok(ratio), Some(_)) => ratios.push(ratio),
            }
        }
        // A workload that was set aside has said why.
        let said = format!("pass {pass}: ");
        if ratios.is_empty() && !self.unsound.iter().any(|line| line.starts_with(&said)) {
            self.unsound.push(format!("pass {pass} compares {head} with {base} on no workload"));
        }
        ratios
    }

    fn confirm(&mut self, seen: &[Vec<Ratio>]) {
        let slower = |ratios: &[Ratio]| -> Vec<Ratio> {
            ratios.iter().filter(|ratio| is_slower(ratio)).cloned().collect()
        };
        match seen {
            [first, second] => {
                let (first, mut second) = (slower(first), slower(second));
                for one in first {
                    match second.iter().position(|other| other.workload == one.workload) {
                        Some(at) => self.regressions.push([one, second.remove(at)]),
                        None => self.suspects.push(one),
                    }
                }
                self.suspects.extend(second);
            }
            passes => {
                self.suspects = passes.iter().flat_map(|ratios| slower(ratios)).collect();
                for one in &self.suspects {
                    self.unsound.push(format!(
                        "{} looks {:.0} % slower in the only pass; a second pass must confirm it",
                        one.workload,
                        100.0 * (one.ratio - 1.0)
                    ));
                }
            }
        }
    }
}

impl Gate {
    /// For people: what was compared, what failed and why, the outcome last. Ends with a newline.
    pub fn text(&self, base: &str, head: &str) -> String {
        let mut text = format!("time({head}) / time({base}): above 1, {head} is slower\n");
        let show = |ratio: &Ratio| {
            format!("{:.3} [{:.3}, {:.3}], floor {:.3}", ratio.ratio, ratio.lo, ratio.hi, ratio.floor)
        };
        for ratio in &self.ratios {
            text.push_str(&format!("  {}: {}\n", ratio.workload, show(ratio)));
        }
        for [first, second] in &self.regressions {
            let (name, then) = (&first.workload, show(second));
            text.push_str(&format!("slower in both passes: {name}: {}, then {then}\n", show(first)));
        }
        for ratio in &self.suspects {
            text.push_str(&format!("slower in one pass only: {}: {}\n", ratio.workload, show(ratio)));
        }
        for (word, lines) in [("broken", &self.broken), ("unsound", &self.unsound), ("error", &self.errors)] {
            lines.iter().for_each(|line| text.push_str(&format!("{word}: {line}\n")));
        }
        text.push_str(match self.outcome {
            Outcome::Fine => "gate: fine\n",
            Outcome::Regressed => "gate: regression\n",
            Outcome::Unsound => "gate: the measurement is unsound and decides nothing\n",
            Outcome::OwnError => "gate: could not be asked\n",
        });
        text
    }
}

fn did(view: &View<'_>, workload: &str, engine: &str) -> bool {
    view.rows(workload, engine).iter().any(|row| row.status == Status::Ok)
}

/// What no noise excuses: head's answer is wrong, or head has none where base has one.
fn hard_failure(view: &View<'_>, workload: &str, base: &str, head: &str) -> Option<String> {
    let rows = view.rows(workload, head);
    let wrong = rows.iter().find(|row| row.status == Status::Wrong).map(|row| row.reason.as_str());
    let check = view.failed_check(workload, head).map(|check| check.detail.as_str());
    if let Some(reason) = wrong.or(check) {
        return Some(format!("{head} on {workload}: wrong answer: {reason}"));
    }
    let bad = rows.iter().find(|row| row.status != Status::Ok)?;
    let lost = did(view, workload, base) && !did(view, workload, head);
    lost.then(|| format!("{head} on {workload}: {}: {}; {base} does it", bad.status.word(), bad.reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Scene;
    use worker::Task;

    fn pass(seed: u64, head: f64, noise: f64) -> Record {
        let mut scene = Scene::default()
            .seed(seed)
            .workload("encode/x", Task::Encode { batch: false, fresh: false }, 1)
            .workload("encode/y", Task::Encode { batch: false, fresh: false }, 1)
            .engine("n/base", &[("encode/x", 1e6), ("encode/y", 1e6)])
            .engine("n/head", &[("encode/x", 1e6 * head), ("encode/y", 1e6)])
            .again("n/base");
        scene.noise = noise;
        scene.record()
    }

    fn outcome(passes: &[&Record]) -> Gate {
        judge_passes(passes, "n/base", "n/head")
    }

    #[test]
    fn ten_per_cent_in_both_passes_fails_and_names_the_workload() {
        let gate = outcome(&[&pass(1, 1.1, 0.01), &pass(2, 1.1, 0.01)]);
        assert_eq!((gate.outcome, gate.outcome.exit_code()), (Outcome::Regressed, 1));
        assert_eq!(gate.regressions.len(), 1);
        assert!(gate.regressions[0].iter().all(|ratio| ratio.workload == "encode/x" && ratio.lo > 1.05));
        let text = gate.text("n/base", "n/head");
        assert!(
            text.contains("slower in both passes: encode/x: 1.") && text.ends_with("gate: regression\n"),
            "{text}"
        );
    }

    #[test]
    fn a_slow_down_that_does_not_recur_is_a_suspect_and_faster_is_fine() {
        let gate = outcome(&[&pass(1, 1.2, 0.01), &pass(2, 1.0, 0.01)]);
        assert_eq!((gate.outcome, gate.suspects.len()), (Outcome::Fine, 1));
        let gate = outcome(&[&pass(1, 0.5, 0.01), &pass(2, 0.5, 0.01)]);
        assert_eq!((gate.outcome, gate.suspects.len(), gate.ratios.len()), (Outcome::Fine, 0, 4));
    }

    #[test]
    fn two_per_cent_never_fails_and_equal_engines_never_do() {
        assert_eq!(outcome(&[&pass(1, 1.02, 0.002), &pass(2, 1.02, 0.002)]).outcome, Outcome::Fine);
        let alarms = (0..40)
            .filter(|&seed| {
                let passes = [pass(2 * seed, 1.0, 0.02), pass(2 * seed + 1, 1.0, 0.02)];
                outcome(&[&passes[0], &passes[1]]).outcome == Outcome::Regressed
            })
            .count();
        assert_eq!(alarms, 0);
    }

    #[test]
    fn one_pass_with_a_suspicion_is_never_green() {
        let gate = outcome(&[&pass(1, 1.2, 0.01)]);
        assert_eq!((gate.outcome, gate.outcome.exit_code()), (Outcome::Unsound, 2));
        assert!(gate.unsound[0].contains("a second pass must confirm"));
        assert_eq!(outcome(&[&pass(1, 1.0, 0.01)]).outcome, Outcome::Fine);
    }

    #[test]
    fn what_could_not_have_seen_a_regression_is_unsound() {
        let mut killed = pass(1, 1.0, 0.01);
        killed.run.complete = false;
        let mut alone = pass(1, 1.0, 0.01);
        alone.samples.retain(|row| row.arm == crate::record::Arm::First);
        let mut empty = pass(1, 1.0, 0.01);
        empty.samples.retain(|row| row.engine == "n/base");
        for (record, says) in [
            (killed, "was not finished"),
            (alone, "no A/A arm"),
            (empty, "on no workload"),
            (pass(1, 1.0, 0.6), "differs from itself"),
        ] {
            let gate = outcome(&[&record, &record]);
            assert_eq!(gate.outcome, Outcome::Unsound, "{says}");
            assert!(gate.unsound.iter().any(|reason| reason.contains(says)), "{says}: {:?}", gate.unsound);
        }
    }

    #[test]
    fn wrong_or_lost_answers_fail_on_any_machine() {
        let mut wrong = pass(1, 1.0, 0.6);
        let row = wrong.samples.iter_mut().find(|row| row.engine == "n/head").unwrap();
        (row.status, row.reason) = (Status::Wrong, "id 3 differs".into());
        let gate = outcome(&[&wrong]);
        assert_eq!(gate.outcome, Outcome::Regressed);
        assert_eq!(gate.broken, ["n/head on encode/x: wrong answer: id 3 differs"]);

        let mut lost = pass(1, 1.0, 0.01);
        for row in lost.samples.iter_mut().filter(|row| row.engine == "n/head" && row.workload == "encode/y")
        {
            (row.status, row.reason, row.wall_ns) = (Status::Crashed, "signal 11".into(), None);
        }
        let gate = outcome(&[&lost, &lost]);
        assert_eq!((gate.outcome, gate.broken.len()), (Outcome::Regressed, 1));
        assert!(gate.broken[0].contains("crashed: signal 11; n/base does it"), "{:?}", gate.broken);
    }

    #[test]
    fn an_unknown_engine_is_the_callers_error() {
        let record = pass(1, 1.0, 0.01);
        assert_eq!(judge_passes(&[&record], "n/base", "n/heap").outcome.exit_code(), 3);
        assert_eq!(judge_passes(&[], "n/base", "n/head").outcome, Outcome::OwnError);
    }
}
