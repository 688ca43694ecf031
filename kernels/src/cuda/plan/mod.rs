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

mod buffer;
mod build;
mod kernel;
mod prompt;
mod skinny;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;

pub use buffer::{Buffer, BufferSpec, Number};
pub use build::{Choice, decode, prefill};
pub use kernel::{Kernel, Operation, Tile};
pub use stream::stream;

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
/// Rows and columns of a tile of a matrix product in f32; in bf16 there is a choice, [`Tile::OF_PRODUCTS`].
pub const TILE: usize = 64;
/// Inputs that such a tile takes at a time in f32.
pub const TILE_DEPTH: usize = 16;
/// Stages of inputs that a tile in bf16 has room for: one is multiplied, the others are on their way.
pub const TENSOR_STAGES: usize = 4;
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

/// The numbers that weights, keys and values are kept in. What a prompt
/// multiplies is kept in them too; all other that is computed is f32.
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

/// Who makes the products of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Products {
    /// Kernels of this crate, in tiles.
    #[default]
    Tiles,
    /// NVIDIA's cuBLASLt, with bias, GELU and residual as its epilogues.
    CublasLt,
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
    /// Of a prompt; [`Shape::new`] leaves them to the tiles.
    pub products: Products,
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
        let (rows, products) = (rows.max(batch), Products::default());
        let shape = Shape { dims, weights, batch, rows, splits, processors, products };
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
