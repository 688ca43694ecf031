//! What will be measured, in which order: filters x engines x workloads -> heats of rounds.
//!
//! A round gives every engine two turns, A B C C B A: drift of the machine hits all alike. The order
//! A B C is drawn anew for every heat, workload and round from the run's seed.

use crate::glob::{matches_any, matches_glob};
use crate::record::{Arm, RunSettings};
use crate::spec::{Contestant, PROFILES_IN_WORDS, Role, Workload};
use crate::stats::splitmix;
use anyhow::{Result, bail};
use worker::TaskKind;

/// What to measure and how much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `quick` or `full`.
    pub profile: String,
    /// Amounts and limits.
    pub settings: RunSettings,
    /// Seed of the order of turns.
    pub seed: u64,
    /// In the order of measuring.
    pub workloads: Vec<Workload>,
    /// Every engine that is asked anything.
    pub engines: Vec<Contestant>,
}

/// One engine's place in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Index into [`Plan::engines`].
    pub engine: usize,
    /// The engine's own place, or its second one (A/A).
    pub arm: Arm,
}

/// What the command line narrows a plan to. Globs know `*`; an empty list means all.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Engine names or globs.
    pub engines: Vec<String>,
    /// Workload names or globs.
    pub workloads: Vec<String>,
    /// Task words.
    pub tasks: Vec<TaskKind>,
}

/// Workloads that share live processes within a heat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Tokenizers and boundary.
    Text,
    /// Everything that holds a model.
    Model,
    /// A fresh process for every sample.
    Fresh,
}

impl Plan {
    /// The amounts of a profile, by name.
    pub fn settings(profile: &str) -> Result<RunSettings> {
        match profile {
            "quick" => Ok(RunSettings {
                heats: 2,
                rounds: 2,
                samples: 3,
                turn_limit_ms: 250,
                sample_limit_ms: 10_000,
            }),
            "full" => Ok(RunSettings {
                heats: 3,
                rounds: 2,
                samples: 5,
                turn_limit_ms: 300,
                sample_limit_ms: 20_000,
            }),
            // A run there takes milliseconds: more samples cost nothing.
            "gpu" => Ok(RunSettings {
                heats: 3,
                rounds: 2,
                samples: 7,
                turn_limit_ms: 300,
                sample_limit_ms: 20_000,
            }),
            other => bail!("unknown profile `{other}`; {PROFILES_IN_WORDS}"),
        }
    }

    /// Narrows `workloads` and `engines` by profile and filters. A filter that matches nothing is an
    /// error that offers the nearest names.
    pub fn new(
        profile: &str,
        workloads: &[Workload],
        engines: &[Contestant],
        filters: &Filters,
        seed: u64,
    ) -> Result<Plan> {
        let settings = Plan::settings(profile)?;
        check_filters("workload", &filters.workloads, workloads.iter().map(|w| w.name.as_str()))?;
        check_filters("engine", &filters.engines, engines.iter().map(|e| e.name.as_str()))?;
        let named = |w: &Workload| !filters.workloads.is_empty() && matches_any(&filters.workloads, &w.name);
        let mut workloads: Vec<Workload> = workloads
            .iter()
            .filter(|w| named(w) || (filters.workloads.is_empty() && w.profiles.iter().any(|p| p == profile)))
            .filter(|w| filters.tasks.is_empty() || filters.tasks.contains(&w.task.kind()))
            .cloned()
            .collect();
        workloads.sort_by_key(|w| (group(w), w.threads));
        let asked = |e: &Contestant| match filters.engines.is_empty() {
            true if e.profiles.is_empty() => profile != "gpu",
            true => e.profiles.iter().any(|p| p == profile),
            false => matches_any(&filters.engines, &e.name),
        };
        let engines: Vec<Contestant> = engines
            .iter()
            .filter(|e| asked(e))
            .filter(|e| workloads.iter().any(|w| e.does(w)))
            .cloned()
            .collect();
        if workloads.is_empty() {
            bail!("no workload is left after profile `{profile}` and the filters; `assay list` shows all");
        }
        if engines.is_empty() {
            bail!("no engine is left that does any of these workloads; `assay list` shows who does what");
        }
        workloads.retain(|w| engines.iter().any(|e| e.does(w)));
        Ok(Plan { profile: profile.into(), settings, seed, workloads, engines })
    }

    /// The places of one workload: reference engine first, then as declared, then the A/A arm.
    pub fn places(&self, workload: &Workload) -> Vec<Place> {
        let task = workload.task.kind();
        let mut places: Vec<Place> = (0..self.engines.len())
            .filter(|&at| self.engines[at].does(workload))
            .map(|engine| Place { engine, arm: Arm::First })
            .collect();
        places.sort_by_key(|place| {
            let engine = &self.engines[place.engine];
            (!engine.reference_for.contains(&task), engine.role != Role::Contestant)
        });
        let again: Vec<Place> = places
            .iter()
            .filter(|place| self.engines[place.engine].aa_for.contains(&task))
            .map(|place| Place { arm: Arm::Again, ..*place })
            .collect();
        places.extend(again);
        places
    }

    /// The turns of one round: a drawn order, forth and back.
    pub fn turns(&self, heat: u32, round: u32, workload: &Workload, places: &[Place]) -> Vec<Place> {
        let mut order = places.to_vec();
        let mut state = self.seed ^ (u64::from(heat) << 40) ^ (u64::from(round) << 20) ^ hash(&workload.name);
        for at in (1..order.len()).rev() {
            state = splitmix(state);
            order.swap(at, (state % (at as u64 + 1)) as usize);
        }
        let back: Vec<Place> = order.iter().rev().copied().collect();
        order.extend(back);
        order
    }

    /// The groups that occur, in the order of measuring, each with its workloads. A process serves one
    /// thread count all its life: many libraries make their pool once and keep it.
    pub fn groups(&self) -> Vec<(Group, Vec<&Workload>)> {
        let mut found: Vec<(Group, Vec<&Workload>)> = Vec::new();
        for workload in &self.workloads {
            let alike =
                |other: &&Workload| (group(other), other.threads) == (group(workload), workload.threads);
            match found.iter_mut().find(|(_, members)| members.first().is_some_and(alike)) {
                Some((_, members)) => members.push(workload),
                None => found.push((group(workload), vec![workload])),
            }
        }
        found
    }

    /// Turns of the whole run.
    pub fn turns_in_all(&self) -> u64 {
        self.over_turns(|_| 1)
    }

    /// The whole run in the unit of progress: turns by their [`weight`].
    pub fn weight_in_all(&self) -> u64 {
        self.over_turns(weight)
    }

    fn over_turns(&self, each: impl Fn(&Workload) -> u64) -> u64 {
        let per_heat: u64 = self
            .workloads
            .iter()
            .map(|w| {
                let places = self.places(w).len() as u64;
                let rounds = u64::from(self.settings.rounds);
                each(w) * places * if group(w) == Group::Fresh { rounds } else { 1 + 2 * rounds }
            })
            .sum();
        per_heat * u64::from(self.settings.heats)
    }
}

/// What a turn of this workload takes beside others, roughly: a text is scanned in milliseconds, a
/// model takes its time, a fresh process imports its libraries first.
pub fn weight(workload: &Workload) -> u64 {
    match group(workload) {
        Group::Text => 1,
        Group::Model => 6,
        Group::Fresh => 20,
    }
}

/// Which processes a workload shares.
pub fn group(workload: &Workload) -> Group {
    match workload.task.kind() {
        TaskKind::Encode | TaskKind::Detokenize | TaskKind::WordSplit | TaskKind::Boundary => Group::Text,
        TaskKind::Prefill | TaskKind::Decode | TaskKind::Generate | TaskKind::Serve | TaskKind::Load => {
            Group::Model
        }
        TaskKind::Start => Group::Fresh,
    }
}

fn check_filters<'a>(
    what: &str,
    globs: &[String],
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<()> {
    for glob in globs {
        if !names.clone().any(|name| matches_glob(glob, name)) {
            let near = nearest(glob, names);
            bail!("unknown {what} `{glob}`; the nearest are {near} (`assay list` shows all)");
        }
    }
    Ok(())
}

/// The three names most like `name`, nearest first, for a message.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut near: Vec<(f64, &str)> = names.map(|other| (strsim::jaro_winkler(name, other), other)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().take(3).map(|(_, other)| other).collect::<Vec<_>>().join(", ")
}

fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use worker::Task;

    fn workload(name: &str, task: Task) -> Workload {
        Workload {
            name: name.into(),
            task,
            input: None,
            model: "gpt2".into(),
            threads: 1,
            profiles: vec!["quick".into()],
            expect: None,
            large: false,
            logit_budget: 1e-4,
        }
    }

    fn engine(name: &str, tasks: &[TaskKind], reference: bool, aa: bool) -> Contestant {
        Contestant {
            name: name.into(),
            run: vec!["x".into()],
            role: Role::Contestant,
            precision: String::new(),
            tasks: tasks.to_vec(),
            reference_for: if reference { tasks.to_vec() } else { vec![] },
            aa_for: if aa { tasks.to_vec() } else { vec![] },
            environment: BTreeMap::new(),
            language: "rust".into(),
            note: String::new(),
            profiles: vec![],
            only: vec![],
            slow: false,
            needs: vec![],
            logit_budget: None,
        }
    }

    fn plan(filters: &Filters) -> Result<Plan> {
        let workloads = [
            workload("decode/b1", Task::Decode { context: 4, tokens: 2, batch: 1 }),
            workload("encode/a", Task::Encode { batch: false, fresh: false }),
        ];
        let engines = [
            engine("a/one", &[TaskKind::Encode], false, true),
            engine("b/two", &[TaskKind::Encode, TaskKind::Decode], true, false),
        ];
        Plan::new("quick", &workloads, &engines, filters, 7)
    }

    #[test]
    fn turns_are_counted_and_weighed() {
        let plan = plan(&Filters::default()).unwrap();
        // Three places on the text, one on the model; a first turn and two rounds of two, two heats.
        assert_eq!(plan.turns_in_all(), (3 + 1) * 5 * 2);
        assert_eq!(plan.weight_in_all(), (3 + 6) * 5 * 2);
    }

    #[test]
    fn the_reference_goes_first_and_the_again_arm_last() {
        let plan = plan(&Filters::default()).unwrap();
        assert_eq!(plan.workloads[0].name, "encode/a", "text before models");
        let places = plan.places(&plan.workloads[0]);
        let names: Vec<_> = places.iter().map(|p| (plan.engines[p.engine].name.as_str(), p.arm)).collect();
        assert_eq!(names, [("b/two", Arm::First), ("a/one", Arm::First), ("a/one", Arm::Again)]);
    }

    #[test]
    fn a_round_goes_forth_and_back_and_the_seed_decides_the_order() {
        let plan = plan(&Filters::default()).unwrap();
        let w = &plan.workloads[0];
        let turns = plan.turns(0, 1, w, &plan.places(w));
        assert_eq!(turns.len(), 6);
        let back: Vec<_> = turns.iter().rev().copied().collect();
        assert_eq!(turns, back);
        assert_eq!(turns, plan.turns(0, 1, w, &plan.places(w)));
        let orders: std::collections::BTreeSet<Vec<Place>> =
            (0..20).map(|heat| plan.turns(heat, 1, w, &plan.places(w))).collect();
        assert!(orders.len() > 3, "orders differ between heats");
    }

    #[test]
    fn unknown_names_come_with_the_nearest() {
        let error =
            plan(&Filters { engines: vec!["a/onw".into()], ..Filters::default() }).unwrap_err().to_string();
        assert!(error.contains("a/one"), "{error}");
        let error = plan(&Filters { workloads: vec!["encoed/*".into()], ..Filters::default() })
            .unwrap_err()
            .to_string();
        assert!(error.contains("encode/a"), "{error}");
    }

    #[test]
    fn an_engine_of_one_profile_takes_part_there_or_where_it_is_named() {
        let workloads = [workload("encode/a", Task::Encode { batch: false, fresh: false })];
        let slow = Contestant {
            profiles: vec!["full".into()],
            ..engine("b/slow", &[TaskKind::Encode], false, false)
        };
        let engines = [engine("a/one", &[TaskKind::Encode], true, false), slow];
        let names = |profile: &str, filter: &[&str]| -> Vec<String> {
            let workloads: Vec<Workload> =
                workloads.iter().cloned().map(|w| Workload { profiles: vec![profile.into()], ..w }).collect();
            let filters =
                Filters { engines: filter.iter().map(|f| f.to_string()).collect(), ..Filters::default() };
            let plan = Plan::new(profile, &workloads, &engines, &filters, 1).unwrap();
            plan.engines.into_iter().map(|engine| engine.name).collect()
        };
        assert_eq!(names("quick", &[]), ["a/one"]);
        assert_eq!(names("full", &[]), ["a/one", "b/slow"]);
        assert_eq!(names("quick", &["b/*"]), ["b/slow"]);
        assert_eq!(names("gpu", &["a/*"]), ["a/one"], "where it is named");
        let workloads = [Workload { profiles: vec!["gpu".into()], ..workloads[0].clone() }];
        let nobody = Plan::new("gpu", &workloads, &engines, &Filters::default(), 1).unwrap_err();
        assert!(nobody.to_string().contains("no engine is left"), "{nobody}");
    }

    #[test]
    fn an_engine_is_asked_for_what_it_says_alone() {
        let workloads = [
            workload("encode/a", Task::Encode { batch: false, fresh: false }),
            workload("encode/b", Task::Encode { batch: false, fresh: false }),
        ];
        let slow =
            Contestant { only: vec!["*/b".into()], ..engine("b/slow", &[TaskKind::Encode], false, false) };
        let engines = [engine("a/one", &[TaskKind::Encode], true, false), slow];
        let plan = Plan::new("quick", &workloads, &engines, &Filters::default(), 1).unwrap();
        let asked = |at: usize| plan.places(&plan.workloads[at]).len();
        assert_eq!([asked(0), asked(1)], [1, 2]);
        let named = Filters { engines: vec!["b/slow".into()], ..Filters::default() };
        let plan = Plan::new("quick", &workloads, &engines, &named, 1).unwrap();
        assert_eq!(plan.workloads.len(), 1, "what nobody does is left out");
    }

    #[test]
    fn a_slow_engine_is_not_asked_for_a_large_workload() {
        let small = workload("encode/a", Task::Encode { batch: false, fresh: false });
        let large = Workload { large: true, name: "encode/b".into(), ..small.clone() };
        let slow = Contestant { slow: true, ..engine("b/slow", &[TaskKind::Encode], false, false) };
        let engines = [engine("a/one", &[TaskKind::Encode], true, false), slow];
        let plan = Plan::new("quick", &[small, large], &engines, &Filters::default(), 1).unwrap();
        let asked = |at: usize| plan.places(&plan.workloads[at]).len();
        assert_eq!([asked(0), asked(1)], [2, 1]);
    }

    #[test]
    fn a_group_has_one_thread_count() {
        let two = Workload { threads: 2, ..workload("encode/b", Task::Encode { batch: true, fresh: false }) };
        let workloads = [two, workload("encode/a", Task::Encode { batch: false, fresh: false })];
        let engines = [engine("a/one", &[TaskKind::Encode], true, false)];
        let plan = Plan::new("quick", &workloads, &engines, &Filters::default(), 1).unwrap();
        let names: Vec<Vec<&str>> = plan
            .groups()
            .iter()
            .map(|(_, members)| members.iter().map(|w| w.name.as_str()).collect())
            .collect();
        assert_eq!(names, [["encode/a"], ["encode/b"]]);
    }
}
