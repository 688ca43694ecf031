//! How a run can end before its time: Ctrl-C, a killed harness, a full disk, a folder that cannot be
//! written. Rows already taken stay and stay readable, and no process is left behind.

mod stage;

use harness::record::{Record, Status};
use stage::{Finished, Replies, Running, Stage, alive, rows_that, signal, wait_for};
use std::process::Command;

/// An engine that is verified and then waits for an order that never comes: a run with it is in the
/// middle of a turn until somebody ends it. It ends by itself when its orders end.
fn waiting() -> Stage {
    let mut body = Replies::verified();
    body.push_str("while read -r order; do :; done\n");
    Stage::new().script("x/waiting", &body)
}

/// The command of a run that would wait ten minutes.
fn endless(stage: &Stage) -> Command {
    let words = ["--sample-limit-ms", "600000", "--workload", "encode/letters", "--heats", "1"];
    stage.assay(&[&stage.measure_words()[..7], &words].concat())
}

/// Starts it and waits until it is in the middle of a turn; gives the pids of its workers.
fn started(stage: &Stage) -> (Running, Vec<u32>) {
    let assay = Running::start(endless(stage));
    let text = wait_for("two verified engines", || {
        let text = std::fs::read_to_string(stage.record_path().join("samples.csv")).unwrap_or_default();
        let verified = ["a/count", "x/waiting"]
            .iter()
            .all(|name| text.contains(&format!("encode/letters,{name},first,ok")));
        verified.then(|| std::fs::read_to_string(stage.record_path().join("processes.csv")).unwrap())
    });
    let pids: std::collections::BTreeSet<u32> =
        text.lines().filter_map(|line| line.split(',').nth(3)?.parse().ok()).collect();
    assert_eq!(pids.len(), 2, "{text}");
    (assay, pids.into_iter().collect())
}

fn all_gone(pids: &[u32]) {
    wait_for("the end of every worker", || pids.iter().all(|&pid| !alive(pid)).then_some(()));
}

#[test]
fn ctrl_c_closes_the_record_and_leaves_no_process() {
    let stage = waiting();
    let (assay, pids) = started(&stage);
    signal("INT", assay.pid());
    let ended = assay.finish().expect(130);
    ended.says(&["interrupted", "rows taken so far are kept"]);
    assert_eq!(ended.out.trim(), "record", "the record's folder is still told");
    assert!(pids.iter().all(|&pid| !alive(pid)), "workers end before assay does");
    let record = stage.record();
    assert!(!record.run.complete && record.run.ended_unix.is_some());
    assert!(!rows_that(&record, "a/count", Status::Ok).is_empty());
    assert!(!stage.root().join(".assay/scratch").read_dir().unwrap().any(|_| true), "no scratch is left");
    stage.run(&["compare", "record", "--out", "report"]).expect(0);
    let report = std::fs::read_to_string(stage.root().join("report/report.md")).unwrap();
    assert!(report.contains("interrupted"), "{report}");
}

#[test]
fn ctrl_c_ends_a_comparison_without_a_figure() {
    let stage = waiting();
    let words = ["cmp", "a/count", "x/waiting", "--workload", "letters", "--measure", "600", "--json"];
    let assay = Running::start(stage.assay(&words));
    wait_for("a verified engine", || {
        let folder = stage.root().join(".assay/cmp").join(assay.pid().to_string());
        let text = std::fs::read_to_string(folder.join("samples.csv")).unwrap_or_default();
        text.contains("x/waiting,first,ok").then_some(())
    });
    signal("INT", assay.pid());
    assert_eq!(assay.finish().expect(130).out, "");
}

#[test]
fn a_killed_harness_leaves_a_readable_record_and_its_workers_end() {
    let stage = waiting();
    let (assay, pids) = started(&stage);
    signal("KILL", assay.pid());
    assert_eq!(assay.finish().code, None);
    all_gone(&pids);
    let record = stage.record();
    assert!(!record.run.complete && record.run.ended_unix.is_none());
    assert!(!rows_that(&record, "a/count", Status::Ok).is_empty());
    // The kill may come between two bytes of any row.
    let path = stage.record_path().join("samples.csv");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
    assert_eq!(stage.record().samples.len(), record.samples.len() - 1);
    stage.run(&["compare", "record", "--out", "report"]).expect(0);
}

#[test]
fn a_second_run_never_adds_to_a_record() {
    let stage = Stage::new();
    let words = ["--heats", "1", "--rounds", "1"];
    stage.measure(&words).expect(0);
    let before = std::fs::read(stage.record_path().join("samples.csv")).unwrap();
    stage.measure(&words).expect(3).says(&["record", "holds a record already", "another folder"]);
    assert_eq!(std::fs::read(stage.record_path().join("samples.csv")).unwrap(), before);
}

#[test]
fn a_results_folder_that_cannot_be_written_is_named() {
    let stage = Stage::new();
    stage.write("plain", "a regular file where a folder should be");
    let mut command = stage.assay(&["measure", "--heats", "1", "--rounds", "1"]);
    command.env("ASSAY_RESULTS", stage.root().join("plain"));
    let ended = Finished::from(command.output().unwrap()).expect(3);
    ended.says(&["cannot make", "plain/record", "writable?"]);
    assert_eq!(ended.err.trim().lines().count(), 1, "{}", ended.err);
    // /proc is read-only for everybody, root included.
    let words = ["measure", "--heats", "1", "--rounds", "1", "--out", "/proc/assay-record"];
    stage.run(&words).expect(3).says(&["cannot make /proc/assay-record", "writable?"]);
}

#[test]
fn a_disk_that_is_full_from_the_start_is_one_clear_error() {
    let stage = Stage::new();
    std::fs::create_dir(stage.record_path()).unwrap();
    std::os::unix::fs::symlink("/dev/full", stage.record_path().join("samples.csv")).unwrap();
    let ended = stage.measure(&["--heats", "1", "--rounds", "1"]).expect(3);
    ended.says(&["assay: cannot write", "samples.csv", "disk full", "rows written before are kept"]);
}

#[test]
fn a_disk_that_fills_up_keeps_the_rows_before() {
    let stage = Stage::new();
    // A limit on file size stands for the full disk: writes beyond it fail in the middle of a row.
    // Most rows are in samples.csv, so that file meets it first.
    let assay = stage.assay(&[]);
    let program = assay.get_program().to_string_lossy().into_owned();
    let limited = format!("trap '' XFSZ; ulimit -f 24; exec '{program}' \"$@\"");
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &limited, "assay"])
        .args(stage.measure_words())
        .args(["--heats", "40", "--rounds", "5"]);
    let ended = Finished::from(stage.at_home(command).output().unwrap()).expect(3);
    ended.says(&["assay: cannot write", ".csv", "rows written before are kept"]);
    let record = Record::read(&stage.record_path()).unwrap();
    assert!(!record.run.complete);
    assert!(rows_that(&record, "a/count", Status::Ok).len() > 20, "{}", record.samples.len());
}
