//! The whole engine over the wire, with a model of two layers; its reference is an f64 computation
//! in plain loops.

use crate::cache::CacheKind;
use crate::engine::Libtorch;
use crate::place::Place;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use tokenizers::Tokenizer;
use tokenizers::decoders::byte_level::ByteLevel as Decoder;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use worker::{Reply, SampleReply, monotonic_ns, serve_on, write_ids};

const LAYERS: usize = 2;
const HEADS: usize = 2;
const WIDTH: usize = 16;
const POSITIONS: usize = 24;
const VOCABULARY: usize = 258;

struct Bench {
    folder: tempfile::TempDir,
    weights: HashMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Bench {
    /// A model, a byte-level tokenizer without merges and the ids of `prompt` in one folder.
    fn new(prompt: &[u32]) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap(), weights: HashMap::new() };
        let bench = bench.with_model("");
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

    fn with_model(mut self, prefix: &str) -> Bench {
        let mut state = 7u64;
        let mut shapes = vec![
            ("wte.weight".to_string(), vec![VOCABULARY, WIDTH]),
            ("wpe.weight".to_string(), vec![POSITIONS, WIDTH]),
            ("ln_f.weight".to_string(), vec![WIDTH]),
            ("ln_f.bias".to_string(), vec![WIDTH]),
        ];
        for at in 0..LAYERS {
            for (part, inputs, outputs) in [
                ("attn.c_attn", WIDTH, 3 * WIDTH),
                ("attn.c_proj", WIDTH, WIDTH),
                ("mlp.c_fc", WIDTH, 4 * WIDTH),
                ("mlp.c_proj", 4 * WIDTH, WIDTH),
            ] {
                shapes.push((format!("h.{at}.{part}.weight"), vec![inputs, outputs]));
                shapes.push((format!("h.{at}.{part}.bias"), vec![outputs]));
            }
            for part in ["ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"] {
                shapes.push((format!("h.{at}.{part}"), vec![WIDTH]));
            }
        }
        let mut tensors = Vec::new();
        for (name, shape) in shapes {
            let size: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| noise(&mut state)).collect();
            let tensor = Tensor::from_slice(&values).view(size.as_slice());
            self.weights.insert(name.clone(), (shape, values.into_iter().map(f64::from).collect()));
            tensors.push((format!("{prefix}{name}"), tensor));
        }
        // A mask, as the published checkpoints carry: to be left out.
        let mask = Tensor::ones([1, 1, 4, 4], (Kind::Float, Device::Cpu));
        tensors.push((format!("{prefix}h.0.attn.bias"), mask));
        Tensor::write_safetensors(&tensors, self.path("model.safetensors")).unwrap();
        let config = format!(
            r#"{{"model_type":"gpt2","n_layer":{LAYERS},"n_head":{HEADS},"n_embd":{WIDTH},"n_ctx":{POSITIONS},
            "n_positions":{POSITIONS},"vocab_size":{VOCABULARY},"activation_function":"gelu_new"}}"#
        );
        std::fs::write(self.path("config.json"), config).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn prepare(&self, task: &str) -> String {
        let folder: &Path = self.folder.path();
        format!(
            "{{\"order\":\"prepare\",\"workload\":\"w\",\"task\":{task},\"threads\":1,\"files\":{{\
             \"model\":{folder:?},\"vocabulary\":{folder:?},\"ids\":{:?},\"texts\":{:?}}}}}\n",
            self.path("ids"),
            self.path("texts.jsonl")
        )
    }

    fn replies(&self, kind: CacheKind, orders: &str) -> Vec<Reply> {
        let mut out = Vec::new();
        serve_on(&mut Libtorch::new(kind, Place::CPU), orders.as_bytes(), &mut out, monotonic_ns()).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Two samples of `task`, which must be alike; the first, its answer and its logits.
    fn measure(&self, kind: CacheKind, task: &str) -> (SampleReply, Vec<u8>, Vec<f32>) {
        let (answer, logits) = (self.path("answer"), self.path("logits"));
        let orders = format!(
            "{}{{\"order\":\"measure\",\"samples\":2,\"limit_ns\":60000000000}}\n\
             {{\"order\":\"explain\",\"answer\":{answer:?},\"logits\":{logits:?}}}\n",
            self.prepare(task)
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

    /// Logits of the last of `ids`, by the formulas, in f64.
    fn reference(&self, ids: &[u32]) -> Vec<f64> {
        let get = |name: &str| &self.weights[name].1;
        let (wte, wpe) = (get("wte.weight"), get("wpe.weight"));
        let row = |table: &[f64], at: usize| table[at * WIDTH..][..WIDTH].to_vec();
        let mut x: Vec<Vec<f64>> = ids
            .iter()
            .enumerate()
            .map(|(at, &id)| row(wte, id as usize).iter().zip(row(wpe, at)).map(|(a, b)| a + b).collect())
            .collect();
        let norm = |x: &[f64], name: &str| -> Vec<f64> {
            let mean = x.iter().sum::<f64>() / WIDTH as f64;
            let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / WIDTH as f64;
            let (weight, bias) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
            let scale = 1.0 / (variance + 1e-5).sqrt();
            (0..WIDTH).map(|c| (x[c] - mean) * scale * weight[c] + bias[c]).collect()
        };
        let project = |x: &[f64], name: &str| -> Vec<f64> {
            let (shape, weight) = &self.weights[&format!("{name}.weight")];
            let bias = get(&format!("{name}.bias"));
            let column = |o: usize| -> f64 { (0..shape[0]).map(|i| x[i] * weight[i * shape[1] + o]).sum() };
            (0..shape[1]).map(|o| bias[o] + column(o)).collect()
        };
        let add = |x: &mut [Vec<f64>], y: Vec<Vec<f64>>| {
            x.iter_mut().zip(y).for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
        };
        let d = WIDTH / HEADS;
        for layer in 0..LAYERS {
            let name = |part: &str| format!("h.{layer}.{part}");
            let qkv: Vec<_> =
                x.iter().map(|x| project(&norm(x, &name("ln_1")), &name("attn.c_attn"))).collect();
            let mut mixed = vec![vec![0.0; WIDTH]; x.len()];
            for t in 0..x.len() {
                for head in 0..HEADS {
                    let (q, k, v) = (head * d, WIDTH + head * d, 2 * WIDTH + head * d);
                    let score = |s: usize| {
                        (0..d).map(|c| qkv[t][q + c] * qkv[s][k + c]).sum::<f64>() / (d as f64).sqrt()
                    };
                    let weights: Vec<f64> = (0..=t).map(|s| score(s).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    for (s, weight) in weights.iter().enumerate() {
                        (0..d).for_each(|c| mixed[t][head * d + c] += weight / total * qkv[s][v + c]);
                    }
                }
            }
            add(&mut x, mixed.iter().map(|m| project(m, &name("attn.c_proj"))).collect());
            let gelu = |v: f64| {
                0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh())
            };
            let mlp = |x: &Vec<f64>| -> Vec<f64> {
                let inner: Vec<f64> =
                    project(&norm(x, &name("ln_2")), &name("mlp.c_fc")).into_iter().map(gelu).collect();
                project(&inner, &name("mlp.c_proj"))
            };
            let out = x.iter().map(mlp).collect();
            add(&mut x, out);
        }
        let last = norm(&x[x.len() - 1], "ln_f");
        (0..VOCABULARY).map(|id| row(wte, id).iter().zip(&last).map(|(a, b)| a * b).sum()).collect()
    }

    /// `tokens` greedy ids behind `prompt` by the reference.
    fn greedy(&self, prompt: &[u32], tokens: usize) -> Vec<u32> {
        let mut ids = prompt.to_vec();
        for _ in 0..tokens {
            let logits = self.reference(&ids);
            let best = (0..VOCABULARY).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            ids.push(best as u32);
        }
        ids.split_off(prompt.len())
    }
}

/// Even noise in -0.7..0.7, the same on every machine.
fn noise(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    ((*state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 1.4
}

fn ids_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect()
}

fn assert_close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*found) - expected).abs() < 2e-4, "logit {at}: {found} for {expected}");
    }
}

const BOTH: [CacheKind; 2] = [CacheKind::Static, CacheKind::Grown];

#[test]
fn prefill_gives_the_reference_logits_of_every_sequence() {
    let prompt = [3, 200, 17, 9, 250, 31, 5, 5, 77, 120];
    let bench = Bench::new(&prompt);
    for kind in BOTH {
        let (sample, answer, logits) = bench.measure(kind, r#"{"kind":"prefill","tokens":5,"batch":2}"#);
        assert_eq!((sample.units, sample.laps_ns.len()), (10, 1));
        for row in 0..2 {
            let ids = &prompt[row * 5..][..5];
            assert_close(&logits[row * VOCABULARY..][..VOCABULARY], &bench.reference(ids));
            assert_eq!(ids_of(&answer)[row], bench.greedy(ids, 1)[0]);
        }
    }
}

#[test]
fn decode_continues_each_context_as_the_reference_does() {
    let prompt = [3, 200, 17, 9, 250, 31, 5, 77];
    let bench = Bench::new(&prompt);
    for kind in BOTH {
        let (sample, answer, logits) =
            bench.measure(kind, r#"{"kind":"decode","context":4,"tokens":6,"batch":2}"#);
        assert_eq!((sample.units, sample.laps_ns.len()), (12, 6));
        for row in 0..2 {
            let context = &prompt[row * 4..][..4];
            // The first id is the context's own and is fed by the first timed step.
            let expected = bench.greedy(context, 7);
            assert_eq!(ids_of(&answer)[row * 6..][..6], expected[1..], "row {row}, {kind:?}");
            let seen: Vec<u32> = context.iter().chain(&expected[..6]).copied().collect();
            assert_close(&logits[row * VOCABULARY..][..VOCABULARY], &bench.reference(&seen));
        }
    }
}

#[test]
fn generation_is_the_same_with_and_without_a_cache() {
    let bench = Bench::new(&[1]);
    let tokenizer = Tokenizer::from_file(bench.path("tokenizer.json")).unwrap();
    let prompt = tokenizer.encode_fast("Hi there", false).unwrap();
    let ids = bench.greedy(prompt.get_ids(), 5);
    let text = tokenizer.decode(&ids, false).unwrap();
    for kind in BOTH {
        for task in [r#"{"kind":"generate","tokens":5}"#, r#"{"kind":"generate","tokens":5,"cache":false}"#] {
            let (sample, answer, _) = bench.measure(kind, task);
            assert_eq!((sample.units, sample.laps_ns.len()), (5, 5));
            assert_eq!(ids_of(&answer[..20]), ids);
            assert_eq!(String::from_utf8_lossy(&answer[20..]), text);
        }
    }
}

#[test]
fn sampled_generation_counts_its_tokens_and_hides_them() {
    let bench = Bench::new(&[1]);
    let sampling = r#"{"temperature":0.8,"top_k":20,"top_p":0.9,"seed":3}"#;
    let task = format!(r#"{{"kind":"generate","tokens":6,"sampling":{sampling}}}"#);
    let (sample, answer, _) = bench.measure(CacheKind::Static, &task);
    assert_eq!((sample.units, sample.digest.as_str(), answer.len()), (6, "", 0));
}

#[test]
fn a_request_may_fill_the_context_to_its_last_position() {
    let bench = Bench::new(&[1]);
    for kind in BOTH {
        let (sample, ..) = bench.measure(kind, r#"{"kind":"generate","tokens":17}"#);
        assert_eq!(sample.units, 17);
    }
}

#[test]
fn load_and_start_load_anew_each_time() {
    let prompt = [3, 200, 17];
    let bench = Bench::new(&prompt).with_model("transformer.");
    let (sample, ..) = bench.measure(CacheKind::Static, r#"{"kind":"load"}"#);
    assert_eq!((sample.units, sample.unit), (1, worker::Unit::Loads));
    let (sample, answer, logits) = bench.measure(CacheKind::Static, r#"{"kind":"start","tokens":3}"#);
    assert_eq!(sample.units, 1);
    assert_eq!(ids_of(&answer), bench.greedy(&prompt, 1));
    assert_close(&logits, &bench.reference(&prompt));
}

#[test]
fn what_cannot_be_done_is_refused_and_what_is_broken_fails() {
    let bench = Bench::new(&[3, 200, 17, 9]);
    let say = |task: &str| bench.replies(CacheKind::Static, &bench.prepare(task)).remove(0);
    for task in [
        r#"{"kind":"decode","context":4,"tokens":21,"batch":1}"#,
        r#"{"kind":"prefill","tokens":25,"batch":1}"#,
        r#"{"kind":"generate","tokens":18}"#,
        r#"{"kind":"encode"}"#,
    ] {
        assert!(matches!(say(task), Reply::Refused { .. }), "{task}");
    }
    let wrong = say(r#"{"kind":"prefill","tokens":3,"batch":1}"#);
    assert!(matches!(&wrong, Reply::Failed { error } if error.contains("1 x 3")), "{wrong:?}");
    std::fs::write(bench.path("model.safetensors"), [9; 64]).unwrap();
    let broken = say(r#"{"kind":"prefill","tokens":4,"batch":1}"#);
    assert!(matches!(&broken, Reply::Failed { error } if error.contains("model.safetensors")), "{broken:?}");
    std::fs::write(
        bench.path("config.json"),
        r#"{"n_layer":1,"n_head":3,"n_embd":16,"n_positions":8,"vocab_size":9}"#,
    )
    .unwrap();
    let odd = say(r#"{"kind":"prefill","tokens":4,"batch":1}"#);
    assert!(matches!(&odd, Reply::Failed { error } if error.contains("n_head 3")), "{odd:?}");
}

#[test]
fn draws_respect_their_filters() {
    let logits = Tensor::from_slice(&[0.0f32, 3.0, 1.0, 2.9]).view([1, 4]);
    let drawn = |top_k, top_p| {
        let sampling = worker::Sampling { temperature: 1.0, top_k, top_p, seed: 1 };
        let ids = (0..1500).map(|_| crate::sampling::draw(&logits, &sampling).unwrap().int64_value(&[0, 0]));
        ids.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(drawn(1, 1.0), [1].into());
    assert_eq!(drawn(2, 1.0), [1, 3].into());
    assert_eq!(drawn(0, 0.8), [1, 3].into());
    assert_eq!(drawn(0, 1e-6), [1].into());
    assert_eq!(drawn(0, 1.0), [0, 1, 2, 3].into());
}
