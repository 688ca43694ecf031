//! The verbs that people and programs rely on: the promised fields, the promised exit status, the
//! same bytes twice.

mod stage;

use stage::Stage;
use std::collections::BTreeMap;
use std::path::Path;

const ONE: [&str; 4] = ["--heats", "2", "--rounds", "2"];

/// Path -> bytes of every file below `folder`.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                all.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    all
}

/// Asserts that `text` is a JSON list of comparisons with exactly the promised fields.
fn promised(text: &str) -> Vec<serde_json::Value> {
    let list: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    let mut fields =
        ["workload", "metric", "clock", "a", "b", "precisions", "ratio", "lo", "hi", "n", "floor"];
    fields.sort_unstable();
    for row in &list {
        let mut have: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        have.sort_unstable();
        assert_eq!(have, fields);
        let [ratio, lo, hi] = ["ratio", "lo", "hi"].map(|field| row[field].as_f64().unwrap());
        assert!(0.0 < lo && lo <= ratio && ratio <= hi, "{row}");
        assert!(row["n"].as_u64().unwrap() >= 2 && row["floor"].as_f64().unwrap() >= 1.0, "{row}");
        // One thread in both processes: the processor's own clock is the calmer one.
        assert_eq!((row["metric"].as_str(), row["clock"].as_str()), (Some("time"), Some("cpu")));
    }
    list
}

#[test]
fn cmp_reads_a_record_and_keeps_its_promise() {
    let stage = Stage::new().echo("b/count", "count");
    stage.measure(&ONE).expect(0);
    let cmp = ["cmp", "a/count", "b/count", "--record", "record"];
    let list = promised(&stage.run(&[&cmp[..], &["--json"]].concat()).expect(0).out);
    let names: Vec<_> = list.iter().map(|row| row["workload"].as_str().unwrap()).collect();
    assert_eq!(names, ["encode/letters", "encode/many"]);
    assert!(list.iter().all(|row| row["a"] == "a/count" && row["b"] == "b/count"));
    let list = promised(&stage.run(&[&cmp[..], &["--json", "--workload", "letters"]].concat()).expect(0).out);
    assert_eq!(list.len(), 1);
    let table = stage.run(&cmp).expect(0).out;
    assert!(table.contains("time(b/count) / time(a/count)") && table.contains("encode/many"), "{table}");
}

#[test]
fn cmp_measures_now_and_records_nothing() {
    let stage = Stage::new().echo("b/count", "count");
    let words = ["cmp", "a/count", "b/count", "--workload", "letters", "--measure", "1", "--json"];
    let list = promised(&stage.run(&words).expect(0).out);
    assert_eq!(list.len(), 1);
    assert!(!stage.root().join("results").exists());
    assert!(files(&stage.root().join(".assay/cmp")).is_empty(), "the record of a comparison is not kept");
    stage.run(&["cmp", "a/count", "b/count", "--measure", "0"]).expect(3).says(&["--measure", "at least 1"]);
    let words = ["cmp", "a/count", "b/count", "--workload", "prefill", "--measure", "1"];
    stage.run(&words).expect(3).says(&["no workload matches `prefill`"]);
}

#[test]
fn compare_gives_the_same_bytes_twice() {
    let stage =
        Stage::new().echo("b/count", "count").echo("x/wrong", "fault-wrong").echo("x/crash", "fault-crash");
    stage.measure(&ONE).expect(0);
    let before = files(&stage.record_path());
    let first = stage.run(&["compare", "record", "--out", "one"]).expect(0);
    stage.run(&["compare", "record", "--out", "two"]).expect(0);
    let (one, two) = (files(&stage.root().join("one")), files(&stage.root().join("two")));
    assert!(one.contains_key("report.md") && one.contains_key("report.html"), "{:?}", one.keys());
    for (name, bytes) in &one {
        assert!(two.get(name) == Some(bytes), "{name} differs");
    }
    assert_eq!(one.len(), two.len());
    assert_eq!(files(&stage.record_path()), before, "a record is never touched");
    assert!(first.out.contains("S0-01"), "{}", first.out);
}

#[test]
fn the_newest_record_is_found_below_results() {
    let stage = Stage::new();
    let words = ["measure", "--heats", "1", "--rounds", "1", "--turn-limit-ms", "20"];
    let folder = stage.run(&words).expect(0).out;
    let again = stage.run(&words).expect(0).out;
    assert_ne!(folder, again, "each run has a folder of its own");
    assert!(Path::new(folder.trim()).join("run.json").is_file());
    stage.run(&["compare", "--no-readme"]).expect(0);
    assert!(stage.root().join("results/report.md").is_file());
}

#[test]
fn list_shows_the_plan_as_json() {
    let stage = Stage::new().echo("b/count", "count");
    let listed = stage.run(&["list", "--json"]).expect(0).out;
    let cells: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
    let names: Vec<_> = cells.iter().map(|cell| cell["workload"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["encode/letters", "encode/many"]);
    assert_eq!(cells[0]["engines"], serde_json::json!(["a/count", "b/count"]));
    let text = stage.run(&["list", "--engine", "b/*"]).expect(0).out;
    assert!(text.contains("1 engines") && text.contains("2 workloads"), "{text}");
}

#[test]
fn verify_passes_sound_engines_and_fails_a_wrong_one() {
    let stage = Stage::new().echo("b/count", "count");
    let passed = stage.run(&["verify"]).expect(0);
    assert!(passed.out.contains("0 wrong or failed, 0 sat out"), "{}", passed.out);
    let stage = stage.echo("x/wrong", "fault-wrong");
    let failed = stage.run(&["verify"]).expect(1);
    assert!(failed.out.contains("x/wrong on encode/letters: wrong"), "{}", failed.out);
    assert!(failed.out.contains("2 wrong or failed"), "{}", failed.out);
    assert!(!stage.root().join("results").exists(), "nothing is recorded");
    let mut stage = Stage::new();
    stage.engine_with("x/unbuilt", &["{bin}/engine-unbuilt"], "");
    stage.run(&["verify"]).expect(0).says(&["sits out", "x/unbuilt", "not built"]);
    stage.run(&["verify", "--strict"]).expect(1);
}

#[test]
fn verify_prints_pins_that_hold_and_a_false_pin_is_caught() {
    let stage = Stage::new();
    let printed = stage.run(&["verify", "--pins", "--workload", "encode/letters"]).expect(0).out;
    let pin = printed.lines().find(|line| line.starts_with("expect = ")).unwrap();
    let path = stage.root().join("harness/workloads/w.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let pinned = text.replacen("profiles =", &format!("{pin}\nprofiles ="), 1);
    std::fs::write(&path, &pinned).unwrap();
    stage.run(&["verify"]).expect(0);
    std::fs::write(&path, pinned.replace("units = 600", "units = 601")).unwrap();
    let failed = stage.run(&["verify"]).expect(1).out;
    assert!(failed.contains("600 units of work, the pinned answer has 601"), "{failed}");
}

#[test]
fn the_selftest_runs_to_its_end_and_catches_a_wrong_answer() {
    let stage = Stage::new();
    stage.write(
        "harness/workloads/w.toml",
        "analysis = \"why\"\n[[workload]]\nname = \"encode/word-64k\"\ntask = { kind = \"encode\" }\n\
         input = { text = \"one-word\", bytes = 65_536 }\n",
    );
    let ended = stage.run(&["selftest", "--seconds", "0.5", "--trials", "1"]);
    // Whether the figures are sound is for a quiet machine to say: status 0 or 2.
    assert!(matches!(ended.code, Some(0 | 2)), "{ended:?}");
    for line in
        ["doubled work: time ratio ", "a wrong answer: caught", "gate, no change: ", "gate, 10 % slower: "]
    {
        assert!(ended.out.lines().any(|have| have.starts_with(line)), "no `{line}`:\n{}", ended.out);
    }
}
