//! `gpt2 scaling`: what a decode step takes here, and what it would take on more cores.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use anyhow::ensure;
use clap::Args;
use rust_native::scaling::{Growth, Job, Measure, Measured, Prediction, measure, predict};
use rust_native::{Checkpoint, Options, Pinning, Precision};

use crate::model::{folder, precision};

/// Measure a decode step on some numbers of threads, and predict it for many cores.
///
/// Measured in turns are what memory gives, what a meeting of all threads costs and what a decode step takes. From the
/// first two and from the sizes of the step's jobs a simple model says what the third should be: for the numbers
/// of threads that were measured, to be held against it, and for as many cores as are asked for.
#[derive(Args)]
pub struct Scaling {
    /// A folder in Hugging Face layout; `default` is the seeded 124M model
    #[arg(long, value_name = "DIR", default_value = "default")]
    model: String,
    /// Number format of the weights
    #[arg(long, value_parser = precision(), default_value = "f32")]
    precision: Precision,
    /// Numbers of threads to measure, such as 1,2,4. Each holds the weights at the same time. Default: 1 and
    /// one for each CPU
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    threads: Vec<usize>,
    /// Cores to predict for
    #[arg(long, value_name = "N", default_value_t = 64)]
    cores: usize,
    /// What the memory of that machine gives at most, in GB/s. Without it both ends are shown: bandwidth
    /// that stays as measured, and that grows with the cores
    #[arg(long, value_name = "GB/S")]
    bandwidth: Option<f64>,
    /// Turns of each number of threads; shown are medians
    #[arg(long, value_name = "N", default_value_t = 21)]
    rounds: usize,
    /// Positions before the step
    #[arg(long, value_name = "N", default_value_t = 64)]
    context: usize,
    /// Hold each worker thread to a CPU of its own
    #[arg(long)]
    pin: bool,
    /// Print one line of JSON instead
    #[arg(long)]
    json: bool,
}

/// A way for bandwidth to go on, and its name.
type Line = (Growth, String);

impl Scaling {
    /// Runs the verb.
    pub fn run(mut self) -> anyhow::Result<()> {
        ensure!(self.cores > 0, "--cores 0: predict for at least one");
        let plain = self.bandwidth.is_none_or(|limit| limit.is_finite() && limit > 0.0);
        ensure!(plain, "--bandwidth: give a number of GB/s above 0");
        let checkpoint = Checkpoint::open(&folder(&self.model)?)?;
        let options = Options {
            precision: self.precision,
            pinning: if self.pin { Pinning::Workers } else { Pinning::None },
            ..Options::default()
        };
        if self.threads.is_empty() {
            self.threads = vec![1, options.threads];
        }
        let (threads, rounds, context) = (self.threads.clone(), self.rounds, self.context);
        if io::stderr().is_terminal() {
            eprintln!("measuring {threads:?} threads, {rounds} turns each");
        }
        let measured = measure(&checkpoint, &options, &Measure { threads, rounds, context })?;
        let lines = self.lines(&measured);
        let text =
            if self.json { self.record(&measured, &lines) + "\n" } else { self.table(&measured, &lines) };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }

    fn lines(&self, measured: &Measured) -> Vec<Line> {
        if measured.points.iter().any(|point| point.threads == self.cores) {
            return vec![(Growth::Stays, "bandwidth as measured".into())];
        }
        let stays = (Growth::Stays, "bandwidth stays as measured".into());
        let grows = (Growth::WithCores, "bandwidth grows with them".into());
        match self.bandwidth {
            Some(limit) => vec![(Growth::UpTo(limit * 1e9), format!("it grows up to {limit} GB/s"))],
            None => vec![stays, grows],
        }
    }

    fn table(&self, measured: &Measured, lines: &[Line]) -> String {
        let (megabytes, jobs) = (bytes(&measured.jobs) as f64 / 1e6, measured.jobs.len());
        let mut text = format!(
            "{}: {megabytes:.1} MB and {jobs} jobs a step; medians of {} turns\n\n",
            self.precision, self.rounds
        );
        text += "threads      GB/s  meeting us   step ms           the model, ms\n";
        for point in &measured.points {
            let model = predict(&measured.jobs, &measured.machine(point.threads, Growth::Stays));
            let _ = writeln!(
                text,
                "{:>7}{:>10.1}{:>12.2}{:>10.2}{:>24}",
                point.threads,
                point.bandwidth / 1e9,
                point.meeting_s * 1e6,
                point.step_s * 1e3,
                ends(model.least_s * 1e3, model.most_s * 1e3)
            );
        }
        let title = format!("{} cores, by the model", self.cores);
        let _ = writeln!(
            text,
            "\n{title:<30}{:>8}{:>11}{:>15}{:>13}{:>18}{:>18}",
            "GB/s", "memory ms", "arithmetic ms", "meetings ms", "step ms", "tokens/s"
        );
        for (growth, name) in lines {
            let machine = measured.machine(self.cores, *growth);
            let of = predict(&measured.jobs, &machine);
            let _ = writeln!(
                text,
                "  {name:<28}{:>8.1}{:>11.2}{:>15.2}{:>13.2}{:>18}{:>18}",
                machine.bandwidth / 1e9,
                of.memory_s * 1e3,
                of.arithmetic_s * 1e3,
                of.meetings_s * 1e3,
                ends(of.least_s * 1e3, of.most_s * 1e3),
                ends(1.0 / of.most_s, 1.0 / of.least_s)
            );
        }
        text.push('\n');
        for assumption in assumptions(measured) {
            text += &format!("- {assumption}\n");
        }
        text
    }

    fn record(&self, measured: &Measured, lines: &[Line]) -> String {
        let predicted = |threads, growth| {
            let machine = measured.machine(threads, growth);
            (machine, predict(&measured.jobs, &machine))
        };
        let points = measured.points.iter().map(|point| {
            let (_, model) = predicted(point.threads, Growth::Stays);
            serde_json::json!({
                "threads": point.threads,
                "bandwidth_bytes_per_s": point.bandwidth,
                "meeting_s": point.meeting_s,
                "step_s": point.step_s,
                "model": terms(&model),
            })
        });
        let predictions = lines.iter().map(|(growth, name)| {
            let (machine, model) = predicted(self.cores, *growth);
            serde_json::json!({
                "cores": self.cores,
                "bandwidth": name,
                "bandwidth_bytes_per_s": machine.bandwidth,
                "meeting_s": machine.meeting_s,
                "model": terms(&model),
            })
        });
        serde_json::json!({
            "precision": self.precision.name(),
            "pinned": self.pin,
            "rounds": self.rounds,
            "bytes": bytes(&measured.jobs),
            "jobs": measured.jobs.len(),
            "peak_operations_per_s": measured.peak,
            "measured": points.collect::<Vec<_>>(),
            "predicted": predictions.collect::<Vec<_>>(),
            "assumptions": assumptions(measured),
        })
        .to_string()
    }
}

fn bytes(jobs: &[Job]) -> usize {
    jobs.iter().map(|job| job.bytes).sum()
}

/// The two ends of a figure.
fn ends(least: f64, most: f64) -> String {
    format!("{least:.2} to {most:.2}")
}

fn terms(of: &Prediction) -> serde_json::Value {
    serde_json::json!({
        "memory_s": of.memory_s,
        "arithmetic_s": of.arithmetic_s,
        "meetings_s": of.meetings_s,
        "least_s": of.least_s,
        "most_s": of.most_s,
    })
}

/// What the figures rest on, a sentence each.
fn assumptions(measured: &Measured) -> Vec<String> {
    let most = measured.points.last().map_or(1, |point| point.threads);
    let meeting = if most == 1 {
        "a meeting costs nothing: measure 2 threads or more to know".to_owned()
    } else {
        format!("a meeting grows by what each worker cost with {most} threads")
    };
    let peak = measured.peak / 1e9;
    vec![
        "a job takes the longer of its memory and its arithmetic at best, both at worst".into(),
        "a job is as slow as its busiest thread, which has whole panels of 32 columns, or heads".into(),
        "one thread reads no faster than one did here, wherever its memory lies".into(),
        format!(
            "one thread computes as fast as here: {peak:.1} G operations per second on weights in its caches"
        ),
        meeting,
        "norms, GELU and the rounding of activations take no time".into(),
    ]
}
