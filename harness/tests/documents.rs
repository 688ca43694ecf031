//! The documents say what the code does: links lead somewhere, paths exist, examples parse, columns
//! are the record's own.
//!
//! Invariant: a document is checked against the very types and files it describes, never against a
//! copy of them.
#![forbid(unsafe_code)]

use harness::record::{Arm, CheckRow, FORMAT, Moment, ProcessRow, Run, RunSettings, SampleRow, Status};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The Markdown files at the top and in the rooms that have any.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "harness", "rust_native", "rust_native/python", "python_ref"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() >= 6, "{found:?}");
    found
}

/// The fenced blocks of one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(word)) => open = Some((word == language, String::new())),
            (Some(_), Some(_)) => {
                if let Some((true, block)) = open.take() {
                    found.push(block);
                }
            }
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// What stands in code spans: odd pieces between backticks, fenced blocks left out.
fn spans(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(String::from));
        }
    }
    found
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut followed = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for piece in text.split("](").skip(1) {
            let Some(target) = piece.split(')').next() else { continue };
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{}: the link to {target} leads nowhere", document.display());
            followed += 1;
        }
    }
    assert!(followed >= 10, "only {followed} links were found");
}

#[test]
fn the_map_shows_what_is_there() {
    let text = read("ARCHITECTURE.md");
    let map = text.split("## The map").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut seen = 0;
    for line in map.lines().filter(|line| line.starts_with("| `")) {
        for path in spans(line.split('|').nth(1).unwrap()) {
            assert!(root().join(&path).exists(), "the map shows {path}, which is not there");
            seen += 1;
        }
    }
    assert!(seen >= 25, "only {seen} paths were found in the map");
}

#[test]
fn readme_has_each_marker_once() {
    let text = read("README.md");
    for name in ["chart", "headline", "machine", "verdicts"] {
        for end in ["begin", "end"] {
            let marker = format!("<!-- assay:{end} {name} -->");
            assert_eq!(text.matches(&marker).count(), 1, "{marker}");
        }
    }
    assert_eq!(text.matches("<!-- assay:").count(), 8, "a marker nobody fills");
    let filled = ["chart", "headline", "machine", "verdicts"].map(|name| (name, format!("the {name}")));
    let once = harness::report::splice(&text, &filled).unwrap();
    assert!(filled.iter().all(|(_, insertion)| once.contains(insertion.as_str())));
    assert_eq!(harness::report::splice(&once, &filled).unwrap(), once, "splicing twice changes nothing");
}

#[test]
fn readme_lists_every_verb() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_assay")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let verbs = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let readme = read("README.md");
    let table = readme.split("\n## The verbs").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut listed: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split(['`', ' ']).next())
        .collect();
    let mut offered: Vec<&str> = verbs
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|&verb| verb != "help")
        .collect();
    listed.sort_unstable();
    offered.sort_unstable();
    assert_eq!(listed, offered);
}

#[test]
fn quoted_stanzas_are_those_of_the_repository() {
    let mut all = String::new();
    let mut open = vec![root().join("harness")];
    while let Some(next) = open.pop() {
        if next.is_dir() && !next.ends_with("src") {
            open.extend(std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
        } else if next.extension().is_some_and(|ending| ending == "toml") {
            all.push_str(&std::fs::read_to_string(&next).unwrap());
        }
    }
    let mut quoted = 0;
    for name in ["README.md", "harness/FORMAT.md"] {
        for block in blocks(&read(name), "toml") {
            assert!(all.contains(block.trim()), "{name} quotes what no file says:\n{block}");
            quoted += 1;
        }
    }
    assert!(quoted >= 4, "only {quoted} stanzas are quoted");
}

#[test]
fn every_example_on_the_wire_is_an_order_or_a_reply() {
    let (mut orders, mut replies) = (BTreeSet::new(), BTreeSet::new());
    for line in blocks(&read("harness/FORMAT.md"), "json").iter().flat_map(|block| block.lines()) {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let again = if let Some(word) = value["order"].as_str() {
            orders.insert(word.to_string());
            serde_json::to_value(serde_json::from_str::<worker::Order>(line).unwrap()).unwrap()
        } else {
            let word = value["reply"].as_str().unwrap_or_else(|| panic!("neither order nor reply: {line}"));
            replies.insert(word.to_string());
            serde_json::to_value(serde_json::from_str::<worker::Reply>(line).unwrap()).unwrap()
        };
        // Numbers of type f32 gain digits on their way through f64; everything else is equal.
        if !line.contains("sampling") {
            assert_eq!(value, again, "a field is missing or unknown: {line}");
        }
    }
    let all = ["explain", "footprint", "measure", "prepare", "quit", "release"];
    assert!(orders.iter().eq(&all), "{orders:?}");
    let all = ["done", "failed", "footprint", "hello", "ready", "refused", "sample"];
    assert!(replies.iter().eq(&all), "{replies:?}");
}

#[test]
fn format_names_every_task_status_metric_and_column() {
    let named = spans(&read("harness/FORMAT.md"));
    let says =
        |word: &str| assert!(named.iter().any(|span| span == word), "FORMAT.md does not name `{word}`");
    for kind in worker::TaskKind::ALL {
        says(kind.word());
    }
    use Status::{Crashed, Failed, Garbled, Ok, Refused, Skipped, TimedOut, Wrong};
    for status in [Ok, Refused, Failed, Crashed, TimedOut, Garbled, Wrong, Skipped] {
        says(status.word());
    }
    use harness::spec::Metric::{
        FirstTime, FirstToken, Footprint, Jitter, PeakMemory, SinceSpawn, Time, TokenTime,
    };
    for metric in [Time, FirstTime, FirstToken, TokenTime, Jitter, SinceSpawn, PeakMemory, Footprint] {
        says(metric.word());
    }
    for column in header(&sample()).iter().chain(&header(&process())).chain(&header(&check())) {
        says(column);
    }
}

#[test]
fn format_names_every_field_of_the_toml_and_json_files() {
    let mut fields = BTreeSet::new();
    for family in harness::spec::load_engines(&root().join("harness/engines")).unwrap() {
        for mut engine in family.engine {
            engine.environment.clear(); // its keys are names of variables
            keys(&engine, &mut fields);
        }
    }
    for workload in harness::spec::load_workloads(&root().join("harness/workloads")).unwrap() {
        keys(&workload, &mut fields);
    }
    for document in harness::spec::load_claims(&root().join("harness/claims")).unwrap() {
        document.claim.iter().for_each(|claim| keys(claim, &mut fields));
    }
    keys(&run(), &mut fields);
    keys(&harness::record::Machine::default(), &mut fields);
    assert!(fields.len() > 60, "{fields:?}");
    fields.extend(["environment", "expect", "build", "analysis", "document", "title"].map(String::from));
    let named = spans(&read("harness/FORMAT.md"));
    let missing: Vec<&String> = fields.iter().filter(|&field| !named.contains(field)).collect();
    assert!(missing.is_empty(), "FORMAT.md does not name {missing:?}");
}

/// Names of all fields of a value, those of its parts included.
fn keys(value: &impl Serialize, found: &mut BTreeSet<String>) {
    let mut open = vec![serde_json::to_value(value).unwrap()];
    while let Some(next) = open.pop() {
        match next {
            serde_json::Value::Object(map) => {
                for (name, value) in map {
                    found.insert(name);
                    open.push(value);
                }
            }
            serde_json::Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
}

fn run() -> Run {
    Run {
        format: FORMAT,
        id: String::new(),
        started_unix: 0,
        ended_unix: None,
        complete: false,
        profile: String::new(),
        settings: RunSettings { heats: 0, rounds: 0, samples: 0, turn_limit_ms: 0, sample_limit_ms: 0 },
        seed: 0,
        revision: String::new(),
        dirty: false,
        filters: vec![],
        inputs: BTreeMap::new(),
        locks: BTreeMap::new(),
        workloads: vec![],
        engines: vec![],
    }
}

/// The columns of a row, as the record writes them.
fn header(row: &impl Serialize) -> Vec<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(row).unwrap();
    let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
    text.lines().next().unwrap().split(',').map(String::from).collect()
}

fn sample() -> SampleRow {
    SampleRow {
        heat: 0,
        round: 0,
        turn: 0,
        workload: String::new(),
        engine: String::new(),
        arm: Arm::First,
        status: Status::Ok,
        reason: String::new(),
        index: 0,
        first: true,
        units: None,
        unit: String::new(),
        wall_ns: None,
        cpu_ns: None,
        run_delay_ns: None,
        device_ns: None,
        since_spawn_ns: None,
        laps_ns: vec![],
        digest: String::new(),
    }
}

fn process() -> ProcessRow {
    ProcessRow {
        heat: 0,
        engine: String::new(),
        arm: Arm::First,
        pid: 0,
        workload: String::new(),
        moment: Moment::Hello,
        since_spawn_ns: None,
        prepare_ns: None,
        rss_bytes: 0,
        peak_bytes: 0,
        pss_bytes: 0,
        anonymous_bytes: 0,
        threads_seen: None,
    }
}

fn check() -> CheckRow {
    CheckRow {
        heat: 0,
        workload: String::new(),
        engine: String::new(),
        reference: String::new(),
        check: String::new(),
        rule: String::new(),
        passed: true,
        error: None,
        budget: None,
        detail: String::new(),
    }
}
