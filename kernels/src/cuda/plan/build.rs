//! The plans themselves: which kernels a step and a prompt are, with which grids and arguments.

use super::{
    Argument, Buffer, Dims, GEMV_THREADS, Kernel, Launch, Operation, Plan, PlanError, ROW_THREADS,
    SAMPLE_THREADS, SPLITS_MAX, Shape,
};

/// How a plan ends: which token comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// The largest logit; of equal ones the lowest id.
    Greedy,
    /// A draw, as `rust_native::Sampling` says, with the number of [`Buffer::Seed`], the sequence and
    /// [`Buffer::Drawn`].
    Sampled {
        /// Divides the logits; above 0.
        temperature: f32,
        /// Keep the k largest logits and their equals; 0 keeps all.
        top_k: u32,
        /// Keep the most probable tokens that together reach p; 1 keeps all.
        top_p: f32,
    },
}

/// One step of the first `batch` sequences: each token of [`Buffer::Token`] at its [`Buffer::Position`],
/// and the next of both into the same buffers. 5 launches a layer and 2 more; 7 (8 where positions are split)
/// and 3 where more than [`FEW_ROWS`](super::FEW_ROWS) sequences have weights in bf16, so that each weight is
/// read once for 64 of them. One more where a token is drawn.
///
/// # Errors
/// [`PlanError`] for an impossible shape or more sequences than it has.
pub fn decode(shape: &Shape, batch: usize, choice: Choice) -> Result<Plan, PlanError> {
    shape.check()?;
    if !(1..=shape.batch).contains(&batch) {
        return Err(PlanError {
            what: "a step's sequences must be 1 to those of the cache; got",
            value: batch,
        });
    }
    let mut plan = Builder { shape, first: 0, sequences: batch, length: 1, steps: Vec::new() };
    plan.embed(Buffer::Token);
    for layer in 0..shape.dims.layers {
        if plan.is_skinny() {
            plan.skinny_layer(layer);
            continue;
        }
        plan.norm_qkv(layer);
        plan.attend(layer);
        plan.project(layer);
        plan.norm_expand(layer);
        plan.contract(layer);
    }
    plan.head(choice);
    Ok(Plan { buffers: shape.buffers(), steps: plan.steps })
}

/// A prompt of `length` tokens each for `sequences` sequences from `first` on, appended at their
/// [`Buffer::Position`]: reads [`Buffer::Prompt`], sequence by sequence, fills the cache, and leaves
/// the last logits in [`Buffer::Logits`] and the next token and position. 7 launches a layer (8 with
/// [`Products::CublasLt`](super::Products::CublasLt)) and 2 more, 3 for
/// more than [`FEW_ROWS`](super::FEW_ROWS) sequences with weights in bf16.
///
/// # Errors
/// [`PlanError`] for an impossible shape, or sequences or rows that it has no room for.
pub fn prefill(
    shape: &Shape,
    first: usize,
    sequences: usize,
    length: usize,
    choice: Choice,
) -> Result<Plan, PlanError> {
    shape.check()?;
    if sequences == 0 || first + sequences > shape.batch {
        let what = "a prompt's sequences must lie in the cache; the last would be number";
        return Err(PlanError { what, value: first + sequences });
    }
    if length == 0 || length > shape.dims.context || sequences * length > shape.rows {
        let what = "a prompt must have a token and fit context and rows; it has";
        return Err(PlanError { what, value: sequences * length });
    }
    let mut plan = Builder { shape, first, sequences, length, steps: Vec::new() };
    plan.embed(Buffer::Prompt);
    for layer in 0..shape.dims.layers {
        plan.prompt_layer(layer);
    }
    plan.head(choice);
    Ok(Plan { buffers: shape.buffers(), steps: plan.steps })
}

/// A plan in the making: `sequences` from `first` on, `length` rows each.
pub(super) struct Builder<'a> {
    pub(super) shape: &'a Shape,
    pub(super) first: usize,
    pub(super) sequences: usize,
    pub(super) length: usize,
    pub(super) steps: Vec<Launch>,
}

pub(super) fn at(id: Buffer, offset: usize) -> Argument {
    Argument::Buffer { id, offset }
}

/// Dimensions are at most 2^24: [`Shape::check`].
pub(super) fn int(value: usize) -> Argument {
    Argument::Int(i32::try_from(value).expect("a checked dimension"))
}

/// Blocks of a grid; products of two checked dimensions stay below 2^31 for all that memory can hold.
fn blocks(value: usize) -> u32 {
    u32::try_from(value).expect("a grid of 32 bits")
}

impl Builder<'_> {
    pub(super) fn rows(&self) -> usize {
        self.sequences * self.length
    }

    pub(super) fn push(
        &mut self,
        operation: Operation,
        grid: [usize; 3],
        threads: u32,
        shared_floats: usize,
        arguments: Vec<Argument>,
    ) {
        let kernel = Kernel::new(operation, self.shape.weights, self.sequences);
        self.push_kernel(kernel, grid, threads, shared_floats, arguments);
    }

    pub(super) fn push_kernel(
        &mut self,
        kernel: Kernel,
        grid: [usize; 3],
        threads: u32,
        shared_floats: usize,
        arguments: Vec<Argument>,
    ) {
        self.steps.push(Launch {
            kernel,
            grid: grid.map(blocks),
            block: [threads, 1, 1],
            shared_bytes: blocks(4 * shared_floats),
            arguments,
        });
    }

    /// Groups of rows that a product of a step is done in, and rows of each.
    pub(super) fn groups(&self, operation: Operation) -> (usize, usize) {
        let rows = Kernel::new(operation, self.shape.weights, self.sequences).rows.unwrap_or(1) as usize;
        (self.sequences.div_ceil(rows), rows)
    }

    /// Blocks of a product whose warps take an output each: enough for all outputs, and no more than
    /// stay resident at once (64 registers a thread, so 4 a multiprocessor), because each block begins
    /// with the layer norm of its rows.
    fn output_blocks(&self, outputs: usize) -> usize {
        let resident = 4 * self.shape.processors as usize;
        outputs.div_ceil(GEMV_THREADS as usize / 32).min(resident)
    }

    /// Warps that share one output of `inputs` inputs: as many as still have a 16-byte load for each
    /// lane, where outputs are few; 8 warps at most, a block's.
    fn parts(&self, inputs: usize) -> usize {
        let loads = inputs * self.shape.weights.bytes() / 16;
        [8, 4, 2].into_iter().find(|parts| loads >= 32 * parts).unwrap_or(1)
    }

    /// The first element of `layer`, and of the first sequence, in keys and values.
    pub(super) fn cached(&self, layer: usize) -> usize {
        let Dims { width, context, .. } = self.shape.dims;
        (layer * self.shape.batch + self.first) * context * width
    }

    /// What every attention begins with.
    pub(super) fn query_and_cache(&self, layer: usize) -> Vec<Argument> {
        vec![
            at(Buffer::Query, 0),
            at(Buffer::Keys, self.cached(layer)),
            at(Buffer::Values, self.cached(layer)),
            at(Buffer::Position, self.first),
        ]
    }

    /// Where queries, keys and values of a layer go, and what says so; `count` is what a kernel counts its rows by.
    pub(super) fn query_and_places(&self, layer: usize, count: usize) -> Vec<Argument> {
        let Dims { width, heads, context, .. } = self.shape.dims;
        vec![
            at(Buffer::Position, self.first),
            at(Buffer::Query, 0),
            at(Buffer::Keys, self.cached(layer)),
            at(Buffer::Values, self.cached(layer)),
            int(count),
            int(width),
            int(heads),
            int(context),
            Argument::Float(self.shape.dims.score_scale(layer)),
        ]
    }

    /// The weights of a head.
    pub(super) fn table(&self) -> Argument {
        at(if self.shape.dims.tied { Buffer::TokenTable } else { Buffer::HeadWeight }, 0)
    }

    /// Where every head puts logits, and the next token and position, and how it comes by them.
    pub(super) fn choosing(&self, choice: Choice) -> [Argument; 12] {
        let Dims { width, vocabulary, context, .. } = self.shape.dims;
        [
            at(Buffer::Logits, self.first * vocabulary),
            at(Buffer::Best, self.first),
            at(Buffer::Finished, 0),
            at(Buffer::Token, self.first),
            at(Buffer::Position, self.first),
            at(Buffer::Output, self.first * context),
            int(self.sequences),
            int(width),
            int(vocabulary),
            int(context),
            int(self.length),
            Argument::Int(i32::from(choice == Choice::Greedy)),
        ]
    }

    /// grid (rows); one row of both tables each.
    fn embed(&mut self, tokens: Buffer) {
        let Dims { width, .. } = self.shape.dims;
        let from = if tokens == Buffer::Token { self.first } else { 0 };
        let arguments = vec![
            at(tokens, from),
            at(Buffer::Position, self.first),
            at(Buffer::TokenTable, 0),
            at(Buffer::PositionTable, 0),
            at(Buffer::Residual, 0),
            int(self.length),
            int(width),
        ];
        self.push(Operation::Embed, [self.rows(), 1, 1], ROW_THREADS, 0, arguments);
    }

    /// grid (outputs, groups of rows); shared: the normed rows and two sums a warp.
    fn norm_qkv(&mut self, layer: usize) {
        let Dims { width, heads, context, epsilon, .. } = self.shape.dims;
        let (groups, rows) = self.groups(Operation::NormQkv);
        let arguments = vec![
            at(Buffer::Residual, 0),
            at(Buffer::Norm1Gain, layer * width),
            at(Buffer::Norm1Bias, layer * width),
            at(Buffer::QkvWeight, layer * 3 * width * width),
            at(Buffer::QkvBias, layer * 3 * width),
            at(Buffer::Position, self.first),
            at(Buffer::Query, 0),
            at(Buffer::Keys, self.cached(layer)),
            at(Buffer::Values, self.cached(layer)),
            int(self.sequences),
            int(width),
            int(heads),
            int(context),
            Argument::Float(epsilon),
            Argument::Float(self.shape.dims.score_scale(layer)),
        ];
        let grid = [self.output_blocks(3 * width), groups, 1];
        self.push(Operation::NormQkv, grid, GEMV_THREADS, norm_floats(rows, width), arguments);
    }

    /// grid (splits, heads, sequences); shared: a sum of values, a maximum and a sum for each warp.
    pub(super) fn attend(&mut self, layer: usize) {
        let Dims { heads, context, .. } = self.shape.dims;
        let d = self.shape.dims.head_width();
        let mut arguments = self.query_and_cache(layer);
        arguments.extend([at(Buffer::Partial, 0), at(Buffer::Stats, 0), int(heads), int(d), int(context)]);
        let grid = [self.shape.splits as usize, heads, self.sequences];
        let warps = ROW_THREADS as usize / 32;
        self.push(Operation::Attend, grid, ROW_THREADS, warps * (d + 2), arguments);
    }

    /// grid (outputs, groups of rows); shared: the combined rows, a weight for each part and head of a
    /// row, and a sum for each warp and row.
    fn project(&mut self, layer: usize) {
        let Dims { width, heads, .. } = self.shape.dims;
        let (groups, rows) = self.groups(Operation::Project);
        let parts = self.parts(width);
        let arguments = vec![
            at(Buffer::Partial, 0),
            at(Buffer::Stats, 0),
            at(Buffer::ProjectWeight, layer * width * width),
            at(Buffer::ProjectBias, layer * width),
            at(Buffer::Residual, 0),
            int(self.sequences),
            int(width),
            int(heads),
            int(self.shape.splits as usize),
            int(parts),
        ];
        let warps = GEMV_THREADS as usize / 32;
        let grid = [width.div_ceil(warps / parts), groups, 1];
        let shared = rows * width + heads * SPLITS_MAX as usize + warps * rows;
        self.push(Operation::Project, grid, GEMV_THREADS, shared, arguments);
    }

    /// grid (outputs, groups of rows); shared as [`Builder::norm_qkv`].
    fn norm_expand(&mut self, layer: usize) {
        let Dims { width, inner, epsilon, .. } = self.shape.dims;
        let (groups, rows) = self.groups(Operation::NormExpand);
        let arguments = vec![
            at(Buffer::Residual, 0),
            at(Buffer::Norm2Gain, layer * width),
            at(Buffer::Norm2Bias, layer * width),
            at(Buffer::ExpandWeight, layer * inner * width),
            at(Buffer::ExpandBias, layer * inner),
            at(Buffer::Hidden, 0),
            int(self.sequences),
            int(width),
            int(inner),
            Argument::Float(epsilon),
        ];
        let grid = [self.output_blocks(inner), groups, 1];
        self.push(Operation::NormExpand, grid, GEMV_THREADS, norm_floats(rows, width), arguments);
    }

    /// grid (outputs, groups of rows); shared: a sum for each warp and row. Rows are read from global
    /// memory: 8 of them would not fit the shared memory of every device.
    fn contract(&mut self, layer: usize) {
        let Dims { width, inner, .. } = self.shape.dims;
        let (groups, rows) = self.groups(Operation::Contract);
        let parts = self.parts(inner);
        let arguments = vec![
            at(Buffer::Hidden, 0),
            at(Buffer::ContractWeight, layer * width * inner),
            at(Buffer::ContractBias, layer * width),
            at(Buffer::Residual, 0),
            int(self.sequences),
            int(inner),
            int(width),
            int(parts),
        ];
        let warps = GEMV_THREADS as usize / 32;
        let grid = [width.div_ceil(warps / parts), groups, 1];
        self.push(Operation::Contract, grid, GEMV_THREADS, warps * rows, arguments);
    }

    /// The logits, and the next token and position from them.
    fn head(&mut self, choice: Choice) {
        if self.is_skinny() {
            self.skinny_head(choice);
        } else {
            self.norm_head(choice);
        }
        if let Choice::Sampled { temperature, top_k, top_p } = choice {
            self.sample(temperature, top_k, top_p);
        }
    }

    /// grid (outputs, groups of rows); shared: the normed rows, two sums a warp, and the best of each
    /// warp and row as 64 bits. The last block to finish writes token and position.
    fn norm_head(&mut self, choice: Choice) {
        let Dims { width, vocabulary, epsilon, .. } = self.shape.dims;
        let (groups, rows) = self.groups(Operation::NormHead);
        let mut arguments =
            vec![at(Buffer::Residual, 0), at(Buffer::NormGain, 0), at(Buffer::NormBias, 0), self.table()];
        arguments.extend(self.choosing(choice));
        arguments.push(Argument::Float(epsilon));
        let warps = GEMV_THREADS as usize / 32;
        let grid = [self.output_blocks(vocabulary), groups, 1];
        let shared = norm_floats(rows, width) + 2 * warps * rows + 2;
        self.push(Operation::NormHead, grid, GEMV_THREADS, shared, arguments);
    }

    /// grid (sequences); shared: a 64-bit number a thread.
    fn sample(&mut self, temperature: f32, top_k: u32, top_p: f32) {
        let Dims { vocabulary, context, .. } = self.shape.dims;
        let arguments = vec![
            at(Buffer::Logits, self.first * vocabulary),
            at(Buffer::Seed, 0),
            at(Buffer::Drawn, self.first),
            at(Buffer::Token, self.first),
            at(Buffer::Position, self.first),
            at(Buffer::Output, self.first * context),
            int(vocabulary),
            int(context),
            int(self.length),
            int(self.first),
            int(top_k as usize),
            Argument::Float(temperature),
            Argument::Float(top_p),
        ];
        let shared = 2 * SAMPLE_THREADS as usize;
        self.push(Operation::Sample, [self.sequences, 1, 1], SAMPLE_THREADS, shared, arguments);
    }
}

/// Floats of shared memory of a product behind a layer norm: the normed rows, and two sums a warp.
fn norm_floats(rows: usize, width: usize) -> usize {
    rows * width + 2 * (GEMV_THREADS as usize / 32)
}
