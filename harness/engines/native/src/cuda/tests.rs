//! Without a GPU: every variant says who it is and refuses every task with the reason. With one: the answers
//! of the CPU.

use super::{Cuda, VARIANTS, Variant};
use crate::model::Cpu;
use crate::tests::Bench;
use worker::{Engine, Reply};

const PROMPT: [u32; 8] = [464, 2068, 7586, 21831, 18045, 625, 262, 16931];
const TASKS: [&str; 5] = [
    "{\"kind\":\"prefill\",\"tokens\":8,\"batch\":1}",
    "{\"kind\":\"decode\",\"context\":8,\"tokens\":5,\"batch\":1}",
    "{\"kind\":\"generate\",\"tokens\":4}",
    "{\"kind\":\"load\"}",
    "{\"kind\":\"start\",\"tokens\":8}",
];

fn engine(variant: &str) -> Cuda {
    Cuda::parse(variant, |name| std::env::var_os(name).map(Into::into)).unwrap()
}

#[test]
fn every_variant_says_what_it_found_and_no_other_exists() {
    for variant in VARIANTS {
        let identity = engine(variant.name).identity();
        assert_eq!(identity.engine, variant.engine());
        assert_eq!(identity.precision, variant.weights.name());
        for library in ["driver", "nvrtc", "device", "cublaslt"] {
            assert!(!identity.settings[&format!("cuda {library}")].is_empty(), "{library}");
        }
    }
    for unknown in ["cuda-", "cuda-int8", "cuda-f32-"] {
        assert!(Cuda::parse(unknown, |_| None).is_none(), "{unknown}");
    }
}

#[test]
fn every_task_is_answered_or_refused_with_the_reason() {
    let bench = Bench::new(&PROMPT, &["The quick brown fox"]);
    for Variant { name, .. } in VARIANTS {
        for task in TASKS {
            let mut engine = engine(name);
            match &bench.replies(&mut engine, task, 1)[0] {
                Reply::Ready { .. } => {}
                Reply::Refused { reason, .. } if reason.starts_with("memory limits decode") => {
                    assert!(name.starts_with("cuda-stream") && !task.contains("decode"), "{name} {task}");
                }
                Reply::Refused { reason, .. } => {
                    assert!(reason.contains("driver") || reason.contains("NVRTC"), "{name}: {reason}");
                    assert!(reason.contains(';'), "no remedy: {reason}");
                    eprintln!("SKIPPED {name} {task}: {reason}");
                }
                other => panic!("{name} {task}: {other:?}"),
            }
        }
    }
}

#[test]
fn what_is_offered_to_nobody_is_refused_before_a_gpu_is_looked_for() {
    let bench = Bench::new(&PROMPT, &["text"]);
    let replies = bench.replies(&mut engine("cuda-f32"), "{\"kind\":\"encode\"}", 1);
    let Reply::Refused { reason, remedy } = &replies[0] else { panic!("{replies:?}") };
    assert!(
        reason.contains("no encode on a GPU") && remedy.contains("native/cpu-f32"),
        "{reason} ({remedy})"
    );
}

#[test]
fn on_a_gpu_f32_answers_as_the_cpu_does() {
    let bench = Bench::new(&PROMPT, &["The quick brown fox"]);
    for task in &TASKS[..3] {
        let mut gpu = engine("cuda-f32");
        if let Reply::Refused { reason, .. } = &bench.replies(&mut gpu, task, 1)[0] {
            eprintln!("SKIPPED on_a_gpu_f32_answers_as_the_cpu_does: {reason}");
            return;
        }
        let mut cpu = Cpu::parse("cpu-f32", None).unwrap();
        assert_eq!(
            bench.measure(&mut gpu, task, 1).answer,
            bench.measure(&mut cpu, task, 1).answer,
            "{task}"
        );
    }
}
