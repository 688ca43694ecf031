//! The CUDA kernels on the CPU: each launch of the plans against plain loops in f64, in four schedules, and
//! kernels with a planted bug each, to show that the emulation would catch it.
//!
//! A kernel is tested through the launch that a plan makes of it, so grids, shared memory, offsets and the
//! order of arguments are under test too. The whole model: rust_native/tests/cuda.rs.
#![cfg(feature = "cuda-emulation")]

#[path = "cuda_emulation/prompt.rs"]
mod prompt;
#[path = "cuda_emulation/skinny.rs"]
mod skinny;

use kernels::cuda::Player;
use kernels::cuda::emulation::{Array, Emulation, Fault, Schedule, Value};
use kernels::cuda::plan::{
    self, Buffer, Choice, Dims, Kernel, Number, Operation, Plan, Products, Shape, Weights,
};

// ---- planted bugs ----

const BLOCK: u32 = 64;

/// Runs a planted kernel over 4 blocks: its y, or its fault.
fn planted(kernel: &str, schedule: Schedule, n: i32, y: usize) -> Result<Vec<f32>, Fault> {
    let x: Vec<u8> = (0..4 * BLOCK).flat_map(|i| (1.0 + i as f32).to_ne_bytes()).collect();
    let mut emulation = Emulation::over(schedule, vec![Array::of(&x), Array::new(4 * y, 0)]);
    let grid = [if y == 4 { 4 } else { 1 }, 1, 1];
    let values = [Value::Array { index: 0, byte: 0 }, Value::Array { index: 1, byte: 0 }, Value::Int(n)];
    emulation.launch(kernel, grid, [BLOCK, 1, 1], 4 * BLOCK as usize, &values)?;
    Ok(emulation.array(1).floats())
}

/// Sum of the numbers of block b: 64 b + 1 to 64 b + 64.
fn sums() -> Vec<f32> {
    (0..4).map(|b| (64 * 64 * b + 64 * 65 / 2) as f32).collect()
}

#[test]
fn a_right_kernel_is_right_in_every_schedule() {
    for schedule in Schedule::ALL {
        assert_eq!(planted("planted_sums", schedule, 256, 4).unwrap(), sums(), "{schedule:?}");
    }
}

#[test]
fn a_missing_barrier_is_seen() {
    let wrong = |kernel, n, y, right: &[f32]| {
        let all = Schedule::ALL.map(|schedule| planted(kernel, schedule, n, y).unwrap() != right);
        all.iter().filter(|&&wrong| wrong).count()
    };
    // One order hides it: the one in which each thread happens to come after those that it needs.
    assert!(wrong("planted_missing_barrier", 256, 4, &sums()) >= 3);
    let neighbours: Vec<f32> = (0..BLOCK).map(|i| 1.0 + (i ^ 1) as f32).collect();
    assert_eq!(wrong("planted_missing_warp_barrier", 64, 64, &neighbours), 4);
    // What nobody wrote is no zero.
    let x: Vec<f32> = (0..BLOCK).map(|i| 1.0 + i as f32).collect();
    assert_eq!(wrong("planted_unwritten_shared", 64, 64, &x), 4);
    // Nor is what nobody waited for there, and a copy may begin at once.
    assert_eq!(wrong("planted_missing_wait", 64, 64, &x), 4);
    assert!(wrong("planted_early_copy", 64, 64, &neighbours) >= 3);
}

#[test]
fn a_barrier_that_some_never_reach_is_reported_with_its_line() {
    for schedule in Schedule::ALL {
        let fault = planted("planted_divergent_barrier", schedule, 256, 4).unwrap_err();
        let Fault::Barrier { what, .. } = &fault else { panic!("{fault}") };
        assert!(what.contains("at the block's barrier in line") && what.contains("done"), "{fault}");
    }
}

#[cfg(not(feature = "cuda-emulation-sanitized"))]
#[test]
fn a_write_outside_is_reported_and_what_is_read_there_is_no_number() {
    for schedule in Schedule::ALL {
        assert_eq!(planted("planted_row_beyond", schedule, 16, 64), Err(Fault::Outside { array: 1 }));
        let fault = planted("planted_shared_beyond", schedule, 64, 64).unwrap_err();
        assert_eq!(fault, Fault::OutsideShared { block: [0; 3] });
        assert!(planted("planted_read_beyond", schedule, 193, 64).unwrap()[63].is_nan());
    }
}

#[test]
fn what_stays_within_bounds_is_let_pass() {
    for schedule in Schedule::ALL {
        assert_eq!(planted("planted_row_beyond", schedule, 15, 64).map(|y| y[63]), Ok(1.0));
        assert_eq!(planted("planted_read_beyond", schedule, 192, 64).map(|y| y[63]), Ok(256.0));
        assert_eq!(planted("planted_crooked_load", schedule, 4, 64).map(|y| y[63]), Ok(5.0 + 8.0));
    }
}

/// The sanitizers end the program, so each bug has a process of its own.
#[cfg(feature = "cuda-emulation-sanitized")]
mod sanitized {
    use super::{Schedule, planted};
    use std::process::Command;

    const ASKED: &str = "PLANTED";

    #[test]
    fn a_bug_ends_the_program_with_the_kernels_name() {
        for (kernel, n, word) in [
            ("planted_row_beyond", 16, "AddressSanitizer: use-after-poison"),
            ("planted_shared_beyond", 64, "AddressSanitizer: use-after-poison"),
            ("planted_read_beyond", 193, "AddressSanitizer: use-after-poison"),
            ("planted_crooked_load", 1, "misaligned address"),
        ] {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "sanitized::the_bug_that_was_asked_for"])
                .env(ASKED, format!("{kernel} {n}"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stderr);
            assert!(!child.status.success() && said.contains(word), "{kernel}: {said}");
            assert!(word.starts_with("mis") || said.contains(&format!("in {kernel}")), "{kernel}: {said}");
        }
    }

    /// The child's part; without a wish, nothing.
    #[test]
    fn the_bug_that_was_asked_for() {
        let Ok(wish) = std::env::var(ASKED) else { return };
        let (kernel, n) = wish.split_once(' ').unwrap();
        let _ = planted(kernel, Schedule::Forward, n.parse().unwrap(), 64);
    }
}

#[test]
fn a_launch_that_does_not_fit_its_kernel_is_refused() {
    let mut emulation = Emulation::over(Schedule::Forward, vec![Array::new(16, 0)]);
    let grid = [1; 3];
    let fault = emulation.launch("no_such", grid, [32, 1, 1], 0, &[Value::Int(1)]).unwrap_err();
    assert_eq!(fault, Fault::Signature { takes: String::new(), given: "i".into() });
    let fault = emulation.launch("planted_sums", grid, [32, 1, 1], 0, &[Value::Float(1.0)]).unwrap_err();
    assert_eq!(fault, Fault::Signature { takes: "ppi".into(), given: "f".into() });
    let values = [Value::Array { index: 0, byte: 0 }, Value::Array { index: 0, byte: 0 }, Value::Int(1)];
    let fault = emulation.launch("planted_sums", grid, [33, 1, 1], 0, &values).unwrap_err();
    assert_eq!(fault, Fault::Block { threads: [33, 1, 1] });
}

#[test]
fn every_kernel_is_there_by_its_name() {
    let mut emulation = Emulation::new(Schedule::Forward);
    for kernel in Kernel::all() {
        let fault = emulation.launch(&kernel.name(), [1; 3], [32, 1, 1], 0, &[]).unwrap_err();
        assert!(matches!(&fault, Fault::Signature { takes, .. } if !takes.is_empty()), "{}", kernel.name());
    }
}

// ---- each launch against loops ----

/// A shape's buffers in an emulation, and what was put into them.
struct Stage {
    shape: Shape,
    emulation: Emulation,
    state: u64,
}

impl Stage {
    fn new(shape: Shape, schedule: Schedule) -> Stage {
        let mut emulation = Emulation::new(schedule);
        emulation.allocate(&shape.buffers()).unwrap();
        Stage { shape, emulation, state: 1 }
    }

    /// Between -1 and 1, bell-shaped enough.
    fn draw(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..3 {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            sum += (self.state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        }
        sum / 3.0
    }

    fn number(&self, buffer: Buffer) -> Number {
        self.shape.buffers()[buffer.index()].number
    }

    /// Fills a whole buffer with random numbers times `scale`; gives what it then holds.
    fn fill(&mut self, buffer: Buffer, scale: f32) -> Vec<f64> {
        let elements = self.shape.buffers()[buffer.index()].elements;
        let values: Vec<f32> = (0..elements).map(|_| self.draw() * scale).collect();
        let bytes: Vec<u8> = match self.number(buffer) {
            Number::Bf16 => values.iter().flat_map(|x| bf16(*x).to_ne_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        };
        self.emulation.write(buffer, 0, &bytes).unwrap();
        self.get(buffer)
    }

    fn set(&mut self, buffer: Buffer, values: &[i32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
        self.emulation.write(buffer, 0, &bytes).unwrap();
    }

    fn get(&self, buffer: Buffer) -> Vec<f64> {
        let array = self.emulation.array(buffer.index());
        match self.number(buffer) {
            Number::Bf16 => {
                let halves = array.bytes().as_chunks().0.iter().map(|bytes| u16::from_ne_bytes(*bytes));
                halves.map(|half| f64::from(f32::from_bits(u32::from(half) << 16))).collect()
            }
            _ => array.floats().into_iter().map(f64::from).collect(),
        }
    }

    fn integers(&self, buffer: Buffer) -> Vec<i32> {
        let bytes = self.emulation.array(buffer.index()).bytes();
        bytes.as_chunks().0.iter().map(|bytes| i32::from_ne_bytes(*bytes)).collect()
    }

    /// Plays those launches of `plan` that are of these operations, the first of each.
    fn play(&mut self, plan: &Plan, operations: &[Operation]) {
        let first =
            |operation: &Operation| plan.steps.iter().find(|step| step.kernel.operation == *operation);
        let steps =
            operations.iter().map(|operation| first(operation).expect("in the plan").clone()).collect();
        let part = Plan { buffers: plan.buffers.clone(), steps };
        let ready = self.emulation.ready(&part).unwrap();
        self.emulation.play(ready).unwrap();
    }
}

fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn rounded(x: f64, weights: Weights) -> f64 {
    match weights {
        Weights::F32 => x,
        Weights::Bf16 => f64::from(f32::from_bits(u32::from(bf16(x as f32)) << 16)),
    }
}

#[track_caller]
fn assert_close(got: &[f64], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-3_f64, |max, x| max.max(x.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        // Written so that a NaN fails.
        assert!((got - want).abs() <= tolerance * scale, "{what}: {got} for {want} at {i}");
    }
}

/// y = W x + b, row by row of `x`.
fn product(x: &[f64], weights: &[f64], bias: &[f64], inputs: usize) -> Vec<f64> {
    let outputs = weights.len() / inputs;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    x.chunks(inputs)
        .flat_map(|row| {
            (0..outputs)
                .map(move |o| dot(row, &weights[o * inputs..][..inputs]) + bias.get(o).unwrap_or(&0.0))
        })
        .collect()
}

fn layer_norm(x: &[f64], gain: &[f64], bias: &[f64], epsilon: f32) -> Vec<f64> {
    let c = gain.len();
    let row = |row: &[f64]| {
        let mean = row.iter().sum::<f64>() / c as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / c as f64;
        let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
        row.iter()
            .zip(gain.iter().zip(bias))
            .map(|(x, (g, b))| (x - mean) * scale * g + b)
            .collect::<Vec<_>>()
    };
    x.chunks(c).flat_map(row).collect()
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// Softmax of `q . k` over the first `count` positions of one head's cache, times v.
fn attention(q: &[f64], keys: &[f64], values: &[f64], count: usize) -> Vec<f64> {
    let d = q.len();
    let score = |p: usize| q.iter().zip(&keys[p * d..]).map(|(a, b)| a * b).sum::<f64>();
    let scores: Vec<f64> = (0..count).map(score).collect();
    let max = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    let part = |i: usize| (0..count).map(|p| weights[p] * values[p * d + i]).sum::<f64>() / total;
    (0..d).map(part).collect()
}

/// [`attention`] of one step: each sequence's heads over all positions up to its own.
fn step_attention(dims: Dims, positions: &[i32], query: &[f64], keys: &[f64], values: &[f64]) -> Vec<f64> {
    let (h, d, t) = (dims.heads, dims.head_width(), dims.context);
    let head = |row: usize| {
        let (q, cached) = (&query[row * d..][..d], row * t * d);
        let count = positions[row / h] as usize + 1;
        attention(q, &keys[cached..][..t * d], &values[cached..][..t * d], count)
    };
    (0..positions.len() * h).flat_map(head).collect()
}

/// Shapes that go through every branch: batches around the groups of rows, head widths, splits. More than 8
/// rows in bf16 have kernels of their own.
fn cases() -> Vec<(Shape, usize, Schedule)> {
    let mut cases = Vec::new();
    let heads = [(2, 64, 5), (8, 64, 1), (1, 64, 3), (1, 128, 2), (6, 96, 32)];
    for (i, batch) in [1, 2, 3, 8, 9].into_iter().enumerate() {
        for weights in Weights::ALL {
            if weights == Weights::Bf16 && batch > plan::FEW_ROWS {
                continue;
            }
            for (j, schedule) in Schedule::ALL.into_iter().enumerate() {
                let (heads, width, splits) = heads[(i + j) % heads.len()];
                let dims = Dims { scale_by_layer: j == 1, ..Dims::gpt2(2, heads, width, 257, 300) };
                let shape = Shape::new(dims, weights, batch + i % 2, 40, 2).unwrap();
                cases.push((Shape { splits, ..shape }, batch, schedule));
            }
        }
    }
    cases
}

/// Positions that end just before, at and behind the least part of a split, and at the last.
fn positions(batch: usize) -> Vec<i32> {
    [130, 0, 63, 64, 299, 1, 128, 200, 65].into_iter().take(batch).collect()
}

#[test]
fn embed_adds_both_tables() {
    for (shape, batch, schedule) in cases() {
        let mut stage = Stage::new(shape, schedule);
        let (c, tokens) = (shape.dims.width, [256, 0, 3, 255, 17, 99, 5, 1, 200]);
        let (table, places) = (stage.fill(Buffer::TokenTable, 1.0), stage.fill(Buffer::PositionTable, 1.0));
        stage.set(Buffer::Token, &tokens[..batch]);
        stage.set(Buffer::Position, &positions(batch));
        stage.play(&plan::decode(&shape, batch, Choice::Greedy).unwrap(), &[Operation::Embed]);
        let row = |b: usize| {
            let (token, place) = (tokens[b] as usize * c, positions(batch)[b] as usize * c);
            (0..c).map(|i| table[token + i] + places[place + i]).collect::<Vec<_>>()
        };
        let want: Vec<f64> = (0..batch).flat_map(row).collect();
        assert_close(&stage.get(Buffer::Residual)[..batch * c], &want, 1e-6, "embed");
    }
}

#[test]
fn norm_qkv_fills_query_and_cache() {
    for (shape, batch, schedule) in cases() {
        let mut stage = Stage::new(shape, schedule);
        let dims = shape.dims;
        let (c, h, d, t) = (dims.width, dims.heads, dims.head_width(), dims.context);
        let x = stage.fill(Buffer::Residual, 3.0);
        let (gain, norm_bias) = (stage.fill(Buffer::Norm1Gain, 1.0), stage.fill(Buffer::Norm1Bias, 0.2));
        let (weights, bias) = (stage.fill(Buffer::QkvWeight, 0.3), stage.fill(Buffer::QkvBias, 0.3));
        stage.set(Buffer::Position, &positions(batch));
        stage.play(&plan::decode(&shape, batch, Choice::Greedy).unwrap(), &[Operation::NormQkv]);
        let normed = layer_norm(&x[..batch * c], &gain[..c], &norm_bias[..c], dims.epsilon);
        let want = product(&normed, &weights[..3 * c * c], &bias[..3 * c], c);
        let (keys, values) = (stage.get(Buffer::Keys), stage.get(Buffer::Values));
        let query = stage.get(Buffer::Query);
        for b in 0..batch {
            let row = &want[b * 3 * c..][..3 * c];
            let scaled: Vec<f64> = row[..c].iter().map(|x| x / (d as f64).sqrt()).collect();
            assert_close(&query[b * c..][..c], &scaled, 1e-5, "query");
            let cached = |cache: &[f64], i: usize| {
                let at = ((b * h + i / d) * t + positions(batch)[b] as usize) * d + i % d;
                cache[at]
            };
            let tolerance = if shape.weights == Weights::F32 { 1e-5 } else { 1.0 / 256.0 };
            for (cache, part) in [(&keys, 1), (&values, 2)] {
                let got: Vec<f64> = (0..c).map(|i| cached(cache, i)).collect();
                assert_close(&got, &row[part * c..][..c], tolerance, "cache");
                // Rounded, and to the nearest.
                assert!(got.iter().all(|x| *x == rounded(*x, shape.weights)));
            }
        }
        // Nothing else of the cache was touched: one position of each sequence, layer 0.
        let written = keys.iter().filter(|x| !x.is_nan()).count();
        assert_eq!(written, batch * c);
    }
}

#[test]
fn attend_and_project_add_attention() {
    for (shape, batch, schedule) in cases() {
        let mut stage = Stage::new(shape, schedule);
        let dims = shape.dims;
        let c = dims.width;
        let query = stage.fill(Buffer::Query, 2.0);
        let (keys, values) = (stage.fill(Buffer::Keys, 1.0), stage.fill(Buffer::Values, 1.0));
        let (weights, bias) = (stage.fill(Buffer::ProjectWeight, 0.3), stage.fill(Buffer::ProjectBias, 0.3));
        let x = stage.fill(Buffer::Residual, 1.0);
        stage.set(Buffer::Position, &positions(batch));
        let plan = plan::decode(&shape, batch, Choice::Greedy).unwrap();
        stage.play(&plan, &[Operation::Attend, Operation::Project]);
        let attended = step_attention(dims, &positions(batch), &query, &keys, &values);
        let added = product(&attended, &weights[..c * c], &bias[..c], c);
        let want: Vec<f64> = x.iter().zip(&added).map(|(x, y)| x + y).collect();
        assert_close(&stage.get(Buffer::Residual)[..batch * c], &want, 1e-5, "attention");
    }
}

#[test]
fn norm_expand_and_contract_are_the_inner_layer() {
    for (shape, batch, schedule) in cases() {
        let mut stage = Stage::new(shape, schedule);
        let (c, f) = (shape.dims.width, shape.dims.inner);
        let x = stage.fill(Buffer::Residual, 3.0);
        let (gain, norm_bias) = (stage.fill(Buffer::Norm2Gain, 1.0), stage.fill(Buffer::Norm2Bias, 0.2));
        let (w1, b1) = (stage.fill(Buffer::ExpandWeight, 0.3), stage.fill(Buffer::ExpandBias, 0.3));
        let (w2, b2) = (stage.fill(Buffer::ContractWeight, 0.3), stage.fill(Buffer::ContractBias, 0.3));
        let plan = plan::decode(&shape, batch, Choice::Greedy).unwrap();
        stage.play(&plan, &[Operation::NormExpand, Operation::Contract]);
        let normed = layer_norm(&x[..batch * c], &gain[..c], &norm_bias[..c], shape.dims.epsilon);
        let hidden: Vec<f64> = product(&normed, &w1[..f * c], &b1[..f], c).into_iter().map(gelu).collect();
        assert_close(&stage.get(Buffer::Hidden)[..batch * f], &hidden, 1e-5, "hidden");
        let added = product(&hidden, &w2[..f * c], &b2[..c], f);
        let want: Vec<f64> = x.iter().zip(&added).map(|(x, y)| x + y).collect();
        assert_close(&stage.get(Buffer::Residual)[..batch * c], &want, 1e-5, "inner layer");
    }
}

#[test]
fn norm_head_chooses_the_next_token_and_goes_on() {
    for (shape, batch, schedule) in cases() {
        let mut stage = Stage::new(shape, schedule);
        let (c, v, t) = (shape.dims.width, shape.dims.vocabulary, shape.dims.context);
        let x = stage.fill(Buffer::Residual, 3.0);
        let (gain, bias) = (stage.fill(Buffer::NormGain, 1.0), stage.fill(Buffer::NormBias, 0.2));
        let table = stage.fill(Buffer::TokenTable, 0.3);
        stage.set(Buffer::Position, &positions(batch));
        let plan = plan::decode(&shape, batch, Choice::Greedy).unwrap();
        // Twice, as a second step would: it must find everything as the first did.
        stage.play(&plan, &[Operation::NormHead]);
        stage.set(Buffer::Position, &positions(batch));
        stage.play(&plan, &[Operation::NormHead]);
        let normed = layer_norm(&x[..batch * c], &gain, &bias, shape.dims.epsilon);
        let want = product(&normed, &table, &[], c);
        let logits = stage.get(Buffer::Logits);
        assert_close(&logits[..batch * v], &want, 1e-5, "logits");
        for b in 0..batch {
            let row = &logits[b * v..][..v];
            let best = (0..v).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            assert_eq!(stage.integers(Buffer::Token)[b], best as i32);
            let next = positions(batch)[b] + 1;
            assert_eq!(stage.integers(Buffer::Position)[b], next);
            if (next as usize) < t {
                assert_eq!(stage.integers(Buffer::Output)[b * t + next as usize], best as i32);
            }
        }
        for buffer in [Buffer::Best, Buffer::Finished] {
            assert!(stage.emulation.array(buffer.index()).bytes().iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn of_equal_logits_the_lowest_id_is_chosen() {
    for schedule in Schedule::ALL {
        let shape = Shape::new(Dims::gpt2(1, 2, 64, 257, 16), Weights::F32, 2, 2, 2).unwrap();
        let mut stage = Stage::new(shape, schedule);
        stage.fill(Buffer::Residual, 1.0);
        stage.fill(Buffer::NormGain, 0.0);
        stage.fill(Buffer::NormBias, 0.0);
        stage.fill(Buffer::TokenTable, 1.0);
        stage.play(&plan::decode(&shape, 2, Choice::Greedy).unwrap(), &[Operation::NormHead]);
        assert_eq!(stage.integers(Buffer::Token), [0, 0]);
    }
}

#[test]
fn the_floor_reads_every_word_that_a_step_must_read() {
    for (i, schedule) in Schedule::ALL.into_iter().enumerate() {
        let weights = Weights::ALL[i % 2];
        let dims = Dims { tied: i < 2, ..Dims::gpt2(2, 2, 64, 257, 40) };
        // Few blocks, so that threads go around more than once, and more than there are words for.
        let shape = Shape::new(dims, weights, 2, 2, [1, 1, 8, 132][i]).unwrap();
        let mut stage = Stage::new(shape, schedule);
        let table = if dims.tied { Buffer::TokenTable } else { Buffer::HeadWeight };
        let matrices =
            [Buffer::QkvWeight, Buffer::ProjectWeight, Buffer::ExpandWeight, Buffer::ContractWeight];
        let cache = [Buffer::Keys, Buffer::Values];
        for buffer in matrices.into_iter().chain(cache).chain([table]) {
            stage.fill(buffer, 1.0);
        }
        let plan = plan::stream(&shape, 2, 11).unwrap();
        stage.play(&plan, &[Operation::Stream]);
        let words = |buffer: Buffer, bytes: usize| {
            let bytes = &stage.emulation.array(buffer.index()).bytes()[..bytes];
            bytes.as_chunks().0.iter().fold(0, |all, four| all ^ u32::from_ne_bytes(*four))
        };
        let whole = |buffer: Buffer| words(buffer, shape.buffers()[buffer.index()].bytes());
        let held = 2 * 2 * 11 * 64 * weights.bytes();
        let want = matrices.into_iter().chain([table]).map(whole).fold(0, |all, one| all ^ one)
            ^ cache.into_iter().map(|buffer| words(buffer, held)).fold(0, |all, one| all ^ one);
        let seen = stage.integers(Buffer::Seen).into_iter().fold(0, |all, one| all ^ one as u32);
        assert_eq!(seen, want, "{weights:?} {schedule:?}");
    }
}
