//! A fork-join team of threads that live as long as the team.
//!
//! A decode step is some sixty jobs of tens to hundreds of microseconds; waking a sleeping thread
//! costs tens of them. So a worker that has finished spins for `SPINS` pauses (some 50 to 100
//! microseconds) before it parks, and so does a caller that waits. An idle team therefore costs
//! nothing, and two teams in one process disturb each other for at most that long.
//!
//! On a busy machine a worker may be late. An index its worker has not begun is taken over by the
//! caller, so a job waits for work in progress only, never for a wake-up. A `Queue` hands the
//! pieces of a job to whoever is there; each piece is computed the same way by anyone, so results
//! do not depend on timing.
//!
//! What a meeting costs is cache lines that change hands. A worker at work writes to its own line
//! alone, the caller to the one that says what to do; nobody counts down a common number, and no
//! lock is taken unless somebody sleeps or panics. The caller looks at the workers one by one, which
//! grows with their number; a tree would grow with its logarithm, and waits for a machine on which
//! that can be seen.
//!
//! Invariant: `run` returns, or unwinds, only after every index has finished, and nobody touches
//! its job afterwards.

mod ahead;
mod pin;
mod queue;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use super::denormals::Flushed;
use super::engine::CpuError;

pub(crate) use ahead::Ahead;
pub use pin::{PinError, Pinning, allowed_cpus};
pub(crate) use queue::{Queue, part, piece};

/// Pauses before a waiting thread parks.
const SPINS: u32 = 4_000;

/// A job on the caller's stack. Its true lifetime is that of the call of `run`, see [`Order`].
type Job = &'static (dyn Fn(usize) -> Ahead + Sync);

/// A fixed number of threads, the caller's among them.
pub struct Team {
    shared: Arc<State>,
    workers: Vec<JoinHandle<()>>,
    /// The maker's thread, where it is pinned.
    _maker: Option<pin::Held>,
}

struct State {
    order: Order,
    /// One per worker.
    seats: Box<[Seat]>,
    /// Workers that have started.
    up: AtomicUsize,
    /// Set while a job is running, so that a second or nested call does not wait on itself.
    busy: AtomicBool,
    /// Whether the caller is parked, or about to, and who it is.
    waiting: AtomicBool,
    caller: Mutex<Option<Thread>>,
    /// The first failure of a worker: a panic of a job, or the refusal to be pinned.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    refused: Mutex<Option<PinError>>,
}

/// What all workers look at while they wait, and nothing else: whatever else were written on these
/// lines would be fetched again by every one of them. 128 bytes, because lines come in pairs.
#[repr(align(128))]
struct Order {
    /// Grows by one per job; the workers' signal to start.
    epoch: AtomicUsize,
    /// The job of this epoch. Read by those alone who have begun an index of it: `run` keeps the job
    /// alive until they are done.
    job: AtomicPtr<Job>,
    stop: AtomicBool,
}

/// What concerns one worker, on lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Seat {
    /// Parked, or about to.
    parked: AtomicBool,
    /// The latest epoch in which this worker's index has been begun, by it or by the caller.
    begun: AtomicUsize,
    /// The latest epoch in which it has ended.
    done: AtomicUsize,
}

impl Seat {
    /// Whether the one who asks, and nobody else, is to run this index in `epoch`.
    fn begin(&self, epoch: usize) -> bool {
        // Looking first spares the caller the exchange where a worker is on time.
        self.begun.load(Ordering::Relaxed) < epoch && self.begun.fetch_max(epoch, Ordering::AcqRel) < epoch
    }
}

impl Team {
    /// A team of `size` threads: the caller of [`Team::run`] and `size - 1` workers. A size of 0
    /// is taken as 1. Returns when all of them are up, so the first job finds them ready.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(size: usize) -> Result<Team, CpuError> {
        Team::with(size, Pinning::None)
    }

    /// A team whose threads are held to CPUs as `pinning` says.
    ///
    /// # Errors
    /// When the system refuses a thread, and where threads are to be pinned: there are more of them
    /// than CPUs allowed, this is not Linux, or the system refuses.
    pub fn with(size: usize, pinning: Pinning) -> Result<Team, CpuError> {
        let others = size.max(1) - 1;
        let places = pinning.places(others + 1).map_err(CpuError::NotPinned)?;
        let shared = Arc::new(State {
            order: Order {
                epoch: AtomicUsize::new(0),
                job: AtomicPtr::new(std::ptr::null_mut()),
                stop: AtomicBool::new(false),
            },
            seats: (0..others).map(|_| Seat::default()).collect(),
            up: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            caller: Mutex::new(None),
            panic: Mutex::new(None),
            refused: Mutex::new(None),
        });
        // Made first, so that a refused thread drops the team and ends those already started.
        let mut team = Team { shared, workers: Vec::with_capacity(others), _maker: None };
        for worker in 0..others {
            let (shared, maker, place) = (Arc::clone(&team.shared), thread::current(), places[worker + 1]);
            let thread = thread::Builder::new().name(format!("kernels-{}", worker + 1));
            let body = move || {
                if let Some(Err(error)) = place.map(pin::hold) {
                    lock(&shared.refused).get_or_insert(error);
                }
                shared.up.fetch_add(1, Ordering::Release);
                maker.unpark();
                shared.work(worker);
            };
            team.workers.push(thread.spawn(body).map_err(CpuError::NoThread)?);
        }
        wait(|| team.shared.up.load(Ordering::Acquire) == others);
        if let Some(error) = lock(&team.shared.refused).take() {
            return Err(CpuError::NotPinned(error));
        }
        // Last: threads inherit what their maker may use.
        team._maker = places[0].map(pin::Held::this_thread).transpose().map_err(CpuError::NotPinned)?;
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
        self.run_then(|index| {
            f(index);
            Ahead::default()
        });
    }

    /// [`Team::run`] of an `f` that says what its thread will read next, which it asks for while it
    /// waits for the others.
    pub(crate) fn run_then(&self, f: impl Fn(usize) -> Ahead + Sync) {
        let _flushed = Flushed::enter();
        if self.workers.is_empty() || self.shared.busy.swap(true, Ordering::Acquire) {
            (0..self.size()).for_each(|index| _ = f(index));
            return;
        }
        let state = &*self.shared;
        let job: &(dyn Fn(usize) -> Ahead + Sync) = &f;
        let epoch = state.start(&job, &self.workers);
        let own = catch_unwind(AssertUnwindSafe(|| f(0)));
        let mut ahead = own.as_ref().copied().unwrap_or_default();
        let mut panic = own.err();
        for (worker, seat) in state.seats.iter().enumerate() {
            if seat.begin(epoch) {
                let late = catch_unwind(AssertUnwindSafe(|| f(worker + 1))).err();
                panic = panic.or(late);
                seat.done.store(epoch, Ordering::Relaxed);
            }
        }
        state.wait_for_seats(epoch, &mut ahead);
        let theirs = lock(&state.panic).take();
        state.busy.store(false, Ordering::Release);
        if let Some(payload) = panic.or(theirs) {
            resume_unwind(payload);
        }
    }
}

impl State {
    /// Publishes a job; gives its epoch.
    fn start(&self, job: &&(dyn Fn(usize) -> Ahead + Sync), workers: &[JoinHandle<()>]) -> usize {
        // Published by the epoch.
        self.order.job.store(std::ptr::from_ref(job).cast_mut().cast(), Ordering::Relaxed);
        // SeqCst pairs with the worker's store to `parked` before its last look at `epoch`: one
        // of the two sides sees the other, so no wake-up is lost.
        let epoch = self.order.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        for (seat, worker) in self.seats.iter().zip(workers) {
            if seat.parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        epoch
    }

    fn work(&self, worker: usize) {
        let _flushed = Flushed::enter();
        let seat = &self.seats[worker];
        let (mut seen, mut ahead) = (0, Ahead::default());
        loop {
            seen = self.wait_for_epoch(seat, seen, &mut ahead);
            if self.order.stop.load(Ordering::Acquire) {
                return;
            }
            // Winning this means that the caller is inside `run` of this very epoch and stays
            // there until we say that we are done: it could leave only by winning here itself.
            if !seat.begin(seen) {
                continue;
            }
            // SAFETY: the job is this epoch's, stored before the epoch that we have seen, and `run`
            // keeps it alive until `done` is stored, see above.
            let job = unsafe { *self.order.job.load(Ordering::Relaxed) };
            match catch_unwind(AssertUnwindSafe(|| job(worker + 1))) {
                Ok(next) => ahead = next,
                Err(payload) => _ = lock(&self.panic).get_or_insert(payload),
            }
            // SeqCst pairs with the caller's store to `waiting` before its last look at `done`.
            seat.done.store(seen, Ordering::SeqCst);
            if self.waiting.load(Ordering::SeqCst) {
                lock(&self.caller).as_ref().inspect(|caller| caller.unpark());
            }
        }
    }

    /// Waits for an epoch after `seen` and gives the newest.
    fn wait_for_epoch(&self, seat: &Seat, seen: usize, ahead: &mut Ahead) -> usize {
        for _ in 0..SPINS {
            let epoch = self.order.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            ahead.pause();
        }
        seat.parked.store(true, Ordering::SeqCst);
        loop {
            let epoch = self.order.epoch.load(Ordering::SeqCst);
            if epoch != seen {
                seat.parked.store(false, Ordering::Relaxed);
                return epoch;
            }
            thread::park();
        }
    }

    /// Waits until every index of `epoch` has ended: spins, then parks.
    fn wait_for_seats(&self, epoch: usize, ahead: &mut Ahead) {
        let mut spins = SPINS;
        for seat in &self.seats {
            while seat.done.load(Ordering::Acquire) != epoch {
                if spins == 0 {
                    return self.park_until_done(epoch);
                }
                spins -= 1;
                ahead.pause();
            }
        }
    }

    fn park_until_done(&self, epoch: usize) {
        *lock(&self.caller) = Some(thread::current());
        self.waiting.store(true, Ordering::SeqCst);
        while !self.seats.iter().all(|seat| seat.done.load(Ordering::SeqCst) == epoch) {
            thread::park();
        }
        self.waiting.store(false, Ordering::Relaxed);
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
        self.shared.order.stop.store(true, Ordering::Release);
        self.shared.order.epoch.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches every panic of a job, so there is none left to report here.
            let _ = worker.join();
        }
    }
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
                    && state.seats[0].begun.load(Ordering::Acquire)
                        < state.order.epoch.load(Ordering::Acquire)
                {
                    thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn a_caller_that_has_parked_is_woken() {
        let team = Team::new(3).unwrap();
        for _ in 0..3 {
            let slow = AtomicUsize::new(0);
            team.run(|i| {
                // The workers have begun before the caller looks, and end when it has given up spinning.
                slow.fetch_add(1, Ordering::Relaxed);
                while if i == 0 {
                    slow.load(Ordering::Relaxed) < 3
                } else {
                    !team.shared.waiting.load(Ordering::SeqCst)
                } {
                    thread::yield_now();
                }
            });
        }
    }
}
