//! Answers in lower precision, from outside: near f32 they count, and every way of being wrong is a row.

mod stage;

use harness::record::{CheckRow, Record, Status};
use stage::{Stage, rows, rows_that};

const WORKLOADS: &str = r#"
analysis = "A made-up model."

[[workload]]
name = "prefill/x"
task = { kind = "prefill", tokens = 6, batch = 2 }
profiles = ["quick"]

[[workload]]
name = "decode/x"
task = { kind = "decode", context = 4, tokens = 12, batch = 2 }
profiles = ["quick"]

[[workload]]
name = "start/x"
task = { kind = "start", tokens = 5 }
profiles = ["quick"]
"#;

/// A stage with `g/f32` and the named engines, each with its precision and variant of `guess`.
fn stage(engines: &[(&str, &str, &str)]) -> Stage {
    let engine = |name: &str, precision: &str, run: &str, more: &str| {
        format!(
            "[[engine]]\nname = {name:?}\nrun = [{run}]\nrole = \"contestant\"\nprecision = {precision:?}\n\
             tasks = [\"prefill\", \"decode\", \"start\"]\nlanguage = \"rust\"\nnote = \"for a test\"\n{more}\n"
        )
    };
    let mut toml = String::new();
    for (name, precision, variant) in engines {
        let run = match *variant {
            "dead" => r#""/bin/sh", "-c", "exit 3""#.to_string(),
            variant => format!("\"{{bin}}/engine-echo\", {variant:?}"),
        };
        let more = if *variant == "dead" { "reference_for = [\"prefill\", \"decode\"]" } else { "" };
        toml += &engine(name, precision, &run, more);
    }
    let stage = Stage::new().family("g", &toml);
    stage.write("harness/workloads/model.toml", WORKLOADS);
    stage.write("model/config.json", r#"{"vocab_size": 100}"#);
    stage
}

fn measure(stage: &Stage, more: &[&str]) -> Record {
    let few = ["--model", "model", "--heats", "2", "--rounds", "1"];
    let tasks = ["--task", "prefill", "--task", "decode", "--task", "start"];
    stage.measure(&[&few[..], &tasks, more].concat()).expect(0);
    stage.record()
}

fn checks<'a>(record: &'a Record, engine: &str) -> Vec<&'a CheckRow> {
    record.checks.iter().filter(|check| check.engine == engine).collect()
}

/// Rows of a run without faults: `start` is a row a round, the others a verifying one and two turns.
fn assert_whole(record: &Record, engine: &str) {
    let mine = rows(record, engine);
    assert!(mine.iter().all(|row| row.status == Status::Ok), "{engine}: {mine:#?}");
    for (workload, least) in [("prefill/x", 6), ("decode/x", 6), ("start/x", 2)] {
        assert!(mine.iter().filter(|row| row.workload == workload).count() >= least, "{engine} {workload}");
    }
}

const F32: (&str, &str, &str) = ("g/f32", "f32", "guess");

#[test]
fn what_lies_near_f32_counts_and_its_checks_name_the_rule_and_the_judge() {
    let stage = stage(&[("g/int8", "int8", "guess-off-10"), ("g/int4", "int4", "guess-off-50"), F32]);
    let record = measure(&stage, &[]);
    for engine in ["g/f32", "g/int8", "g/int4"] {
        assert_whole(&record, engine);
    }
    assert!(checks(&record, "g/f32").iter().all(|check| check.rule == "exact" && check.passed));
    for (engine, rule) in [("g/int8", "int8"), ("g/int4", "int4")] {
        let mine = checks(&record, engine);
        // Two heats (start: two processes) x three workloads x three checks.
        assert_eq!(mine.len(), 18, "{mine:#?}");
        for check in &mine {
            assert!(check.passed && check.rule == rule && check.reference == "g/f32", "{check:?}");
            assert!(check.error <= check.budget && check.error > Some(0.0) || check.check == "answer");
        }
        let details = |workload: &str| {
            let of = mine.iter().filter(|check| check.workload == workload && check.check == "answer");
            of.map(|check| check.detail.clone()).collect::<Vec<_>>()
        };
        // The id that the context predicts is weighed besides the twelve of the answer.
        assert!(details("decode/x").iter().all(|detail| detail.contains(" of 13 steps weighed")));
        assert!(details("start/x").iter().all(|detail| detail.ends_with("1 of 1 steps weighed")));
    }
    let parted = |check: &&CheckRow| check.detail.contains("first difference at id");
    assert!(checks(&record, "g/int4").into_iter().any(|check| parted(&check)), "another text, and it counts");
    // No text of lower precision became anybody's reference.
    let of_f32 = checks(&record, "g/f32");
    assert!(of_f32.iter().all(|check| check.reference == "g/f32"), "{of_f32:#?}");
}

#[test]
fn a_wrong_answer_in_lower_precision_has_no_speed_whatever_is_wrong_with_it() {
    let stage = stage(&[
        ("g/blind", "int8", "guess-blind"),
        ("g/far", "int8", "guess-off-60"),
        ("g/restless", "int8", "guess-restless"),
        F32,
    ]);
    let record = measure(&stage, &[]);
    assert_whole(&record, "g/f32");
    // Its logits are sound, its ids are not what they say.
    let blind = rows(&record, "g/blind");
    assert!(!blind.is_empty() && blind.iter().all(|row| row.status == Status::Wrong), "{blind:#?}");
    assert!(blind.iter().all(|row| row.reason.contains("f32 would rather have other ids")));
    let failed: Vec<&str> = checks(&record, "g/blind")
        .into_iter()
        .filter(|check| !check.passed)
        .map(|check| check.check.as_str())
        .collect();
    assert!(failed.iter().all(|&check| check == "answer"), "{failed:?}");
    // Too much noise for int8, whatever ids come of it.
    for workload in ["prefill/x", "decode/x"] {
        let far = rows(&record, "g/far").into_iter().find(|row| row.workload == workload).unwrap();
        assert_eq!(far.status, Status::Wrong, "{far:#?}");
    }
    let far = checks(&record, "g/far");
    assert!(far.iter().any(|check| check.check == "logits" && !check.passed && check.error > Some(0.1)));
    assert!(rows(&record, "g/far").iter().any(|row| row.reason.contains("logits differ from f32's by")));
    // Sound when verified, another answer when timed.
    let wrong = rows_that(&record, "g/restless", Status::Wrong);
    assert!(!wrong.is_empty() && wrong.iter().all(|row| row.round > 0), "{wrong:#?}");
    assert!(wrong.iter().all(|row| row.reason.contains("its own first has")), "{wrong:#?}");

    let compared = stage.run(&["compare", "record", "--out", "report"]).expect(0);
    assert!(!compared.out.contains("g/blind"));
    let cells = std::fs::read_to_string(stage.root().join("report/tables/cells.csv")).unwrap();
    for line in cells.lines().filter(|line| line.contains("g/blind") || line.contains("g/restless,decode")) {
        assert!(line.contains(",wrong,"), "{line}");
    }
}

#[test]
fn an_answer_is_weighed_though_no_f32_engine_was_asked_to_take_part() {
    let stage = stage(&[("g/int8", "int8", "guess-off-5"), F32]);
    let record = measure(&stage, &["--engine", "g/int8"]);
    assert_whole(&record, "g/int8");
    assert!(record.engine("g/f32").is_none() && rows(&record, "g/f32").is_empty());
    let mine = checks(&record, "g/int8");
    assert!(mine.iter().all(|check| check.passed && check.reference == "g/f32"), "{mine:#?}");
    assert!(mine.iter().all(|check| !check.detail.contains("equal to")), "nobody to be equal to");
}

#[test]
fn a_judge_that_dies_is_replaced_and_without_any_nothing_is_timed() {
    let bench = stage(&[("d/dead", "f32", "dead"), ("g/int8", "int8", "guess"), F32]);
    let record = measure(&bench, &["--engine", "g/int8"]);
    assert_whole(&record, "g/int8");
    assert!(checks(&record, "g/int8").iter().all(|check| check.reference == "g/f32"));

    let bench = stage(&[("d/dead", "f32", "dead"), ("g/int8", "int8", "guess")]);
    let record = measure(&bench, &["--engine", "g/int8"]);
    let mine = rows(&record, "g/int8");
    assert!(!mine.is_empty() && mine.iter().all(|row| row.status == Status::Skipped), "{mine:#?}");
    let reason = &mine[0].reason;
    assert!(reason.contains("could not be weighed: d/dead") && reason.contains("exit code 3"), "{reason}");
    assert!(mine.iter().all(|row| row.wall_ns.is_none()));
    let words = ["verify", "--model", "model", "--engine", "g/int8", "--task", "prefill"];
    bench.run(&[&words[..], &["--strict"]].concat()).expect(1);
}
