//! A fork-join team of threads that live as long as the team.
//!
//! A decode step is some sixty jobs of tens to hundreds of microseconds; waking a sleeping thread
//! costs tens of them. So a worker that has finished spins for [`SPINS`] pauses (some 50 to 100
//! microseconds) before it parks, and so does a caller that waits. An idle team therefore costs
//! nothing, and two teams in one process disturb each other for at most that long.
//!
//! On a busy machine a worker may be late. An index its worker has not begun is taken over by the
//! caller, so a job waits for work in progress only, never for a wake-up. A [`Queue`] hands the
//! pieces of a job to whoever is there; each piece is computed the same way by anyone, so results
//! do not depend on timing.
//!
//! Invariant: `run` returns, or unwinds, only after every index has finished, and nobody touches
//! its job afterwards.

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
    /// Grows by one per job; the workers' signal to start.
    epoch: AtomicUsize,
    /// Workers that have started.
    up: AtomicUsize,
    /// Workers that have not finished the current job.
    pending: AtomicUsize,
    /// The current job and the thread that waits for it. Locked for one copy per worker.
    order: Mutex<Option<Order>>,
    /// Set while a job is running, so that a second or nested call does not wait on itself.
    busy: AtomicBool,
    /// The first panic of a worker.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// One per worker.
    seats: Box<[Seat]>,
    stop: AtomicBool,
}

/// What concerns one worker, on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Seat {
    /// Parked, or about to.
    parked: AtomicBool,
    /// The latest epoch in which this worker's index has been begun, by it or by the caller.
    begun: AtomicUsize,
}

impl Seat {
    /// Whether the one who asks, and nobody else, is to run this index in `epoch`.
    fn begin(&self, epoch: usize) -> bool {
        self.begun.fetch_max(epoch, Ordering::AcqRel) < epoch
    }
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
    /// is taken as 1. Returns when all of them are up, so the first job finds them ready.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(size: usize) -> std::io::Result<Team> {
        let others = size.max(1) - 1;
        let shared = Arc::new(State {
            epoch: AtomicUsize::new(0),
            up: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            order: Mutex::new(None),
            busy: AtomicBool::new(false),
            panic: Mutex::new(None),
            seats: (0..others).map(|_| Seat::default()).collect(),
            stop: AtomicBool::new(false),
        });
        // Made first, so that a refused thread drops the team and ends those already started.
        let mut team = Team { shared, workers: Vec::with_capacity(others) };
        for worker in 0..others {
            let (shared, maker) = (Arc::clone(&team.shared), thread::current());
            let thread = thread::Builder::new().name(format!("kernels-{}", worker + 1)).spawn(move || {
                shared.up.fetch_add(1, Ordering::Release);
                maker.unpark();
                shared.work(worker);
            })?;
            team.workers.push(thread);
        }
        wait(|| team.shared.up.load(Ordering::Acquire) == others);
        Ok(team)
    }

    /// Threads that take part in a job.
    pub fn size(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(0)`, …, `f(size - 1)`, each once, and waits for all. Index 0 runs on the caller.
    /// An index whose worker is late runs on the
    /// caller too, and so does every index of a call from inside a job or beside another thread's.
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
        let epoch = state.start(&f, &self.workers);
        let mut panic = catch_unwind(AssertUnwindSafe(|| f(0))).err();
        for (worker, seat) in state.seats.iter().enumerate() {
            if seat.begin(epoch) {
                let late = catch_unwind(AssertUnwindSafe(|| f(worker + 1))).err();
                panic = panic.or(late);
                state.pending.fetch_sub(1, Ordering::Relaxed);
            }
        }
        wait(|| state.pending.load(Ordering::Acquire) == 0);
        let theirs = lock(&state.panic).take();
        state.busy.store(false, Ordering::Release);
        if let Some(payload) = panic.or(theirs) {
            resume_unwind(payload);
        }
    }
}

impl State {
    /// Publishes a job; gives its epoch.
    fn start<'a>(&self, f: &'a (dyn Fn(usize) + Sync + 'a), workers: &[JoinHandle<()>]) -> usize {
        let job: *const (dyn Fn(usize) + Sync + 'a) = f;
        // SAFETY: only the lifetime changes. `run` outlives the job: it waits for `pending` to
        // reach zero before `f` can be dropped, and workers do not touch it after that.
        let job: *const Job = unsafe { std::mem::transmute(job) };
        *lock(&self.order) = Some(Order { job, caller: thread::current() });
        self.pending.store(workers.len(), Ordering::Relaxed);
        // SeqCst pairs with the worker's store to `parked` before its last look at `epoch`: one
        // of the two sides sees the other, so no wake-up is lost.
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        for (seat, worker) in self.seats.iter().zip(workers) {
            if seat.parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        epoch
    }

    fn work(&self, worker: usize) {
        let _flushed = Flushed::enter();
        let mut seen = 0;
        loop {
            seen = self.wait_for_epoch(worker, seen);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            // Winning this means that the caller is inside `run` of this very epoch and stays
            // there until we subtract from `pending`: it could leave only by winning here itself.
            if !self.seats[worker].begin(seen) {
                continue;
            }
            let order = lock(&self.order).clone().expect("an epoch begins with an order");
            // SAFETY: the order is of this epoch and its job alive, see above.
            let job = unsafe { &*order.job };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(worker + 1))) {
                lock(&self.panic).get_or_insert(payload);
            }
            if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
                order.caller.unpark();
            }
        }
    }

    /// Waits for an epoch after `seen` and gives the newest.
    fn wait_for_epoch(&self, worker: usize, seen: usize) -> usize {
        for _ in 0..SPINS {
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        let parked = &self.seats[worker].parked;
        parked.store(true, Ordering::SeqCst);
        loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            if epoch != seen {
                parked.store(false, Ordering::Relaxed);
                return epoch;
            }
            thread::park();
        }
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

/// The pieces `0..total` of a job, dealt out to whoever asks.
pub(crate) struct Queue {
    next: AtomicUsize,
    total: usize,
    /// A request takes one part in `share` of what is left.
    share: usize,
}

impl Queue {
    /// Runs of neighbouring pieces, long at first and single at the end, for `threads` threads.
    pub(crate) fn runs(total: usize, threads: usize) -> Queue {
        Queue { next: AtomicUsize::new(0), total, share: 2 * threads }
    }

    /// Pieces one at a time.
    pub(crate) fn single(total: usize) -> Queue {
        Queue { next: AtomicUsize::new(0), total, share: usize::MAX }
    }

    /// The next pieces, or `None` when all are taken.
    pub(crate) fn take(&self) -> Option<std::ops::Range<usize>> {
        let mut next = self.next.load(Ordering::Relaxed);
        while next < self.total {
            let end = next + ((self.total - next) / self.share).max(1);
            // Relaxed: the pieces are disjoint, and the team's own join publishes their results.
            match self.next.compare_exchange_weak(next, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(next..end),
                Err(moved) => next = moved,
            }
        }
        None
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
    fn a_queue_deals_every_piece_once() {
        let team = Team::new(3).unwrap();
        for total in [0, 1, 2, 7, 100] {
            for queue in [Queue::single(total), Queue::runs(total, 3)] {
                let taken: Vec<AtomicUsize> = (0..total).map(|_| AtomicUsize::new(0)).collect();
                team.run(|_| {
                    while let Some(pieces) = queue.take() {
                        for piece in pieces {
                            taken[piece].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
                assert!(taken.into_iter().all(|count| count.into_inner() == 1));
            }
        }
    }

    #[test]
    fn an_idle_team_that_has_parked_wakes_again() {
        let team = Team::new(2).unwrap();
        let state = &*team.shared;
        for _ in 0..3 {
            while !state.seats[0].parked.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            // Index 0 holds the job open until the worker has taken its own index.
            team.run(|i| {
                while i == 0
                    && state.seats[0].begun.load(Ordering::Acquire) < state.epoch.load(Ordering::Acquire)
                {
                    thread::yield_now();
                }
            });
        }
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
