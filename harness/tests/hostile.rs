//! What parses bytes of others never panics: records edited or torn by anybody, replies of engines
//! that say anything. It reads, or it gives an error that names the place.

use harness::record::Record;
use proptest::prelude::*;
use std::path::Path;
use worker::{Order, Reply};

const FILES: [&str; 6] =
    ["run.json", "machine.json", "identities.json", "samples.csv", "processes.csv", "checks.csv"];

const RUN: &str = r#"{"format":1,"id":"r","started_unix":1,"ended_unix":null,"complete":false,"profile":"quick",
"settings":{"heats":1,"rounds":1,"samples":1,"turn_limit_ms":1,"sample_limit_ms":1},"seed":1,"revision":"x",
"dirty":false,"filters":[],"inputs":{},"locks":{},"workloads":[],"engines":[]}"#;
const MACHINE: &str = r#"{"name":"m","facts":{},"before":{},"after":{}}"#;
const SAMPLES: &str = "heat,round,turn,workload,engine,arm,status,reason,index,first,units,unit,wall_ns,cpu_ns,run_delay_ns,device_ns,since_spawn_ns,laps_ns,digest
0,0,0,encode/a,a/b,first,ok,,0,true,3,tokens,9,8,0,,100,3 6,00
0,1,0,encode/a,a/b,again,crashed,\"the process ended, \"\"so\"\"\",0,false,,,,,,,,,
";
const PROCESSES: &str = "heat,engine,arm,pid,workload,moment,since_spawn_ns,prepare_ns,rss_bytes,peak_bytes,pss_bytes,anonymous_bytes,threads_seen
0,a/b,first,7,,hello,5,,1,1,1,1,
";
const CHECKS: &str = "heat,workload,engine,reference,check,passed,error,budget,detail
0,encode/a,a/b,a/b,answer,true,,,
";

fn write(folder: &Path) {
    let texts = [RUN, MACHINE, "{}", SAMPLES, PROCESSES, CHECKS];
    for (name, text) in FILES.iter().zip(texts) {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// A record reads, or the error names the file.
fn reads_or_names(folder: &Path, file: &str) {
    if let Err(error) = Record::read(folder) {
        let said = format!("{error:#}");
        let folder = folder.to_string_lossy();
        assert!(said.contains(file) || said.contains(&*folder), "{file}: {said}");
    }
}

#[test]
fn the_sound_record_of_these_tests_reads() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let record = Record::read(folder.path()).unwrap();
    assert_eq!((record.samples.len(), record.processes.len(), record.checks.len()), (2, 1, 1));
    assert_eq!(record.samples[1].reason, "the process ended, \"so\"");
}

#[test]
fn a_missing_file_and_another_format_are_named() {
    for name in FILES {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        std::fs::remove_file(folder.path().join(name)).unwrap();
        let said = format!("{:#}", Record::read(folder.path()).unwrap_err());
        assert!(said.contains(name), "{name}: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    std::fs::write(folder.path().join("run.json"), RUN.replace("\"format\":1", "\"format\":99")).unwrap();
    let said = format!("{:#}", Record::read(folder.path()).unwrap_err());
    assert!(said.contains("format 99") && said.contains("format 1"), "{said}");
}

#[test]
fn a_record_cut_anywhere_in_its_last_row_keeps_the_rows_before() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let first_rows = SAMPLES[..SAMPLES.len() - 1].rfind('\n').unwrap() + 1;
    for end in first_rows..SAMPLES.len() {
        std::fs::write(folder.path().join("samples.csv"), &SAMPLES[..end]).unwrap();
        assert_eq!(Record::read(folder.path()).unwrap().samples.len(), 1, "cut at {end}");
    }
}

proptest! {
    #[test]
    fn random_bytes_in_any_file_never_panic(
        file in 0..FILES.len(),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        std::fs::write(folder.path().join(FILES[file]), bytes).unwrap();
        reads_or_names(folder.path(), FILES[file]);
    }

    #[test]
    fn mutated_files_never_panic(
        file in 0..FILES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let path = folder.path().join(FILES[file]);
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, bytes).unwrap();
        reads_or_names(folder.path(), FILES[file]);
    }

    #[test]
    fn random_lines_are_no_panic_on_either_side_of_the_wire(line in ".{0,300}") {
        let _ = serde_json::from_str::<Reply>(&line);
        let _ = serde_json::from_str::<Order>(&line);
    }

    #[test]
    fn replies_with_one_character_changed_parse_or_fail_in_peace(
        at in any::<prop::sample::Index>(),
        to in any::<char>(),
    ) {
        for line in [
            r#"{"reply":"sample","first":true,"wall_ns":9,"cpu_ns":8,"run_delay_ns":0,"since_spawn_ns":10,"laps_ns":[3,6],"units":2,"unit":"tokens","digest":"00"}"#,
            r#"{"reply":"refused","reason":"no","remedy":""}"#,
            r#"{"reply":"failed","error":"x"}"#,
        ] {
            prop_assert!(serde_json::from_str::<Reply>(line).is_ok());
            let mut changed: Vec<char> = line.chars().collect();
            let at = at.index(changed.len());
            changed[at] = to;
            let changed: String = changed.into_iter().collect();
            if let Ok(reply) = serde_json::from_str::<Reply>(&changed) {
                // Whatever was understood can be said again.
                let again = serde_json::to_string(&reply).unwrap();
                prop_assert_eq!(serde_json::from_str::<Reply>(&again).unwrap(), reply);
            }
        }
    }
}
