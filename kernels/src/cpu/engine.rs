//! [`Cpu`]: an instruction set, a team of threads and their scratch. What a model calls.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::dots::Dots;
use super::integers::Integers;
use super::isa::Isa;
use super::pack::Packed;
use super::pool::{Ahead, PinError, Pinning, Team, part};
use super::table::Table;
use crate::{Buffer, Precision};

/// Why a [`Cpu`] could not be made.
#[derive(Debug)]
pub enum CpuError {
    /// The machine lacks the instruction set that was asked for.
    NoIsa {
        /// The set asked for.
        asked: Isa,
        /// The fastest set there is.
        best: Isa,
    },
    /// The system refused a thread.
    NoThread(std::io::Error),
    /// Threads were not held to CPUs.
    NotPinned(PinError),
}

impl std::fmt::Display for CpuError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CpuError::NoIsa { asked, best } => {
                write!(f, "this CPU has no {asked}; ask for {best} or leave the choice open")
            }
            CpuError::NoThread(_) => {
                f.write_str("the system refused a thread; ask for fewer or raise its limit")
            }
            CpuError::NotPinned(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for CpuError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CpuError::NoThread(cause) => Some(cause),
            CpuError::NoIsa { .. } | CpuError::NotPinned(_) => None,
        }
    }
}

/// The operations of GPT-2 on a stated number of threads, in a stated instruction set.
pub struct Cpu {
    isa: Isa,
    table: &'static Table,
    integers: &'static Integers,
    dots: Option<&'static Dots>,
    team: Team,
    pinning: Pinning,
    scratch: Vec<Mutex<Scratch>>,
    /// What every thread's scratch holds at least, in the order of `Need::sizes`.
    reserved: [AtomicUsize; 4],
    expected: Expected,
}

/// The weights that [`Cpu::expect`] named: where they begin (0 for none), panels, bytes of a panel. If
/// two callers name theirs at once, threads ask for memory in vain.
#[derive(Default)]
struct Expected {
    start: AtomicUsize,
    panels: AtomicUsize,
    stride: AtomicUsize,
}

/// Bytes asked for ahead at most: an eighth of what a second-level cache holds.
const AHEAD: usize = 64 << 10;

/// One thread's working memory; it grows to the largest operation and stays. What registers are
/// loaded from lies on cache lines: a load across two costs both. So does the scratch itself: its
/// lock is taken in every job, and two on one line would pass it to and fro.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Scratch {
    /// Rows made ready for a product: normalised rows, attention scores, or weights on their way
    /// to another precision.
    pub(crate) rows: Buffer,
    /// The left operand, repacked, or the scales of its rows.
    pub(crate) packed: Buffer,
    /// The left operand in words of four activations.
    pub(crate) words: Vec<i32>,
    /// One row of activations.
    pub(crate) bytes: Vec<i8>,
}

/// Elements an operation needs of each part of a [`Scratch`].
#[derive(Clone, Copy, Default)]
pub(crate) struct Need {
    pub(crate) rows: usize,
    pub(crate) packed: usize,
    pub(crate) words: usize,
    pub(crate) bytes: usize,
}

impl Need {
    fn sizes(self) -> [usize; 4] {
        [self.rows, self.packed, self.words, self.bytes]
    }
}

impl Cpu {
    /// `threads` threads (the caller's included; 0 is taken as 1) and `isa`, or the best there is.
    ///
    /// # Errors
    /// When this CPU lacks `isa`, or the system refuses a thread.
    pub fn new(threads: usize, isa: Option<Isa>) -> Result<Cpu, CpuError> {
        Cpu::with(threads, isa, Pinning::None)
    }

    /// As [`Cpu::new`], with threads held to CPUs as `pinning` says.
    ///
    /// # Errors
    /// As [`Cpu::new`] and [`Team::with`].
    pub fn with(threads: usize, isa: Option<Isa>, pinning: Pinning) -> Result<Cpu, CpuError> {
        let best = Isa::best();
        let isa = isa.unwrap_or(best);
        let table = isa.table().ok_or(CpuError::NoIsa { asked: isa, best })?;
        let team = Team::with(threads, pinning)?;
        let scratch = (0..team.size()).map(|_| Mutex::default()).collect();
        let (integers, dots) = (Integers::of(isa), Dots::of(isa));
        Ok(Cpu {
            isa,
            table,
            integers,
            dots,
            team,
            pinning,
            scratch,
            reserved: Default::default(),
            expected: Expected::default(),
        })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads in use.
    pub fn threads(&self) -> usize {
        self.team.size()
    }

    /// Which of them are held to CPUs.
    pub fn pinning(&self) -> Pinning {
        self.pinning
    }

    /// The single-threaded kernels in use.
    pub fn table(&self) -> &'static Table {
        self.table
    }

    /// The single-threaded kernels on whole numbers in use.
    pub fn integers(&self) -> &'static Integers {
        self.integers
    }

    /// The single-threaded kernels on pairs of bf16 in use, where the CPU gains by them.
    pub fn dots(&self) -> Option<&'static Dots> {
        self.dots
    }

    /// The name of the path that products with weights in `precision` take, for a record: `avx512`,
    /// `avx512-vnni`. In bf16 `avx512-bf16` says that many rows are rounded to bf16 too.
    pub fn path(&self, precision: Precision) -> &'static str {
        match precision {
            Precision::F32 => self.isa.name(),
            Precision::Bf16 => self.dots.map_or(self.isa.name(), |dots| dots.name),
            Precision::Int8 | Precision::Int4 => self.integers.name,
        }
    }

    /// Says which weights the operation *after* the coming one reads. At the end of the coming one each
    /// thread asks memory for the beginning of its part of them while it waits for the others, so that
    /// they need not be waited for. Changes no result; unsaid, or untrue, it costs time.
    pub fn expect(&self, weights: &Packed) {
        self.expected.put(weights);
    }

    /// Runs `f(thread, its scratch)` on every thread of the team, each scratch holding at least
    /// `need`. Whoever turns out to do the work, all have grown alike, so an operation repeated at
    /// the same or a smaller size allocates nothing.
    pub(crate) fn run(&self, need: Need, f: impl Fn(usize, &mut Scratch) + Sync) {
        let short = |(need, held): (usize, &AtomicUsize)| held.fetch_max(need, Relaxed) < need;
        if need.sizes().into_iter().zip(&self.reserved).filter(|&pair| short(pair)).count() > 0 {
            for thread in 0..self.threads() {
                self.scratch(thread).grow(need);
            }
        }
        let next = self.expected.take();
        self.team.run_then(|thread| {
            let scratch = &mut *self.scratch(thread);
            // Another caller may have announced this size and not yet reached this thread.
            scratch.grow(need);
            f(thread, scratch);
            next.of(thread, self.threads())
        });
    }

    /// Scratch holds no state between operations, so one left by a panic is as good.
    fn scratch(&self, thread: usize) -> MutexGuard<'_, Scratch> {
        self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expected {
    fn put(&self, weights: &Packed) {
        let (start, bytes, panels) = (weights.start(), weights.bytes(), weights.panels());
        self.panels.store(panels, Relaxed);
        self.stride.store(bytes / panels.max(1), Relaxed);
        self.start.store(start, Relaxed);
    }

    /// For one operation.
    fn take(&self) -> Next {
        Next {
            start: self.start.swap(0, Relaxed),
            panels: self.panels.load(Relaxed),
            stride: self.stride.load(Relaxed),
        }
    }
}

#[derive(Clone, Copy)]
struct Next {
    start: usize,
    panels: usize,
    stride: usize,
}

impl Next {
    /// The beginning of what `thread` will read.
    fn of(self, thread: usize, threads: usize) -> Ahead {
        let own = part(self.panels, threads, thread);
        if self.start == 0 || own.is_empty() {
            return Ahead::default();
        }
        let start = self.start + own.start * self.stride;
        Ahead::new(start..start + AHEAD.min(own.len() * self.stride))
    }
}

impl Scratch {
    fn grow(&mut self, need: Need) {
        for (held, need) in [(&mut self.rows, need.rows), (&mut self.packed, need.packed)] {
            if held.len() < need {
                *held = Buffer::zeroed(need);
            }
        }
        if self.words.len() < need.words {
            self.words.resize(need.words, 0);
        }
        if self.bytes.len() < need.bytes {
            self.bytes.resize(need.bytes, 0);
        }
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cpu({}, {} threads)", self.isa, self.threads())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_each_threads_own_part_and_expected_once() {
        for precision in Precision::ALL {
            let cpu = Cpu::new(1, None).unwrap();
            let weights = Packed::from_kn(&cpu, &vec![0.5; 70 * 1000], 70, 1000, precision);
            cpu.expect(&weights);
            let next = cpu.expected.take();
            let (panels, stride) = (weights.panels(), weights.bytes() / weights.panels());
            for threads in [1, 2, 5, 64] {
                let asked = |thread| {
                    let mut ahead = next.of(thread, threads);
                    std::iter::from_fn(move || ahead.ask().then_some(())).count() * 64
                };
                let own = |thread| part(panels, threads, thread).len() * stride;
                assert!((0..threads).all(|thread| asked(thread) == own(thread).min(AHEAD)), "{precision}");
            }
            assert_eq!(next.of(1, 2), Ahead::new(address(&weights, panels / 2, stride)));
            assert!(!cpu.expected.take().of(0, 1).ask(), "once");
        }
    }

    /// Of the panels from `panel` on, as many bytes as are asked for.
    fn address(weights: &Packed, panel: usize, stride: usize) -> std::ops::Range<usize> {
        let start = weights.start() + panel * stride;
        start..start + AHEAD.min(weights.bytes() - panel * stride)
    }
}
