//! Threads held to CPUs, on request.
//!
//! Who pins keeps a thread beside the memory it touched first and out of the way of its neighbours.
//! Who shares the machine should not: a pinned thread cannot step aside for another process. So
//! nothing is pinned unless it is asked for. The CPUs are those that the calling thread may use, in the
//! order of their numbers; thread i of a team gets the i-th.

use std::fmt;
use std::io;

/// Which threads of a team are held to one CPU each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pinning {
    /// None: the system places them.
    #[default]
    None,
    /// The workers: of the CPUs that the maker of the team may use, worker i (from 1) gets the
    /// i-th, counted from 0. The caller goes where it likes, at best where no worker is.
    Workers,
    /// The workers, and the thread that makes the team, on the first CPU. It is to be the one that calls,
    /// and may use what it could before once the team is dropped. Threads that it starts meanwhile
    /// are held to that CPU too, and so a second pinned team finds no room.
    All,
}

/// Why threads were not pinned.
#[derive(Debug)]
pub enum PinError {
    /// More threads than CPUs this process may use.
    TooFewCpus {
        /// Threads asked for.
        threads: usize,
        /// CPUs there are for them.
        allowed: usize,
    },
    /// This system has no call for it that we know of.
    Unsupported,
    /// The system said no.
    Refused(io::Error),
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PinError::TooFewCpus { threads, allowed } => write!(
                f,
                "{threads} threads cannot be pinned to the {allowed} CPUs allowed here; \
                 ask for at most {allowed}, or do not pin"
            ),
            PinError::Unsupported => f.write_str("threads can be pinned on Linux only; do not pin"),
            PinError::Refused(cause) => write!(f, "the system does not pin threads: {cause}; do not pin"),
        }
    }
}

impl std::error::Error for PinError {}

impl Pinning {
    /// The CPU of each of a team's `size` threads, the caller's first.
    pub(super) fn places(self, size: usize) -> Result<Vec<Option<usize>>, PinError> {
        if self == Pinning::None {
            return Ok(vec![None; size]);
        }
        let cpus = allowed_cpus()?;
        if size > cpus.len() {
            return Err(PinError::TooFewCpus { threads: size, allowed: cpus.len() });
        }
        let mut places: Vec<_> = cpus.into_iter().take(size).map(Some).collect();
        if self == Pinning::Workers {
            places[0] = None;
        }
        Ok(places)
    }
}

/// The CPUs that the calling thread may use, by their numbers, rising.
///
/// # Errors
/// `Unsupported` anywhere but on Linux; `Refused` where the system has more than 1024 CPUs.
pub fn allowed_cpus() -> Result<Vec<usize>, PinError> {
    system::Mask::of_this_thread().map(|mask| mask.cpus())
}

/// Holds the calling thread to `cpu` from now on.
pub(super) fn hold(cpu: usize) -> Result<(), PinError> {
    system::Mask::of_one(cpu).apply(0)
}

/// A thread that is held to one CPU until this is dropped, wherever that happens.
pub(super) struct Held {
    thread: i32,
    former: system::Mask,
}

impl Held {
    /// Holds the calling thread to `cpu`.
    pub(super) fn this_thread(cpu: usize) -> Result<Held, PinError> {
        let former = system::Mask::of_this_thread()?;
        hold(cpu)?;
        Ok(Held { thread: system::this_thread(), former })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if system::is_ours(self.thread) {
            // It was allowed before; if it is no longer, there is nothing to go back to.
            let _ = self.former.apply(self.thread);
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;

    use super::PinError;

    /// A set of CPUs.
    pub(super) struct Mask(libc::cpu_set_t);

    impl Mask {
        fn empty() -> Mask {
            // SAFETY: cpu_set_t is an array of integers, for which zero is a value.
            Mask(unsafe { std::mem::zeroed() })
        }

        pub(super) fn of_one(cpu: usize) -> Mask {
            let mut mask = Mask::empty();
            // SAFETY: sets a bit of the mask; libc checks the index against its size.
            unsafe { libc::CPU_SET(cpu, &mut mask.0) };
            mask
        }

        pub(super) fn of_this_thread() -> Result<Mask, PinError> {
            let mut mask = Mask::empty();
            // SAFETY: the system writes at most the size stated, which is the mask's.
            let status = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut mask.0) };
            if status == 0 { Ok(mask) } else { Err(PinError::Refused(io::Error::last_os_error())) }
        }

        /// Lets `thread` (0: the calling one) run on these CPUs only.
        pub(super) fn apply(&self, thread: i32) -> Result<(), PinError> {
            // SAFETY: the system reads the size stated, which is the mask's.
            let status = unsafe { libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &self.0) };
            if status == 0 { Ok(()) } else { Err(PinError::Refused(io::Error::last_os_error())) }
        }

        pub(super) fn cpus(&self) -> Vec<usize> {
            // SAFETY: reads a bit of the mask; the index is within its size.
            (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &self.0) }).collect()
        }
    }

    pub(super) fn this_thread() -> i32 {
        // SAFETY: reads the number of the calling thread.
        unsafe { libc::gettid() }
    }

    /// Whether a thread of that number lives in this process: after its end another process may have it.
    pub(super) fn is_ours(thread: i32) -> bool {
        // SAFETY: signal 0 asks whether the thread exists and sends nothing.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) == 0 }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::PinError;

    /// No set: every question is answered by `Unsupported`.
    pub(super) struct Mask;

    impl Mask {
        pub(super) fn of_one(_: usize) -> Mask {
            Mask
        }
        pub(super) fn of_this_thread() -> Result<Mask, PinError> {
            Err(PinError::Unsupported)
        }
        pub(super) fn apply(&self, _: i32) -> Result<(), PinError> {
            Err(PinError::Unsupported)
        }
        pub(super) fn cpus(&self) -> Vec<usize> {
            Vec::new()
        }
    }

    pub(super) fn this_thread() -> i32 {
        0
    }

    pub(super) fn is_ours(_: i32) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::super::Team;
    use super::*;
    use crate::CpuError;

    /// The CPUs here, or `None`, said aloud, where threads cannot be pinned.
    fn cpus() -> Option<Vec<usize>> {
        if cfg!(not(target_os = "linux")) {
            assert!(matches!(allowed_cpus(), Err(PinError::Unsupported)));
            assert!(matches!(Team::with(1, Pinning::All), Err(CpuError::NotPinned(PinError::Unsupported))));
            eprintln!("skipped: threads can be pinned on Linux only");
            return None;
        }
        Some(allowed_cpus().unwrap())
    }

    /// What each thread of the team may use, read back from the system by itself.
    fn masks(team: &Team) -> Vec<Vec<usize>> {
        let masks: Vec<_> = (0..team.size()).map(|_| Mutex::new(Vec::new())).collect();
        // Index 0 waits for the others to begin, so the caller cannot take over one of them.
        let begun = std::sync::Barrier::new(team.size());
        team.run(|i| {
            begun.wait();
            *masks[i].lock().unwrap() = allowed_cpus().unwrap();
        });
        masks.into_iter().map(|mask| mask.into_inner().unwrap()).collect()
    }

    #[test]
    fn threads_are_held_to_the_cpus_in_order_and_the_caller_gets_its_own_back() {
        let Some(cpus) = cpus() else { return };
        let size = cpus.len().min(4);
        let one_each: Vec<_> = cpus[..size].iter().map(|&cpu| vec![cpu]).collect();
        for (pinning, caller) in
            [(Pinning::None, &cpus), (Pinning::Workers, &cpus), (Pinning::All, &one_each[0])]
        {
            let team = Team::with(size, pinning).unwrap();
            assert_eq!(&allowed_cpus().unwrap(), caller, "{pinning:?}");
            if size == 1 {
                continue;
            }
            let found = masks(&team);
            assert_eq!(&found[0], caller);
            for (worker, found) in found.iter().enumerate().skip(1) {
                assert_eq!(found, if pinning == Pinning::None { &cpus } else { &one_each[worker] });
            }
            drop(team);
            assert_eq!(allowed_cpus().unwrap(), cpus, "{pinning:?}");
        }
    }

    #[test]
    fn the_maker_gets_its_cpus_back_wherever_the_team_is_dropped() {
        let Some(cpus) = cpus() else { return };
        let team = Team::with(1, Pinning::All).unwrap();
        assert_eq!(allowed_cpus().unwrap(), cpus[..1]);
        thread::spawn(move || drop(team)).join().unwrap();
        assert_eq!(allowed_cpus().unwrap(), cpus);
        // A maker that has ended is left alone.
        let orphan = thread::spawn(|| Team::with(1, Pinning::All).unwrap()).join().unwrap();
        drop(orphan);
    }

    #[test]
    fn more_threads_than_cpus_are_refused_and_nothing_is_left_pinned() {
        let Some(cpus) = cpus() else { return };
        let error = Team::with(cpus.len() + 1, Pinning::All).err().unwrap();
        let CpuError::NotPinned(PinError::TooFewCpus { threads, allowed }) = error else {
            panic!("{error}");
        };
        assert_eq!((threads, allowed), (cpus.len() + 1, cpus.len()));
        assert!(error.to_string().contains(&format!("at most {allowed}")), "{error}");
        assert_eq!(allowed_cpus().unwrap(), cpus);
    }
}
