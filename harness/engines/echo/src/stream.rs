//! `limit/stream`, `limit/stream-bf16`, …: reads what one decode step must read and computes nothing.
//!
//! A decode step at batch 1 touches every weight once, so the time to stream the weights' bytes is
//! a floor for every engine that keeps weights of that precision in memory; KV cache and activations
//! come on top and are left out. In lower precisions a matrix counts with its bits alone, because the
//! scales that a scheme of quantisation adds are its own price; vectors stay f32. The buffer is
//! anonymous memory of that size (values are 1.0: never denormal), filled off the clock; each step
//! sums all of it once with `threads` threads, in the pattern of addresses that was fastest when
//! tried off the clock.

use crate::checkpoint::{Tensor, tensors};
use crate::sum::{Pattern, Tier};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use worker::{Answer, Engine, Identity, Job, Laps, Prepare, Receipt, Stop, Task, Unit, monotonic_ns};

/// The engine; keeps its buffer between workloads of one model.
pub struct Stream {
    precision: &'static str,
    /// Bits of a matrix element.
    bits: usize,
    weights: Arc<Vec<f32>>,
}

impl Stream {
    /// `stream`, or `stream-` and a precision lower than f32.
    pub fn parse(variant: &str) -> Option<Stream> {
        let (precision, bits) = match variant {
            "stream" => ("f32", 32),
            "stream-bf16" => ("bf16", 16),
            "stream-int8" => ("int8", 8),
            "stream-int4" => ("int4", 4),
            _ => return None,
        };
        Some(Stream { precision, bits, weights: Arc::default() })
    }
}

impl Engine for Stream {
    fn identity(&self) -> Identity {
        Identity {
            engine: match self.precision {
                "f32" => "limit/stream".into(),
                lower => format!("limit/stream-{lower}"),
            },
            language: "rust".into(),
            precision: self.precision.into(),
            settings: [("isa".into(), Tier::detect().to_string())].into(),
            ..Identity::default()
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        let Task::Decode { tokens, .. } = order.task else {
            return Err(Stop::refused("memory limits decode; other tasks have other limits", ""));
        };
        let values = bytes_per_step(order.files.model()?, self.bits)?.div_ceil(size_of::<f32>());
        if self.weights.len() != values {
            self.weights = Arc::default();
            self.weights = Arc::new(buffer(values));
        }
        let mut team = Team::new(order.threads.max(1), &self.weights);
        team.choose_pattern();
        Ok(Box::new(Streaming { team, steps: tokens, total: 0.0 }))
    }
}

struct Streaming {
    team: Team,
    steps: usize,
    total: f64,
}

impl Job for Streaming {
    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        for _ in 0..self.steps {
            self.total = self.team.step();
            laps.mark();
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let values = self.team.weights.len();
        ensure!(self.steps == 0 || values == 0 || self.total > 0.0, "the last step summed nothing");
        let bytes = (values * size_of::<f32>() * self.steps) as u64;
        Ok(Receipt { units: bytes, unit: Unit::Bytes, answer: Answer::Nothing, logits: None })
    }
}

/// `threads - 1` helpers and the caller, each with its own share of the buffer. Helpers wait by
/// spinning within a run and parked between runs.
struct Team {
    weights: Arc<Vec<f32>>,
    tier: Tier,
    pattern: Pattern,
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    wake: Vec<Thread>,
}

struct Shared {
    /// Counts steps; a helper reads its share whenever this has moved.
    step: AtomicUsize,
    /// Helpers still reading.
    busy: AtomicUsize,
    quit: AtomicBool,
    /// Index into [`Pattern::ALL`] of the present step.
    pattern: AtomicUsize,
    /// Bits of each helper's f32 sum.
    sums: Vec<AtomicU32>,
}

/// Turns of a spin before a waiting helper parks: some 50 us.
const SPINS: u32 = 20_000;

impl Team {
    fn new(threads: usize, weights: &Arc<Vec<f32>>) -> Team {
        let shared = Arc::new(Shared {
            step: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            quit: AtomicBool::new(false),
            pattern: AtomicUsize::new(0),
            sums: (1..threads).map(|_| AtomicU32::new(0)).collect(),
        });
        let tier = Tier::detect();
        let helpers: Vec<_> = (1..threads)
            .map(|number| {
                let (shared, weights) = (Arc::clone(&shared), Arc::clone(weights));
                std::thread::spawn(move || help(number, threads, tier, &weights, &shared))
            })
            .collect();
        let wake = helpers.iter().map(|helper| helper.thread().clone()).collect();
        Team { weights: Arc::clone(weights), tier, pattern: Pattern::One, shared, helpers, wake }
    }

    /// Tries every pattern a few times, turn by turn, and keeps the one with the fastest step.
    fn choose_pattern(&mut self) {
        const TURNS: usize = 3;
        let mut fastest = (u64::MAX, self.pattern);
        for _ in 0..TURNS {
            for pattern in Pattern::ALL {
                self.pattern = pattern;
                let start = monotonic_ns();
                std::hint::black_box(self.step());
                let spent = monotonic_ns() - start;
                if spent < fastest.0 {
                    fastest = (spent, pattern);
                }
            }
        }
        self.pattern = fastest.1;
    }

    /// Reads the whole buffer once; the sum of its values.
    fn step(&self) -> f64 {
        let shared = &self.shared;
        shared.pattern.store(self.pattern as usize, Ordering::Relaxed);
        shared.busy.store(self.wake.len(), Ordering::Relaxed);
        shared.step.fetch_add(1, Ordering::Release);
        self.wake.iter().for_each(Thread::unpark);
        let own = self.tier.sum(share(&self.weights, 0, self.wake.len() + 1), self.pattern);
        let mut spins = 0u32;
        while shared.busy.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins > SPINS { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let others = shared.sums.iter().map(|sum| f64::from(f32::from_bits(sum.load(Ordering::Relaxed))));
        f64::from(own) + others.sum::<f64>()
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Release);
        self.wake.iter().for_each(Thread::unpark);
        for helper in self.helpers.drain(..) {
            // A helper that panicked has already said so on stderr.
            let _ = helper.join();
        }
    }
}

fn help(number: usize, threads: usize, tier: Tier, weights: &[f32], shared: &Shared) {
    let own = share(weights, number, threads);
    let mut seen = 0;
    loop {
        let mut spins = 0;
        loop {
            if shared.quit.load(Ordering::Acquire) {
                return;
            }
            let step = shared.step.load(Ordering::Acquire);
            if step != seen {
                seen = step;
                break;
            }
            spins += 1;
            if spins > SPINS { std::thread::park() } else { std::hint::spin_loop() }
        }
        let pattern = Pattern::ALL[shared.pattern.load(Ordering::Relaxed)];
        shared.sums[number - 1].store(tier.sum(own, pattern).to_bits(), Ordering::Relaxed);
        shared.busy.fetch_sub(1, Ordering::Release);
    }
}

/// The `number`-th of `threads` equal parts, cut at cache lines.
fn share(weights: &[f32], number: usize, threads: usize) -> &[f32] {
    let cut = |number: usize| match number {
        _ if number == threads => weights.len(),
        _ => weights.len() / threads * number / 16 * 16,
    };
    &weights[cut(number)..cut(number + 1)]
}

/// `values` ones in anonymous memory, on huge pages where the kernel gives them.
fn buffer(values: usize) -> Vec<f32> {
    let mut weights: Vec<f32> = Vec::with_capacity(values);
    const PAGE: usize = 4096;
    let begin = weights.as_ptr().addr().next_multiple_of(PAGE);
    let end = (weights.as_ptr().addr() + weights.capacity() * size_of::<f32>()) / PAGE * PAGE;
    if end > begin {
        // SAFETY: whole pages inside the allocation that `weights` owns; MADV_HUGEPAGE changes how
        // the kernel backs them and not what they hold. A refusal costs speed only.
        unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_HUGEPAGE) };
    }
    weights.resize(values, 1.0);
    weights
}

/// Bytes of weights that one decode step reads where a matrix element has `bits` bits: all weights but
/// the position table (one row) and a second copy of the tied head.
fn bytes_per_step(model: &Path, bits: usize) -> Result<usize> {
    let read = |tensor: &&Tensor| tensor.name != "lm_head.weight" && !tensor.name.ends_with("wpe.weight");
    let mut bytes = 0usize;
    for tensor in tensors(model)?.iter().filter(read) {
        let width = if tensor.shape.len() > 1 { bits } else { 8 * size_of::<f32>() };
        let size = tensor.elements()?.checked_mul(width).map(|bits| bits.div_ceil(8));
        let sum = size.and_then(|size| bytes.checked_add(size));
        bytes = sum.with_context(|| format!("{} has an impossible shape", tensor.name))?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::write;
    use crate::tests::talk;
    use worker::Reply;

    const HEADER: &str = r#"{"__metadata__":{"format":"pt"},
        "wte.weight":{"dtype":"F32","shape":[100,16],"data_offsets":[0,6400]},
        "lm_head.weight":{"dtype":"F32","shape":[100,16],"data_offsets":[0,6400]},
        "wpe.weight":{"dtype":"F32","shape":[8,16],"data_offsets":[6400,6912]},
        "h.0.attn.bias":{"dtype":"F32","shape":[1,1,8,8],"data_offsets":[0,256]},
        "h.0.attn.c_attn.bias":{"dtype":"F32","shape":[48],"data_offsets":[6912,7104]}}"#;

    #[test]
    fn a_step_reads_every_weight_but_positions_masks_and_the_second_head() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), HEADER);
        let model = folder.path();
        let order = |task: &str| {
            format!(
                "{{\"order\":\"prepare\",\"workload\":\"w\",\"task\":{task},\
                 \"files\":{{\"model\":{model:?}}},\"threads\":2}}\n\
                 {{\"order\":\"measure\",\"samples\":3,\"limit_ns\":10000000000}}\n"
            )
        };
        let orders = [
            order(r#"{"kind":"decode","context":4,"tokens":5,"batch":1}"#),
            order(r#"{"kind":"prefill","tokens":4,"batch":1}"#),
        ];
        for (variant, bytes) in [
            ("stream", (1600 + 48) * 4),
            ("stream-bf16", 1600 * 2 + 48 * 4),
            ("stream-int8", 1600 + 48 * 4),
            ("stream-int4", 800 + 48 * 4),
        ] {
            let replies = talk(&mut Stream::parse(variant).unwrap(), &orders.concat());
            let Reply::Sample(sample) = &replies[4] else { panic!("{replies:?}") };
            assert_eq!((sample.units, sample.unit), (bytes * 5, Unit::Bytes), "{variant}");
            assert_eq!(sample.laps_ns.len(), 5);
            assert!(replies.iter().any(|reply| matches!(reply, Reply::Refused { .. })));
        }
    }

    #[test]
    fn a_team_of_any_size_sums_everything_at_every_step() {
        let weights = Arc::new(buffer(10_007));
        for threads in 1..=5 {
            let mut team = Team::new(threads, &weights);
            for pattern in Pattern::ALL.into_iter().cycle().take(60) {
                team.pattern = pattern;
                assert_eq!(team.step(), 10_007.0, "{threads} threads, {pattern:?}");
            }
        }
    }
}
