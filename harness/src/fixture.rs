//! Records made in memory, for tests of everything that comes after the record.
//!
//! A [`Scene`] names workloads, engines and how long each takes; [`Scene::record`] plays it: heats of
//! rounds, turns A B C C B A, a first run and warm runs in each turn, laps where the task has them,
//! the memory ladder of each process. The same scene always gives the same rows.

use crate::record::{
    Arm, CheckRow, EXACT, FORMAT, Introduced, Machine, Moment, ProcessRow, Record, Run, RunSettings,
    SampleRow, Status,
};
use crate::spec::{Contestant, Input, Role, TextKind, Workload};
use crate::stats::Rng;
use std::collections::BTreeMap;
use worker::{Crossing, Footprint, Identity, Sampling, Task, TaskKind};

/// What is to be played.
#[derive(Clone)]
pub struct Scene {
    /// Sets of processes.
    pub heats: u32,
    /// Rounds a heat.
    pub rounds: u32,
    /// Runs a turn, the first one included; there are two turns a round.
    pub samples: u32,
    /// Relative standard deviation of a run; a round has half of it in common, a heat a quarter.
    pub noise: f64,
    /// Share of the wall time that a run waits for a processor.
    pub delay: f64,
    seed: u64,
    workloads: Vec<Workload>,
    engines: Vec<Contestant>,
    again: Vec<String>,
    pace: BTreeMap<(String, String), f64>,
    refusals: BTreeMap<(String, String), (Status, String)>,
    memory: BTreeMap<String, u64>,
    footprint: BTreeMap<String, u64>,
}

impl Default for Scene {
    fn default() -> Scene {
        Scene {
            heats: 5,
            rounds: 4,
            samples: 4,
            noise: 0.01,
            delay: 0.0,
            seed: 1,
            workloads: Vec::new(),
            engines: Vec::new(),
            again: Vec::new(),
            pace: BTreeMap::new(),
            refusals: BTreeMap::new(),
            memory: BTreeMap::new(),
            footprint: BTreeMap::new(),
        }
    }
}

impl Scene {
    /// Other noise.
    pub fn seed(mut self, seed: u64) -> Scene {
        self.seed = seed;
        self
    }
    /// Adds a workload.
    pub fn workload(mut self, name: &str, task: Task, threads: usize) -> Scene {
        self.workloads.push(workload(name, task, threads));
        self
    }
    /// Adds an f32 contestant that offers everything, with the time of one warm run (ns; decode and
    /// generate: of one token) on each workload. A workload it is not given a time on has no rows.
    pub fn engine(mut self, name: &str, paces: &[(&str, f64)]) -> Scene {
        self.engines.push(engine(name, "f32"));
        for (workload, ns) in paces {
            self.pace.insert((name.into(), (*workload).into()), *ns);
        }
        self.memory.insert(name.into(), 50 << 20);
        self.footprint.insert(name.into(), 5 << 20);
        self
    }
    /// Gives the engine another precision.
    pub fn precision(mut self, name: &str, precision: &str) -> Scene {
        for engine in self.engines.iter_mut().filter(|engine| engine.name == name) {
            engine.precision = precision.into();
        }
        self
    }
    /// Gives the engine another role.
    pub fn role(mut self, name: &str, role: Role) -> Scene {
        for engine in self.engines.iter_mut().filter(|engine| engine.name == name) {
            engine.role = role;
        }
        self
    }
    /// Adds the A/A arm of an engine.
    pub fn again(mut self, name: &str) -> Scene {
        self.again.push(name.into());
        self
    }
    /// The engine's runs of the workload end in `status` instead.
    pub fn ends(mut self, name: &str, workload: &str, status: Status, reason: &str) -> Scene {
        self.refusals.insert((name.into(), workload.into()), (status, reason.into()));
        self
    }
    /// Peak bytes of the engine's process, and bytes it needs on disk.
    pub fn weighs(mut self, name: &str, peak: u64, disk: u64) -> Scene {
        self.memory.insert(name.into(), peak);
        self.footprint.insert(name.into(), disk);
        self
    }

    /// Plays the scene.
    pub fn record(&self) -> Record {
        let mut player = Player {
            scene: self,
            rng: Rng::new(self.seed),
            samples: vec![],
            processes: vec![],
            checks: vec![],
        };
        for heat in 0..self.heats {
            player.heat(heat);
        }
        let Player { samples, processes, checks, .. } = player;
        Record {
            folder: "results/record/made-up".into(),
            run: Run {
                format: FORMAT,
                id: "2026-01-02-0123456".into(),
                started_unix: 1_767_312_000,
                ended_unix: Some(1_767_312_600),
                complete: true,
                profile: "quick".into(),
                settings: RunSettings {
                    heats: self.heats,
                    rounds: self.rounds,
                    samples: self.samples,
                    turn_limit_ms: 1_000,
                    sample_limit_ms: 10_000,
                },
                seed: self.seed,
                revision: "0123456".into(),
                dirty: false,
                filters: vec![],
                inputs: BTreeMap::from([("gpt2/model.safetensors".into(), "00ff".repeat(16))]),
                locks: BTreeMap::from([("Cargo.lock".into(), "ff00".repeat(16))]),
                workloads: self.workloads.clone(),
                engines: self.engines.clone(),
            },
            machine: Machine {
                name: "made-up-2c".into(),
                facts: BTreeMap::from([("cpu".into(), "made-up".into()), ("cores".into(), "2".into())]),
                before: BTreeMap::from([("steal_ticks".into(), "0".into())]),
                after: BTreeMap::from([("steal_ticks".into(), "1".into())]),
            },
            identities: self
                .engines
                .iter()
                .map(|engine| (engine.name.clone(), self.identity(engine)))
                .collect(),
            samples,
            processes,
            checks,
        }
    }

    fn identity(&self, engine: &Contestant) -> Introduced {
        Introduced {
            identity: Identity {
                engine: engine.name.clone(),
                language: engine.language.clone(),
                precision: engine.precision.clone(),
                versions: BTreeMap::from([("engine".into(), "1.0".into())]),
                settings: BTreeMap::new(),
            },
            footprint: vec![Footprint { name: "all of it".into(), bytes: self.footprint[&engine.name] }],
        }
    }
}

struct Player<'a> {
    scene: &'a Scene,
    rng: Rng,
    samples: Vec<SampleRow>,
    processes: Vec<ProcessRow>,
    checks: Vec<CheckRow>,
}

impl Player<'_> {
    fn heat(&mut self, heat: u32) {
        let places: Vec<(String, Arm)> = self
            .scene
            .engines
            .iter()
            .flat_map(|engine| {
                let twice = self.scene.again.contains(&engine.name);
                [Some((engine.name.clone(), Arm::First)), twice.then(|| (engine.name.clone(), Arm::Again))]
            })
            .flatten()
            .collect();
        let moods: Vec<f64> = places.iter().map(|_| self.wobble(0.25)).collect();
        for workload in &self.scene.workloads {
            for round in 0..self.scene.rounds {
                let there = (0..places.len()).enumerate();
                let back = (0..places.len()).rev().enumerate().map(|(at, place)| (at + places.len(), place));
                let spell = self.wobble(0.5);
                for (turn, place) in there.chain(back) {
                    let (engine, arm) = &places[place];
                    self.turn(workload, engine, *arm, [heat, round, turn as u32], moods[place] * spell);
                }
            }
            for (pid, (engine, arm)) in places.iter().enumerate() {
                self.ladder(workload, engine, *arm, heat, pid as u32);
            }
        }
    }

    fn wobble(&mut self, share: f64) -> f64 {
        (self.rng.normal() * self.scene.noise * share).exp()
    }

    fn turn(&mut self, workload: &Workload, engine: &str, arm: Arm, at: [u32; 3], mood: f64) {
        let key = (engine.to_string(), workload.name.clone());
        let blank = SampleRow {
            heat: at[0],
            round: at[1],
            turn: at[2],
            workload: workload.name.clone(),
            engine: engine.into(),
            arm,
            status: Status::Ok,
            reason: String::new(),
            index: 0,
            first: false,
            units: None,
            unit: String::new(),
            wall_ns: None,
            cpu_ns: None,
            run_delay_ns: None,
            device_ns: None,
            since_spawn_ns: None,
            laps_ns: vec![],
            digest: String::new(),
        };
        let ending = self.scene.refusals.get(&key).cloned();
        if let Some((status, reason)) = ending.clone().filter(|(status, _)| *status != Status::Wrong) {
            self.samples.push(SampleRow { status, reason, ..blank });
            return;
        }
        let Some(pace) = self.scene.pace.get(&key).copied() else { return };
        for index in 0..self.scene.samples {
            let first = index == 0 || matches!(workload.task, Task::Start { .. });
            let slow = if first { 1.5 } else { 1.0 };
            let laps_ns: Vec<u64> =
                (0..laps(&workload.task)).map(|_| (pace * mood * slow * self.wobble(1.0)) as u64).collect();
            let busy = match laps_ns.iter().sum::<u64>() {
                0 => pace * mood * slow * self.wobble(1.0),
                sum => sum as f64,
            };
            let waited = busy * self.scene.delay;
            let mut row = SampleRow {
                index,
                first,
                units: Some(1_000),
                unit: "tokens".into(),
                wall_ns: Some((busy + waited) as u64),
                cpu_ns: Some(busy as u64 * workload.threads as u64),
                run_delay_ns: Some(waited as u64),
                since_spawn_ns: Some(busy as u64 + 1_000_000),
                laps_ns,
                digest: "0011223344556677".into(),
                ..blank.clone()
            };
            if let Some((status, reason)) = &ending {
                (row.status, row.reason, row.digest) = (*status, reason.clone(), "ffff".into());
            }
            self.samples.push(row);
        }
        self.checks.push(CheckRow {
            heat: at[0],
            workload: workload.name.clone(),
            engine: engine.into(),
            reference: "pinned".into(),
            check: "answer".into(),
            rule: EXACT.into(),
            passed: ending.is_none(),
            error: None,
            budget: None,
            detail: ending.map(|(_, reason)| reason).unwrap_or_default(),
        });
    }

    fn ladder(&mut self, workload: &Workload, engine: &str, arm: Arm, heat: u32, pid: u32) {
        let peak = self.scene.memory[engine] + u64::from(heat) * 4096;
        for (moment, rss, top) in [
            (Moment::Hello, peak / 10, peak / 10),
            (Moment::Ready, peak / 2, peak / 4 * 3),
            (Moment::Done, peak / 2, peak),
        ] {
            self.processes.push(ProcessRow {
                heat,
                engine: engine.into(),
                arm,
                pid: heat * 1_000 + pid,
                workload: if moment == Moment::Hello { String::new() } else { workload.name.clone() },
                moment,
                since_spawn_ns: Some(1_000_000),
                prepare_ns: (moment == Moment::Ready).then_some(2_000_000),
                rss_bytes: rss,
                peak_bytes: top,
                pss_bytes: rss,
                anonymous_bytes: rss / 2,
                threads_seen: Some(workload.threads as u32),
            });
        }
    }
}

fn laps(task: &Task) -> usize {
    match task {
        Task::Prefill { .. } | Task::Start { .. } => 1,
        Task::Decode { tokens, .. } | Task::Generate { tokens, .. } => *tokens,
        _ => 0,
    }
}

/// A workload with an input where its task needs one.
pub fn workload(name: &str, task: Task, threads: usize) -> Workload {
    let input = match task.kind() {
        TaskKind::Encode
        | TaskKind::WordSplit
        | TaskKind::Generate
        | TaskKind::Serve
        | TaskKind::Detokenize => {
            Some(Input { text: TextKind::Prose, bytes: 65_536, texts: 1, ..Input::default() })
        }
        _ => None,
    };
    Workload {
        name: name.into(),
        task,
        input,
        model: "gpt2".into(),
        threads,
        profiles: vec!["quick".into(), "full".into()],
        expect: None,
        large: false,
        logit_budget: 1e-4,
    }
}

/// A contestant that offers everything.
pub fn engine(name: &str, precision: &str) -> Contestant {
    Contestant {
        name: name.into(),
        run: vec!["engine".into()],
        role: Role::Contestant,
        precision: precision.into(),
        tasks: TaskKind::ALL.to_vec(),
        reference_for: vec![],
        aa_for: vec![],
        environment: BTreeMap::new(),
        language: if name.starts_with("python") { "python".into() } else { "rust".into() },
        note: "made up for tests".into(),
        profiles: vec![],
        only: vec![],
        slow: false,
        needs: vec![],
        logit_budget: None,
    }
}

/// A record with something of everything: five engines, one of them refusing, one wrong once, one
/// limit; encode on one and two threads, decode, generation with and without cache, start, boundary.
pub fn story() -> Record {
    let generate = |cache, sampling| Task::Generate { tokens: 8, cache, sampling, beams: None, lookup: None };
    let sampled = Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, seed: 7 };
    let paces = |scale: f64| {
        [
            ("encode/prose-64k", 2e6 * scale),
            ("encode/batch-t2", 1e6 * scale),
            ("detokenize/prose-64k", 3e5 * scale),
            ("prefill/128", 8e7 * scale),
            ("decode/b1-ctx32", 1.5e7 * scale),
            ("generate/text-64", 1.5e7 * scale),
            ("generate/no-cache-16", 6e7 * scale),
            ("generate/sampled-64", 1.6e7 * scale),
            ("load/gpt2", 9e7 * scale),
            ("start/first-token", 2e8 * scale),
            ("boundary/empty", 1e5 * scale),
        ]
    };
    Scene::default()
        .workload("encode/prose-64k", Task::Encode { batch: false, fresh: false }, 1)
        .workload("encode/batch-t2", Task::Encode { batch: true, fresh: false }, 2)
        .workload("detokenize/prose-64k", Task::Detokenize {}, 1)
        .workload("prefill/128", Task::Prefill { tokens: 128, batch: 1 }, 2)
        .workload("decode/b1-ctx32", Task::Decode { context: 32, tokens: 8, batch: 1 }, 2)
        .workload("generate/text-64", generate(true, None), 2)
        .workload("generate/no-cache-16", generate(false, None), 2)
        .workload("generate/sampled-64", generate(true, Some(sampled)), 2)
        .workload("load/gpt2", Task::Load {}, 1)
        .workload("start/first-token", Task::Start { tokens: 16 }, 2)
        .workload(
            "boundary/empty",
            Task::Boundary { crossing: Crossing::Empty, elements: 0, repeat: 1_000 },
            1,
        )
        .engine("native/cpu-f32", &paces(1.0))
        .engine("libtorch/cpu-f32", &paces(1.1))
        .engine("python/transformers", &paces(2.5))
        .engine("python/pure-bpe", &[("encode/prose-64k", 1e8), ("detokenize/prose-64k", 5e6)])
        .engine("limit/stream", &[("decode/b1-ctx32", 1e7)])
        .role("limit/stream", Role::Limit)
        .again("native/cpu-f32")
        .weighs("python/transformers", 900 << 20, 1 << 30)
        .weighs("libtorch/cpu-f32", 700 << 20, 450 << 20)
        .ends("python/transformers", "generate/no-cache-16", Status::TimedOut, "no answer within 10 s")
        .ends("libtorch/cpu-f32", "encode/batch-t2", Status::Refused, "no tokenizer of its own")
        .ends("python/pure-bpe", "detokenize/prose-64k", Status::Wrong, "bytes differ from offset 3 on")
        .record()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_plays_the_same_twice_and_turns_go_there_and_back() {
        assert_eq!(story(), story());
        let record = story();
        let turns: Vec<&str> = record
            .samples
            .iter()
            .filter(|row| row.heat == 0 && row.round == 0 && row.workload == "load/gpt2" && row.index == 0)
            .map(|row| row.engine.as_str())
            .collect();
        let there = ["native/cpu-f32", "native/cpu-f32", "libtorch/cpu-f32", "python/transformers"];
        assert_eq!(turns[..4], there);
        assert!(turns[4..].iter().eq(there.iter().rev()));
    }
}
