//! What the machine could do at best, measured in the same round as the kernels held against it: bytes a
//! second from memory, and multiply-adds a second in registers.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use kernels::{Buffer, Precision};

/// Bytes that one reading of memory covers; more than a last-level cache share holds.
const READ: usize = 128 << 20;
/// Floats of a cache line: one load a line brings all of it.
const LINE: usize = 16;
/// Places a thread reads from in turn. How many suit a memory controller differs: they are tried.
const STREAMS: [usize; 4] = [1, 2, 4, 8];
/// Multiply-adds of one turn, in instructions of [`CHAINS`] each.
const TURNS: u64 = 400_000;
/// Sums going on side by side: latency times units of present cores.
const CHAINS: usize = 12;

/// The limits, on a stated number of threads.
pub struct Roof {
    data: Buffer,
    threads: usize,
    streams: usize,
}

impl Roof {
    /// Fills memory and looks for the pattern that reads it fastest.
    pub fn new(threads: usize) -> Roof {
        let mut data = Buffer::zeroed(READ / size_of::<f32>());
        data.fill(1.0);
        let mut roof = Roof { data, threads, streams: 1 };
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            for streams in STREAMS {
                let seconds = roof.read(streams);
                if seconds < best {
                    (best, roof.streams) = (seconds, streams);
                }
            }
        }
        roof
    }

    /// Seconds that a byte takes to come from memory.
    pub fn byte(&self) -> f64 {
        self.read(self.streams) / READ as f64
    }

    fn read(&self, streams: usize) -> f64 {
        together(self.threads, |thread| {
            let share = self.data.len() / self.threads / LINE * LINE;
            let own = &self.data[thread * share..][..share];
            let stream = own.len() / streams / LINE * LINE;
            let mut sums = [0.0f32; STREAMS[STREAMS.len() - 1]];
            for line in (0..stream).step_by(LINE) {
                for (which, sum) in sums.iter_mut().enumerate().take(streams) {
                    *sum += own[which * stream + line];
                }
            }
            black_box(sums);
        })
    }

    /// Seconds that an operation (half a multiply-add) takes in the fastest instruction for `precision`, or
    /// none where this processor's is not known here.
    pub fn operation(&self, precision: Precision) -> Option<f64> {
        let (run, lanes) = instruction(precision)?;
        let seconds = together(self.threads, |_| run());
        Some(seconds / (2 * TURNS * (CHAINS * lanes * self.threads) as u64) as f64)
    }
}

/// Seconds until the last of `threads` threads has done `work`, all begun at once.
fn together(threads: usize, work: impl Fn(usize) + Sync) -> f64 {
    let (barrier, work) = (&Barrier::new(threads), &work);
    let timed = move |thread| {
        barrier.wait();
        let start = Instant::now();
        work(thread);
        start.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || timed(thread))).collect();
        let own = timed(0);
        others.into_iter().map(|other| other.join().expect("a thread of the limit")).fold(own, f64::max)
    })
}

/// [`TURNS`] times [`CHAINS`] multiply-adds, and how many numbers one of them takes.
type Instruction = (fn(), usize);

#[cfg(target_arch = "x86_64")]
fn instruction(precision: Precision) -> Option<Instruction> {
    let wide = is_x86_feature_detected!("avx512f");
    let own: Option<Instruction> = match precision {
        Precision::F32 => None,
        Precision::Bf16 if wide && is_x86_feature_detected!("avx512bf16") => Some((x86::pairs, 32)),
        Precision::Int8 | Precision::Int4 if wide && is_x86_feature_detected!("avx512vnni") => {
            Some((x86::bytes, 64))
        }
        _ => None,
    };
    // Where AMD's cores do as many pairs as floats, Intel's first with them do a quarter: the faster counts.
    let floats: Option<Instruction> = if wide {
        Some((x86::floats_512, 16))
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Some((x86::floats_256, 8))
    } else {
        None
    };
    let rate = |&(run, lanes): &Instruction| {
        (0..3).map(|_| together(1, |_| run())).fold(f64::INFINITY, f64::min) / lanes as f64
    };
    [own, floats].into_iter().flatten().min_by(|a, b| rate(a).total_cmp(&rate(b)))
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction(_: Precision) -> Option<Instruction> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, TURNS, black_box};
    use std::arch::x86_64::*;

    /// A function that makes every chain's sum anew [`TURNS`] times, in registers.
    macro_rules! turns {
        ($name:ident, $features:literal, $first:expr, |$sum:ident, $factor:ident| $step:expr, $with:expr) => {
            pub fn $name() {
                #[target_feature(enable = $features)]
                fn run() {
                    let ($factor, mut sums) = ($with, [$first; CHAINS]);
                    for _ in 0..TURNS {
                        sums = sums.map(|$sum| $step);
                    }
                    black_box(sums);
                }
                // SAFETY: `instruction` names this function only where the processor has the features.
                unsafe { run() }
            }
        };
    }

    turns!(
        floats_512,
        "avx512f",
        _mm512_set1_ps(black_box(1.0)),
        |sum, factor| _mm512_fmadd_ps(sum, factor, factor),
        _mm512_set1_ps(black_box(0.5))
    );
    turns!(
        floats_256,
        "avx2,fma",
        _mm256_set1_ps(black_box(1.0)),
        |sum, factor| _mm256_fmadd_ps(sum, factor, factor),
        _mm256_set1_ps(black_box(0.5))
    );
    turns!(
        pairs,
        "avx512f,avx512bf16",
        _mm512_set1_ps(black_box(1.0)),
        // Products of 1e-38 vanish beside the sum, which stays what it was.
        |sum, factor| _mm512_dpbf16_ps(sum, factor, factor),
        _mm512_cvtne2ps_pbh(_mm512_set1_ps(black_box(1e-19)), _mm512_set1_ps(black_box(1e-19)))
    );
    turns!(
        bytes,
        "avx512f,avx512vnni",
        _mm512_set1_epi32(black_box(1)),
        |sum, factor| _mm512_dpbusd_epi32(sum, factor, factor),
        _mm512_set1_epi32(black_box(0x0101_0101))
    );
}
