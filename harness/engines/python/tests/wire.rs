//! Conversations with the binary itself. They need python_ref's environment; without it each test
//! says so and passes, except those that are about its absence.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use worker::{Crossing, Files, Order, Prepare, Reply, SampleReply, Task, digest_bytes, digest_ids};

fn python_ref() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../python_ref").canonicalize().unwrap()
}

/// True, with the reason printed, where the environment is missing or made for another Python.
fn skipped(test: &str) -> bool {
    let packages = glob_site_packages().filter(|folder| folder.join("numpy").is_dir());
    let reason = match packages {
        None => "python_ref/.venv is missing; run scripts/setup",
        Some(folder) if !matches_linked_python(&folder) => "python_ref/.venv is of another Python than PyO3",
        Some(_) => return false,
    };
    eprintln!("SKIPPED {test}: {reason}");
    true
}

fn glob_site_packages() -> Option<PathBuf> {
    let library = std::fs::read_dir(python_ref().join(".venv/lib")).ok()?;
    library.flatten().map(|entry| entry.path().join("site-packages")).find(|folder| folder.is_dir())
}

fn matches_linked_python(packages: &Path) -> bool {
    let maps = Command::new("ldd").arg(env!("CARGO_BIN_EXE_engine-python")).output().unwrap();
    let version = packages.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    String::from_utf8_lossy(&maps.stdout).contains(&format!("lib{version}"))
}

fn start(peer: &str, orders: &str, environment: &[(&str, &str)]) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_engine-python"))
        .arg(peer)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(orders.as_bytes()).ok();
    process.wait_with_output().unwrap()
}

fn replies(output: &Output) -> Vec<Reply> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn talk(peer: &str, orders: &[Order]) -> Vec<Reply> {
    let lines: String = orders.iter().map(|order| serde_json::to_string(order).unwrap() + "\n").collect();
    let output = start(peer, &lines, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    replies(&output)
}

fn prepare(task: Task, files: Files) -> Order {
    Order::Prepare(Prepare { workload: "test".into(), task, files, threads: 1 })
}

fn samples(replies: &[Reply]) -> Vec<&SampleReply> {
    fn sample(reply: &Reply) -> Option<&SampleReply> {
        match reply {
            Reply::Sample(sample) => Some(sample),
            _ => None,
        }
    }
    replies.iter().filter_map(sample).collect()
}

const MEASURE: Order = Order::Measure { samples: 2, limit_ns: u64::MAX };

/// A vocabulary of the 256 bytes and one merge; a texts file.
fn vocabulary(folder: &Path, texts: &[&str]) -> Files {
    let printable = (0x21u32..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff);
    let others = (0u32..256).filter(|b| !printable.clone().any(|p| p == *b)).count() as u32;
    let letters = printable.clone().chain((0..others).map(|at| 0x100 + at));
    let mut tokens: Vec<String> = letters.map(|c| char::from_u32(c).unwrap().to_string()).collect();
    tokens.push("ab".into());
    let ids: serde_json::Map<_, _> =
        tokens.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    std::fs::write(folder.join("vocab.json"), serde_json::to_string(&ids).unwrap()).unwrap();
    std::fs::write(folder.join("merges.txt"), "#version: 0.2\na b\n").unwrap();
    let lines: String = texts.iter().map(|text| serde_json::to_string(text).unwrap() + "\n").collect();
    std::fs::write(folder.join("texts"), lines).unwrap();
    Files {
        vocabulary: Some(folder.into()),
        texts: Some(folder.join("texts")),
        ids: Some(folder.join("ids")),
        ..Files::default()
    }
}

#[test]
fn text_crosses_to_ids_and_back() {
    if skipped("text_crosses_to_ids_and_back") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let files = vocabulary(folder.path(), &["abba", "", "é\n"]);
    // `!` is byte 0x21 and id 0; é is bytes c3 a9; newline is the eleventh of the unprintable bytes.
    let ids = [256, 'b' as u32 - 0x21, 'a' as u32 - 0x21, 0xc3 - 0xa1 + 94 - 1, 0xa9 - 0xa1 + 94, 188 + 10];
    worker::write_ids(files.ids.as_ref().unwrap(), &ids).unwrap();
    let answer = folder.path().join("answer");
    let explain = Order::Explain { answer: answer.clone(), logits: folder.path().join("logits") };
    let orders = [
        prepare(Task::Encode { batch: false, fresh: false }, files.clone()),
        MEASURE,
        explain,
        prepare(Task::Detokenize {}, files.clone()),
        MEASURE,
        Order::Quit,
    ];
    let replies = talk("pure_bpe", &orders);
    let Reply::Hello { identity, .. } = &replies[0] else { panic!("{replies:?}") };
    assert_eq!((identity.engine.as_str(), identity.language.as_str()), ("python/pure-bpe", "rust+python"));
    assert!(identity.versions.contains_key("regex") && identity.versions.contains_key("python"));
    assert_eq!(worker::read_ids(&answer).unwrap(), ids);
    let samples = samples(&replies);
    assert_eq!(samples.iter().map(|s| s.first).collect::<Vec<_>>(), [true, false, true, false]);
    assert!(samples.iter().all(|sample| sample.units == 6 && sample.laps_ns.is_empty()));
    assert!(samples[..2].iter().all(|sample| sample.digest == digest_ids(&ids)));
    assert!(samples[2..].iter().all(|sample| sample.digest == digest_bytes("abbaé\n".as_bytes())));
    assert!(!folder.path().join("logits").exists());
}

#[test]
fn everything_that_crosses_comes_back() {
    if skipped("everything_that_crosses_comes_back") {
        return;
    }
    let crossings = [Crossing::Empty, Crossing::List, Crossing::Copy, Crossing::Shared];
    for (crossing, elements) in crossings.into_iter().flat_map(|c| [(c, 0), (c, 1000)]) {
        let task = Task::Boundary { crossing, elements, repeat: 3 };
        let replies = talk("boundary", &[prepare(task, Files::default()), MEASURE]);
        let crossed = if crossing == Crossing::Empty { 0 } else { elements as u32 };
        let samples = samples(&replies);
        assert_eq!(samples.len(), 2, "{replies:?}");
        for sample in samples {
            assert_eq!((sample.units, sample.unit), (3, worker::Unit::Calls));
            assert_eq!(sample.digest, digest_ids(&(0..crossed).collect::<Vec<_>>()), "{crossing:?}");
        }
    }
}

#[test]
fn words_are_counted() {
    if skipped("words_are_counted") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let files = vocabulary(folder.path(), &["one two", "", "three, four; five"]);
    std::fs::write(files.ids.as_ref().unwrap(), []).unwrap();
    let replies = talk("word_split", &[prepare(Task::WordSplit {}, files), MEASURE]);
    let samples = samples(&replies);
    assert_eq!((samples[0].units, samples[0].unit), (5, worker::Unit::Words));
    assert_eq!(samples[0].digest, digest_ids(&[2, 0, 3]));
}

#[test]
fn refusals_and_faults_are_answers() {
    if skipped("refusals_and_faults_are_answers") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut files = vocabulary(folder.path(), &["a"]);
    std::fs::write(files.ids.as_ref().unwrap(), [1, 2, 3]).unwrap();
    let ragged = prepare(Task::Detokenize {}, files.clone());
    files.ids = None;
    let no_ids = prepare(Task::Detokenize {}, files.clone());
    files.vocabulary = Some(folder.path().join("nowhere"));
    let nowhere = prepare(Task::Encode { batch: true, fresh: false }, files.clone());
    files.vocabulary = None;
    let no_vocabulary = prepare(Task::Encode { batch: true, fresh: false }, files);
    let replies = talk(
        "pure_bpe",
        &[prepare(Task::Load {}, Files::default()), ragged, no_ids, nowhere, no_vocabulary, MEASURE],
    );
    assert!(
        matches!(&replies[1], Reply::Refused { reason, .. } if reason.contains("pure-bpe does not offer"))
    );
    let failed = |at: usize| match &replies[at] {
        Reply::Failed { error } => error.clone(),
        other => panic!("{at}: {other:?}"),
    };
    assert!(failed(2).contains("3 bytes are no whole number of u32 ids"));
    assert!(failed(3).contains("the order names no ids (files.ids)"));
    assert!(failed(4).contains("nowhere/vocab.json"));
    assert!(failed(5).contains("the order names no vocabulary (files.vocabulary)"));
    assert!(failed(6).contains("nothing is prepared"));
}

#[test]
fn the_footprint_names_packages_interpreter_and_this_program() {
    if skipped("the_footprint_names_packages_interpreter_and_this_program") {
        return;
    }
    let replies = talk("pure_bpe", &[Order::Footprint]);
    let Reply::Footprint { parts } = &replies[1] else { panic!("{replies:?}") };
    for name in ["regex ", "numpy ", "standard library", "engine-python"] {
        assert!(
            parts.iter().any(|part| part.name.contains(name) && part.bytes > 10_000),
            "{name}: {parts:?}"
        );
    }
}

#[test]
fn an_unknown_peer_is_told_the_names() {
    let output = start("pure_bep", "", &[("ASSAY_SITE_PACKAGES", "/nowhere")]);
    assert!(!output.status.success() && output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("`pure_bep` is no peer") && message.contains("pure_bpe, "), "{message}");
}

#[test]
fn a_missing_environment_is_refused_with_the_remedy() {
    let orders = serde_json::to_string(&prepare(Task::Load {}, Files::default())).unwrap() + "\n";
    let empty = tempfile::tempdir().unwrap();
    for (variable, folder) in [
        ("ASSAY_SITE_PACKAGES", "/nowhere".into()),
        ("ASSAY_SITE_PACKAGES", empty.path().to_string_lossy().into_owned()),
        ("ASSAY_PYTHON_REF", "/nowhere".into()),
    ] {
        let output = start("transformers_loop", &orders, &[(variable, &folder)]);
        assert!(output.status.success(), "{variable}: {}", String::from_utf8_lossy(&output.stderr));
        let replies = replies(&output);
        assert!(matches!(&replies[0], Reply::Hello { identity, .. } if identity.language == "rust+python"));
        let Reply::Refused { reason, remedy } = &replies[1] else { panic!("{variable}: {replies:?}") };
        assert!(!reason.is_empty() && !reason.contains('\n'));
        assert!(remedy.contains("scripts/setup") || remedy.contains("ASSAY_PYTHON_REF"), "{remedy}");
    }
}
