//! An engine that misbehaves costs its own rows and nothing else: every fault an engine can have,
//! beside a sound engine whose rows must all be there.

mod stage;

use harness::record::Status;
use stage::{Replies, Running, Stage, assert_undisturbed, rows, rows_that, signal, wait_for};

const ONE: [&str; 4] = ["--heats", "1", "--rounds", "1"];

/// Measures `bad` beside `a/count`; a/count must be whole. Returns the record.
fn beside(stage: &Stage, more: &[&str]) -> harness::record::Record {
    stage.measure(&[&ONE[..], more].concat()).expect(0);
    let record = stage.record();
    assert!(record.run.complete && record.run.ended_unix.is_some());
    assert_undisturbed(&record, "a/count");
    record
}

#[test]
fn a_crash_is_a_row_with_its_signal_and_the_samples_before_it_stay() {
    let stage = Stage::new().echo("x/bad", "fault-crash");
    let record = beside(&stage, &[]);
    for workload in ["encode/letters", "encode/many"] {
        let mine: Vec<_> =
            rows(&record, "x/bad").into_iter().filter(|row| row.workload == workload).collect();
        assert_eq!(mine.iter().filter(|row| row.status == Status::Ok).count(), 1, "{mine:#?}");
        let crashed: Vec<_> = mine.iter().filter(|row| row.status == Status::Crashed).collect();
        assert_eq!(crashed.len(), 1, "{mine:#?}");
        assert!(crashed[0].reason.contains("signal 6") && crashed[0].wall_ns.is_none(), "{crashed:#?}");
    }
}

#[test]
fn samples_of_a_turn_that_ends_in_a_crash_are_kept() {
    let body = Replies::verified() + Replies::read() + &Replies::sample().repeat(2) + "exit 9\n";
    let stage = Stage::new().script("x/bad", &body);
    let record = beside(&stage, &["--workload", "encode/letters"]);
    let seen: Vec<_> = rows(&record, "x/bad").iter().map(|row| (row.round, row.index, row.status)).collect();
    let (ok, crashed) = (Status::Ok, Status::Crashed);
    assert_eq!(seen, [(0, 0, ok), (1, 0, ok), (1, 1, ok), (1, 0, crashed)]);
}

#[test]
fn a_fault_in_a_fresh_process_costs_only_its_engine() {
    let start = "analysis = \"why\"\n[[workload]]\nname = \"start/first\"\n\
                 task = { kind = \"start\", tokens = 4 }\nprofiles = [\"quick\"]\n";
    let engine = |name: &str, script: &str| {
        format!(
            "[[engine]]\nname = \"{name}\"\nrun = [\"/bin/sh\", \"{{root}}/{script}\"]\nrole = \"contestant\"\n\
             tasks = [\"start\"]\nlanguage = \"sh\"\nnote = \"for a test\"\n"
        )
    };
    let stage = Stage::new().family("s", &(engine("s/bad", "bad.sh") + &engine("s/good", "good.sh")));
    stage.write("harness/workloads/start.toml", start);
    stage.write("model/config.json", r#"{"vocab_size": 100}"#);
    stage.write("good.sh", &(Replies::verified() + "cat > /dev/null\n"));
    stage.write("bad.sh", &(Replies::hello() + Replies::read() + "exit 3\n"));
    stage
        .measure(&["--workload", "start/first", "--model", "model", "--heats", "2", "--rounds", "2"])
        .expect(0);
    let record = stage.record();
    assert!(record.run.complete);
    let good = rows(&record, "s/good");
    assert_eq!(good.len(), 4, "2 heats x 2 rounds: {good:#?}");
    assert!(good.iter().all(|row| row.status == Status::Ok));
    let pids: std::collections::BTreeSet<u32> =
        record.processes.iter().filter(|row| row.engine == "s/good").map(|row| row.pid).collect();
    assert_eq!(pids.len(), rows(&record, "s/good").len(), "a process a sample");
    let crashed = rows_that(&record, "s/bad", Status::Crashed);
    assert_eq!(crashed.len(), 2, "once a heat: {crashed:#?}");
    assert!(crashed.iter().all(|row| row.reason.contains("exit code 3")));
}

#[test]
fn last_words_of_a_process_are_in_the_reason() {
    let body = format!("{}{}echo 'out of luck' >&2\nexit 7\n", Replies::hello(), Replies::read());
    let record = beside(&Stage::new().script("x/bad", &body), &[]);
    let reason = &rows_that(&record, "x/bad", Status::Crashed)[0].reason;
    assert!(reason.contains("exit code 7") && reason.contains("out of luck"), "{reason}");
}

#[test]
fn a_hang_is_killed_and_not_asked_again_on_that_workload() {
    let stage = Stage::new().echo("x/bad", "fault-hang");
    let words = ["--heats", "2", "--workload", "encode/letters", "--sample-limit-ms", "4000"];
    let words: Vec<&str> = stage
        .measure_words()
        .into_iter()
        .filter(|word| !["--sample-limit-ms", "20000"].contains(word))
        .chain(words)
        .collect();
    stage.run(&words).expect(0);
    let record = stage.record();
    assert_undisturbed(&record, "a/count");
    let timed_out = rows_that(&record, "x/bad", Status::TimedOut);
    assert_eq!(timed_out.len(), 1);
    assert!(timed_out[0].reason.contains("no reply within 4.02"), "{}", timed_out[0].reason);
    let skipped = rows_that(&record, "x/bad", Status::Skipped);
    assert_eq!(skipped.len(), 1);
    assert!(skipped[0].heat == 1 && skipped[0].reason.contains("timed out on this workload in heat 0"));
    let pid = record.processes.iter().find(|row| row.engine == "x/bad").unwrap().pid;
    assert!(!stage::alive(pid), "the hanging process was killed");
}

#[test]
fn garbage_is_a_row_that_shows_it() {
    let record = beside(&Stage::new().echo("x/bad", "fault-garbage"), &[]);
    let garbled = rows_that(&record, "x/bad", Status::Garbled);
    assert!(garbled.iter().all(|row| row.reason.contains("this is no reply")), "{garbled:#?}");
    assert!(!garbled.is_empty() && rows_that(&record, "x/bad", Status::Ok).is_empty());
}

#[test]
fn garbage_from_the_first_line_and_another_protocol_are_told_apart() {
    let stage = Stage::new()
        .script("x/babble", "echo hello there\ncat > /dev/null\n")
        .script("x/older", &format!("{}cat > /dev/null\n", Replies::hello_in(999)))
        .script("x/silent", "exec >&-\ncat > /dev/null\n")
        .script("x/endless", "head -c 70000000 /dev/zero\ncat > /dev/null\n");
    let record = beside(&stage, &[]);
    assert!(rows_that(&record, "x/babble", Status::Garbled)[0].reason.contains("hello there"));
    let reason = &rows_that(&record, "x/older", Status::Garbled)[0].reason;
    assert!(reason.contains("999") && reason.contains("rebuild it"), "{reason}");
    assert_eq!(rows_that(&record, "x/silent", Status::Crashed).len(), 2);
    let reason = &rows_that(&record, "x/endless", Status::Garbled)[0].reason;
    assert!(reason.contains("a line of over 67108864 bytes"), "{reason}");
}

#[test]
fn a_wrong_answer_names_the_first_difference_and_never_becomes_a_number() {
    let stage = Stage::new().echo("x/bad", "fault-wrong");
    let record = beside(&stage, &[]);
    let mine = rows(&record, "x/bad");
    assert_eq!(mine.len(), 2, "one verifying row a workload, no rounds: {mine:#?}");
    for row in mine {
        assert_eq!(row.status, Status::Wrong);
        assert!(
            row.reason.contains("first difference at id") && row.reason.contains("a/count"),
            "{}",
            row.reason
        );
    }
    let letters =
        record.checks.iter().find(|row| row.engine == "x/bad" && row.workload == "encode/letters").unwrap();
    assert!(!letters.passed && letters.reference == "a/count" && letters.check == "answer");
    assert!(letters.detail.contains("first difference at id 599: 98 against 97"), "{}", letters.detail);

    let compared = stage.run(&["compare", "record", "--out", "report"]).expect(0);
    assert!(!compared.out.contains("x/bad"));
    let cmp = stage.run(&["cmp", "a/count", "x/bad", "--record", "record"]).expect(3);
    assert!(cmp.out.contains("no ratio: x/bad on encode/letters: wrong"), "{}", cmp.out);
    let json = stage.run(&["cmp", "a/count", "x/bad", "--record", "record", "--json"]).expect(3);
    assert_eq!(json.out.trim(), "[]");
}

#[test]
fn an_answer_that_changes_in_the_middle_of_a_run_is_caught() {
    let measured = Replies::sample().replace("\"units\":600", "\"units\":599") + &Replies::done();
    let body = Replies::verified() + &format!("while read -r order; do\n{measured}done\n");
    let stage = Stage::new().script("x/fickle", &body);
    let record = beside(&stage, &["--workload", "encode/letters"]);
    let statuses: Vec<_> = rows(&record, "x/fickle").iter().map(|row| (row.round, row.status)).collect();
    assert_eq!(statuses, [(0, Status::Ok), (1, Status::Wrong), (1, Status::Wrong)]);
    let reason = &rows_that(&record, "x/fickle", Status::Wrong)[0].reason;
    assert_eq!(reason, "599 units of work, a/count has 600");
    let cmp = stage.run(&["cmp", "a/count", "x/fickle", "--record", "record"]).expect(3);
    assert!(cmp.out.contains("no ratio: x/fickle on encode/letters: wrong"), "{}", cmp.out);
}

#[test]
fn a_refusal_comes_with_reason_and_remedy() {
    let refused = Replies::say(&worker::Reply::Refused {
        reason: "no such luck".into(),
        remedy: "install luck".into(),
    });
    let body = format!("{}while read -r order; do\n{refused}done\n", Replies::hello());
    let record = beside(&Stage::new().script("x/bad", &body), &[]);
    let mine = rows(&record, "x/bad");
    assert_eq!(mine.len(), 2);
    assert!(
        mine.iter().all(|row| row.status == Status::Refused && row.reason == "no such luck (install luck)")
    );
}

#[test]
fn a_failure_in_prepare_is_its_error_on_one_line() {
    let failed = Replies::say(&worker::Reply::Failed { error: "cannot load:\nno weights".into() });
    let body = format!("{}while read -r order; do\n{failed}done\n", Replies::hello());
    let record = beside(&Stage::new().script("x/bad", &body), &[]);
    let mine = rows(&record, "x/bad");
    assert_eq!(mine.len(), 2);
    assert!(mine.iter().all(|row| row.status == Status::Failed && row.reason == "cannot load: no weights"));
}

#[test]
fn a_process_lost_three_times_in_a_heat_is_left_alone() {
    let workloads: String = (0..5)
        .map(|at| {
            format!(
                "[[workload]]\nname = \"encode/w{at}\"\ntask = {{ kind = \"encode\" }}\nprofiles = [\"quick\"]\n\
                 input = {{ text = \"one-letter\", bytes = {} }}\n",
                100 + at
            )
        })
        .collect();
    let stage = Stage::new().echo("x/bad", "fault-crash");
    stage.write("harness/workloads/w.toml", &format!("analysis = \"five\"\n{workloads}"));
    let record = beside(&stage, &[]);
    assert_eq!(rows_that(&record, "x/bad", Status::Crashed).len(), 3);
    let skipped = rows_that(&record, "x/bad", Status::Skipped);
    assert_eq!(skipped.len(), 2);
    assert!(skipped[0].reason.contains("lost 3 times"), "{}", skipped[0].reason);
}

#[test]
fn a_worker_killed_by_hand_costs_only_its_own_rows() {
    // The victim waits for ever in its first measured turn, so each kill is in the middle of one.
    let stage = Stage::new().echo("x/victim", "fault-hang");
    let words =
        [&stage.measure_words()[..7], &["--sample-limit-ms", "600000", "--heats", "2", "--rounds", "1"]]
            .concat();
    let assay = Running::start(stage.assay(&words));
    let mut killed: Vec<u32> = Vec::new();
    while killed.len() < 4 {
        let pid = wait_for("a victim that was verified", || {
            let text = std::fs::read_to_string(stage.record_path().join("processes.csv")).unwrap_or_default();
            text.lines()
                .map(|line| line.split(',').collect::<Vec<_>>())
                .filter(|row| row.len() > 5 && row[1] == "x/victim" && row[5] == "done")
                .filter_map(|row| row[3].parse().ok())
                .find(|pid| !killed.contains(pid))
        });
        signal("KILL", pid);
        killed.push(pid);
    }
    assay.finish().expect(0);
    let record = stage.record();
    assert!(record.run.complete);
    assert_undisturbed(&record, "a/count");
    let crashed = rows_that(&record, "x/victim", Status::Crashed);
    assert_eq!(crashed.len(), 4, "one a heat and workload");
    assert!(crashed.iter().all(|row| row.reason.contains("signal 9")), "{crashed:#?}");
}
