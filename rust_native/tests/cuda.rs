//! GPT-2 on a GPU without a GPU: whole models through the kernels' emulation on the CPU, prompt and steps,
//! against the CPU engine.
//!
//! The plans and the code around them are the very ones that a device plays. In f32 both engines differ by
//! the order of sums alone. In bf16 the CPU engine is given the rounded weights and a bf16 cache; what is left
//! is that order, the keys and values that it tips over to the next bf16, and that the kernels round the
//! rows of a prompt, and of a step of more than 8, before each product.
#![cfg(feature = "cuda-emulation")]

mod common;

use std::ops::ControlFlow;

use common::{Weights, tokens};
use kernels::cuda::emulation::{Emulation, Schedule};
use rust_native::cuda::{CudaGpt2, Part, Products, Weights as Kept};
use rust_native::{
    Cache, Checkpoint, Config, GenerateOptions, Gpt2, KvPrecision, Options, Sampling, Strategy,
};
use tempfile::TempDir;

/// 2 layers, 2 heads, 64 wide, 257 tokens: heads of 32, and nothing divides the vocabulary.
fn small() -> Config {
    let config = Config::tiny_with_vocabulary(257);
    Config { n_head: 2, n_positions: 160, bos_token_id: None, eos_token_id: None, ..config }
}

/// An untied head, three heads of 8, an odd inner width, scores scaled by layer.
fn odd() -> Config {
    Config {
        n_head: 3,
        n_embd: 24,
        n_inner: 40,
        tie_word_embeddings: false,
        scale_attn_by_inverse_layer_idx: true,
        ..small()
    }
}

/// Both engines with the same weights.
struct Pair {
    cpu: Gpt2,
    cuda: CudaGpt2<Emulation>,
    kept: Kept,
    _folder: TempDir,
}

impl Pair {
    fn new(config: Config, kept: Kept, processors: u32, schedule: Schedule) -> Pair {
        Pair::by(Products::Tiles, config, kept, processors, schedule)
    }

    fn by(products: Products, config: Config, kept: Kept, processors: u32, schedule: Schedule) -> Pair {
        let weights = Weights::random(config, 5);
        let folder = TempDir::new().unwrap();
        weights.write(folder.path());
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let emulation = Emulation::new(schedule);
        let cuda = CudaGpt2::load(&checkpoint, kept, products, processors, emulation).unwrap();
        let cpu = match kept {
            Kept::F32 => weights.model(&Options { threads: 1, ..Options::default() }),
            Kept::Bf16 => {
                let options = Options { threads: 1, cache: KvPrecision::Bf16, ..Options::default() };
                weights.rounded().model(&options)
            }
        };
        Pair { cpu, cuda, kept, _folder: folder }
    }

    /// Of the largest logit, how far one may be off: 1e-4 in f32. In bf16, where rows are rounded before
    /// products, the worst of 64 texts is off by 1.25e-2, whichever kernels make its head. A quarter of it is
    /// the budget of a text's root mean square, which has no such tail.
    fn budget(&self) -> f32 {
        match self.kept {
            Kept::F32 => 1e-4,
            Kept::Bf16 => 2e-2,
        }
    }

    /// The device's logits are the CPU's, and its tokens the likeliest of them.
    #[track_caller]
    fn agree(&mut self, cache: &Cache, ids: &[u32], what: &str) {
        let vocabulary = self.cpu.config().vocab_size;
        let (got, want) = (self.cuda.logits().unwrap(), cache.logits());
        assert_eq!(got.len(), want.len(), "{what}");
        for (sequence, &id) in ids.iter().enumerate() {
            let row = |all: &[f32]| all[sequence * vocabulary..][..vocabulary].to_vec();
            let (got, want) = (row(&got), row(want));
            let largest = want.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            for (token, (got, want)) in got.iter().zip(&want).enumerate() {
                // Written so that a NaN fails.
                let close = (got - want).abs() <= self.budget() * largest;
                assert!(close, "{what}, sequence {sequence}, token {token}: {got} for {want}");
            }
            let squares: f32 = got.iter().zip(&want).map(|(got, want)| (got - want).powi(2)).sum();
            let off = (squares / vocabulary as f32).sqrt();
            assert!(off <= self.budget() / 4.0 * largest, "{what}, sequence {sequence}: off by {off}");
            let best = want.iter().fold(f32::MIN, |max, x| max.max(*x));
            assert!(best - want[id as usize] <= 2.0 * self.budget() * largest, "{what}: id {id}");
            let first = (0..vocabulary).fold(0, |best, i| if got[i] > got[best] { i } else { best });
            assert_eq!(id as usize, first, "{what}: the best of its own logits");
        }
    }

    /// A prompt for each length, then steps, both engines fed with what the device chose.
    fn run(&mut self, lengths: &[usize], steps: usize, what: &str) {
        let vocabulary = self.cpu.config().vocab_size;
        let prompts: Vec<Vec<u32>> =
            (0..).zip(lengths).map(|(stream, &length)| tokens(stream, length, vocabulary)).collect();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let mut cache = self.cpu.cache(lengths.len(), self.cpu.config().n_positions).unwrap();
        let mut ids = self.cuda.prefill(&prompts).unwrap();
        self.cpu.prefill(&mut cache, &prompts).unwrap();
        self.agree(&cache, &ids, &format!("{what}, prompt"));
        for step in 0..steps {
            self.cpu.decode(&mut cache, &ids).unwrap();
            self.cuda.steps(1, |_, next| ids = next.to_vec()).unwrap();
            self.agree(&cache, &ids, &format!("{what}, step {step}"));
        }
    }
}

#[test]
fn every_batch_agrees_with_the_cpu_engine() {
    // Batches around the groups of 1, 2, 4 and 8 rows, and in bf16 of 16, 32 and 64.
    for (batch, schedule) in [1, 2, 3, 8, 9, 16, 33, 64].into_iter().zip(Schedule::ALL.into_iter().cycle()) {
        for kept in Kept::ALL {
            let mut pair = Pair::new(small(), kept, 4, schedule);
            pair.run(&vec![7; batch], 3, &format!("batch {batch} {kept:?} {schedule:?}"));
        }
    }
}

#[test]
fn every_split_of_the_positions_agrees() {
    // 2 heads: 1, 2, 5 and 32 parts, of which 1 to 3 have positions.
    for (processors, schedule) in [1, 4, 10, 132].into_iter().zip(Schedule::ALL) {
        for kept in Kept::ALL {
            let mut pair = Pair::new(small(), kept, processors, schedule);
            for length in [62, 63, 126, 140] {
                pair.run(&[length], 4, &format!("{processors} processors {kept:?} length {length}"));
            }
        }
    }
}

#[test]
fn prompts_whose_products_a_library_makes_agree() {
    for (schedule, kept) in Schedule::ALL.into_iter().zip(Kept::ALL.into_iter().cycle()) {
        for config in [small(), odd()] {
            let mut pair = Pair::by(Products::CublasLt, config, kept, 8, schedule);
            pair.run(&[1, 17, 17, 90], 2, &format!("{kept:?} {schedule:?}"));
            // A larger batch: other buffers, the same weights.
            pair.run(&[20; 6], 1, &format!("again, {kept:?} {schedule:?}"));
        }
    }
}

#[test]
fn prompts_of_unequal_lengths_and_another_shape_agree() {
    for (schedule, kept) in Schedule::ALL.into_iter().zip(Kept::ALL.into_iter().cycle()) {
        let mut pair = Pair::new(odd(), kept, 8, schedule);
        pair.run(&[1, 17, 17, 90], 3, &format!("{kept:?} {schedule:?}"));
        // A second text in the same memory.
        pair.run(&[33, 2, 2, 5], 2, &format!("again, {kept:?} {schedule:?}"));
    }
}

#[test]
fn the_schedule_changes_no_bit() {
    for kept in Kept::ALL {
        for (batch, length) in [(1, 70), (17, 3)] {
            let logits = Schedule::ALL.map(|schedule| {
                let mut pair = Pair::new(small(), kept, 10, schedule);
                let prompts: Vec<Vec<u32>> = (0..batch).map(|stream| tokens(stream, length, 257)).collect();
                let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
                let text = pair.cuda.generate(&prompts, 3, |_, _| ()).unwrap();
                (text, pair.cuda.logits().unwrap())
            });
            assert!(logits.iter().all(|one| *one == logits[0]), "{kept:?}, batch {batch}");
        }
    }
}

#[test]
fn draws_are_those_of_the_cpu() {
    let sampling = Sampling { temperature: 1.3, top_k: Some(40), top_p: Some(0.9) };
    for (top_k, top_p) in [(None, None), (Some(5), None), (None, Some(0.7)), (Some(40), Some(0.9))] {
        let how = Sampling { top_k, top_p, ..sampling };
        let mut pair = Pair::new(small(), Kept::F32, 4, Schedule::Random(3));
        let prompts = [tokens(1, 9, 257), tokens(2, 9, 257), tokens(3, 4, 257)];
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        pair.cuda.sample(Some((how, 77))).unwrap();
        let got = pair.cuda.generate(&prompts, 12, |_, _| ()).unwrap();
        let strategy = Strategy::Sample(how);
        let options =
            GenerateOptions { max_new_tokens: 12, strategy, seed: 77, ..GenerateOptions::default() };
        let want = pair.cpu.generate(&prompts, &options, |_, _, _| ControlFlow::Continue(())).unwrap();
        let want: Vec<Vec<u32>> = want.into_iter().map(|text| text.ids).collect();
        assert_eq!(got, want, "{how:?}");
    }
}

#[test]
fn a_floor_and_every_kernel_are_timed_by_the_players_clock() {
    for (kept, batch) in [(Kept::F32, 2), (Kept::Bf16, 1), (Kept::Bf16, 9)] {
        let mut pair = Pair::new(small(), kept, 4, Schedule::Forward);
        let shares = pair.cuda.shares(batch, 20, 2).unwrap();
        // The emulation's clock counts a microsecond a launch.
        assert!(shares.iter().all(|share| share.nanoseconds == 1000 * share.launches as u64));
        let of = |part| shares.iter().filter(move |share| share.part == part);
        let limit: Vec<_> = of(Part::Limit).collect();
        assert_eq!((limit.len(), limit[0].kernel.as_str(), limit[0].launches), (1, "stream", 1));
        for part in [Part::Step, Part::Prompt] {
            let whole = of(part).next().unwrap();
            assert_eq!(whole.kernel, "all");
            let launches: usize = of(part).skip(1).map(|share| share.launches).sum();
            let bytes: usize = of(part).skip(1).map(|share| share.bytes).sum();
            assert_eq!((launches, bytes), (whole.launches, whole.bytes), "{part:?}");
            assert!(whole.bytes > pair.cuda.bytes_per_step());
        }
        assert_eq!(of(Part::Step).next().unwrap().launches, if batch > 8 { 2 * 7 + 3 } else { 2 * 5 + 2 });
        // Another text afterwards is answered as ever.
        pair.run(&vec![7; batch], 2, &format!("behind shares, {kept:?}"));
    }
}

#[test]
fn the_floor_is_read_as_often_as_asked() {
    let mut pair = Pair::new(small(), Kept::Bf16, 4, Schedule::Forward);
    pair.cuda.prepare(3, 10).unwrap();
    let mut times = Vec::new();
    pair.cuda.stream(10, 4, |time| times.push(time)).unwrap();
    assert_eq!(times, [0, 1, 2, 3]);
    let cached = 2 * 3 * 2 * 10 * 64 * 2;
    assert_eq!(pair.cuda.stream_bytes(10).unwrap(), pair.cuda.bytes_per_step() + cached);
    assert!(pair.cuda.stream(161, 1, |_| ()).is_err());
}
