//! What a step of GPT-2 on a GPU is: buffers, and a list of launches, as plain data.
//!
//! One [`Plan`] is played by whoever can launch: eagerly on a device, once into a captured graph, and
//! block by block on the CPU by the tests' emulation. So what the emulation proves of offsets, grids and
//! shared memory holds for the device. Tokens and positions are buffers that kernels read and write
//! themselves, and nothing in a plan depends on how far a text has come: one captured graph serves
//! every step, and many can be queued without waiting for the host.
//!
//! Invariant: every plan of one [`Shape`] lists the same buffers, at the index of their [`Buffer`], so a
//! prompt's plan and a step's work on one allocation.

mod build;
mod kernel;
mod skinny;

use std::fmt;

pub use build::{Choice, decode, prefill};
pub use kernel::{Kernel, Operation, Tile};

/// Threads of a block of the products of one or few rows: 8 warps.
pub const GEMV_THREADS: u32 = 256;
/// Threads of a block of `embed`, `norm`, `attend` and `attend_tiles`: 4 warps.
pub const ROW_THREADS: u32 = 128;
/// Threads of the one block a sequence is sampled by.
pub const SAMPLE_THREADS: u32 = 256;
/// Most rows whose sums a thread of the products of few rows keeps at once.
pub const FEW_ROWS: usize = 8;
/// Outputs that a warp makes at once on tensor cores, for more rows than those.
pub const SKINNY_OUTPUTS: usize = 16;
/// Rows and columns of a tile of a matrix product.
pub const TILE: usize = 64;
/// Inputs that such a tile takes at a time in f32.
pub const TILE_DEPTH: usize = 16;
/// Inputs that it takes at a time in bf16, on tensor cores.
pub const TENSOR_DEPTH: usize = 32;
/// Queries of a block of `attend_tiles` in f32.
pub const QUERIES: usize = 16;
/// Positions it takes at a time.
pub const POSITIONS: usize = 32;
/// Positions it takes at a time in bf16, on tensor cores.
pub const TENSOR_POSITIONS: usize = 64;
/// Most parts that a sequence's positions are split into by `attend`.
pub const SPLITS_MAX: u32 = 32;

/// A model's shape as the kernels see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dims {
    /// L: blocks of the model.
    pub layers: usize,
    /// H: attention heads; divides `width` into a power of two from 8 to 128.
    pub heads: usize,
    /// C: width of the residual stream, a multiple of 8.
    pub width: usize,
    /// F: width of the feed-forward layer, a multiple of 8.
    pub inner: usize,
    /// V: token ids.
    pub vocabulary: usize,
    /// T: positions a sequence may have.
    pub context: usize,
    /// Inside every layer norm's square root.
    pub epsilon: f32,
    /// What scores are multiplied by besides 1 / sqrt(C / H); 1 for a plain model.
    pub score_factor: f32,
    /// Divide scores by the layer's number, counted from 1, as well.
    pub scale_by_layer: bool,
    /// The head is the token table; else it has a matrix of its own.
    pub tied: bool,
}

impl Dims {
    /// GPT-2's proportions: an inner layer of 4 C, a tied head, plainly scaled scores.
    pub fn gpt2(layers: usize, heads: usize, width: usize, vocabulary: usize, context: usize) -> Dims {
        Dims {
            layers,
            heads,
            width,
            inner: 4 * width,
            vocabulary,
            context,
            epsilon: 1e-5,
            score_factor: 1.0,
            scale_by_layer: false,
            tied: true,
        }
    }

    /// D: width of a head.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// What the scores of `layer` (from 0) are multiplied by; queries carry it.
    pub(crate) fn score_scale(&self, layer: usize) -> f32 {
        let by_layer = if self.scale_by_layer { (layer + 1) as f32 } else { 1.0 };
        self.score_factor / (self.head_width() as f32).sqrt() / by_layer
    }
}

/// The numbers that weights, keys and values are kept in. Everything computed is f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Weights {
    /// 4 bytes.
    F32,
    /// 2 bytes, rounded to nearest even.
    Bf16,
}

impl Weights {
    /// Both.
    pub const ALL: [Weights; 2] = [Weights::F32, Weights::Bf16];

    /// `f32` or `bf16`: the ending of kernels' names.
    pub fn name(self) -> &'static str {
        match self {
            Weights::F32 => "f32",
            Weights::Bf16 => "bf16",
        }
    }

    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Weights::F32 => 4,
            Weights::Bf16 => 2,
        }
    }

    /// As the element of a buffer.
    pub fn number(self) -> Number {
        match self {
            Weights::F32 => Number::F32,
            Weights::Bf16 => Number::Bf16,
        }
    }
}

/// For what a set of plans is made: it decides the sizes of all buffers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// The model.
    pub dims: Dims,
    /// Of weights, keys and values.
    pub weights: Weights,
    /// B: sequences that the cache has room for.
    pub batch: usize,
    /// Most rows of a prompt's plan, sequences times tokens; at least `batch`.
    pub rows: usize,
    /// Parts that `attend` splits the positions of a sequence into, 1 to [`SPLITS_MAX`].
    pub splits: u32,
    /// Multiprocessors that should have work at once.
    pub processors: u32,
}

impl Shape {
    /// For `batch` sequences and prompts of up to `rows` tokens in all, on a device of `processors`
    /// multiprocessors: as many splits as give each of them a block of `attend`.
    ///
    /// # Errors
    /// [`PlanError`], naming what the kernels cannot do.
    pub fn new(
        dims: Dims,
        weights: Weights,
        batch: usize,
        rows: usize,
        processors: u32,
    ) -> Result<Shape, PlanError> {
        let blocks = u32::try_from(dims.heads * batch).unwrap_or(u32::MAX).max(1);
        let splits = (processors / blocks).clamp(1, SPLITS_MAX);
        let shape = Shape { dims, weights, batch, rows: rows.max(batch), splits, processors };
        shape.check()?;
        Ok(shape)
    }

    /// Whether the kernels can do this at all.
    ///
    /// # Errors
    /// [`PlanError`], naming what they cannot.
    pub fn check(&self) -> Result<(), PlanError> {
        let dims = &self.dims;
        let fail = |what, value| Err(PlanError { what, value });
        if dims.layers == 0 || dims.vocabulary == 0 || dims.context == 0 {
            return fail("a model has at least a layer, a token id and a position; got none of one", 0);
        }
        if dims.heads == 0 || !dims.width.is_multiple_of(dims.heads) {
            return fail("the number of heads must divide the width; heads", dims.heads);
        }
        let d = dims.head_width();
        if !(d.is_power_of_two() && (8..=128).contains(&d)) {
            return fail("the width of a head must be 8, 16, 32, 64 or 128; it is", d);
        }
        if dims.inner == 0 || !dims.inner.is_multiple_of(8) {
            return fail("the inner width must be a multiple of 8; it is", dims.inner);
        }
        if !(1..=1024).contains(&self.batch) {
            return fail("sequences at once must be 1 to 1024; got", self.batch);
        }
        if self.rows < self.batch {
            return fail("rows must be at least the sequences; got", self.rows);
        }
        if !(1..=SPLITS_MAX).contains(&self.splits) {
            return fail("splits of the positions must be 1 to 32; got", self.splits as usize);
        }
        if self.processors == 0 {
            return fail("processors must be at least 1; got", 0);
        }
        // Kernels count in 32 bits inside a buffer's row, and in 64 across rows.
        let largest = [dims.vocabulary, dims.context, 3 * dims.width, dims.inner, self.rows];
        if let Some(&value) = largest.iter().find(|&&value| value > 1 << 24) {
            return fail("no dimension may pass 2^24; got", value);
        }
        Ok(())
    }

    /// All buffers, at the index of their [`Buffer`].
    pub fn buffers(&self) -> Vec<BufferSpec> {
        Buffer::ALL.into_iter().map(|buffer| self.buffer(buffer)).collect()
    }

    fn buffer(&self, buffer: Buffer) -> BufferSpec {
        let Dims { layers, heads, width, inner, vocabulary, context, tied, .. } = self.dims;
        let (batch, rows, splits) = (self.batch, self.rows, self.splits as usize);
        let skinny = self.skinny_buffers();
        let weights = self.weights.number();
        let (name, elements, number) = match buffer {
            Buffer::TokenTable => ("token_table", vocabulary * width, weights),
            Buffer::PositionTable => ("position_table", context * width, Number::F32),
            Buffer::Norm1Gain => ("norm1_gain", layers * width, Number::F32),
            Buffer::Norm1Bias => ("norm1_bias", layers * width, Number::F32),
            Buffer::QkvWeight => ("qkv_weight", layers * 3 * width * width, weights),
            Buffer::QkvBias => ("qkv_bias", layers * 3 * width, Number::F32),
            Buffer::ProjectWeight => ("project_weight", layers * width * width, weights),
            Buffer::ProjectBias => ("project_bias", layers * width, Number::F32),
            Buffer::Norm2Gain => ("norm2_gain", layers * width, Number::F32),
            Buffer::Norm2Bias => ("norm2_bias", layers * width, Number::F32),
            Buffer::ExpandWeight => ("expand_weight", layers * inner * width, weights),
            Buffer::ExpandBias => ("expand_bias", layers * inner, Number::F32),
            Buffer::ContractWeight => ("contract_weight", layers * width * inner, weights),
            Buffer::ContractBias => ("contract_bias", layers * width, Number::F32),
            Buffer::NormGain => ("norm_gain", width, Number::F32),
            Buffer::NormBias => ("norm_bias", width, Number::F32),
            Buffer::HeadWeight => ("head_weight", if tied { 0 } else { vocabulary * width }, weights),
            Buffer::Keys => ("keys", layers * batch * context * width, weights),
            Buffer::Values => ("values", layers * batch * context * width, weights),
            Buffer::Prompt => ("prompt", rows, Number::I32),
            Buffer::Token => ("token", batch, Number::I32),
            Buffer::Position => ("position", batch, Number::I32),
            Buffer::Output => ("output", batch * context, Number::I32),
            Buffer::Seed => ("seed", 1, Number::U64),
            Buffer::Drawn => ("drawn", batch, Number::I32),
            Buffer::Best => ("best", batch, Number::U64),
            Buffer::Finished => ("finished", 1, Number::U32),
            Buffer::Logits => ("logits", batch * vocabulary, Number::F32),
            Buffer::Residual => ("residual", rows * width, Number::F32),
            Buffer::Normed => ("normed", rows * width, Number::F32),
            Buffer::Query => ("query", rows * width, Number::F32),
            Buffer::Partial => ("partial", batch * splits * width, Number::F32),
            Buffer::Stats => ("stats", batch * splits * heads * 2, Number::F32),
            Buffer::Attended => ("attended", rows * width, Number::F32),
            Buffer::Hidden => ("hidden", rows * inner, Number::F32),
            Buffer::Packed => ("packed", skinny.packed, Number::Bf16),
            Buffer::PackedHidden => ("packed_hidden", skinny.packed_hidden, Number::Bf16),
            Buffer::Shares => ("shares", skinny.shares, Number::F32),
            Buffer::Arrived => ("arrived", skinny.arrived, Number::U32),
        };
        BufferSpec { buffer, name, elements, number }
    }
}

/// What the kernels cannot do, with the number that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The condition, ending in what `value` is.
    pub what: &'static str,
    /// The number at fault.
    pub value: usize,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no CUDA plan: {} {}", self.what, self.value)
    }
}

impl std::error::Error for PlanError {}

/// Every array that kernels read or write. Weights are row-major `[out][in]`, all layers one behind
/// another. W is the number of [`Shape::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the shape beside each says what it is")]
pub enum Buffer {
    /// `[V][C]` W
    TokenTable,
    /// `[T][C]` f32
    PositionTable,
    /// `[L][C]` f32
    Norm1Gain,
    /// `[L][C]` f32
    Norm1Bias,
    /// `[L][3C][C]` W
    QkvWeight,
    /// `[L][3C]` f32
    QkvBias,
    /// `[L][C][C]` W
    ProjectWeight,
    /// `[L][C]` f32
    ProjectBias,
    /// `[L][C]` f32
    Norm2Gain,
    /// `[L][C]` f32
    Norm2Bias,
    /// `[L][F][C]` W
    ExpandWeight,
    /// `[L][F]` f32
    ExpandBias,
    /// `[L][C][F]` W
    ContractWeight,
    /// `[L][C]` f32
    ContractBias,
    /// `[C]` f32
    NormGain,
    /// `[C]` f32
    NormBias,
    /// `[V][C]` W; of no elements where the head is tied
    HeadWeight,
    /// `[L][B][H][T][D]` W: a text's keys
    Keys,
    /// `[L][B][H][T][D]` W: its values
    Values,
    /// `[rows]` i32: the tokens a prompt's plan reads, sequence by sequence
    Prompt,
    /// `[B]` i32: the token each sequence goes on with; every plan writes the next
    Token,
    /// `[B]` i32: its position, which is also how many positions the cache holds
    Position,
    /// `[B][T]` i32: every token chosen, at its position
    Output,
    /// `[1]` u64: the seed of sampling
    Seed,
    /// `[B]` i32: tokens drawn so far, the counter of sampling
    Drawn,
    /// `[B]` u64: the best logit so far and its id, zero between plans
    Best,
    /// `[1]` u32: blocks of the head that are done, zero between plans
    Finished,
    /// `[B][V]` f32: the last logits of each sequence
    Logits,
    /// `[rows][C]` f32: the residual stream
    Residual,
    /// `[rows][C]` f32: its layer norm, in a prompt's plan
    Normed,
    /// `[rows][C]` f32: queries, scaled
    Query,
    /// `[B][splits][C]` f32: unnormalised sums of values of each part of the positions
    Partial,
    /// `[B][splits][H][2]` f32: each part's largest score and sum of weights
    Stats,
    /// `[rows][C]` f32: attention's result, in a prompt's plan
    Attended,
    /// `[rows][F]` f32: the inner layer
    Hidden,
    /// `[B / 8][C / 32][32][8]` bf16, rounded up: a step's rows as `skinny.cu` packs them. This one and the
    /// next three have elements only where a step of the whole batch is for tensor cores.
    Packed,
    /// `[B / 8][F / 32][32][8]` bf16, rounded up: the inner layer, packed
    PackedHidden,
    /// `[groups][C / 16][Z][16 R]` f32: sums of blocks that share the inputs of a product
    Shares,
    /// `[groups][C / 16]` u32: how many of those are done, zero between launches
    Arrived,
}

impl Buffer {
    /// All, in the order of their indices.
    pub const ALL: [Buffer; 39] = [
        Buffer::TokenTable,
        Buffer::PositionTable,
        Buffer::Norm1Gain,
        Buffer::Norm1Bias,
        Buffer::QkvWeight,
        Buffer::QkvBias,
        Buffer::ProjectWeight,
        Buffer::ProjectBias,
        Buffer::Norm2Gain,
        Buffer::Norm2Bias,
        Buffer::ExpandWeight,
        Buffer::ExpandBias,
        Buffer::ContractWeight,
        Buffer::ContractBias,
        Buffer::NormGain,
        Buffer::NormBias,
        Buffer::HeadWeight,
        Buffer::Keys,
        Buffer::Values,
        Buffer::Prompt,
        Buffer::Token,
        Buffer::Position,
        Buffer::Output,
        Buffer::Seed,
        Buffer::Drawn,
        Buffer::Best,
        Buffer::Finished,
        Buffer::Logits,
        Buffer::Residual,
        Buffer::Normed,
        Buffer::Query,
        Buffer::Partial,
        Buffer::Stats,
        Buffer::Attended,
        Buffer::Hidden,
        Buffer::Packed,
        Buffer::PackedHidden,
        Buffer::Shares,
        Buffer::Arrived,
    ];

    /// Whether kernels may read it before anything was written to it: then it counts as zeros. All others
    /// are weights, or are written first.
    pub fn starts_as_zeros(self) -> bool {
        use Buffer::{Arrived, Best, Drawn, Finished, Output, Position, Prompt, Seed, Token};
        matches!(self, Prompt | Token | Position | Output | Seed | Drawn | Best | Finished | Arrived)
    }

    /// Where it stands in [`Plan::buffers`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// The element of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the types")]
pub enum Number {
    F32,
    Bf16,
    I32,
    U32,
    U64,
}

impl Number {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Number::Bf16 => 2,
            Number::F32 | Number::I32 | Number::U32 => 4,
            Number::U64 => 8,
        }
    }
}

/// One buffer to allocate, 16-byte aligned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferSpec {
    /// Which.
    pub buffer: Buffer,
    /// For messages.
    pub name: &'static str,
    /// How many.
    pub elements: usize,
    /// Of what.
    pub number: Number,
}

impl BufferSpec {
    /// Bytes to allocate.
    pub fn bytes(&self) -> usize {
        self.elements * self.number.bytes()
    }
}

/// One argument of a kernel, in the order of its signature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// A pointer into a buffer.
    Buffer {
        /// Which.
        id: Buffer,
        /// Elements from its start.
        offset: usize,
    },
    /// An `int`.
    Int(i32),
    /// A `float`.
    Float(f32),
}

/// One kernel launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// What runs.
    pub kernel: Kernel,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z; a multiple of 32 in x, 1 in y and z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// Its arguments.
    pub arguments: Vec<Argument>,
}

/// A step, or a prompt, as launches in order; each begins when the one before it is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Everything the launches touch, at the index of its [`Buffer`].
    pub buffers: Vec<BufferSpec>,
    /// The launches.
    pub steps: Vec<Launch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Vec<Shape> {
        let mut shapes = Vec::new();
        for dims in [Dims::gpt2(12, 12, 768, 50257, 1024), Dims::gpt2(2, 2, 64, 257, 160)] {
            for dims in [dims, Dims { tied: false, inner: 40, ..dims }] {
                for batch in [1, 2, 3, 8, 9, 64] {
                    shapes.push(Shape::new(dims, Weights::Bf16, batch, 256, 132).unwrap());
                    shapes.push(Shape::new(dims, Weights::F32, batch, 256, 1).unwrap());
                }
            }
        }
        shapes
    }

    fn plans(shape: &Shape) -> Vec<Plan> {
        let drawn = Choice::Sampled { temperature: 1.0, top_k: 5, top_p: 0.5 };
        let last = shape.batch - 1;
        vec![
            decode(shape, shape.batch, Choice::Greedy).unwrap(),
            decode(shape, 1, drawn).unwrap(),
            prefill(shape, last, 1, 100, Choice::Greedy).unwrap(),
            prefill(shape, 0, shape.batch, (256 / shape.batch).min(shape.dims.context), drawn).unwrap(),
        ]
    }

    #[test]
    fn buffers_stand_at_their_index_and_plans_of_a_shape_share_them() {
        for shape in shapes() {
            for plan in plans(&shape) {
                assert_eq!(plan.buffers, shape.buffers());
                for (index, spec) in plan.buffers.iter().enumerate() {
                    assert_eq!((spec.buffer, spec.buffer.index()), (Buffer::ALL[index], index));
                }
            }
        }
    }

    #[test]
    fn every_launch_is_one_a_device_takes() {
        for shape in shapes() {
            for step in plans(&shape).iter().flat_map(|plan| &plan.steps) {
                let name = step.kernel.name();
                assert!(step.grid.iter().all(|&n| n > 0), "{name}");
                assert!(step.grid[1].max(step.grid[2]) <= 65535, "{name}");
                assert!(step.block[0] % 32 == 0 && step.block[1..] == [1, 1], "{name}");
                assert!(step.shared_bytes <= 99 << 10, "{name}");
                assert!(Kernel::all().contains(&step.kernel), "{name}");
                for argument in &step.arguments {
                    let Argument::Buffer { id, offset } = argument else { continue };
                    let spec = &shape.buffers()[id.index()];
                    assert!(*offset < spec.elements, "{name}: {} at {offset}", spec.name);
                    // 16-byte loads begin where an argument points.
                    let small = matches!(spec.number, Number::I32 | Number::U32 | Number::U64);
                    let logits = matches!(id, Buffer::Logits);
                    assert!(
                        small || logits || offset * spec.number.bytes() % 16 == 0,
                        "{name}: {}",
                        spec.name
                    );
                }
            }
        }
    }

    #[test]
    fn a_step_is_five_launches_a_layer_and_two() {
        let shape = Shape::new(Dims::gpt2(12, 12, 768, 50257, 1024), Weights::Bf16, 1, 1, 132).unwrap();
        let plan = decode(&shape, 1, Choice::Greedy).unwrap();
        assert_eq!(plan.steps.len(), 62);
        // Every multiprocessor of an H200 has a block of attention.
        assert_eq!(plan.steps[2].grid, [11, 12, 1]);
        let drawn = Choice::Sampled { temperature: 1.0, top_k: 0, top_p: 1.0 };
        assert_eq!(decode(&shape, 1, drawn).unwrap().steps.len(), 63);
        assert_eq!(prefill(&shape, 0, 1, 1, Choice::Greedy).unwrap().steps.len(), 86);
    }

    #[test]
    fn more_than_8_rows_in_bf16_read_each_weight_once_for_64() {
        let dims = Dims::gpt2(12, 12, 768, 50257, 1024);
        let plan = |weights, batch| {
            let shape = Shape::new(dims, weights, batch, batch, 132).unwrap();
            decode(&shape, batch, Choice::Greedy).unwrap()
        };
        for (batch, rows, groups) in [(9, 16, 1), (16, 16, 1), (17, 32, 1), (33, 64, 1), (65, 64, 2)] {
            let plan = plan(Weights::Bf16, batch);
            assert_eq!(plan.steps.len(), 87);
            let products = plan.steps.iter().filter(|step| step.kernel.rows.is_some());
            let products: Vec<_> = products.collect();
            assert_eq!(products.len(), 4 * 12 + 1);
            for step in products {
                assert_eq!((step.kernel.rows, step.grid[1]), (Some(rows), groups));
            }
        }
        // Blocks share the inputs of a product where there are many for few outputs.
        let steps = plan(Weights::Bf16, 64).steps;
        assert_eq!([2, 4, 7].map(|step| steps[step].grid), [[144, 1, 1], [48, 1, 1], [48, 1, 4]]);
        assert_eq!(plan(Weights::F32, 64).steps.len(), 62);
        assert_eq!(plan(Weights::Bf16, 8).steps.len(), 62);
    }

    #[test]
    fn kernels_have_names_of_their_own() {
        let mut names: Vec<String> = Kernel::all().into_iter().map(Kernel::name).collect();
        assert_eq!(names.len(), 72);
        assert!(names.iter().any(|name| name == "norm_qkv_bf16_r4") && names.contains(&"sample".into()));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 72);
        assert_eq!(Kernel::new(Operation::Project, Weights::F32, 3).rows, Some(4));
        assert_eq!(Kernel::new(Operation::Project, Weights::F32, 64).rows, Some(8));
        assert_eq!(Kernel::new(Operation::SkinnyHead, Weights::Bf16, 70).name(), "skinny_head_bf16_r64");
        assert_eq!(Kernel::new(Operation::Attend, Weights::F32, 64).rows, None);
    }

    #[test]
    fn what_the_kernels_cannot_do_is_refused_with_the_number_at_fault() {
        let good = Dims::gpt2(2, 2, 64, 257, 160);
        let refused = |dims: Dims, batch, word: &str| {
            let said = Shape::new(dims, Weights::F32, batch, 1, 132).unwrap_err().to_string();
            assert!(said.starts_with("no CUDA plan: ") && said.contains(word), "{said}");
        };
        refused(Dims { heads: 32, ..good }, 1, "it is 2");
        refused(Dims { heads: 3, ..good }, 1, "must divide the width; heads 3");
        refused(Dims { inner: 70, ..good }, 1, "multiple of 8; it is 70");
        refused(Dims { layers: 0, ..good }, 1, "at least a layer");
        refused(Dims { vocabulary: 1 << 25, ..good }, 1, "2^24");
        refused(good, 0, "got 0");
        refused(good, 1025, "got 1025");
        let shape = Shape::new(good, Weights::F32, 2, 40, 132).unwrap();
        assert!(Shape { splits: 33, ..shape }.check().is_err());
        assert!(Shape { processors: 0, ..shape }.check().is_err());
        assert!(decode(&shape, 3, Choice::Greedy).is_err());
        assert!(decode(&shape, 0, Choice::Greedy).is_err());
        for (first, sequences, length) in [(1, 2, 1), (0, 0, 1), (0, 1, 0), (0, 1, 161), (0, 2, 21)] {
            assert!(prefill(&shape, first, sequences, length, Choice::Greedy).is_err());
        }
    }
}
