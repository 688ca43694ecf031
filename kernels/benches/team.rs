//! What it costs that a team meets: an empty job, and jobs in a row as a decode step has them.
//!
//! `team/empty` is fork and join with nothing between: the caller has run most indices itself before
//! a worker has heard of them. `team/meeting` is a job that nobody leaves before all have begun, which
//! is what a job costs that is long enough for all to take part. `team/step` is [`JOBS`] jobs, each a fixed
//! piece of arithmetic on every thread: `alone` does the same piece without a team, so the difference
//! is what the meetings add once the threads have something to do, the wait for the slowest of
//! them included. Where there are more threads than CPUs, that wait is the scheduler's.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kernels::Team;

/// Jobs of a decode step of 12 layers: five a layer, embedding and head.
const JOBS: usize = 62;
/// Dependent multiply-adds of a job: some tens of microseconds, the shortest that a step has.
const STEPS: u32 = 20_000;

/// Powers of two up to the CPUs there are, and that number; 2 in any case.
fn sizes() -> Vec<usize> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut sizes: Vec<usize> = (0..).map(|power| 1 << power).take_while(|&size| size <= cpus).collect();
    sizes.extend([2, cpus]);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn work() {
    black_box((0..STEPS).fold(black_box(1.0f32), |sum, _| sum * 0.999 + 0.001));
}

fn empty(c: &mut Criterion) {
    let mut group = c.benchmark_group("team/empty");
    for size in sizes() {
        let team = Team::new(size).expect("a few threads");
        group
            .bench_function(BenchmarkId::from_parameter(size), |b| b.iter(|| team.run(|i| _ = black_box(i))));
    }
    group.finish();
}

fn meeting(c: &mut Criterion) {
    let mut group = c.benchmark_group("team/meeting");
    for size in sizes() {
        let team = Team::new(size).expect("a few threads");
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                let begun = AtomicUsize::new(0);
                team.run(|_| {
                    begun.fetch_add(1, Ordering::Relaxed);
                    while begun.load(Ordering::Relaxed) < team.size() {
                        std::hint::spin_loop();
                    }
                });
            });
        });
    }
    group.finish();
}

fn step(c: &mut Criterion) {
    let mut group = c.benchmark_group("team/step");
    group.bench_function("alone", |b| b.iter(|| (0..JOBS).for_each(|_| work())));
    for size in sizes() {
        let team = Team::new(size).expect("a few threads");
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| (0..JOBS).for_each(|_| team.run(|_| work())));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = empty, meeting, step
}
criterion_main!(benches);
