//! Continuous batching: requests join and leave between steps.
//!
//! A step is one pass through the model with one row (and its guesses, see [`Lookup`]) for every
//! text that is being written and, beside them, a piece of the prompts that have just joined. Batching
//! by iteration is Orca's (Yu et al., 2022), prompts in pieces beside running texts Sarathi's
//! (Agrawal et al., 2023). A slot whose text has ended keeps it, so a scheduler that is kept is also
//! a prefix cache: a prompt that begins like a text it holds, or one under way, is computed from
//! where they part.
//!
//! Fairness: requests get slots in the order of their submission, and prompts are computed in that
//! order. Every text being written gets its token in every step, and a step takes at most
//! [`SchedulerOptions::chunk`] prompt tokens besides: nobody starves, and nobody waits for a token
//! longer than such a step.
//!
//! Invariant: what a request yields depends on nothing but itself, except through the rounding of
//! kernels that work on other numbers of rows.
//!
//! [`Lookup`]: super::Lookup

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::choose::Chooser;
use super::lookup::propose;
use super::slots::{Promise, Slots};
use super::{GenerateError, GenerateOptions, Generated, Strategy};
use crate::model::{CHUNK, Gpt2, NewTokens, Want};

/// How a [`Scheduler`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Texts written at the same time at most, at least 1. Each has the memory of a whole text.
    pub slots: usize,
    /// Positions of prompt and new tokens a request may have at most; 1 to `n_positions`.
    pub capacity: usize,
    /// Prompt tokens in a step that others wait for, at least 1: more serve prompts sooner, fewer
    /// keep the time between tokens even. Where nobody waits, 512.
    pub chunk: usize,
}

/// A request's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// Requests in, tokens out, as many at a time as there are slots.
#[derive(Debug)]
pub struct Scheduler<'m> {
    model: &'m Gpt2,
    chunk: usize,
    slots: Slots,
    /// Submitted and without a slot, the oldest first.
    queue: VecDeque<(Request, Vec<u32>)>,
    /// With a slot, the oldest first.
    running: Vec<Running>,
    finished: VecDeque<(RequestId, Generated)>,
    chooser: Chooser,
    turns: Vec<Turn>,
    submitted: u64,
}

#[derive(Debug)]
struct Request {
    id: u64,
    options: GenerateOptions,
    /// Which of a call's texts it is: the stream its draws come from.
    stream: u64,
    result: Generated,
}

#[derive(Debug)]
struct Running {
    request: Request,
    slot: usize,
    promise: Option<Promise>,
    /// Tokens to guess next.
    guess: usize,
    /// Its last token has come.
    ended: bool,
}

/// What one running request does in a step.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Its place among the running.
    at: usize,
    slot: usize,
    /// Tokens of its text that have passed through the model.
    start: usize,
    /// Tokens that pass through it now.
    rows: usize,
    want: Want,
}

impl<'m> Scheduler<'m> {
    /// A scheduler with memory for its slots and no requests.
    ///
    /// # Errors
    /// As [`Gpt2::cache`], and `BadSampling` for a `chunk` of 0.
    pub fn new(model: &'m Gpt2, options: &SchedulerOptions) -> Result<Scheduler<'m>, GenerateError> {
        if options.chunk == 0 {
            return Err(GenerateError::option("chunk", 0, "let a step take at least one prompt token"));
        }
        Ok(Scheduler {
            model,
            chunk: options.chunk,
            slots: Slots::new(model.cache(options.slots, options.capacity)?),
            queue: VecDeque::new(),
            running: Vec::with_capacity(options.slots),
            finished: VecDeque::new(),
            chooser: Chooser::default(),
            turns: Vec::with_capacity(options.slots),
            submitted: 0,
        })
    }

    /// Takes a request; its tokens come from the steps that follow. It yields what
    /// [`Gpt2::generate`] yields for this prompt alone.
    ///
    /// # Errors
    /// As [`Gpt2::generate`], with the scheduler's capacity as the context; and `BadSampling` for beam
    /// search or for generation without a cache. Other requests do not notice.
    pub fn submit(&mut self, prompt: &[u32], options: &GenerateOptions) -> Result<RequestId, GenerateError> {
        self.submit_as(prompt, options, 0)
    }

    /// [`Scheduler::submit`] with draws of a stream of its own.
    pub(super) fn submit_as(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        stream: u64,
    ) -> Result<RequestId, GenerateError> {
        if let Strategy::Beam { beams, .. } = options.strategy {
            let remedy = "a scheduler writes one text a request; use Gpt2::generate for beam search";
            return Err(GenerateError::option("beams", beams, remedy));
        }
        if !options.use_cache {
            let remedy = "a scheduler is its cache; use Gpt2::generate to go without";
            return Err(GenerateError::option("use_cache", false, remedy));
        }
        self.model.check(&[prompt], options, self.slots.cache.capacity())?;
        let id = self.submitted;
        self.submitted += 1;
        let request = Request { id, options: options.clone(), stream, result: Generated::default() };
        self.queue.push_back((request, prompt.to_vec()));
        Ok(RequestId(id))
    }

    /// Ends a request, wherever it is; gives what it has so far. `None` for one that has ended or
    /// never was.
    pub fn cancel(&mut self, id: RequestId) -> Option<Generated> {
        if let Some(at) = self.queue.iter().position(|(request, _)| request.id == id.0) {
            return self.queue.remove(at).map(|(request, _)| request.result.cancelled());
        }
        let at = self.running.iter().position(|running| running.request.id == id.0)?;
        let running = self.running.remove(at);
        self.slots.release(running.slot);
        Some(running.request.result.cancelled())
    }

    /// One pass through the model. `on_token(request, id, logprob)` is called for every token that
    /// comes of it, request by request in the order of submission, and may end its request. Gives
    /// whether anything is left to do.
    ///
    /// # Errors
    /// None for what [`Scheduler::submit`] accepted.
    pub fn step(
        &mut self,
        mut on_token: impl FnMut(RequestId, u32, f32) -> ControlFlow<()>,
    ) -> Result<bool, GenerateError> {
        self.admit();
        self.plan();
        let (cache, texts) = (&mut self.slots.cache, &self.slots.texts);
        let part = |turn: &Turn| NewTokens {
            sequence: turn.slot,
            tokens: &texts[turn.slot][turn.start..][..turn.rows],
            want: turn.want,
        };
        self.model.extend(cache, self.turns.iter().map(part))?;
        let mut row = 0;
        for i in 0..self.turns.len() {
            row += self.settle(self.turns[i], row, &mut on_token);
        }
        self.leave();
        Ok(!self.is_idle())
    }

    /// Steps until nothing is left to do.
    ///
    /// # Errors
    /// As [`Scheduler::step`].
    pub fn run(
        &mut self,
        mut on_token: impl FnMut(RequestId, u32, f32) -> ControlFlow<()>,
    ) -> Result<(), GenerateError> {
        while self.step(&mut on_token)? {}
        Ok(())
    }

    /// The requests that have ended since the last call, in the order in which they did.
    pub fn take_finished(&mut self) -> impl Iterator<Item = (RequestId, Generated)> + '_ {
        self.finished.drain(..)
    }

    /// Whether no request waits or runs.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }

    /// Requests without a slot.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Requests with a slot.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Bytes of keys and values, used or not: all the memory that grows with `slots` and `capacity`.
    pub fn bytes(&self) -> usize {
        self.slots.cache.bytes()
    }

    /// Gives free slots to those who have waited longest.
    fn admit(&mut self) {
        while let Some((request, prompt)) = self.queue.front() {
            let Some(seat) = self.slots.take(request.id, prompt, request.options.reuse_prefix) else { break };
            let Some((mut request, _)) = self.queue.pop_front() else { break };
            let new = request.options.max_new_tokens;
            self.slots.texts[seat.slot].reserve(new);
            request.result.ids.reserve(new);
            request.result.logprobs.reserve(new);
            request.result.reused = seat.reused;
            let guess = request.options.lookup.map_or(0, |lookup| lookup.tokens);
            let (slot, promise) = (seat.slot, seat.promise);
            self.running.push(Running { request, slot, promise, guess, ended: false });
        }
    }

    /// Settles which rows the next step computes.
    fn plan(&mut self) {
        let being_written = self.running.iter().any(|running| !running.request.result.ids.is_empty());
        let mut budget = if being_written { self.chunk } else { CHUNK };
        self.turns.clear();
        for (at, running) in self.running.iter_mut().enumerate() {
            if let Some(promise) = running.promise {
                let Some(reused) = self.slots.keep(running.slot, promise) else { continue };
                running.request.result.reused = reused;
                running.promise = None;
            }
            let (slot, start) = (running.slot, self.slots.cache.len(running.slot));
            let text = &mut self.slots.texts[slot];
            let (rows, want) = if running.request.result.ids.is_empty() {
                let rows = budget.min(text.len() - start);
                budget -= rows;
                (rows, if start + rows == text.len() { Want::Last } else { Want::Nothing })
            } else {
                let options = &running.request.options;
                let left = options.max_new_tokens - running.request.result.ids.len();
                let guess = running.guess.min(left - 1);
                let guessed = options.lookup.map_or(0, |lookup| propose(text, lookup.ngram, guess));
                (1 + guessed, Want::All)
            };
            if rows > 0 {
                self.turns.push(Turn { at, slot, start, rows, want });
            }
        }
    }

    /// Takes the tokens that a turn's logits give, the first from row `row` on; gives the number of
    /// rows it had. A guess that equals the choice is kept, and its own row gives the next.
    fn settle(
        &mut self,
        turn: Turn,
        row: usize,
        on_token: &mut impl FnMut(RequestId, u32, f32) -> ControlFlow<()>,
    ) -> usize {
        if turn.want == Want::Nothing {
            return 0;
        }
        let running = &mut self.running[turn.at];
        let (request, text) = (&mut running.request, &mut self.slots.texts[turn.slot]);
        let proposed = if turn.want == Want::All { turn.rows - 1 } else { 0 };
        let (mut certain, mut accepted) = (text.len() - proposed, 0);
        for i in 0..=proposed {
            let logits = self.slots.cache.logits_row(row + i);
            let (before, step) = (&text[..certain], request.result.ids.len());
            let (id, logprob) =
                self.chooser.choose(self.model, logits, before, &request.options, request.stream, step);
            let right = text.get(certain) == Some(&id);
            if !right {
                text.truncate(certain);
                text.push(id);
            }
            certain += 1;
            accepted += usize::from(right);
            let told = on_token(RequestId(request.id), id, logprob);
            running.ended = !request.result.take(id, logprob, told, &request.options);
            if running.ended || !right {
                break;
            }
        }
        text.truncate(certain);
        // The newest token has not passed through the model; what was guessed wrongly has.
        self.slots.cache.truncate_sequence(turn.slot, certain - 1);
        if let Some(lookup) = request.options.lookup.filter(|_| proposed > 0) {
            running.guess = lookup.next_length(proposed, accepted);
            request.result.proposed += proposed;
            request.result.accepted += accepted;
        }
        1 + proposed
    }

    /// Lets go of the slots of those who have ended.
    fn leave(&mut self) {
        let mut at = 0;
        while at < self.running.len() {
            if self.running[at].ended {
                let ended = self.running.remove(at);
                self.slots.release(ended.slot);
                self.finished.push_back((RequestId(ended.request.id), ended.request.result));
            } else {
                at += 1;
            }
        }
    }
}
