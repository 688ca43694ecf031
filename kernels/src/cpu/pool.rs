//! A fork-join team of threads that live as long as the team.
//!
//! A decode step is some sixty jobs of a few hundred microseconds; waking a sleeping thread costs
//! tens of them. So a worker that has finished spins for [`SPINS`] pauses (some 50 to 100
//! microseconds) before it parks, and so does a caller that waits. An idle team therefore costs
//! nothing, and two teams in one process disturb each other for at most that long.
//!
//! Work is split by index, never stolen: job `f` is called once with each index `0..size`, so
//! what a thread computes does not depend on timing.
//!
//! Invariant: `run` returns, or unwinds, only after every index has finished.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use super::denormals::Flushed;

/// Pauses before a waiting thread parks.
const SPINS: u32 = 4_000;

type Job = dyn Fn(usize) + Sync;

/// A fixed number of threads, the caller's among them.
pub struct Team {
    shared: Arc<State>,
    workers: Vec<JoinHandle<()>>,
}

struct State {
    /// Grows by one per job; the workers' signal to start. Its parity carries no meaning.
    epoch: AtomicUsize,
    /// Workers that have not finished the current job.
    pending: AtomicUsize,
    /// The current job and the thread that waits for it. Locked for one copy per worker.
    order: Mutex<Option<Order>>,
    /// Set while a job is running, so that a second or nested call does not wait on itself.
    busy: AtomicBool,
    /// The first panic of a worker.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// One flag per worker: parked, or about to.
    parked: Box<[AtomicBool]>,
    stop: AtomicBool,
}

#[derive(Clone)]
struct Order {
    job: *const Job,
    caller: Thread,
}

// SAFETY: the job is Sync, and `run` keeps it alive until every worker is done with it.
unsafe impl Send for Order {}

impl Team {
    /// A team of `size` threads: the caller of [`Team::run`] and `size - 1` workers. A size of 0
    /// is taken as 1.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(size: usize) -> std::io::Result<Team> {
        let others = size.max(1) - 1;
        let shared = Arc::new(State {
            epoch: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            order: Mutex::new(None),
            busy: AtomicBool::new(false),
            panic: Mutex::new(None),
            parked: (0..others).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
        });
        // Made first, so that a refused thread drops the team and ends those already started.
        let mut team = Team { shared, workers: Vec::with_capacity(others) };
        for worker in 0..others {
            let shared = Arc::clone(&team.shared);
            let thread = thread::Builder::new()
                .name(format!("kernels-{}", worker + 1))
                .spawn(move || shared.work(worker))?;
            team.workers.push(thread);
        }
        Ok(team)
    }

    /// Threads that take part in a job.
    pub fn size(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(0)`, …, `f(size - 1)`, each once, and waits for all. Index 0 runs on the caller.
    /// A call from inside a job, or beside another thread's, runs every index on its own thread.
    ///
    /// # Panics
    /// With the payload of a panicking `f`, after all indices have ended.
    pub fn run(&self, f: impl Fn(usize) + Sync) {
        let _flushed = Flushed::enter();
        if self.workers.is_empty() || self.shared.busy.swap(true, Ordering::Acquire) {
            (0..self.size()).for_each(f);
            return;
        }
        let state = &*self.shared;
        state.start(&f, &self.workers);
        let mine = catch_unwind(AssertUnwindSafe(|| f(0)));
        wait(|| state.pending.load(Ordering::Acquire) == 0);
        let theirs = lock(&state.panic).take();
        state.busy.store(false, Ordering::Release);
        if let Some(payload) = mine.err().or(theirs) {
            resume_unwind(payload);
        }
    }
}

impl State {
    fn start<'a>(&self, f: &'a (dyn Fn(usize) + Sync + 'a), workers: &[JoinHandle<()>]) {
        let job: *const (dyn Fn(usize) + Sync + 'a) = f;
        // SAFETY: only the lifetime changes. `run` outlives the job: it waits for `pending` to
        // reach zero before `f` can be dropped, and workers do not touch it after that.
        let job: *const Job = unsafe { std::mem::transmute(job) };
        *lock(&self.order) = Some(Order { job, caller: thread::current() });
        self.pending.store(workers.len(), Ordering::Relaxed);
        // SeqCst pairs with the worker's store to `parked` before its last look at `epoch`: one
        // of the two sides sees the other, so no wake-up is lost.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        for (parked, worker) in self.parked.iter().zip(workers) {
            if parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }

    fn work(&self, worker: usize) {
        let _flushed = Flushed::enter();
        let mut seen = 0;
        loop {
            self.wait_for_epoch(worker, seen);
            seen += 1;
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let order = lock(&self.order).clone().expect("an epoch begins with an order");
            // SAFETY: the caller is inside `run` until `pending` falls below, and holds the job.
            let job = unsafe { &*order.job };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(worker + 1))) {
                lock(&self.panic).get_or_insert(payload);
            }
            if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
                order.caller.unpark();
            }
        }
    }

    fn wait_for_epoch(&self, worker: usize, seen: usize) {
        for _ in 0..SPINS {
            if self.epoch.load(Ordering::Acquire) != seen {
                return;
            }
            std::hint::spin_loop();
        }
        self.parked[worker].store(true, Ordering::SeqCst);
        while self.epoch.load(Ordering::SeqCst) == seen {
            thread::park();
        }
        self.parked[worker].store(false, Ordering::Relaxed);
    }
}

/// Spins, then parks until `done`; whoever makes it true unparks this thread.
fn wait(done: impl Fn() -> bool) {
    for _ in 0..SPINS {
        if done() {
            return;
        }
        std::hint::spin_loop();
    }
    while !done() {
        thread::park();
    }
}

/// No user code runs under these locks, so a poisoned one still guards whole values.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches every panic of a job, so there is none left to report here.
            let _ = worker.join();
        }
    }
}

/// The `index`-th of `parts` nearly equal, contiguous pieces of `0..total`.
pub(crate) fn piece(total: usize, parts: usize, index: usize) -> std::ops::Range<usize> {
    let (base, extra) = (total / parts, total % parts);
    let start = index * base + index.min(extra);
    start..start + base + usize::from(index < extra)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(team: &Team) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..team.size()).map(|_| AtomicUsize::new(0)).collect();
        team.run(|i| {
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_index_runs_once_per_job_for_every_size() {
        for size in [0, 1, 2, 3, 8] {
            let team = Team::new(size).unwrap();
            for _ in 0..500 {
                assert_eq!(counts(&team), vec![1; size.max(1)]);
            }
        }
    }

    #[test]
    fn a_panic_in_any_index_reaches_the_caller_and_the_team_survives() {
        let team = Team::new(3).unwrap();
        for guilty in 0..3 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                team.run(|i| assert!(i != guilty, "index {guilty} fails"));
            }));
            let payload = result.unwrap_err();
            assert_eq!(payload.downcast_ref::<String>().unwrap(), &format!("index {guilty} fails"));
            assert_eq!(counts(&team), vec![1; 3]);
        }
    }

    #[test]
    fn nested_and_concurrent_calls_finish() {
        let team = Team::new(2).unwrap();
        let total = AtomicUsize::new(0);
        team.run(|_| {
            team.run(|_| {
                total.fetch_add(1, Ordering::Relaxed);
            })
        });
        assert_eq!(total.load(Ordering::Relaxed), 4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| assert_eq!(counts(&team), vec![1; 2])));
            }
        });
    }

    #[test]
    fn two_teams_work_side_by_side() {
        let (a, b) = (Team::new(2).unwrap(), Team::new(3).unwrap());
        thread::scope(|scope| {
            scope.spawn(|| (0..500).for_each(|_| assert_eq!(counts(&a), vec![1; 2])));
            scope.spawn(|| (0..500).for_each(|_| assert_eq!(counts(&b), vec![1; 3])));
        });
    }

    #[test]
    fn pieces_cover_the_whole_once() {
        for total in 0..40 {
            for parts in 1..7 {
                let all: Vec<usize> = (0..parts).flat_map(|i| piece(total, parts, i)).collect();
                assert_eq!(all, (0..total).collect::<Vec<_>>());
            }
        }
    }
}
