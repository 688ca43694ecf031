//! A user's mistake gets one line that names what is wrong and what to do, and an exit status that
//! is not 0. Nothing is measured before it is found.

mod stage;

use harness::record::Status;
use stage::{Finished, Stage, assert_undisturbed, rows};

/// One line on stderr, nothing recorded, status 3.
#[track_caller]
fn one_line(stage: &Stage, ended: Finished, words: &[&str]) {
    let ended = ended.expect(3);
    ended.says(words);
    assert_eq!(ended.err.trim().lines().count(), 1, "{}", ended.err);
    assert!(ended.out.is_empty(), "{}", ended.out);
    assert!(!stage.record_path().exists(), "nothing is recorded");
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    let stage = Stage::new().echo("b/count", "count");
    one_line(
        &stage,
        stage.measure(&["--engine", "a/coumt"]),
        &["unknown engine `a/coumt`", "a/count, b/count", "assay list"],
    );
    one_line(
        &stage,
        stage.measure(&["--workload", "encode/leters"]),
        &["unknown workload `encode/leters`", "encode/letters"],
    );
    one_line(
        &stage,
        stage.measure(&["--profile", "slow"]),
        &["unknown profile `slow`", "`quick` and `full`"],
    );
    one_line(&stage, stage.measure(&["--task", "decode"]), &["no workload is left", "assay list"]);
    one_line(&stage, stage.run(&["cmp", "a/count", "b/cuont"]), &["unknown engine `b/cuont`", "b/count"]);
    let ended = stage.measure(&["--task", "encod"]).expect(2);
    ended.says(&["--task", "unknown task", "encode"]);
    stage.run(&["mesure"]).expect(2).says(&["mesure"]);
}

#[test]
fn broken_files_are_named_with_the_field() {
    let good = "analysis = \"why\"\n[[workload]]\nname = \"encode/a\"\ntask = { kind = \"encode\" }\n\
                input = { text = \"one-letter\", bytes = 10 }\n";
    for (file, text, says) in [
        ("harness/workloads/w.toml", "analysis = \"why\"\n[[workload", "w.toml"),
        ("harness/workloads/w.toml", &good.replace("bytes", "bites"), "bites"),
        ("harness/workloads/w.toml", &good.replace("one-letter", "two-letters"), "two-letters"),
        ("harness/workloads/z.toml", &good.replace("encode/a", "encode/letters"), "encode/letters"),
        ("harness/engines/x/engine.toml", "[[engine]]\nname = \"x/y\"\n", "run"),
        ("harness/engines/y/engine.toml", "needs = [\"java\"]\nengine = []\n", "java"),
    ] {
        let stage = Stage::new();
        stage.write(file, text);
        let ended = stage.measure(&[]).expect(3);
        // TOML's own messages point at the place and take more than one line.
        let file = file.rsplit("harness/").next().unwrap();
        assert!(ended.err.contains(file) && ended.err.contains(says), "{file} {says}:\n{}", ended.err);
        assert!(!stage.record_path().exists());
    }
    let stage = Stage::new();
    stage.write("harness/claims/s0.toml", "document = \"S0\"\ntitle = \"t\"\nclaim = [{ id = 1 }]\n");
    stage.measure(&["--heats", "1", "--rounds", "1"]).expect(0);
    let ended = stage.run(&["compare", "record", "--out", "report"]).expect(3);
    assert!(ended.err.contains("s0.toml"), "{}", ended.err);
}

#[test]
fn a_name_declared_twice_is_named() {
    let stage = Stage::new().echo("a/count", "count");
    one_line(&stage, stage.measure(&[]), &["engine `a/count` is declared twice", "rename one"]);
}

#[test]
fn what_is_not_set_up_or_not_built_sits_out_with_the_remedy() {
    let python = "needs = [\"python\"]\n[[engine]]\nname = \"p/y\"\nrun = [\"{python}\", \"worker.py\"]\n\
                  role = \"contestant\"\ntasks = [\"encode\"]\nlanguage = \"python\"\nnote = \"for a test\"\n";
    let mut stage = Stage::new().family("p", python);
    stage.engine_with("x/unbuilt", &["{bin}/engine-unbuilt"], "");
    stage.engine_with("x/nowhere", &["no-such-program-anywhere"], "");
    stage.measure(&["--heats", "1", "--rounds", "1"]).expect(0);
    let record = stage.record();
    assert_undisturbed(&record, "a/count");
    for (engine, status, words) in [
        ("p/y", Status::Refused, ["the Python side is not set up", "run scripts/setup"]),
        ("x/unbuilt", Status::Refused, ["engine-unbuilt is not built", "run scripts/setup"]),
        ("x/nowhere", Status::Crashed, ["cannot start no-such-program-anywhere", "No such file"]),
    ] {
        let mine = rows(&record, engine);
        assert_eq!(mine.len(), 2, "{engine}");
        for row in mine {
            assert_eq!(row.status, status, "{engine}");
            assert!(words.iter().all(|word| row.reason.contains(word)), "{engine}: {}", row.reason);
        }
    }
}

#[test]
fn inputs_that_cannot_be_had_are_named() {
    let stage = Stage::new();
    let prose = "analysis = \"why\"\n[[workload]]\nname = \"encode/prose\"\ntask = { kind = \"encode\" }\n\
                 profiles = [\"quick\"]\ninput = { text = \"prose\", bytes = 100 }\n";
    stage.write("harness/workloads/p.toml", prose);
    let words = ["--workload", "encode/prose"];
    stage.measure(&words).expect(3).says(&["cargo metadata", "cargo fetch --locked"]);
    std::fs::remove_dir_all(stage.record_path()).unwrap();
    stage.write("mine.txt", "short");
    stage.measure(&[&words[..], &["--corpus", "mine.txt"]].concat()).expect(3).says(&["5 bytes", "100"]);
    std::fs::remove_dir_all(stage.record_path()).unwrap();
    std::fs::write(stage.root().join("mine.txt"), b"not \xff text").unwrap();
    let ended = stage.measure(&[&words[..], &["--corpus", "mine.txt"]].concat()).expect(3);
    ended.says(&["mine.txt", "not UTF-8 at byte 4"]);
    one_line(
        &Stage::new(),
        stage.run(&["measure", "--model", "nowhere"]),
        &["--model nowhere", "no config.json there"],
    );
}

#[test]
fn outside_a_repository_and_without_a_record_it_says_so() {
    let stage = Stage::new();
    one_line(&stage, stage.run(&["compare"]), &["no record below", "scripts/assay quick"]);
    let empty = tempfile::tempdir().unwrap();
    stage.run(&["compare", &empty.path().to_string_lossy()]).expect(3).says(&["run.json"]);
}
