//! What each kernel of a step and of a prompt takes on the device's own clock, beside what it reads.
//!
//! The launches of one kernel are played alone, all layers' one behind another, so that weights come from
//! memory and not from a cache that holds one layer. What that leaves out, the gaps between kernels that
//! differ, is in the rows of whole plans.
//!
//! Before each the device is given the floor to read: while it does, the host queues what is timed, so that the
//! time it takes to queue it is in no kernel's share.

use kernels::cuda::plan::{self, Buffer, Launch, Plan};
use kernels::cuda::{CudaError, Player};

use super::{Choice, CudaGpt2, CudaGpt2Error, number_bytes};

/// What a kernel was played for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Reading what a step must read, alone.
    Limit,
    /// A step of every sequence.
    Step,
    /// The prompt of one.
    Prompt,
}

impl Part {
    /// `limit`, `step`, `prompt`.
    pub fn word(self) -> &'static str {
        match self {
            Part::Limit => "limit",
            Part::Step => "step",
            Part::Prompt => "prompt",
        }
    }
}

/// A kernel's part of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Of what.
    pub part: Part,
    /// The kernel by its symbol, or `all`: the whole plan.
    pub kernel: String,
    /// How many the plan has.
    pub launches: usize,
    /// Bytes of weights, keys and values that these read, each counted once.
    pub bytes: usize,
    /// Nanoseconds that these took: the median of the rounds.
    pub nanoseconds: u64,
}

impl<P: Player> CudaGpt2<P> {
    /// Every kernel of a step of `batch` sequences behind `context` positions, and of a prompt of as many tokens,
    /// in the order of the plans; before the kernels of a plan the whole of it, and first of all the floor.
    /// `rounds` times each, in turns.
    ///
    /// # Errors
    /// As [`CudaGpt2::prefill`] and [`CudaGpt2::steps`]; a device without a clock.
    pub fn shares(
        &mut self,
        batch: usize,
        context: usize,
        rounds: usize,
    ) -> Result<Vec<Share>, CudaGpt2Error> {
        self.sample(None)?;
        let vocabulary = self.config.vocab_size;
        let prompt: Vec<u32> = (0..context).map(|at| (at * 7919 % vocabulary) as u32).collect();
        let newest = self.prefill(&vec![&prompt[..]; batch])?;
        // Positions are left where a step would begin; there must be room for it.
        self.steps(1, |_, _| ())?;
        let plans = [
            (Part::Limit, plan::stream(&self.shape, batch, context)?),
            (Part::Step, plan::decode(&self.shape, batch, Choice::Greedy)?),
            (Part::Prompt, plan::prefill(&self.shape, 0, 1, context, Choice::Greedy)?),
        ];
        let mut timed = Vec::new();
        for (part, plan) in &plans {
            for (kernel, steps) in by_kernel(plan) {
                let positions = context + usize::from(*part == Part::Step);
                let bytes = steps.iter().map(|step| step.bytes(&self.shape, positions)).sum();
                let share = Share { part: *part, kernel, launches: steps.len(), bytes, nanoseconds: 0 };
                let ready = self.player.ready(&Plan { buffers: plan.buffers.clone(), steps })?;
                timed.push((share, ready, Vec::with_capacity(rounds)));
            }
        }
        let busy = timed[0].1;
        // One round more than is counted: the first finds kernels that were never launched.
        for round in 0..=rounds {
            for (share, ready, times) in &mut timed {
                self.player.play(busy)?;
                let position = if share.part == Part::Prompt { 0 } else { context as u32 };
                self.player.write(Buffer::Position, 0, &number_bytes(&vec![position; batch]))?;
                self.player.write(Buffer::Token, 0, &number_bytes(&newest))?;
                self.player.begin_span()?;
                self.player.play(*ready)?;
                let spent = self.player.span_ns()?.ok_or_else(no_clock)?;
                if round > 0 {
                    times.push(spent);
                }
            }
        }
        self.lengths.clear();
        let median = |mut times: Vec<u64>| {
            times.sort_unstable();
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        Ok(timed.into_iter().map(|(share, _, times)| Share { nanoseconds: median(times), ..share }).collect())
    }
}

/// The whole plan, then its launches kernel by kernel, where it has more than one.
fn by_kernel(plan: &Plan) -> Vec<(String, Vec<Launch>)> {
    let mut found: Vec<(String, Vec<Launch>)> = Vec::new();
    for step in &plan.steps {
        let name = step.kernel.name();
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, steps)) => steps.push(step.clone()),
            None => found.push((name, vec![step.clone()])),
        }
    }
    if found.len() > 1 {
        found.insert(0, ("all".to_owned(), plan.steps.clone()));
    }
    found
}

fn no_clock() -> CudaError {
    CudaError::Unsupported {
        what: "timing kernels",
        reason: "the device has no clock of its own".into(),
        remedy: "time whole steps on the host",
    }
}
