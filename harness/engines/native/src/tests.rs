//! Every variant over the wire, with a model of two layers and GPT-2's own vocabulary. What is
//! expected comes from the library's other ways to the same answer, or from published ids.

use crate::bpe::Bpe;
use crate::model::{Cpu, How};
use rust_native::init::write_model;
use rust_native::{Config, Precision, Tokenizer};
use std::path::PathBuf;
use worker::{Engine, Reply, SampleReply, Unit, digest_bytes, digest_ids, monotonic_ns, serve_on, write_ids};

pub struct Bench {
    folder: tempfile::TempDir,
}

/// What one measurement gave: its first sample, the answer's bytes, the logits.
pub struct Outcome {
    pub sample: SampleReply,
    pub answer: Vec<u8>,
    logits: Vec<f32>,
}

impl Bench {
    pub fn new(ids: &[u32], texts: &[&str]) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        let config = Config { n_positions: 48, ..Config::tiny() };
        write_model(bench.folder.path(), &config, 11).unwrap();
        Tokenizer::gpt2().write_vocabulary(bench.folder.path()).unwrap();
        write_ids(&bench.path("ids"), ids).unwrap();
        let lines: String = texts.iter().map(|text| format!("{}\n", serde_json::json!(text))).collect();
        std::fs::write(bench.path("texts.jsonl"), lines).unwrap();
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn replies(&self, engine: &mut dyn Engine, task: &str, threads: usize) -> Vec<Reply> {
        let folder = self.folder.path();
        let orders = format!(
            "{{\"order\":\"prepare\",\"workload\":\"w\",\"task\":{task},\"threads\":{threads},\"files\":{{\
             \"model\":{folder:?},\"vocabulary\":{folder:?},\"ids\":{:?},\"texts\":{:?}}}}}\n\
             {{\"order\":\"measure\",\"samples\":2,\"limit_ns\":60000000000}}\n\
             {{\"order\":\"explain\",\"answer\":{:?},\"logits\":{:?}}}\n",
            self.path("ids"),
            self.path("texts.jsonl"),
            self.path("answer"),
            self.path("logits"),
        );
        let mut out = Vec::new();
        serve_on(engine, orders.as_bytes(), &mut out, monotonic_ns()).unwrap();
        let lines = String::from_utf8(out).unwrap();
        lines.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Two samples, which must be alike.
    pub fn measure(&self, engine: &mut dyn Engine, task: &str, threads: usize) -> Outcome {
        let replies = self.replies(engine, task, threads);
        let (Reply::Sample(first), Reply::Sample(second)) = (&replies[1], &replies[2]) else {
            panic!("{task}: {replies:?}")
        };
        assert_eq!((first.units, &first.digest), (second.units, &second.digest), "{task}");
        let logits = std::fs::read(self.path("logits")).unwrap_or_default();
        let logits = logits.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
        Outcome {
            sample: first.clone(),
            answer: std::fs::read(self.path("answer")).unwrap(),
            logits: logits.collect(),
        }
    }

    /// `tokens` greedy ids behind `prompt` and the logits of the last, without cache or batch.
    fn greedy(&self, precision: Precision, prompt: &[u32], tokens: usize) -> (Vec<u32>, Vec<f32>) {
        let model = How { precision, threads: 1, packed: None }.load(self.folder.path()).unwrap();
        let (mut ids, mut last) = (prompt.to_vec(), Vec::new());
        for _ in 0..tokens {
            let logits = model.logits_all(&ids).unwrap();
            last = logits[logits.len() - model.config().vocab_size..].to_vec();
            let best = (0..last.len()).rev().max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
            ids.push(best as u32);
        }
        (ids.split_off(prompt.len()), last)
    }
}

pub fn ids_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect()
}

fn cpu(precision: Precision) -> Cpu {
    Cpu::parse(&format!("cpu-{precision}"), None).unwrap()
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4, "logits differ by {worst}");
}

const PROMPTS: [u32; 8] = [15496, 995, 11, 314, 40, 1101, 257, 3303];

#[test]
fn prefill_answers_for_every_sequence() {
    let bench = Bench::new(&PROMPTS, &[]);
    for (precision, threads) in
        Precision::ALL.into_iter().flat_map(|precision| [(precision, 1), (precision, 2)])
    {
        let task = r#"{"kind":"prefill","tokens":4,"batch":2}"#;
        let got = bench.measure(&mut cpu(precision), task, threads);
        assert_eq!((got.sample.units, got.sample.laps_ns.len()), (8, 1));
        let vocabulary = got.logits.len() / 2;
        for row in 0..2 {
            let (ids, logits) = bench.greedy(precision, &PROMPTS[row * 4..][..4], 1);
            assert_eq!(ids_of(&got.answer)[row], ids[0]);
            assert_close(&got.logits[row * vocabulary..][..vocabulary], &logits);
        }
    }
}

#[test]
fn decode_begins_behind_the_contexts_own_prediction() {
    let bench = Bench::new(&PROMPTS, &[]);
    let task = r#"{"kind":"decode","context":4,"tokens":5,"batch":2}"#;
    for precision in Precision::ALL {
        let got = bench.measure(&mut cpu(precision), task, 2);
        assert_eq!((got.sample.units, got.sample.laps_ns.len()), (10, 5));
        let vocabulary = got.logits.len() / 2;
        for row in 0..2 {
            let (ids, logits) = bench.greedy(precision, &PROMPTS[row * 4..][..4], 6);
            assert_eq!(ids_of(&got.answer)[row * 5..][..5], ids[1..], "{precision} row {row}");
            assert_close(&got.logits[row * vocabulary..][..vocabulary], &logits);
        }
    }
}

#[test]
fn generation_is_the_same_with_and_without_a_cache() {
    let bench = Bench::new(&[], &["Hello world"]);
    for precision in Precision::ALL {
        let (ids, _) = bench.greedy(precision, &[15496, 995], 6);
        let text = Tokenizer::gpt2().decode_lossy(&ids).unwrap();
        for task in [r#"{"kind":"generate","tokens":6}"#, r#"{"kind":"generate","tokens":6,"cache":false}"#] {
            let got = bench.measure(&mut cpu(precision), task, 1);
            assert_eq!((got.sample.units, got.sample.laps_ns.len()), (6, 6));
            assert_eq!(ids_of(&got.answer[..24]), ids, "{precision} {task}");
            assert_eq!(String::from_utf8_lossy(&got.answer[24..]), text);
        }
    }
    let sampling = r#"{"temperature":0.8,"top_k":20,"top_p":0.9,"seed":3}"#;
    let task = format!(r#"{{"kind":"generate","tokens":6,"sampling":{sampling}}}"#);
    let got = bench.measure(&mut cpu(Precision::F32), &task, 1);
    assert_eq!((got.sample.units, got.sample.digest.as_str(), got.answer.len()), (6, "", 0));
}

#[test]
fn mapped_weights_give_the_same_answers_from_the_first_process_on() {
    let bench = Bench::new(&PROMPTS, &[]);
    let packed = tempfile::tempdir().unwrap();
    for precision in Precision::ALL {
        // What a process keeps is the next one's: here, the next engine's.
        for _ in 0..2 {
            let mut mapped = Cpu::parse(&format!("cpu-{precision}"), Some(packed.path().into())).unwrap();
            assert_eq!(mapped.identity().engine, format!("native/cpu-{precision}-mapped"));
            for task in
                [r#"{"kind":"decode","context":8,"tokens":4,"batch":1}"#, r#"{"kind":"start","tokens":8}"#]
            {
                let [got, expected] =
                    [&mut mapped, &mut cpu(precision)].map(|engine| bench.measure(engine, task, 1));
                assert_eq!(got.answer, expected.answer, "{precision} {task}");
                assert_eq!(got.logits, expected.logits, "{precision} {task}");
            }
        }
    }
    assert_eq!(std::fs::read_dir(packed.path()).unwrap().count(), Precision::ALL.len());
}

#[test]
fn load_and_start_load_anew_each_time() {
    let bench = Bench::new(&PROMPTS, &[]);
    let mut engine = cpu(Precision::Int8);
    let got = bench.measure(&mut engine, r#"{"kind":"load"}"#, 1);
    assert_eq!((got.sample.units, got.sample.unit), (1, Unit::Loads));
    let got = bench.measure(&mut engine, r#"{"kind":"start","tokens":8}"#, 1);
    let (ids, logits) = bench.greedy(Precision::Int8, &PROMPTS, 1);
    assert_eq!((got.sample.laps_ns.len(), ids_of(&got.answer)), (1, ids));
    assert_close(&got.logits, &logits);
    std::fs::write(bench.path("model.safetensors"), [0; 64]).unwrap();
    let broken = bench.replies(&mut engine, r#"{"kind":"load"}"#, 1);
    assert!(
        matches!(&broken[1], Reply::Failed { error } if error.contains("model.safetensors")),
        "{broken:?}"
    );
}

#[test]
fn what_does_not_fit_is_refused_and_what_is_wrong_fails() {
    let bench = Bench::new(&PROMPTS, &["Hello world"]);
    for task in [
        r#"{"kind":"prefill","tokens":49,"batch":1}"#,
        r#"{"kind":"decode","context":8,"tokens":41,"batch":1}"#,
        r#"{"kind":"generate","tokens":47}"#,
        r#"{"kind":"encode"}"#,
    ] {
        let replies = bench.replies(&mut cpu(Precision::F32), task, 1);
        assert!(matches!(&replies[0], Reply::Refused { .. }), "{task}: {replies:?}");
    }
    let wrong = bench.replies(&mut cpu(Precision::F32), r#"{"kind":"prefill","tokens":3,"batch":1}"#, 1);
    assert!(matches!(&wrong[0], Reply::Failed { error } if error.contains("1 x 3")), "{wrong:?}");
    let model = bench.replies(&mut Bpe::default(), r#"{"kind":"load"}"#, 1);
    assert!(matches!(&model[0], Reply::Refused { remedy, .. } if remedy.contains("cpu-f32")), "{model:?}");
}

#[test]
fn texts_become_published_ids_by_single_calls_and_by_batches() {
    let ids = [15496, 995, 50256, 15496];
    let bench = Bench::new(&ids[..2], &["Hello world", "", "<|endoftext|>Hello"]);
    let mut engine = Bpe::default();
    for (task, threads) in [
        (r#"{"kind":"encode"}"#, 1),
        (r#"{"kind":"encode","fresh":true}"#, 1),
        (r#"{"kind":"encode","batch":true}"#, 1),
        (r#"{"kind":"encode","batch":true}"#, 2),
    ] {
        let got = bench.measure(&mut engine, task, threads);
        assert_eq!((got.sample.units, got.sample.digest), (4, digest_ids(&ids)), "{task}");
    }
    let text = bench.measure(&mut engine, r#"{"kind":"detokenize"}"#, 1);
    assert_eq!((text.sample.units, text.sample.digest), (2, digest_bytes(b"Hello world")));
}

#[test]
fn a_fresh_tokenizer_is_read_again_before_each_run() {
    let bench = Bench::new(&[15496], &["Hello"]);
    let mut engine = Bpe::default();
    bench.measure(&mut engine, r#"{"kind":"encode","fresh":true}"#, 1);
    for file in ["vocab.json", "tokenizer.json"] {
        std::fs::remove_file(bench.path(file)).unwrap();
    }
    let kept = bench.replies(&mut engine, r#"{"kind":"encode"}"#, 1);
    assert!(matches!(&kept[1], Reply::Sample(sample) if sample.units == 1), "{kept:?}");
    let gone = bench.replies(&mut engine, r#"{"kind":"encode","fresh":true}"#, 1);
    assert!(matches!(&gone[1], Reply::Failed { .. }), "{gone:?}");
}

#[test]
fn every_declared_engine_introduces_itself_as_declared() {
    let toml = include_str!("../engine.toml");
    for precision in Precision::ALL {
        let identity = cpu(precision).identity();
        assert_eq!(identity.precision, precision.name());
        assert!(toml.contains(&format!("name = \"{}\"", identity.engine)), "{}", identity.engine);
        assert!(toml.contains(&format!("\"cpu-{precision}\"]")) && identity.settings.contains_key("isa"));
    }
    assert!(Cpu::parse("cpu-int3", None).is_none() && Cpu::parse("int8", None).is_none());
}
