//! What a decode step takes on more cores than there are: a model of three terms, and the
//! measurements it starts from.
//!
//! A step is a row of [`Job`]s, each shared out among the threads in pieces that are not cut
//! further (panels of 32 columns, heads), with a meeting of all threads at its end:
//!
//! ```text
//! T(n)        = sum over jobs of (memory(n) with arithmetic(n))  +  jobs * meeting(n)
//! memory      = bytes * max(1 / bandwidth(n), busiest(n) / bandwidth of one thread)
//! arithmetic  = busiest(n) * operations / peak of one thread
//! busiest     = ceil(pieces / n) / pieces, the part of a job that its busiest thread has
//! ```
//!
//! "With" is between two ends, and both are given: at best the longer of the two, where weights are
//! fetched ahead while others are multiplied, at worst their sum. Norms, GELU and the rounding of
//! activations are left out.
//!
//! Invariant: this file is arithmetic alone; clocks are in [`measure`](mod@measure).

pub mod measure;

pub use measure::{Measure, measure};

/// One job of a decode step, between two meetings of the team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Read from memory.
    pub bytes: usize,
    /// Multiplications and additions.
    pub operations: usize,
    /// How many parts it can be shared out in, at least 1.
    pub pieces: usize,
}

/// One number of threads, measured: medians.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Threads, at least 1.
    pub threads: usize,
    /// Bytes per second that they read together when they do nothing else.
    pub bandwidth: f64,
    /// Seconds of a job that does nothing, with all threads in it.
    pub meeting_s: f64,
    /// Seconds of a decode step.
    pub step_s: f64,
}

/// What is known of a model on a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// A decode step.
    pub jobs: Vec<Job>,
    /// Operations per second of one thread on weights that its own caches hold.
    pub peak: f64,
    /// By number of threads, rising, at least one.
    pub points: Vec<Point>,
}

/// How bandwidth goes on beyond the threads that were measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// It stays what the most threads reached.
    Stays,
    /// Each further thread adds what the most threads had each.
    WithCores,
    /// So too, up to this many bytes per second.
    UpTo(f64),
}

/// A machine with a number of threads at work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Threads, at least 1.
    pub threads: usize,
    /// Bytes per second of all of them.
    pub bandwidth: f64,
    /// Bytes per second of one of them alone.
    pub thread_bandwidth: f64,
    /// Operations per second of one of them.
    pub peak: f64,
    /// Seconds of a job that does nothing.
    pub meeting_s: f64,
}

/// Where the time of a step goes, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Waiting for memory, were arithmetic free.
    pub memory_s: f64,
    /// Computing, were memory free.
    pub arithmetic_s: f64,
    /// Meeting.
    pub meetings_s: f64,
    /// The step where memory and arithmetic overlap in full: of each job the longer, and the meetings.
    pub least_s: f64,
    /// The step where they do not overlap: all three.
    pub most_s: f64,
}

impl Measured {
    /// The machine with `threads` threads at work: as measured where that was measured, otherwise by `growth`.
    ///
    /// Meetings grow by what each worker beyond the caller cost in the largest team measured: a line, where a
    /// good barrier would grow more slowly. One thread alone meets nobody, and says nothing of it: 0.
    ///
    /// # Panics
    /// If nothing was measured.
    pub fn machine(&self, threads: usize, growth: Growth) -> Machine {
        let most = self.points.last().expect("at least one point");
        let thread_bandwidth =
            self.points.iter().map(|point| point.bandwidth / point.threads as f64).fold(0.0, f64::max);
        let (bandwidth, meeting_s) = match self.points.iter().find(|point| point.threads == threads) {
            Some(point) => (point.bandwidth, point.meeting_s),
            None => {
                let grown = most.bandwidth / most.threads as f64 * threads as f64;
                let bandwidth = match growth {
                    Growth::Stays => most.bandwidth.min(grown),
                    Growth::WithCores => grown,
                    Growth::UpTo(limit) => grown.min(limit),
                };
                let workers = (most.threads - 1).max(1) as f64;
                let each = if most.threads == 1 { 0.0 } else { most.meeting_s / workers };
                (bandwidth, each * (threads - 1) as f64)
            }
        };
        Machine { threads, bandwidth, thread_bandwidth, peak: self.peak, meeting_s }
    }
}

/// The time of `jobs`, one after the other, on `machine`.
pub fn predict(jobs: &[Job], machine: &Machine) -> Prediction {
    let mut sum = Prediction { meetings_s: jobs.len() as f64 * machine.meeting_s, ..Prediction::default() };
    for job in jobs {
        let pieces = job.pieces.max(1);
        let busiest = pieces.div_ceil(machine.threads) as f64 / pieces as f64;
        let per_byte = (1.0 / machine.bandwidth).max(busiest / machine.thread_bandwidth);
        let memory = job.bytes as f64 * per_byte;
        let arithmetic = busiest * job.operations as f64 / machine.peak;
        sum.memory_s += memory;
        sum.arithmetic_s += arithmetic;
        sum.least_s += memory.max(arithmetic);
    }
    sum.least_s += sum.meetings_s;
    sum.most_s = sum.memory_s + sum.arithmetic_s + sum.meetings_s;
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads 1000 bytes per second alone, computes 100 operations per second.
    fn machine(threads: usize, bandwidth: f64) -> Machine {
        Machine { threads, bandwidth, thread_bandwidth: 1000.0, peak: 100.0, meeting_s: 0.5 }
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9 * expected.abs().max(1.0), "{found}, not {expected}");
    }

    #[test]
    fn memory_arithmetic_and_meetings_by_hand() {
        let memory = Job { bytes: 8000, operations: 100, pieces: 8 };
        let arithmetic = Job { bytes: 1000, operations: 800, pieces: 8 };
        // Alone: 8 s of memory beside 1 of arithmetic, then 1 beside 8, and two meetings.
        let alone = predict(&[memory, arithmetic], &machine(1, 1000.0));
        near(alone.memory_s, 9.0);
        near(alone.arithmetic_s, 9.0);
        near(alone.meetings_s, 1.0);
        near(alone.least_s, 8.0 + 8.0 + 1.0);
        near(alone.most_s, 9.0 + 9.0 + 1.0);
        // Four threads with twice the bandwidth: 4 s beside 1/4, then 1/2 beside 2.
        let four = predict(&[memory, arithmetic], &machine(4, 2000.0));
        near(four.least_s, 4.0 + 2.0 + 1.0);
        near(four.most_s, 4.25 + 2.5 + 1.0);
    }

    #[test]
    fn a_job_is_as_slow_as_its_busiest_thread() {
        let job = |pieces| [Job { bytes: 6000, operations: 0, pieces }];
        let time = |pieces, threads| predict(&job(pieces), &machine(threads, 1e9)).memory_s;
        // 6 pieces over 4 threads: two of them have two, a third of the job, at one thread's rate.
        near(time(6, 4), 2.0);
        near(time(6, 6), 1.0);
        near(time(6, 64), 1.0);
        near(time(1, 64), 6.0);
    }

    #[test]
    fn what_was_measured_is_taken_as_it_is_and_the_rest_by_growth() {
        let point = |threads, bandwidth, meeting_s| Point { threads, bandwidth, meeting_s, step_s: 1.0 };
        let points = vec![point(1, 20.0, 0.1), point(3, 30.0, 4.0)];
        let measured = Measured { jobs: Vec::new(), peak: 7.0, points };
        for growth in [Growth::Stays, Growth::WithCores, Growth::UpTo(25.0)] {
            let three = measured.machine(3, growth);
            assert_eq!((three.bandwidth, three.meeting_s, three.thread_bandwidth), (30.0, 4.0, 20.0));
        }
        let bandwidth = |threads, growth| measured.machine(threads, growth).bandwidth;
        assert_eq!(bandwidth(64, Growth::Stays), 30.0);
        assert_eq!(bandwidth(64, Growth::WithCores), 640.0);
        assert_eq!(bandwidth(64, Growth::UpTo(500.0)), 500.0);
        assert_eq!(bandwidth(4, Growth::UpTo(500.0)), 40.0);
        assert_eq!(bandwidth(2, Growth::Stays), 20.0, "fewer threads read no more than their share");
        // Two workers cost 4, so 63 cost 126.
        assert_eq!(measured.machine(64, Growth::Stays).meeting_s, 126.0);
        let alone = Measured { points: vec![point(1, 20.0, 0.1)], ..measured };
        assert_eq!(alone.machine(64, Growth::WithCores).meeting_s, 0.0);
    }
}
