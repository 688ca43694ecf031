//! GPT-2 on an NVIDIA GPU: [`CudaGpt2`], the plans of `kernels::cuda` with a checkpoint in their buffers.
//!
//! Tokens stay on the device from one step to the next; the host reads them and decides nothing. The model
//! is generic over its [`Player`], so that the very same code runs in tests on the CPU.
//!
//! Invariant: all sequences of a batch are begun by one prefill, and the host knows the length of each.

mod error;
mod shares;
mod weights;

pub use error::CudaGpt2Error;
pub use kernels::cuda::plan::{Products, Weights};
pub use shares::{Part, Share};

use kernels::cuda::plan::{self, Buffer, Choice, Dims, Shape};
use kernels::cuda::{Player, Ready};

use crate::generate::GenerateError;
use crate::sample::Sampling;
use crate::{Checkpoint, Config};

/// Rows that a prompt's plan works on at once, unless one prompt alone has more: bounds the working memory
/// of a large batch (rows x 4 C floats and a little more).
const ROWS: usize = 4096;

/// A GPT-2 language model in the memory of a device, with the texts it is working on.
#[derive(Debug)]
pub struct CudaGpt2<P> {
    config: Config,
    shape: Shape,
    choice: Choice,
    /// Positions in the cache, sequence by sequence.
    lengths: Vec<usize>,
    /// Those of them that are prompt.
    prompts: Vec<usize>,
    plans: Vec<(Wanted, Ready)>,
    player: P,
}

/// A plan by what it is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    Prompt { first: usize, sequences: usize, length: usize, choice: Choice },
    Step { choice: Choice },
    Stream { positions: usize },
}

impl<P: Player> CudaGpt2<P> {
    /// Loads a checkpoint into `player`, with its matrices, keys and values in `weights`, and the products of
    /// prompts left to `products`. `processors`: how many multiprocessors the device has, which decides how
    /// work is split.
    ///
    /// # Errors
    /// A checkpoint that lacks something, a shape the kernels do not have, a device without the memory.
    pub fn load(
        checkpoint: &Checkpoint,
        weights: Weights,
        products: Products,
        processors: u32,
        mut player: P,
    ) -> Result<CudaGpt2<P>, CudaGpt2Error> {
        let config = checkpoint.config().clone();
        let shape = Shape { products, ..Shape::new(dims(&config), weights, 1, 1, processors)? };
        player.allocate(&shape.buffers())?;
        weights::upload(checkpoint, &shape, &mut player)?;
        let (choice, plans) = (Choice::Greedy, Vec::new());
        let (lengths, prompts) = (Vec::new(), Vec::new());
        Ok(CudaGpt2 { config, shape, choice, lengths, prompts, plans, player })
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What its matrices, keys and values are kept in.
    pub fn weights(&self) -> Weights {
        self.shape.weights
    }

    /// Bytes of weights that a step reads: the price of a token in memory traffic.
    pub fn bytes_per_step(&self) -> usize {
        let Dims { layers, width: c, inner: f, vocabulary: v, .. } = self.shape.dims;
        (layers * (4 * c * c + 2 * c * f) + v * c) * self.shape.weights.bytes()
    }

    /// From the next prefill on, tokens are the likeliest (`None`), or drawn with a seed.
    ///
    /// # Errors
    /// `BadSampling` for a value outside its range.
    pub fn sample(&mut self, how: Option<(Sampling, u64)>) -> Result<(), CudaGpt2Error> {
        let Some((sampling, seed)) = how else {
            self.choice = Choice::Greedy;
            return Ok(());
        };
        sampling.check()?;
        let top_k = sampling.top_k.unwrap_or(0).min(self.config.vocab_size);
        let (temperature, top_p) = (sampling.temperature, sampling.top_p.unwrap_or(1.0));
        self.choice = Choice::Sampled { temperature, top_k: top_k as u32, top_p };
        self.player.write(Buffer::Seed, 0, &seed.to_ne_bytes())?;
        Ok(())
    }

    /// Makes room and plans for `batch` prompts of `length` tokens and the steps behind them, so that the
    /// first prefill of this kind takes no longer than the second. Texts that are there are lost where the
    /// batch changes.
    ///
    /// # Errors
    /// As [`CudaGpt2::prefill`].
    pub fn prepare(&mut self, batch: usize, length: usize) -> Result<(), CudaGpt2Error> {
        self.make_room(batch, length)?;
        for (first, sequences) in chunks(&vec![length; batch], self.shape.rows) {
            self.ready(Wanted::Prompt { first, sequences, length, choice: self.choice })?;
        }
        self.ready(Wanted::Step { choice: self.choice })?;
        Ok(())
    }

    /// Begins anew with one prompt for each sequence. Gives the first new token of each.
    ///
    /// # Errors
    /// `EmptyPrompt`, `TokenOutOfRange`, `ContextOverflow` for a prompt longer than the context; and what the
    /// device says.
    pub fn prefill(&mut self, prompts: &[&[u32]]) -> Result<Vec<u32>, CudaGpt2Error> {
        if prompts.is_empty() {
            return Err(GenerateError::EmptyPrompt { index: 0 }.into());
        }
        for (index, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() {
                return Err(GenerateError::EmptyPrompt { index }.into());
            }
            let (limit, vocab) = (self.config.n_positions, self.config.vocab_size);
            if prompt.len() > limit {
                return Err(GenerateError::ContextOverflow { prompt: prompt.len(), new: 0, limit }.into());
            }
            if let Some(&id) = prompt.iter().find(|&&id| id as usize >= vocab) {
                return Err(GenerateError::TokenOutOfRange { id, vocab }.into());
            }
        }
        let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
        self.make_room(prompts.len(), lengths.iter().copied().max().unwrap_or(1))?;
        self.lengths.clear();
        let zeros = vec![0; 4 * prompts.len()];
        self.player.write(Buffer::Position, 0, &zeros)?;
        self.player.write(Buffer::Drawn, 0, &zeros)?;
        for (first, sequences) in chunks(&lengths, self.shape.rows) {
            let (length, choice) = (lengths[first], self.choice);
            let ids = prompts[first..][..sequences].concat();
            self.player.write(Buffer::Prompt, 0, &number_bytes(&ids))?;
            let plan = self.ready(Wanted::Prompt { first, sequences, length, choice })?;
            self.player.play(plan)?;
        }
        let mut bytes = zeros;
        self.player.read(Buffer::Token, 0, &mut bytes)?;
        self.prompts.clone_from(&lengths);
        self.lengths = lengths;
        Ok(bytes.as_chunks().0.iter().map(|four| u32::from_ne_bytes(*four)).collect())
    }

    /// Takes `count` steps: each feeds the newest token of every sequence. `each` is called with the number
    /// of the step and the next tokens, once they are in host memory.
    ///
    /// # Errors
    /// `BatchMismatch` before the first prefill, `ContextOverflow` where a sequence has too little room, and
    /// what the device says.
    pub fn steps(&mut self, count: usize, mut each: impl FnMut(usize, &[u32])) -> Result<(), CudaGpt2Error> {
        let Some(&longest) = self.lengths.iter().max() else {
            return Err(GenerateError::BatchMismatch { found: 0, limit: self.shape.batch }.into());
        };
        let limit = self.config.n_positions;
        if longest + count > limit {
            return Err(GenerateError::ContextOverflow { prompt: longest, new: count, limit }.into());
        }
        let plan = self.ready(Wanted::Step { choice: self.choice })?;
        let mut ids = vec![0; self.lengths.len()];
        let mut tokens = vec![0; self.lengths.len()];
        self.player.steps(plan, count, &mut tokens, &mut |step, tokens| {
            for (id, &token) in ids.iter_mut().zip(tokens) {
                *id = token as u32;
            }
            each(step, &ids);
        })?;
        self.lengths.iter_mut().for_each(|length| *length += count);
        Ok(())
    }

    /// Reads `count` times what a step behind `positions` positions must read, weights, keys and values, of as
    /// many sequences as there was made room for, and computes nothing: the floor of [`CudaGpt2::steps`]. `each`
    /// is called with the number of each time, once a number of it has reached the host.
    ///
    /// # Errors
    /// More positions than the context has, and what the device says.
    pub fn stream(
        &mut self,
        positions: usize,
        count: usize,
        mut each: impl FnMut(usize),
    ) -> Result<(), CudaGpt2Error> {
        let plan = self.ready(Wanted::Stream { positions })?;
        let mut tokens = vec![0; self.shape.batch];
        Ok(self.player.steps(plan, count, &mut tokens, &mut |step, _| each(step))?)
    }

    /// Bytes that [`CudaGpt2::stream`] reads each time.
    ///
    /// # Errors
    /// More positions than the context has.
    pub fn stream_bytes(&self, positions: usize) -> Result<usize, CudaGpt2Error> {
        let plan = plan::stream(&self.shape, self.shape.batch, positions)?;
        Ok(plan.steps.iter().map(|step| step.bytes(&self.shape, positions)).sum())
    }

    /// Goes back to when every sequence had `length` positions, its prompt's at least, and `tokens` were its
    /// newest tokens.
    ///
    /// # Errors
    /// `BatchMismatch` unless there is one token a sequence, `ContextOverflow` for more positions than the
    /// shortest sequence has.
    pub fn rewind(&mut self, length: usize, tokens: &[u32]) -> Result<(), CudaGpt2Error> {
        if tokens.len() != self.lengths.len() {
            let (found, limit) = (tokens.len(), self.lengths.len());
            return Err(GenerateError::BatchMismatch { found, limit }.into());
        }
        if let Some(&limit) = self.lengths.iter().min().filter(|&&shortest| length > shortest) {
            return Err(GenerateError::ContextOverflow { prompt: length, new: 0, limit }.into());
        }
        let positions = vec![length as u32; tokens.len()];
        self.player.write(Buffer::Position, 0, &number_bytes(&positions))?;
        self.player.write(Buffer::Token, 0, &number_bytes(tokens))?;
        // A token was drawn behind the prompt, and one behind every token after it.
        let drawn: Vec<u32> =
            self.prompts.iter().map(|&prompt| (length + 1).saturating_sub(prompt) as u32).collect();
        self.player.write(Buffer::Drawn, 0, &number_bytes(&drawn))?;
        self.lengths.fill(length);
        Ok(())
    }

    /// From here on the device's own clock is watched, where it has one.
    ///
    /// # Errors
    /// What the device says.
    pub fn begin_span(&mut self) -> Result<(), CudaGpt2Error> {
        Ok(self.player.begin_span()?)
    }

    /// Nanoseconds that the device took from the beginning of the first prompt or step since
    /// [`CudaGpt2::begin_span`] to the end of the last, idle time between them included.
    ///
    /// # Errors
    /// What the device says of the work.
    pub fn span_ns(&self) -> Result<Option<u64>, CudaGpt2Error> {
        Ok(self.player.span_ns()?)
    }

    /// The logits that the newest tokens were chosen from, `[B, V]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn logits(&self) -> Result<Vec<f32>, CudaGpt2Error> {
        let mut bytes = vec![0; 4 * self.lengths.len() * self.config.vocab_size];
        self.player.read(Buffer::Logits, 0, &mut bytes)?;
        Ok(bytes.as_chunks().0.iter().map(|four| f32::from_ne_bytes(*four)).collect())
    }

    /// Prompts, and `count` new tokens behind each. `each` is called whenever every text has one more, with
    /// how many there are before it and the tokens.
    ///
    /// # Errors
    /// As [`CudaGpt2::prefill`] and [`CudaGpt2::steps`].
    pub fn generate(
        &mut self,
        prompts: &[&[u32]],
        count: usize,
        mut each: impl FnMut(usize, &[u32]),
    ) -> Result<Vec<Vec<u32>>, CudaGpt2Error> {
        let mut made = vec![Vec::with_capacity(count); prompts.len()];
        if count == 0 {
            return Ok(made);
        }
        let first = self.prefill(prompts)?;
        each(0, &first);
        made.iter_mut().zip(&first).for_each(|(text, &id)| text.push(id));
        self.steps(count - 1, |step, ids| {
            each(step + 1, ids);
            made.iter_mut().zip(ids).for_each(|(text, &id)| text.push(id));
        })?;
        Ok(made)
    }

    fn make_room(&mut self, batch: usize, length: usize) -> Result<(), CudaGpt2Error> {
        let rows = (batch * length).min(ROWS.max(length));
        if self.shape.batch == batch && self.shape.rows >= rows {
            return Ok(());
        }
        let Shape { dims, weights, processors, products, .. } = self.shape;
        let shape = Shape { products, ..Shape::new(dims, weights, batch, rows, processors)? };
        self.plans.clear();
        self.lengths.clear();
        self.player.allocate(&shape.buffers())?;
        self.shape = shape;
        Ok(())
    }

    fn ready(&mut self, wanted: Wanted) -> Result<Ready, CudaGpt2Error> {
        if let Some(&(_, ready)) = self.plans.iter().find(|(known, _)| *known == wanted) {
            return Ok(ready);
        }
        let plan = match wanted {
            Wanted::Prompt { first, sequences, length, choice } => {
                plan::prefill(&self.shape, first, sequences, length, choice)?
            }
            Wanted::Step { choice } => plan::decode(&self.shape, self.shape.batch, choice)?,
            Wanted::Stream { positions } => plan::stream(&self.shape, self.shape.batch, positions)?,
        };
        let ready = self.player.ready(&plan)?;
        self.plans.push((wanted, ready));
        Ok(ready)
    }
}

/// The shape as the kernels see it.
fn dims(config: &Config) -> Dims {
    let mut dims =
        Dims::gpt2(config.n_layer, config.n_head, config.n_embd, config.vocab_size, config.n_positions);
    dims.inner = config.n_inner;
    dims.epsilon = config.layer_norm_epsilon;
    if !config.scale_attn_weights {
        dims.score_factor = (config.head_dim() as f32).sqrt();
    }
    dims.scale_by_layer = config.scale_attn_by_inverse_layer_idx;
    dims.tied = config.tie_word_embeddings;
    dims
}

/// Runs of neighbouring sequences of equal length, as `(first, sequences)`, none of more than `rows` rows
/// unless one sequence alone has more.
fn chunks(lengths: &[usize], rows: usize) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (at, &length) in lengths.iter().enumerate() {
        match found.last_mut() {
            Some((first, sequences)) if lengths[*first] == length && (*sequences + 1) * length <= rows => {
                *sequences += 1;
            }
            _ => found.push((at, 1)),
        }
    }
    found
}

fn number_bytes(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_equal_lengths_and_no_more_rows_than_there_is_room_for() {
        assert_eq!(chunks(&[5, 5, 5], 100), [(0, 3)]);
        assert_eq!(chunks(&[5, 5, 5], 10), [(0, 2), (2, 1)]);
        assert_eq!(chunks(&[5, 6, 6, 5], 100), [(0, 1), (1, 2), (3, 1)]);
        assert_eq!(chunks(&[200, 200], 100), [(0, 1), (1, 1)]);
        assert_eq!(chunks(&[], 100), []);
    }
}
