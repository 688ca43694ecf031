//! A small record with every kind of row, made by hand: tests of the report stand on it. (Long: it is data.)
//!
//! The figures are invented. They are chosen so that native wins, loses and draws, an engine refuses,
//! one crashes, one answers wrongly, and no number is round.

use super::Material;
use crate::record::*;
use crate::spec::*;
use crate::summary::*;
use crate::verdict::*;
use std::collections::BTreeMap;
use worker::{Crossing, Footprint, Identity, Sampling, Task, TaskKind};

/// Owns what [`Material`] borrows.
pub struct Fixture {
    pub record: Record,
    pub cells: Vec<Cell>,
    pub shared_peaks: Vec<(String, String)>,
    pub floors: Vec<(String, f64)>,
    pub ratios: Vec<Ratio>,
    pub judgements: Vec<Judgement>,
}

impl Fixture {
    pub fn material(&self) -> Material<'_> {
        Material {
            record: &self.record,
            cells: &self.cells,
            shared_peaks: &self.shared_peaks,
            floors: &self.floors,
            ratios: &self.ratios,
            judgements: &self.judgements,
        }
    }
}

const MODELS: [(&str, f64); 5] = [
    ("native/cpu-f32", 1.0),
    ("libtorch/cpu-f32", 0.82),
    ("libtorch/cpu-f32-cat", 1.31),
    ("python/transformers", 1.93),
    ("python-alone/transformers", 1.9),
];
const TOKENIZERS: [(&str, f64); 5] = [
    ("native/bpe", 1.0),
    ("rust/tokenizers", 3.4),
    ("rust/tiktoken", 1.61),
    ("python/tokenizers", 3.7),
    ("python/pure-bpe", 41.3),
];

pub fn fixture() -> Fixture {
    let workloads = workloads();
    let mut cells = Vec::new();
    for workload in &workloads {
        for (engine, factor) in who(workload) {
            cells.push(cell(workload, engine, factor));
        }
    }
    spoil(&mut cells);
    let record = record(workloads, &cells);
    let ratios = vec![
        ratio("prefill/b1-t512", "native/cpu-f32", "libtorch/cpu-f32", 0.82, 0.03),
        ratio("decode/b1-ctx32", "native/cpu-f32", "libtorch/cpu-f32", 1.01, 0.04),
        ratio("decode/b1-ctx32", "python/transformers", "native/cpu-f32", 0.52, 0.02),
        ratio("decode/b1-ctx32", "libtorch/cpu-f32", "python/transformers", 2.35, 0.02),
    ];
    let shared_peaks = cells
        .iter()
        .filter(|cell| cell.task != TaskKind::Start)
        .map(|cell| (cell.workload.clone(), cell.engine.clone()))
        .collect();
    let floors = vec![("prefill/b1-t512".into(), 1.013), ("decode/b1-ctx32".into(), 1.021)];
    Fixture { record, cells, shared_peaks, floors, ratios, judgements: judgements() }
}

fn workloads() -> Vec<Workload> {
    let plain = |name: &str, task: Task, input: Option<Input>, threads: usize| Workload {
        name: name.into(),
        task,
        input,
        model: "gpt2".into(),
        threads,
        profiles: vec!["full".into()],
        expect: None,
        large: false,
        logit_budget: 1e-4,
    };
    let text = |text, bytes, texts| Some(Input { text, bytes, texts, ..Input::default() });
    let one = Task::Encode { batch: false, fresh: false };
    let request = text(TextKind::Prose, 512, 1);
    let generate =
        |cache, sampling| Task::Generate { tokens: 64, cache, sampling, beams: None, lookup: None };
    let sampling = Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, seed: 1 };
    let crossing = |crossing, elements| Task::Boundary { crossing, elements, repeat: 100 };
    vec![
        plain("encode/prose-64k", one.clone(), text(TextKind::Prose, 65_536, 1), 1),
        plain("encode/code-64k", one.clone(), text(TextKind::Code, 65_536, 1), 1),
        plain("encode/one-word-100k", one.clone(), text(TextKind::OneWord, 102_400, 1), 1),
        plain("encode/prompt", one.clone(), request.clone(), 2),
        plain(
            "encode/chat-t1",
            Task::Encode { batch: true, fresh: false },
            text(TextKind::Prose, 1 << 20, 10_000),
            1,
        ),
        plain(
            "encode/chat-t2",
            Task::Encode { batch: true, fresh: false },
            text(TextKind::Prose, 1 << 20, 10_000),
            2,
        ),
        plain("detokenize/prose-64k", Task::Detokenize {}, text(TextKind::Prose, 65_536, 1), 1),
        plain("words/prose-64k", Task::WordSplit {}, text(TextKind::Prose, 65_536, 1), 1),
        plain("prefill/b1-t32", Task::Prefill { tokens: 32, batch: 1 }, None, 2),
        plain("prefill/b1-t512", Task::Prefill { tokens: 512, batch: 1 }, None, 2),
        plain("decode/b1-ctx32", Task::Decode { context: 32, tokens: 32, batch: 1 }, None, 2),
        plain("decode/b8-ctx32", Task::Decode { context: 32, tokens: 32, batch: 8 }, None, 2),
        plain("generate/chat", generate(true, None), request.clone(), 2),
        plain("generate/no-cache", generate(false, None), request.clone(), 2),
        plain("generate/sampled", generate(true, Some(sampling)), request, 2),
        plain("load/model", Task::Load {}, None, 2),
        plain("start/t8", Task::Start { tokens: 8 }, None, 2),
        plain("boundary/empty", crossing(Crossing::Empty, 0), None, 1),
        plain("boundary/list-1", crossing(Crossing::List, 1), None, 1),
        plain("boundary/list-1m", crossing(Crossing::List, 1_000_000), None, 1),
        plain("boundary/shared-1", crossing(Crossing::Shared, 1), None, 1),
        plain("boundary/shared-1m", crossing(Crossing::Shared, 1_000_000), None, 1),
    ]
}

fn who(workload: &Workload) -> Vec<(&'static str, f64)> {
    let mut found = match workload.task.kind() {
        TaskKind::Encode | TaskKind::Detokenize => TOKENIZERS.to_vec(),
        TaskKind::WordSplit => vec![("rust/regex-words", 0.2)],
        TaskKind::Boundary => vec![("python/transformers", 1.0), ("echo/noop", 0.1)],
        _ => MODELS.to_vec(),
    };
    if workload.task.kind() == TaskKind::Decode {
        found.push(("limit/stream", 0.71));
    }
    found
}

fn around(value: f64, n: usize) -> Option<Estimate> {
    Some(Estimate { value, lo: value * 0.973, hi: value * 1.041, n })
}

/// Invented ns of one run by the reference contestant.
fn base_ns(workload: &Workload) -> f64 {
    match &workload.task {
        Task::Encode { .. } => workload.input_bytes() as f64 * 21.7 / workload.threads as f64,
        Task::Detokenize {} | Task::WordSplit {} => workload.input_bytes() as f64 * 3.3,
        Task::Prefill { tokens, batch } => (tokens * batch) as f64 * 1.873e6,
        Task::Decode { tokens, batch, .. } => *tokens as f64 * (17.3e6 + *batch as f64 * 1.2e6),
        Task::Generate { tokens, cache, .. } => *tokens as f64 * if *cache { 19.1e6 } else { 241.0e6 },
        Task::Serve { tokens, .. } => tokens.iter().sum::<usize>() as f64 * 9.3e6,
        Task::Load {} => 73.4e6,
        Task::Start { .. } => 211.0e6,
        Task::Boundary { crossing, elements, repeat } => {
            let slope = if *crossing == Crossing::List { 9.1 } else { 0.0004 };
            (47.3 + slope * *elements as f64) * *repeat as f64
        }
    }
}

fn cell(workload: &Workload, engine: &str, factor: f64) -> Cell {
    let kind = workload.task.kind();
    let time = base_ns(workload) * factor;
    let tokens = match &workload.task {
        Task::Decode { tokens, batch, .. } => (tokens * batch) as f64,
        Task::Prefill { tokens, batch } => (tokens * batch) as f64,
        Task::Generate { tokens, .. } => *tokens as f64,
        _ => (workload.input_bytes() as f64 / 4.1).max(1.0),
    };
    let lapped = matches!(kind, TaskKind::Decode | TaskKind::Generate);
    let steps = match &workload.task {
        Task::Decode { tokens, .. } | Task::Generate { tokens, .. } => *tokens as f64,
        _ => 1.0,
    };
    let python = engine.starts_with("python");
    let torch = python || engine.starts_with("libtorch");
    let booted = if python { 521 << 20 } else { 7 << 20 } + if torch { 351 << 20 } else { 0 };
    let model = matches!(kind, TaskKind::Prefill | TaskKind::Decode | TaskKind::Generate | TaskKind::Start);
    let loaded = booted + if model { 498 << 20 } else { 23 << 20 };
    Cell {
        workload: workload.name.clone(),
        engine: engine.into(),
        task: kind,
        threads: workload.threads,
        status: Status::Ok,
        reason: String::new(),
        clock: if workload.threads == 1 { Clock::Cpu } else { Clock::Wall },
        time: around(time, 54),
        first_time: around(time * 1.7, 6),
        first_token: (kind == TaskKind::Generate).then(|| around(31.7e6 * factor, 54)).flatten(),
        token_time: lapped.then(|| around(time / steps, 54)).flatten(),
        token_tail: lapped.then(|| Tail { name: "p95".into(), value: time / steps * 1.31, n: 1728 }),
        since_spawn: (kind == TaskKind::Start)
            .then(|| around(time + if python { 4.1e9 } else { 0.0 }, 18))
            .flatten(),
        units_per_s: around(tokens / time * 1e9, 54),
        unit: "tokens".into(),
        bytes_per_s: (workload.input_bytes() > 0)
            .then(|| around(workload.input_bytes() as f64 / time * 1e9, 54))
            .flatten(),
        booted_bytes: Some(booted),
        loaded_bytes: Some(loaded),
        peak_bytes: Some(loaded + (37 << 20)),
        samples: 54,
        rejected: 0,
    }
}

/// Takes figures away as real runs do.
fn spoil(cells: &mut [Cell]) {
    let mut none = |workload: &str, engine: &str, status: Status, reason: &str| {
        let cell = cells.iter_mut().find(|cell| cell.workload == workload && cell.engine == engine).unwrap();
        *cell = Cell {
            status,
            reason: reason.into(),
            time: None,
            first_time: None,
            first_token: None,
            token_time: None,
            token_tail: None,
            since_spawn: None,
            units_per_s: None,
            bytes_per_s: None,
            samples: 0,
            ..cell.clone()
        };
    };
    none("encode/one-word-100k", "python/pure-bpe", Status::TimedOut, "no answer within 60 s; killed");
    none("generate/no-cache", "libtorch/cpu-f32-cat", Status::Refused, "always keeps a cache | by design");
    none("prefill/b1-t512", "python-alone/transformers", Status::Crashed, "ended by signal 9");
    none("encode/code-64k", "rust/tiktoken", Status::Wrong, "id 17: 314 where rust/tokenizers has 3 14");
    let noted = cells.iter_mut().find(|cell| cell.engine == "native/cpu-f32").unwrap();
    noted.rejected = 5;
    noted.reason = "5 samples set aside: waited for a processor more than 2 %".into();
}

fn ratio(workload: &str, a: &str, b: &str, value: f64, spread: f64) -> Ratio {
    Ratio {
        workload: workload.into(),
        metric: "time".into(),
        clock: Clock::Wall,
        a: a.into(),
        b: b.into(),
        precisions: String::new(),
        ratio: value,
        lo: value * (1.0 - spread),
        hi: value * (1.0 + spread),
        n: 18,
        floor: 1.013,
    }
}

fn judgements() -> Vec<Judgement> {
    let make = |id: &str, quote: &str, test: Reading, verdict, rows, missing: Vec<String>| Judgement {
        document: id.split('-').next().unwrap_or("").into(),
        title: "An essay about stacks".into(),
        claim: Claim {
            id: id.into(),
            quote: quote.into(),
            reading: "As the words say.".into(),
            across_precisions: false,
            test,
        },
        verdict,
        finding: "What the rows say in one sentence.".into(),
        rows,
        missing,
    };
    let engines = |bounds: Vec<f64>| Reading::Engines {
        faster: vec!["native/bpe".into(), "rust/tokenizers".into()],
        slower: vec!["python/pure-bpe".into()],
        over: vec!["encode/*".into()],
        metric: Metric::Time,
        bounds,
    };
    let encode = |a: &str, value| ratio("encode/prose-64k", a, "python/pure-bpe", value, 0.05);
    vec![
        make(
            "S0-01",
            "Often 10–100x faster than <pure> Python.",
            engines(vec![10.0, 100.0]),
            Verdict::Supported,
            vec![
                (encode("native/bpe", 41.3), Verdict::Supported),
                (encode("rust/tokenizers", 12.1), Verdict::Supported),
            ],
            vec!["native/bpe against python/pure-bpe on encode/one-word-100k: timed out".into()],
        ),
        make(
            "S1-02",
            "at least as fast",
            Reading::Workloads {
                engines: vec!["native/cpu-f32".into()],
                faster_on: "generate/chat".into(),
                slower_on: "generate/no-cache".into(),
                metric: Metric::Time,
                bounds: vec![2.0],
            },
            Verdict::Exceeded,
            vec![(
                ratio("generate/no-cache", "native/cpu-f32", "native/cpu-f32", 12.6, 0.01),
                Verdict::Exceeded,
            )],
            vec![],
        ),
        make(
            "S1-04",
            "overhead … usually minor",
            Reading::Share {
                part_engine: "python/tokenizers".into(),
                part_on: "encode/prompt".into(),
                whole_engine: "python/transformers".into(),
                whole_on: "generate/chat".into(),
                metric: Metric::Time,
                minor: 0.1,
                major: 0.25,
            },
            Verdict::Refuted,
            vec![(
                ratio("encode/prompt", "python/tokenizers", "python/transformers", 0.31, 0.02),
                Verdict::Refuted,
            )],
            vec![],
        ),
        make(
            "S3-01",
            "GPU | orchestration",
            Reading::OutOfReach { because: "no such device here".into() },
            Verdict::OutOfReach,
            vec![],
            vec![],
        ),
    ]
}

fn record(workloads: Vec<Workload>, cells: &[Cell]) -> Record {
    let mut names: Vec<&str> = Vec::new();
    for cell in cells {
        if !names.contains(&cell.engine.as_str()) {
            names.push(&cell.engine);
        }
    }
    let engines: Vec<Contestant> = names.iter().map(|name| contestant(name)).collect();
    let identities = names.iter().map(|name| (name.to_string(), introduced(name))).collect();
    let samples = cells.iter().flat_map(samples).collect();
    let processes = cells.iter().filter(|cell| cell.workload == "generate/chat").flat_map(rungs).collect();
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    Record {
        folder: "results/record/example".into(),
        run: Run {
            format: FORMAT,
            id: "2026-11-21-0123abc".into(),
            started_unix: 1_795_248_763,
            ended_unix: None,
            complete: false,
            profile: "quick".into(),
            settings: RunSettings {
                heats: 6,
                rounds: 3,
                samples: 3,
                turn_limit_ms: 60_000,
                sample_limit_ms: 60_000,
            },
            seed: 7,
            revision: "0123abc".into(),
            dirty: true,
            filters: vec!["--engine".into(), "*".into()],
            inputs: pairs(&[("model.safetensors", "ab".repeat(32).as_str())]),
            locks: pairs(&[("Cargo.lock", "cd".repeat(32).as_str())]),
            workloads,
            engines,
        },
        machine: Machine {
            name: "example-2c".into(),
            facts: pairs(&[
                ("processor", "Example CPU"),
                ("processors usable", "2"),
                ("memory", "24602340 kB"),
                ("kernel", "not known"),
                ("processor flags", "avx2 avx512f"),
            ]),
            before: pairs(&[("steal", "0.1 %")]),
            after: pairs(&[("steal", "0.4 %"), ("pressure cpu avg60", "3.1")]),
        },
        identities,
        samples,
        processes,
        checks: checks(),
    }
}

fn contestant(name: &str) -> Contestant {
    Contestant {
        name: name.into(),
        run: vec!["engine".into()],
        role: match name {
            "echo/noop" => Role::Null,
            "limit/stream" => Role::Limit,
            _ => Role::Contestant,
        },
        precision: "f32".into(),
        tasks: TaskKind::ALL.to_vec(),
        reference_for: vec![],
        aa_for: vec![],
        environment: BTreeMap::new(),
        language: if name.starts_with("python") { "python" } else { "rust" }.into(),
        note: "A note with a | and a <tag>.".into(),
        profiles: vec![],
        only: vec![],
        slow: false,
        needs: vec![],
        logit_budget: None,
    }
}

fn introduced(name: &str) -> Introduced {
    let part = |name: &str, bytes| Footprint { name: name.into(), bytes };
    let footprint = match name.split('/').next() {
        Some("python" | "python-alone") => vec![part("torch", 702 << 20), part("python3.11", 91 << 20)],
        Some("libtorch") => vec![part("libtorch_cpu.so", 451 << 20), part("engine", 3 << 20)],
        Some("echo" | "limit") => vec![],
        _ => vec![part("engine", 5_123_456)],
    };
    let version = |name: &str, version: &str| (name.to_string(), version.to_string());
    Introduced {
        identity: Identity {
            engine: name.into(),
            language: "rust".into(),
            precision: "f32".into(),
            versions: BTreeMap::from([version("rustc", "1.95.0")]),
            settings: BTreeMap::from([version("isa", "avx512")]),
        },
        footprint,
    }
}

/// Two heats of two rounds of a first and two warm runs; blocks differ by a few per cent.
fn samples(cell: &Cell) -> Vec<SampleRow> {
    let Some(time) = cell.time else { return vec![] };
    let lapped = matches!(cell.task, TaskKind::Decode | TaskKind::Generate);
    let laps: u64 = if lapped { 64 } else { 0 };
    let mut rows = Vec::new();
    for block in 0..4u32 {
        for index in 0..3u32 {
            let ns = time.value * (1.0 + 0.011 * f64::from(block) + 0.003 * f64::from(index));
            let lap = ns / (laps + 1) as f64;
            let laps_ns = (0..laps).map(|at| if at == 0 { lap * 1.7 } else { lap } as u64).collect();
            rows.push(SampleRow {
                heat: block / 2,
                round: block % 2,
                turn: 0,
                workload: cell.workload.clone(),
                engine: cell.engine.clone(),
                arm: Arm::First,
                status: Status::Ok,
                reason: String::new(),
                index,
                first: index == 0,
                units: Some(64),
                unit: "tokens".into(),
                wall_ns: Some(ns as u64),
                cpu_ns: Some(ns as u64 * cell.threads as u64),
                run_delay_ns: Some(0),
                device_ns: None,
                since_spawn_ns: Some(1),
                laps_ns,
                digest: "00".into(),
            });
        }
    }
    rows
}

fn rungs(cell: &Cell) -> Vec<ProcessRow> {
    let python = cell.engine.starts_with("python");
    let row = |moment, workload: &str, since, prepare| ProcessRow {
        heat: 0,
        engine: cell.engine.clone(),
        arm: Arm::First,
        pid: 1,
        workload: workload.into(),
        moment,
        since_spawn_ns: since,
        prepare_ns: prepare,
        rss_bytes: 1,
        peak_bytes: 1,
        pss_bytes: 1,
        anonymous_bytes: 1,
        threads_seen: Some(2),
    };
    let boot = if python { 4_312_345_678 } else { 3_456_789 };
    vec![
        row(Moment::Hello, "", Some(boot), None),
        row(Moment::Ready, &cell.workload, Some(boot + 1), Some(73_456_789)),
    ]
}

fn checks() -> Vec<CheckRow> {
    let row = |workload: &str, engine: &str, check: &str, error: Option<f64>, passed| CheckRow {
        heat: 0,
        workload: workload.into(),
        engine: engine.into(),
        reference: "rust/tokenizers".into(),
        check: check.into(),
        rule: EXACT.into(),
        passed,
        error,
        budget: error.map(|_| 1e-4),
        detail: if passed { "" } else { "id 17: 314, reference 3" }.into(),
    };
    vec![
        row("encode/prose-64k", "native/bpe", "answer", None, true),
        row("encode/code-64k", "rust/tiktoken", "answer", None, false),
        row("prefill/b1-t32", "native/cpu-f32", "answer", None, true),
        row("prefill/b1-t32", "native/cpu-f32", "logits", Some(1.37e-6), true),
        row("prefill/b1-t512", "native/cpu-f32", "logits", Some(4.1e-6), true),
    ]
}
