//! The measurements: what memory gives, what a meeting costs and what a decode step takes, with each
//! number of threads in turns, so that all of them met the same machine.
//!
//! Everybody has memory of his own, first touched by the threads that read it: a model and a buffer
//! for each number of threads.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kernels::{Buffer, Cpu, Input, Linear, Output, PANEL, Packed, Pinning, Team};

use super::{Measured, Point};
use crate::{Cache, Checkpoint, Error, GenerateError, Gpt2, Options};

/// Most bytes of the buffer that is streamed: more than a cache holds. Smaller models have one of
/// their own size, because their weights may stay in a cache.
const STREAMED: usize = 512 << 20;
/// Meetings timed at a time, and how often in a turn: an interruption spoils one of them.
const MEETINGS: u32 = 100;
const MEETING_TIMES: u32 = 10;
/// Decode steps timed at a time.
const STEPS: usize = 4;
/// Products from the caches timed at a time.
const PRODUCTS: u32 = 200;
/// Bytes of their weights, about: what a second-level cache holds.
const CACHED: usize = 256 << 10;

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Numbers of threads; order and repetition do not matter.
    pub threads: Vec<usize>,
    /// Turns that each of them has.
    pub rounds: usize,
    /// Positions before the step that is timed; fewer where the model has not as many.
    pub context: usize,
}

/// Measures `checkpoint` as `options` say, but for their number of threads. Each number of threads
/// holds the weights, and up to 512 MiB more, at the same time as the others.
///
/// # Errors
/// `Argument` for no threads, 0 threads or no rounds, and as [`Gpt2::load`].
pub fn measure(checkpoint: &Checkpoint, options: &Options, what: &Measure) -> Result<Measured, Error> {
    let mut threads = what.threads.clone();
    threads.sort_unstable();
    threads.dedup();
    if threads.first().is_none_or(|&least| least == 0) {
        return Err(Error::argument("threads", format!("{threads:?}"), "give numbers from 1 on"));
    }
    if what.rounds == 0 {
        return Err(Error::argument("rounds", "0", "use at least one"));
    }
    let models = threads
        .iter()
        .map(|&threads| Gpt2::load(checkpoint, &Options { threads, ..options.clone() }))
        .collect::<Result<Vec<_>, _>>()?;
    let mut seats = models
        .iter()
        .map(|model| Seat::new(model, options.pinning, what))
        .collect::<Result<Vec<_>, GenerateError>>()?;
    let mut peak = Peak::new(checkpoint.config().n_embd, options)?;
    let mut rates = Vec::new();
    for round in 0..what.rounds {
        // There and back, so that none always follows the same one.
        let mut order: Vec<usize> = (0..seats.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            seats[at].turn()?;
        }
        rates.push(peak.turn());
    }
    let jobs = models[0].jobs(&seats[0].cache, seats[0].context);
    let points = seats.iter_mut().map(Seat::point).collect();
    Ok(Measured { jobs, peak: median(&mut rates), points })
}

/// One number of threads and what it reached so far.
struct Seat<'m> {
    model: &'m Gpt2,
    cache: Cache,
    context: usize,
    team: Team,
    streamed: Buffer,
    bandwidths: Vec<f64>,
    meetings: Vec<f64>,
    steps: Vec<f64>,
}

impl<'m> Seat<'m> {
    fn new(model: &'m Gpt2, pinning: Pinning, what: &Measure) -> Result<Seat<'m>, GenerateError> {
        let (config, threads) = (model.config(), model.cpu().threads());
        let context = what.context.min(config.n_positions.saturating_sub(1 + STEPS)).max(1);
        let mut cache = model.cache(1, (context + 1 + STEPS).min(config.n_positions))?;
        let prompt: Vec<u32> = (0..context).map(|i| (i * 31 % config.vocab_size) as u32).collect();
        model.prefill(&mut cache, &[&prompt])?;
        let team = Team::with(threads, pinning)?;
        let mut streamed = Buffer::zeroed(model.bytes_per_token().min(STREAMED) / size_of::<f32>());
        fill(&team, &mut streamed);
        let (bandwidths, meetings, steps) = Default::default();
        Ok(Seat { model, cache, context, team, streamed, bandwidths, meetings, steps })
    }

    /// Each once untimed, because the threads of the one before may still be spinning.
    fn turn(&mut self) -> Result<(), GenerateError> {
        self.team.run(|_| {});
        let start = Instant::now();
        stream(&self.team, self.streamed.words());
        self.bandwidths.push(size_of_val(self.streamed.words()) as f64 / start.elapsed().as_secs_f64());

        for _ in 0..MEETING_TIMES {
            let start = Instant::now();
            (0..MEETINGS).for_each(|_| meet(&self.team));
            self.meetings.push(start.elapsed().as_secs_f64() / f64::from(MEETINGS));
        }

        self.cache.truncate(self.context);
        self.model.decode(&mut self.cache, &[0])?;
        let steps = STEPS.min(self.cache.capacity() - self.cache.len(0));
        let start = Instant::now();
        for _ in 0..steps {
            self.model.decode(&mut self.cache, &[0])?;
        }
        self.steps.push(start.elapsed().as_secs_f64() / steps.max(1) as f64);
        Ok(())
    }

    fn point(&mut self) -> Point {
        Point {
            threads: self.team.size(),
            bandwidth: median(&mut self.bandwidths),
            meeting_s: median(&mut self.meetings),
            step_s: median(&mut self.steps),
        }
    }
}

/// The words of `thread`, one contiguous share for each.
fn share(words: usize, threads: usize, thread: usize) -> std::ops::Range<usize> {
    thread * words / threads..(thread + 1) * words / threads
}

/// First touch, by the threads that will read.
fn fill(team: &Team, buffer: &mut Buffer) {
    let (words, threads) = (buffer.len(), team.size());
    let mut shares = Vec::new();
    let mut rest: &mut [f32] = buffer;
    for thread in 0..threads {
        let (own, others) = rest.split_at_mut(share(words, threads, thread).len());
        shares.push(std::sync::Mutex::new(own));
        rest = others;
    }
    team.run(|thread| {
        shares[thread].lock().expect("nobody panics while filling").fill(1.0);
    });
}

/// Every thread reads its share of `words` and does no more than add them up.
fn stream(team: &Team, words: &[u32]) {
    team.run(|thread| {
        let own = &words[share(words.len(), team.size(), thread)];
        let sums = own.as_chunks::<32>().0.iter().fold([0u32; 32], |mut sums, chunk| {
            sums.iter_mut().zip(chunk).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
            sums
        });
        black_box(sums);
    });
}

/// A job that nobody leaves before all have begun: of an empty one the caller would run most indices
/// itself, before a worker has heard of them.
fn meet(team: &Team) {
    let begun = AtomicUsize::new(0);
    team.run(|_| {
        begun.fetch_add(1, Ordering::Relaxed);
        while begun.load(Ordering::Relaxed) < team.size() {
            std::hint::spin_loop();
        }
    });
}

/// A product of one thread with weights that its caches hold.
struct Peak {
    cpu: Cpu,
    linear: Linear,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Peak {
    fn new(inputs: usize, options: &Options) -> Result<Peak, GenerateError> {
        let cpu = Cpu::new(1, options.isa)?;
        let packed = |outputs: usize| {
            Packed::from_kn(&cpu, &vec![0.01; inputs * outputs], inputs, outputs, options.precision)
        };
        let panels = (CACHED / packed(PANEL).bytes().max(1)).max(1);
        let linear = Linear { weight: packed(panels * PANEL), bias: Vec::new() };
        Ok(Peak { cpu, linear, x: vec![0.5; inputs], y: vec![0.0; panels * PANEL] })
    }

    /// Operations per second.
    fn turn(&mut self) -> f64 {
        let operations = 2 * self.x.len() * self.y.len();
        let start = Instant::now();
        for _ in 0..PRODUCTS {
            self.cpu.linear(Input::Rows(black_box(&self.x)), &self.linear, &mut self.y, Output::Store);
        }
        f64::from(PRODUCTS) * operations as f64 / start.elapsed().as_secs_f64()
    }
}

/// The upper middle of `values`, which must not be empty.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, init};

    #[test]
    fn shares_cover_the_words_once() {
        for (words, threads) in [(0, 1), (5, 2), (1000, 7)] {
            let all: Vec<usize> = (0..threads).flat_map(|thread| share(words, threads, thread)).collect();
            assert!(all.into_iter().eq(0..words));
        }
    }

    #[test]
    fn every_number_of_threads_is_measured_once_and_a_step_has_all_its_jobs() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { n_positions: 16, ..Config::tiny() };
        init::write_model(dir.path(), &config, 0).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let what = |threads: &[usize], rounds| Measure { threads: threads.to_vec(), rounds, context: 64 };
        let got = measure(&checkpoint, &Options::default(), &what(&[2, 1, 2], 3)).unwrap();
        assert_eq!(got.points.iter().map(|point| point.threads).collect::<Vec<_>>(), [1, 2]);
        for point in &got.points {
            let all = [point.bandwidth, point.meeting_s, point.step_s, got.peak];
            assert!(all.iter().all(|value| value.is_finite() && *value > 0.0), "{all:?}");
        }
        // Embedding and head, and five jobs a layer.
        assert_eq!(got.jobs.len(), 2 + 5 * config.n_layer);
        for (threads, rounds, word) in [(&[][..], 1, "threads"), (&[0, 1], 1, "threads"), (&[1], 0, "rounds")]
        {
            let error = measure(&checkpoint, &Options::default(), &what(threads, rounds)).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
