//! Three clocks of one sample: wall, processor time of the whole process, and run delay.
//!
//! Run delay is the time threads stood ready with no processor to run on; for single-threaded work
//! wall - run_delay agrees with processor time, and a large delay says the machine was shared.

/// One reading of the clocks, all in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// CLOCK_MONOTONIC: comparable between processes of one machine.
    pub wall_ns: u64,
    /// CLOCK_PROCESS_CPUTIME_ID: all threads of this process, user and system.
    pub cpu_ns: u64,
    /// Sum of the second field of /proc/self/task/*/schedstat; 0 where the kernel keeps none.
    pub run_delay_ns: u64,
}

impl Reading {
    /// What passed since `start`. Run delay can only fall when a thread ended; then it reads 0.
    pub fn since(self, start: Reading) -> Reading {
        Reading {
            wall_ns: self.wall_ns - start.wall_ns,
            cpu_ns: self.cpu_ns - start.cpu_ns,
            run_delay_ns: self.run_delay_ns.saturating_sub(start.run_delay_ns),
        }
    }
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Reads run delay first and wall last, so that [`read_clocks`] before and the mirror image
/// `read_clocks_end` after enclose nothing but the work in the wall clock.
pub fn read_clocks() -> Reading {
    let run_delay_ns = run_delay_ns();
    let cpu_ns = read(libc::CLOCK_PROCESS_CPUTIME_ID);
    Reading { wall_ns: monotonic_ns(), cpu_ns, run_delay_ns }
}

/// See [`read_clocks`].
pub(crate) fn read_clocks_end() -> Reading {
    let wall_ns = monotonic_ns();
    let cpu_ns = read(libc::CLOCK_PROCESS_CPUTIME_ID);
    Reading { wall_ns, cpu_ns, run_delay_ns: run_delay_ns() }
}

fn read(id: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid timespec this call may write; both clock ids exist on every Linux.
    let rc = unsafe { libc::clock_gettime(id, &mut ts) };
    assert_eq!(rc, 0, "clock_gettime({id}) failed: {}", std::io::Error::last_os_error());
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

fn run_delay_ns() -> u64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

/// The moments at which token ids came to exist inside one run.
#[derive(Debug, Default)]
pub struct Laps {
    start_ns: u64,
    ends_ns: Vec<u64>,
}

impl Laps {
    /// Call at the moment the token id (or the batch of ids of one step) is known to the host.
    #[inline]
    pub fn mark(&mut self) {
        self.ends_ns.push(monotonic_ns());
    }

    /// Adds laps that the engine's own language stamped with CLOCK_MONOTONIC.
    pub fn mark_at(&mut self, monotonic_ns: u64) {
        self.ends_ns.push(monotonic_ns);
    }

    /// Empties the laps, keeps their memory, and starts at `start_ns`. Room for `capacity` marks is
    /// made here, off the clock.
    pub fn restart(&mut self, capacity: usize) {
        self.ends_ns.clear();
        self.ends_ns.reserve(capacity);
    }

    pub(crate) fn begin(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
    }

    /// Durations from lap to lap, the first counted from the start of the run.
    pub fn durations_ns(&self) -> Vec<u64> {
        let mut previous = self.start_ns;
        self.ends_ns
            .iter()
            .map(|&end| {
                let lap = end.saturating_sub(previous);
                previous = end;
                lap
            })
            .collect()
    }

    /// The last mark, if any: CLOCK_MONOTONIC nanoseconds.
    pub fn last_ns(&self) -> Option<u64> {
        self.ends_ns.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_work_shows_on_both_clocks() {
        let start = read_clocks();
        let mut x = 1u64;
        while monotonic_ns() - start.wall_ns < 3_000_000 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1);
        }
        std::hint::black_box(x);
        let spent = read_clocks_end().since(start);
        assert!(spent.wall_ns >= 3_000_000);
        assert!(spent.cpu_ns > 0);
    }

    #[test]
    fn laps_are_counted_from_the_start_of_the_run() {
        let mut laps = Laps::default();
        laps.restart(2);
        laps.begin(100);
        laps.mark_at(130);
        laps.mark_at(150);
        assert_eq!(laps.durations_ns(), [30, 20]);
        laps.restart(1);
        laps.begin(200);
        assert!(laps.durations_ns().is_empty());
    }
}
