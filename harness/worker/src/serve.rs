//! The one loop: read an order, do it, reply. Every engine's samples are taken by [`measure`].
//!
//! Invariant: nothing but `Job::run` stands between the two clock readings, and every run's
//! receipt is taken after them.

use crate::clock::{Laps, monotonic_ns, read_clocks, read_clocks_end};
use crate::wire::{Identity, Order, PROTOCOL, Prepare, Receipt, Reply, SampleReply};
use crate::{Footprint, mapped_files, read_memory, reset_peak};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

/// One contestant inside its own process.
pub trait Engine {
    /// Name, versions, numerics: stamped on every row this process earns.
    fn identity(&self) -> Identity;
    /// Off the clock: load, compile, allocate. Or say why this engine sits out.
    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop>;
    /// What this engine needs on disk. The default: its executable and mapped libraries.
    fn footprint(&self) -> Result<Vec<Footprint>> {
        Ok(mapped_files())
    }
}

/// One workload, ready to run again and again.
pub trait Job {
    /// Off the clock, before every run: put caches back to where the run starts from.
    fn reset(&mut self) -> Result<()> {
        Ok(())
    }
    /// Once, to the end, device work included. `laps.mark()` when each token id is known.
    fn run(&mut self, laps: &mut Laps) -> Result<()>;
    /// What the last `run` computed, in host types. Never timed.
    fn receipt(&self) -> Result<Receipt>;
    /// Device nanoseconds of the last `run`, where there is such a clock.
    fn device_ns(&self) -> Option<u64> {
        None
    }
}

/// Why a job was not prepared.
#[derive(Debug)]
pub enum Stop {
    /// The engine does not do this, here or at all; a visible row, no fault.
    Refused {
        /// One line.
        reason: String,
        /// What would change it; may be empty.
        remedy: String,
    },
    /// It should have worked and did not.
    Failed(anyhow::Error),
}

impl Stop {
    /// A refusal with its reason and the remedy (may be empty).
    pub fn refused(reason: impl Into<String>, remedy: impl Into<String>) -> Stop {
        Stop::Refused { reason: reason.into(), remedy: remedy.into() }
    }

    /// Refuses more `positions` than the model knows.
    pub fn beyond(positions: usize, known: usize) -> Result<(), Stop> {
        if positions <= known {
            return Ok(());
        }
        Err(Stop::refused(
            format!("{positions} positions; the model knows {known}"),
            "shorten the prompt or ask for fewer tokens",
        ))
    }
}

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

/// Serves orders on stdin until `quit` or the end of input; the body of every engine's `main`.
pub fn serve(engine: &mut dyn Engine) -> Result<()> {
    let replies = take_stdout()?;
    die_with_parent();
    let spawned_ns = std::env::var("ASSAY_SPAWNED_NS").ok().and_then(|ns| ns.parse().ok());
    serve_on(engine, BufReader::new(std::io::stdin()), replies, spawned_ns.unwrap_or_else(monotonic_ns))
}

/// [`serve`] over any reader and writer; `spawned_ns` is the spawner's CLOCK_MONOTONIC.
pub fn serve_on(
    engine: &mut dyn Engine,
    orders: impl BufRead,
    replies: impl Write,
    spawned_ns: u64,
) -> Result<()> {
    let mut session = Session { replies, spawned_ns };
    let (identity, memory) = (engine.identity(), read_memory());
    session.say(&Reply::Hello {
        protocol: PROTOCOL,
        identity,
        since_spawn_ns: session.since_spawn(),
        memory,
    })?;
    let mut lines = orders.lines();
    let mut held: Option<Order> = None;
    loop {
        let order = match held.take() {
            Some(order) => order,
            None => match next_order(&mut lines)? {
                Some(order) => order,
                None => return Ok(()),
            },
        };
        match order {
            Order::Quit => return Ok(()),
            Order::Release => session.done()?,
            Order::Footprint => {
                let reply = match engine.footprint() {
                    Ok(parts) => Reply::Footprint { parts },
                    Err(error) => Reply::Failed { error: one_line(&error) },
                };
                session.say(&reply)?;
            }
            Order::Measure { .. } | Order::Explain { .. } => {
                session.say(&Reply::Failed { error: "nothing is prepared".into() })?;
            }
            Order::Prepare(prepare) => {
                let began_ns = monotonic_ns();
                match engine.prepare(&prepare) {
                    Ok(mut job) => {
                        session.ready(began_ns)?;
                        held = session.work(job.as_mut(), &mut lines)?;
                    }
                    Err(Stop::Refused { reason, remedy }) => {
                        session.say(&Reply::Refused { reason, remedy })?
                    }
                    Err(Stop::Failed(error)) => session.say(&Reply::Failed { error: one_line(&error) })?,
                }
            }
        }
    }
}

struct Session<W: Write> {
    replies: W,
    spawned_ns: u64,
}

impl<W: Write> Session<W> {
    fn say(&mut self, reply: &Reply) -> Result<()> {
        let mut line = serde_json::to_string(reply).context("cannot write a reply as JSON")?;
        line.push('\n');
        self.replies
            .write_all(line.as_bytes())
            .and_then(|()| self.replies.flush())
            .context("the harness is gone")
    }

    fn since_spawn(&self) -> u64 {
        monotonic_ns().saturating_sub(self.spawned_ns)
    }

    fn ready(&mut self, began_ns: u64) -> Result<()> {
        let prepare_ns = monotonic_ns() - began_ns;
        let since_spawn_ns = self.since_spawn();
        let memory = read_memory();
        self.say(&Reply::Ready { prepare_ns, since_spawn_ns, memory, threads_seen: threads_seen() })?;
        reset_peak();
        Ok(())
    }

    fn done(&mut self) -> Result<()> {
        self.say(&Reply::Done { memory: read_memory(), threads_seen: threads_seen() })
    }

    /// Serves one job until an order that is not about it, which is handed back.
    fn work(
        &mut self,
        job: &mut dyn Job,
        lines: &mut impl Iterator<Item = std::io::Result<String>>,
    ) -> Result<Option<Order>> {
        let mut first = true;
        loop {
            match next_order(lines)? {
                Some(Order::Measure { samples, limit_ns }) => {
                    match self.measure(job, samples, limit_ns, &mut first) {
                        Ok(()) => self.done()?,
                        Err(error) if error.is::<HarnessGone>() => return Err(error),
                        Err(error) => self.say(&Reply::Failed { error: one_line(&error) })?,
                    }
                }
                Some(Order::Explain { answer, logits }) => match explain(job, &answer, &logits) {
                    Ok(()) => self.done()?,
                    Err(error) => self.say(&Reply::Failed { error: one_line(&error) })?,
                },
                Some(other) => return Ok(Some(other)),
                None => return Ok(Some(Order::Quit)),
            }
        }
    }

    fn measure(&mut self, job: &mut dyn Job, samples: u32, limit_ns: u64, first: &mut bool) -> Result<()> {
        let deadline = monotonic_ns().saturating_add(limit_ns);
        let mut laps = Laps::default();
        for done in 0..samples.max(1) {
            if done > 0 && monotonic_ns() >= deadline {
                break;
            }
            job.reset()?;
            laps.restart(1024);
            let start = read_clocks();
            laps.begin(start.wall_ns);
            job.run(&mut laps)?;
            let end = read_clocks_end();
            let receipt = job.receipt()?;
            let spent = end.since(start);
            let sample = SampleReply {
                first: std::mem::take(first),
                wall_ns: spent.wall_ns,
                cpu_ns: spent.cpu_ns,
                run_delay_ns: spent.run_delay_ns,
                device_ns: job.device_ns(),
                since_spawn_ns: laps.last_ns().unwrap_or(end.wall_ns).saturating_sub(self.spawned_ns),
                laps_ns: laps.durations_ns(),
                units: receipt.units,
                unit: receipt.unit,
                digest: receipt.answer.digest(),
            };
            self.say(&Reply::Sample(sample)).map_err(|_| HarnessGone)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct HarnessGone;
impl std::fmt::Display for HarnessGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the harness is gone")
    }
}
impl std::error::Error for HarnessGone {}

fn explain(job: &dyn Job, answer: &Path, logits: &Path) -> Result<()> {
    let receipt = job.receipt()?;
    std::fs::write(answer, receipt.answer.to_bytes())
        .with_context(|| format!("cannot write {}", answer.display()))?;
    if let Some(values) = receipt.logits {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(logits, bytes).with_context(|| format!("cannot write {}", logits.display()))?;
    }
    Ok(())
}

fn next_order(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Result<Option<Order>> {
    match lines.next() {
        None => Ok(None),
        Some(line) => {
            let line = line.context("cannot read orders")?;
            serde_json::from_str(&line).map(Some).with_context(|| format!("not an order: {line}"))
        }
    }
}

fn threads_seen() -> u32 {
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count() as u32)
}

fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").replace('\n', " | ")
}

/// The end of input ends a worker between orders; inside a long call only the kernel can, when the
/// harness was killed and could not say good-bye. An unsuccessful request leaves things as they were.
fn die_with_parent() {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes a signal number and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Keeps a private copy of stdout for replies and points fd 1 at stderr: libraries print.
fn take_stdout() -> Result<File> {
    // SAFETY: fds 1 and 2 are open in every worker (the harness gives pipes); dup returns a fresh
    // descriptor that nobody else owns, checked below before it is wrapped.
    let private = unsafe { libc::dup(1) };
    anyhow::ensure!(private >= 0, "cannot copy stdout: {}", std::io::Error::last_os_error());
    // SAFETY: both descriptors are open; dup2 only redirects fd 1.
    let moved = unsafe { libc::dup2(2, 1) };
    anyhow::ensure!(moved >= 0, "cannot point stdout at stderr: {}", std::io::Error::last_os_error());
    // SAFETY: `private` came from dup above and is owned here alone.
    let owned = unsafe { OwnedFd::from_raw_fd(private) };
    Ok(File::from(owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answer, Task, Unit};

    struct Counter {
        runs: u32,
    }
    struct Count<'a>(&'a mut u32);
    impl Engine for Counter {
        fn identity(&self) -> Identity {
            Identity { engine: "test/counter".into(), ..Identity::default() }
        }
        fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
            match order.task {
                Task::Load {} => Ok(Box::new(Count(&mut self.runs))),
                _ => Err(Stop::refused("only load", "ask for load")),
            }
        }
    }
    impl Job for Count<'_> {
        fn run(&mut self, laps: &mut Laps) -> Result<()> {
            *self.0 += 1;
            laps.mark();
            anyhow::ensure!(*self.0 < 4, "the fourth run breaks");
            Ok(())
        }
        fn receipt(&self) -> Result<Receipt> {
            Ok(Receipt { units: 1, unit: Unit::Loads, answer: Answer::Ids(vec![*self.0]), logits: None })
        }
    }

    fn talk(orders: &str) -> Vec<Reply> {
        let mut out = Vec::new();
        serve_on(&mut Counter { runs: 0 }, orders.as_bytes(), &mut out, monotonic_ns()).unwrap();
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    const PREPARE: &str =
        r#"{"order":"prepare","workload":"w","task":{"kind":"load"},"files":{},"threads":1}"#;

    #[test]
    fn a_job_is_timed_and_only_its_first_run_is_first() {
        let replies =
            talk(&format!("{PREPARE}\n{{\"order\":\"measure\",\"samples\":2,\"limit_ns\":1000000000}}\n"));
        assert!(matches!(replies[0], Reply::Hello { protocol: PROTOCOL, .. }));
        assert!(matches!(replies[1], Reply::Ready { .. }));
        let samples: Vec<_> = replies
            .iter()
            .filter_map(|reply| match reply {
                Reply::Sample(sample) => Some(sample),
                _ => None,
            })
            .collect();
        assert_eq!(samples.len(), 2);
        assert_eq!(samples.iter().map(|s| s.first).collect::<Vec<_>>(), [true, false]);
        assert!(samples.iter().all(|s| s.laps_ns.len() == 1 && s.wall_ns >= s.laps_ns[0]));
        assert_ne!(samples[0].digest, samples[1].digest);
        assert!(matches!(replies.last(), Some(Reply::Done { .. })));
    }

    #[test]
    fn a_failing_run_is_reported_and_the_worker_stays() {
        let measure = r#"{"order":"measure","samples":9,"limit_ns":1000000000}"#;
        let replies =
            talk(&format!("{PREPARE}\n{measure}\n{{\"order\":\"release\"}}\n{{\"order\":\"quit\"}}\n"));
        assert!(replies.iter().any(|r| matches!(r, Reply::Failed { error } if error.contains("fourth"))));
        assert!(matches!(replies.last(), Some(Reply::Done { .. })));
    }

    #[test]
    fn refusals_and_orders_out_of_turn_are_answered() {
        let refused =
            r#"{"order":"prepare","workload":"w","task":{"kind":"detokenize"},"files":{},"threads":1}"#;
        let replies = talk(&format!("{{\"order\":\"measure\",\"samples\":1,\"limit_ns\":1}}\n{refused}\n"));
        assert!(matches!(&replies[1], Reply::Failed { .. }));
        assert!(matches!(&replies[2], Reply::Refused { reason, .. } if reason == "only load"));
    }

    #[test]
    fn a_spent_limit_still_takes_one_sample() {
        let replies = talk(&format!("{PREPARE}\n{{\"order\":\"measure\",\"samples\":3,\"limit_ns\":0}}\n"));
        assert_eq!(replies.iter().filter(|r| matches!(r, Reply::Sample(_))).count(), 1);
    }
}
