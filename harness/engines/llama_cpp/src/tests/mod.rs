//! The whole engine over the wire, with a model of two layers whose logits are known from an f64
//! computation in plain loops.

mod reference;

use crate::KINDS;
use crate::convert::{Kind, converted};
use crate::engine::LlamaCpp;
use reference::{Reference, VOCABULARY};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;
use tokenizers::decoders::byte_level::ByteLevel as Decoder;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use worker::{Engine, Reply, SampleReply, Unit, monotonic_ns, serve_on, write_ids};

struct Bench {
    folder: tempfile::TempDir,
    reference: Reference,
}

impl Bench {
    /// A model, a byte-level tokenizer without merges and the ids of `prompt` in one folder.
    fn new(prompt: &[u32]) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap(), reference: Reference::new() };
        bench.reference.write(bench.folder.path(), "transformer.");
        write_ids(&bench.path("ids"), prompt).unwrap();
        std::fs::write(bench.path("texts.jsonl"), "\"Hi there\"\n").unwrap();
        let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        letters.sort_unstable();
        let names = letters.iter().map(char::to_string).chain(["one".into(), "two".into()]);
        let vocab: Vec<(String, u32)> = names.zip(0..).collect();
        let vocab: [(String, u32); VOCABULARY] = vocab.try_into().unwrap();
        let model = BPE::builder().vocab_and_merges(vocab, Vec::new()).build().unwrap();
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        tokenizer.with_decoder(Some(Decoder::default()));
        tokenizer.save(bench.path("tokenizer.json"), false).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("converted")
    }

    fn prepare(&self, task: &str, threads: usize) -> String {
        let folder: &Path = self.folder.path();
        format!(
            "{{\"order\":\"prepare\",\"workload\":\"w\",\"task\":{task},\"threads\":{threads},\"files\":{{\
             \"model\":{folder:?},\"vocabulary\":{folder:?},\"ids\":{:?},\"texts\":{:?}}}}}\n",
            self.path("ids"),
            self.path("texts.jsonl")
        )
    }

    fn replies(&self, kind: Kind, orders: &str) -> Vec<Reply> {
        let mut out = Vec::new();
        let mut engine = LlamaCpp::new(kind, self.home());
        serve_on(&mut engine, orders.as_bytes(), &mut out, monotonic_ns()).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Two samples of `task`, which must be alike; the first, its answer and its logits.
    fn measure(&self, kind: Kind, task: &str) -> (SampleReply, Vec<u8>, Vec<f32>) {
        let (answer, logits) = (self.path("answer"), self.path("logits"));
        let orders = format!(
            "{}{{\"order\":\"measure\",\"samples\":2,\"limit_ns\":60000000000}}\n\
             {{\"order\":\"explain\",\"answer\":{answer:?},\"logits\":{logits:?}}}\n",
            self.prepare(task, 2)
        );
        let replies = self.replies(kind, &orders);
        let (Reply::Sample(first), Reply::Sample(second)) = (&replies[1], &replies[2]) else {
            panic!("{task}: {replies:?}")
        };
        assert_eq!((first.units, &first.digest), (second.units, &second.digest), "{task}");
        let logits = std::fs::read(logits).unwrap_or_default();
        let logits = logits.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
        (first.clone(), std::fs::read(answer).unwrap(), logits.collect())
    }

    fn say(&self, task: &str) -> Reply {
        self.replies(Kind::F32, &self.prepare(task, 1)).remove(0)
    }
}

fn ids_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// The largest difference, as a share of the largest logit.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    worst / largest
}

/// What rounding may cost: f32 pays for GELU's table, the others for their weights.
fn allowed(kind: Kind) -> f64 {
    match kind {
        Kind::F32 => 2e-3,
        Kind::Bf16 => 2e-2,
        Kind::Q8 => 3e-2,
        Kind::Q4 => 3e-1,
    }
}

const PROMPT: [u32; 10] = [3, 200, 17, 9, 250, 31, 5, 5, 77, 120];

#[test]
fn prefill_is_near_the_reference_for_every_sequence_and_kind() {
    let bench = Bench::new(&PROMPT);
    let mut errors = Vec::new();
    for kind in KINDS {
        let (sample, answer, logits) = bench.measure(kind, r#"{"kind":"prefill","tokens":5,"batch":2}"#);
        assert_eq!((sample.units, sample.laps_ns.len()), (10, 1));
        for row in 0..2 {
            let ids = &PROMPT[row * 5..][..5];
            let logits = &logits[row * VOCABULARY..][..VOCABULARY];
            let error = error(logits, &bench.reference.logits(ids));
            assert!(error < allowed(kind), "{kind:?}, row {row}: {error:.1e}");
            assert_eq!(ids_of(&answer)[row], largest(logits), "{kind:?}, row {row}");
            errors.push(error);
        }
    }
    // Fewer bits cost more; equal errors would mean that the file was not made smaller.
    assert!(errors.chunks(2).map(|rows| rows[0]).is_sorted(), "{errors:?}");
}

fn largest(logits: &[f32]) -> u32 {
    (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

#[test]
fn decode_continues_each_context_as_the_reference_does() {
    let prompt = &PROMPT[..8];
    let bench = Bench::new(prompt);
    let task = r#"{"kind":"decode","context":4,"tokens":6,"batch":2}"#;
    for kind in KINDS {
        let (sample, answer, logits) = bench.measure(kind, task);
        assert_eq!((sample.units, sample.laps_ns.len()), (12, 6));
        for row in 0..2 {
            let context = &prompt[row * 4..][..4];
            let made = &ids_of(&answer)[row * 6..][..6];
            // Its last logits are those behind its own ids: the first, which the context predicts, is fed.
            let first = match kind {
                Kind::F32 => bench.reference.greedy(context, 7),
                _ => bench.reference.greedy(context, 1),
            };
            let seen: Vec<u32> = context.iter().chain(&first[..1]).chain(&made[..5]).copied().collect();
            let error = error(&logits[row * VOCABULARY..][..VOCABULARY], &bench.reference.logits(&seen));
            assert!(error < allowed(kind), "{kind:?}, row {row}: {error:.1e}");
            if kind == Kind::F32 {
                assert_eq!(made, &first[1..], "row {row}");
            }
        }
    }
}

#[test]
fn generation_is_the_same_with_and_without_a_cache() {
    let bench = Bench::new(&[1]);
    let tokenizer = Tokenizer::from_file(bench.path("tokenizer.json")).unwrap();
    let prompt = tokenizer.encode_fast("Hi there", false).unwrap();
    let ids = bench.reference.greedy(prompt.get_ids(), 5);
    let text = tokenizer.decode(&ids, false).unwrap();
    for task in [r#"{"kind":"generate","tokens":5}"#, r#"{"kind":"generate","tokens":5,"cache":false}"#] {
        let (sample, answer, _) = bench.measure(Kind::F32, task);
        assert_eq!((sample.units, sample.laps_ns.len()), (5, 5));
        assert_eq!(ids_of(&answer[..20]), ids);
        assert_eq!(String::from_utf8_lossy(&answer[20..]), text);
    }
    // The last token is never fed, so a request may fill the context.
    assert_eq!(bench.measure(Kind::Q8, r#"{"kind":"generate","tokens":17}"#).0.units, 17);
}

#[test]
fn sampled_generation_counts_its_tokens_and_hides_them() {
    let bench = Bench::new(&[1]);
    let sampling = r#"{"temperature":0.8,"top_k":20,"top_p":0.9,"seed":3}"#;
    let task = format!(r#"{{"kind":"generate","tokens":6,"sampling":{sampling}}}"#);
    let (sample, answer, _) = bench.measure(Kind::F32, &task);
    assert_eq!((sample.units, sample.digest.as_str(), answer.len()), (6, "", 0));
}

#[test]
fn the_narrowest_draw_is_greedy() {
    let bench = Bench::new(&[1]);
    let file = converted(&bench.home(), bench.folder.path(), Kind::F32, 1).unwrap().path;
    let model = std::rc::Rc::new(crate::llama::Model::load(&file).unwrap());
    let mut context = model.context(Kind::F32, 1, 10, 1).unwrap();
    context.feed(&PROMPT, 0).unwrap();
    for (top_k, top_p) in [(1, 1.0), (0, 1e-6)] {
        let sampling = worker::Sampling { temperature: 1.0, top_k, top_p, seed: 5 };
        let mut sampler = crate::llama::Sampler::new(&sampling).unwrap();
        assert_eq!(sampler.draw(&context).unwrap(), context.greedy().unwrap()[0]);
    }
    let wide = worker::Sampling { temperature: 5.0, top_k: 0, top_p: 1.0, seed: 5 };
    let mut sampler = crate::llama::Sampler::new(&wide).unwrap();
    let drawn: std::collections::BTreeSet<u32> = (0..50).map(|_| sampler.draw(&context).unwrap()).collect();
    assert!(drawn.len() > 5 && drawn.iter().all(|&id| (id as usize) < VOCABULARY), "{drawn:?}");
}

#[test]
fn load_and_start_load_anew_each_time_but_convert_only_once() {
    let prompt = [3, 200, 17];
    let bench = Bench::new(&prompt);
    let start = r#"{"kind":"start","tokens":3}"#;
    // Converting would be on the clock of a start: the first is refused, and the file is there.
    let refused = bench.say(start);
    assert!(matches!(&refused, Reply::Refused { remedy, .. } if remedy == "ask again"), "{refused:?}");
    let (sample, answer, logits) = bench.measure(Kind::F32, start);
    assert_eq!(sample.units, 1);
    assert_eq!(ids_of(&answer), bench.reference.greedy(&prompt, 1));
    assert!(error(&logits, &bench.reference.logits(&prompt)) < allowed(Kind::F32));
    let (sample, ..) = bench.measure(Kind::Q4, r#"{"kind":"load"}"#);
    assert_eq!((sample.units, sample.unit), (1, Unit::Loads));
}

#[test]
fn a_changed_model_is_converted_anew_and_a_copy_is_not() {
    let bench = Bench::new(&[1]);
    let home = bench.home();
    let first = converted(&home, bench.folder.path(), Kind::Q8, 1).unwrap();
    assert!(!first.was_there && first.path.is_file());
    assert!(converted(&home, bench.folder.path(), Kind::Q8, 1).unwrap().was_there);
    let copy = Bench::new(&[1]);
    let same = converted(&home, copy.folder.path(), Kind::Q8, 1).unwrap();
    assert_eq!((same.was_there, &same.path), (true, &first.path), "the content decides, not the folder");
    let mut other = Reference::new();
    other.weights.get_mut("ln_f.bias").unwrap().1[0] += 1.0;
    other.write(copy.folder.path(), "");
    let changed = converted(&home, copy.folder.path(), Kind::Q8, 1).unwrap();
    assert!(!changed.was_there && changed.path != first.path);
    let drafts = std::fs::read_dir(&home).unwrap().flatten();
    assert!(drafts.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("draft")));
}

#[test]
fn what_cannot_be_done_is_refused_and_what_is_broken_fails_with_its_name() {
    let bench = Bench::new(&[3, 200, 17, 9]);
    for task in [
        r#"{"kind":"decode","context":4,"tokens":21,"batch":1}"#,
        r#"{"kind":"prefill","tokens":25,"batch":1}"#,
        r#"{"kind":"generate","tokens":18}"#,
        r#"{"kind":"encode"}"#,
    ] {
        let reply = bench.say(task);
        assert!(matches!(reply, Reply::Refused { .. }), "{task}: {reply:?}");
    }
    let prefill = r#"{"kind":"prefill","tokens":4,"batch":1}"#;
    let fails = |says: &str| {
        let reply = bench.say(prefill);
        assert!(matches!(&reply, Reply::Failed { error } if error.contains(says)), "{says}: {reply:?}");
    };
    let wrong = bench.say(r#"{"kind":"prefill","tokens":3,"batch":1}"#);
    assert!(matches!(&wrong, Reply::Failed { error } if error.contains("1 x 3")), "{wrong:?}");
    let mut odd = Reference::new();
    odd.weights.remove("h.1.mlp.c_fc.bias");
    odd.write(bench.folder.path(), "");
    fails("the checkpoint lacks h.1.mlp.c_fc.bias");
    let mut odd = Reference::new();
    odd.weights.get_mut("wpe.weight").unwrap().0.reverse();
    odd.write(bench.folder.path(), "");
    fails("wpe.weight has shape [64, 24]; config.json makes it [24, 64]");
    std::fs::write(bench.path("model.safetensors"), [9; 64]).unwrap();
    fails("model.safetensors");
    for (fields, says) in [
        (r#""n_layer":1,"n_head":3,"n_embd":16,"n_positions":8,"vocab_size":9"#, "n_head 3"),
        (r#""n_layer":1,"n_head":0,"n_embd":16,"n_positions":8,"vocab_size":9"#, "impossible"),
        (
            r#""n_layer":1,"n_head":1,"n_embd":16,"n_positions":8,"vocab_size":9,"activation_function":"relu""#,
            "relu",
        ),
    ] {
        std::fs::write(bench.path("config.json"), format!("{{{fields}}}")).unwrap();
        fails(says);
    }
    std::fs::remove_file(bench.path("config.json")).unwrap();
    fails("config.json");
}

#[test]
fn an_id_that_the_model_does_not_know_is_an_error() {
    let bench = Bench::new(&[3, 258]);
    let reply = bench.say(r#"{"kind":"decode","context":2,"tokens":1,"batch":1}"#);
    assert!(matches!(&reply, Reply::Failed { error } if error.contains("258 is no id")), "{reply:?}");
}

#[test]
fn a_file_that_is_no_model_fails_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.gguf");
    for bytes in [&b""[..], b"GGUF", b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0"] {
        std::fs::write(&path, bytes).unwrap();
        let error = crate::llama::Model::load(&path).err().unwrap().to_string();
        assert!(error.contains("broken.gguf"), "{error}");
    }
}

#[test]
fn the_identity_says_what_was_built_and_how() {
    for kind in KINDS {
        let identity = LlamaCpp::new(kind, PathBuf::new()).identity();
        assert_eq!(identity.engine, format!("llama-cpp/{}", kind.word()));
        assert!(identity.settings["system_info"].contains("CPU"), "{identity:?}");
        assert!(identity.versions.keys().eq(["ggml", "llama-cpp-sys-2", "tokenizers"]), "{identity:?}");
    }
}
