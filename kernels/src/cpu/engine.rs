//! [`Cpu`]: an instruction set, a team of threads and their scratch. What a model calls.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::isa::Isa;
use super::pool::Team;
use super::table::Table;

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
        }
    }
}

impl std::error::Error for CpuError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CpuError::NoThread(cause) => Some(cause),
            CpuError::NoIsa { .. } => None,
        }
    }
}

/// The operations of GPT-2 on a stated number of threads, in a stated instruction set.
pub struct Cpu {
    isa: Isa,
    table: &'static Table,
    team: Team,
    scratch: Vec<Mutex<Scratch>>,
    /// Floats every thread's scratch holds at least: rows, packed.
    reserved: [AtomicUsize; 2],
}

/// One thread's working memory; it grows to the largest operation and stays.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Rows made ready for a product: normalised rows, or attention scores.
    pub(crate) rows: Vec<f32>,
    /// The left operand, repacked.
    pub(crate) packed: Vec<f32>,
}

impl Cpu {
    /// `threads` threads (the caller's included; 0 is taken as 1) and `isa`, or the best there is.
    ///
    /// # Errors
    /// When this CPU lacks `isa`, or the system refuses a thread.
    pub fn new(threads: usize, isa: Option<Isa>) -> Result<Cpu, CpuError> {
        let best = Isa::best();
        let isa = isa.unwrap_or(best);
        let table = isa.table().ok_or(CpuError::NoIsa { asked: isa, best })?;
        let team = Team::new(threads).map_err(CpuError::NoThread)?;
        let scratch = (0..team.size()).map(|_| Mutex::default()).collect();
        Ok(Cpu { isa, table, team, scratch, reserved: Default::default() })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads in use.
    pub fn threads(&self) -> usize {
        self.team.size()
    }

    /// The single-threaded kernels in use.
    pub fn table(&self) -> &'static Table {
        self.table
    }

    /// Runs `f(thread, its scratch)` on every thread of the team, each scratch holding at least
    /// `rows` and `packed` floats. Whoever turns out to do the work, all have grown alike, so an
    /// operation repeated at the same or a smaller size allocates nothing.
    pub(crate) fn run(&self, need: [usize; 2], f: impl Fn(usize, &mut Scratch) + Sync) {
        let short = |(need, held): (usize, &AtomicUsize)| held.fetch_max(need, Relaxed) < need;
        if need.into_iter().zip(&self.reserved).filter(|&pair| short(pair)).count() > 0 {
            for thread in 0..self.threads() {
                self.scratch(thread).grow(need);
            }
        }
        self.team.run(|thread| {
            let scratch = &mut *self.scratch(thread);
            // Another caller may have announced this size and not yet reached this thread.
            scratch.grow(need);
            f(thread, scratch);
        });
    }

    /// Scratch holds no state between operations, so one left by a panic is as good.
    fn scratch(&self, thread: usize) -> MutexGuard<'_, Scratch> {
        self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scratch {
    fn grow(&mut self, [rows, packed]: [usize; 2]) {
        for (held, need) in [(&mut self.rows, rows), (&mut self.packed, packed)] {
            if held.len() < need {
                held.resize(need, 0.0);
            }
        }
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cpu({}, {} threads)", self.isa, self.threads())
    }
}
