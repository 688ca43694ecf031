//! The judge: an f32 engine that is asked what it expects behind given ids, and so weighs answers in
//! lower precision (`weigh.rs` has the figures).
//!
//! It lives in a process of its own, beside those that are measured: work between an engine's turns
//! would be work that others do not have. Its prefill is the ordinary task; nothing on the wire knows
//! of weighing. An answer is weighed once a run: later runs of the engine must repeat it digit by digit.

use super::heat::{End, PREPARE_LIMIT, Site};
use super::process::{Fault, Worker};
use super::weigh::{Chosen, Reading, regret};
use crate::spec::{Contestant, Role, Workload};
use std::collections::BTreeMap;
use std::path::PathBuf;
use worker::{Prepare, Task, TaskKind, write_ids};

/// The f32 engines of an installation, and who of them is alive.
pub struct Judge {
    /// Those of the profile's own kind of machine first, the reference for prefill before others.
    candidates: Vec<Contestant>,
    scratch: PathBuf,
    live: BTreeMap<String, Worker>,
    weighed: BTreeMap<(String, String), Weighed>,
}

/// What an answer weighed.
#[derive(Clone, Debug)]
pub(super) struct Weighed {
    /// Who weighed it.
    pub judge: String,
    /// The worst regret.
    pub regret: f64,
    /// Steps that were weighed.
    pub steps: usize,
    /// Steps there are.
    pub of: usize,
    /// f32's logits behind the context of the last step, B x V.
    pub last: Vec<f32>,
}

/// Why an answer has no weight.
pub(super) enum Unweighed {
    /// Ctrl-C.
    Interrupted,
    /// Nobody could do it; the reasons.
    Because(String),
}

impl Unweighed {
    /// The reason, or the end of the run.
    pub fn reason(self) -> Result<String, End> {
        match self {
            Unweighed::Interrupted => Err(End::Interrupted),
            Unweighed::Because(reason) => Ok(reason),
        }
    }
}

impl Judge {
    /// Chooses among `engines` for a run of `profile`: on a GPU, a batch that is quick to compute there would
    /// take a processor minutes to weigh. `scratch` is a folder for questions and answers.
    pub fn new(engines: &[Contestant], profile: &str, scratch: PathBuf) -> Judge {
        let mut candidates: Vec<Contestant> = engines
            .iter()
            .filter(|engine| engine.role == Role::Contestant && engine.precision == "f32")
            .filter(|engine| engine.tasks.contains(&TaskKind::Prefill))
            .cloned()
            .collect();
        candidates.sort_by_key(|engine| {
            let kind = engine.profiles.iter().any(|name| name == "gpu") == (profile == "gpu");
            (!kind, !engine.reference_for.contains(&TaskKind::Prefill))
        });
        Judge { candidates, scratch, live: BTreeMap::new(), weighed: BTreeMap::new() }
    }

    /// Ends the processes; the next question starts them anew.
    pub(super) fn retire(&mut self) {
        self.live.clear();
    }

    /// Weighs `ids`, an answer of `engine` to `workload`, or tells what they weighed when they came
    /// first. `reference`: the ids of an f32 answer to the same workload.
    pub(super) fn weigh(
        &mut self,
        site: &dyn Site,
        engine: &Contestant,
        workload: &Workload,
        reading: Reading,
        ids: &[u32],
        reference: Option<&[u32]>,
    ) -> Result<Weighed, Unweighed> {
        let key = (engine.name.clone(), workload.name.clone());
        if let Some(known) = self.weighed.get(&key) {
            return Ok(known.clone());
        }
        let prompt = site.prompt(workload).map_err(|error| Unweighed::Because(format!("{error:#}")))?;
        let batch = reading.batch;
        let (mut ids, mut reference) = (ids.to_vec(), reference.map(<[u32]>::to_vec));
        if reading.fed {
            // What the engine itself expects behind the context: fed first, and weighed as well.
            let (fed, _) = self.expects(site, engine, workload, batch, &prompt)?;
            ids = behind(&fed, &ids);
            reference = reference.map(|ids| behind(&fed, &ids));
        }
        let chosen = Chosen { batch, prompt: &prompt, ids: &ids };
        let mut reasons = Vec::new();
        for judge in self.candidates.clone() {
            match self.weigh_by(site, &judge, workload, &chosen, reference.as_deref()) {
                Ok(weighed) => {
                    self.weighed.insert(key, weighed.clone());
                    return Ok(weighed);
                }
                Err(Unweighed::Because(reason)) => reasons.push(reason),
                Err(Unweighed::Interrupted) => return Err(Unweighed::Interrupted),
            }
        }
        Err(Unweighed::Because(match reasons.is_empty() {
            true => "no f32 engine offers prefill".into(),
            false => reasons.join("; "),
        }))
    }

    fn weigh_by(
        &mut self,
        site: &dyn Site,
        judge: &Contestant,
        workload: &Workload,
        chosen: &Chosen<'_>,
        reference: Option<&[u32]>,
    ) -> Result<Weighed, Unweighed> {
        let steps = chosen.weighed(reference);
        let (of, judged) = (chosen.steps(), steps.len());
        let mut weighed =
            Weighed { judge: judge.name.clone(), regret: 0.0, steps: judged, of, last: Vec::new() };
        for step in steps.into_iter().map(|at| chosen.step(at)) {
            let (_, logits) = self.expects(site, judge, workload, chosen.batch, &step.contexts)?;
            if logits.is_empty() || !logits.len().is_multiple_of(chosen.batch) {
                return Err(Unweighed::Because(format!("{} gave no logits", judge.name)));
            }
            weighed.regret = weighed.regret.max(regret(&logits, &step.chosen));
            // Steps rise, so the last one's logits stay.
            weighed.last = logits;
        }
        Ok(weighed)
    }

    /// The likeliest id and the logits behind each of `batch` contexts, by `engine`'s prefill.
    fn expects(
        &mut self,
        site: &dyn Site,
        engine: &Contestant,
        workload: &Workload,
        batch: usize,
        contexts: &[u32],
    ) -> Result<(Vec<u32>, Vec<f32>), Unweighed> {
        let because = |error: String| Unweighed::Because(format!("{}: {error}", engine.name));
        let of = |fault: Fault| match fault {
            Fault::Interrupted => Unweighed::Interrupted,
            other => because(other.to_string()),
        };
        let mut worker = match self.live.remove(&engine.name) {
            Some(worker) => worker,
            None => {
                let launch = site.launch(engine).map_err(because)?;
                Worker::spawn(&launch, PREPARE_LIMIT).map_err(of)?
            }
        };
        let path = self.scratch.join("contexts.ids");
        write_ids(&path, contexts).map_err(|error| because(format!("{error:#}")))?;
        let mut files = site.files(workload).map_err(|error| because(format!("{error:#}")))?;
        files.ids = Some(path);
        let task = Task::Prefill { tokens: contexts.len() / batch, batch };
        let prepare = Prepare { workload: workload.name.clone(), task, files, threads: workload.threads };
        let (answer, logits) = worker.once(prepare, &self.scratch, PREPARE_LIMIT).map_err(of)?;
        self.live.insert(engine.name.clone(), worker);
        let ids: Vec<u32> = answer.as_chunks::<4>().0.iter().map(|&four| u32::from_le_bytes(four)).collect();
        if ids.len() != batch {
            return Err(because(format!("{} ids for {batch} sequences", ids.len())));
        }
        Ok((ids, logits))
    }
}

/// Each sequence of `ids` behind its own one of `fed`.
fn behind(fed: &[u32], ids: &[u32]) -> Vec<u32> {
    let steps = ids.len() / fed.len();
    fed.iter().zip(ids.chunks_exact(steps)).flat_map(|(&first, ids)| [&[first], ids].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::engine;

    #[test]
    fn the_reference_for_prefill_judges_before_other_f32_engines_and_nobody_else_does() {
        let mut reference = engine("p/reference", "f32");
        reference.reference_for = vec![TaskKind::Prefill];
        let mut limit = engine("l/limit", "f32");
        limit.role = Role::Limit;
        let mut decodes = engine("d/decodes", "f32");
        decodes.tasks = vec![TaskKind::Decode];
        let mut gpu = engine("g/f32", "f32");
        gpu.profiles = vec!["gpu".into()];
        let engines = [engine("n/int8", "int8"), gpu, engine("n/f32", "f32"), limit, decodes, reference];
        let names = |profile: &str| -> Vec<String> {
            let judge = Judge::new(&engines, profile, PathBuf::new());
            judge.candidates.into_iter().map(|engine| engine.name).collect()
        };
        assert_eq!(names("full"), ["p/reference", "n/f32", "g/f32"]);
        assert_eq!(names("gpu"), ["g/f32", "p/reference", "n/f32"]);
    }

    #[test]
    fn what_was_fed_stands_before_each_sequence() {
        assert_eq!(behind(&[7, 8], &[1, 2, 3, 4]), [7, 1, 2, 8, 3, 4]);
    }
}
