//! Steps of more than [`FEW_ROWS`] rows with weights in bf16: products on tensor cores, a weight read once for
//! up to 64 rows. The kernels are those of `skinny.cu`.

use super::build::{Builder, at, int};
use super::{
    Argument, Buffer, Choice, Dims, FEW_ROWS, GEMV_THREADS, Operation, ROW_THREADS, SKINNY_OUTPUTS,
    SPLITS_MAX, Shape, Weights,
};

/// Rows of a tile of packed rows, and inputs of a block of them.
const TILE_ROWS: usize = 8;
const BLOCK_INPUTS: usize = 32;
/// Most rows that a kernel takes at once.
const ROWS_MAX: usize = 64;
/// Blocks of inputs that each warp has at least before blocks share a product's inputs. Each such block reads
/// its stretch of all rows, and the sums go through memory once more.
const WARP_BLOCKS: usize = 3;
const WARPS: usize = GEMV_THREADS as usize / 32;

/// Elements of the buffers that only these steps have.
pub(super) struct SkinnyBuffers {
    pub(super) packed: usize,
    pub(super) packed_hidden: usize,
    pub(super) shares: usize,
    pub(super) arrived: usize,
}

impl Shape {
    /// Whether a step of so many rows is done by these kernels.
    fn is_skinny(&self, rows: usize) -> bool {
        self.weights == Weights::Bf16 && rows > FEW_ROWS
    }

    pub(super) fn skinny_buffers(&self) -> SkinnyBuffers {
        if !self.is_skinny(self.batch) {
            return SkinnyBuffers { packed: 0, packed_hidden: 0, shares: 0, arrived: 0 };
        }
        let Dims { width, inner, .. } = self.dims;
        let rows = self.batch.next_multiple_of(TILE_ROWS);
        let tiles = width.div_ceil(SKINNY_OUTPUTS);
        let sharing = self.sharing(width, 1).max(self.sharing(inner, 1));
        SkinnyBuffers {
            packed: rows * width.next_multiple_of(BLOCK_INPUTS),
            packed_hidden: rows * inner.next_multiple_of(BLOCK_INPUTS),
            shares: sharing * tiles * SKINNY_OUTPUTS * self.batch.next_multiple_of(ROWS_MAX),
            arrived: tiles * self.batch.div_ceil(2 * TILE_ROWS),
        }
    }

    /// Z: blocks that share the `inputs` of a product with C outputs, where these alone would leave most of a
    /// GPU without work: as many as are resident at once (2 a multiprocessor), where there are inputs for
    /// them.
    fn sharing(&self, inputs: usize, groups: usize) -> usize {
        let tiles = self.dims.width.div_ceil(SKINNY_OUTPUTS) * groups;
        let most = inputs.div_ceil(BLOCK_INPUTS) / (WARPS * WARP_BLOCKS);
        (2 * self.processors as usize / tiles).min(most).max(1)
    }
}

impl Builder<'_> {
    /// Whether this step's products are for tensor cores.
    pub(super) fn is_skinny(&self) -> bool {
        self.shape.is_skinny(self.sequences)
    }

    /// A layer of a step: 7 launches, 8 where the positions of a sequence are split.
    pub(super) fn skinny_layer(&mut self, layer: usize) {
        let Dims { width, inner, .. } = self.shape.dims;
        self.pack_norm([Buffer::Norm1Gain, Buffer::Norm1Bias], layer);
        self.skinny_qkv(layer);
        if self.shape.splits == 1 {
            self.attend_packed(layer);
        } else {
            self.attend(layer);
            self.pack_parts();
        }
        let weights = [Buffer::ProjectWeight, Buffer::ProjectBias];
        self.skinny_residual(Buffer::Packed, weights, layer, width);
        self.pack_norm([Buffer::Norm2Gain, Buffer::Norm2Bias], layer);
        self.skinny_gelu(layer);
        let weights = [Buffer::ContractWeight, Buffer::ContractBias];
        self.skinny_residual(Buffer::PackedHidden, weights, layer, inner);
    }

    /// grid (rows); shared: two sums a warp.
    fn pack_norm(&mut self, [gain, bias]: [Buffer; 2], layer: usize) {
        let Dims { width, epsilon, .. } = self.shape.dims;
        let arguments = vec![
            at(Buffer::Residual, 0),
            at(gain, layer * width),
            at(bias, layer * width),
            at(Buffer::Packed, 0),
            int(self.length),
            int(width),
            Argument::Float(epsilon),
        ];
        let warps = ROW_THREADS as usize / 32;
        self.push(Operation::PackNorm, [self.sequences, 1, 1], ROW_THREADS, 2 * warps, arguments);
    }

    /// grid (1, heads, sequences); shared as [`Builder::attend`].
    fn attend_packed(&mut self, layer: usize) {
        let Dims { heads, context, .. } = self.shape.dims;
        let d = self.shape.dims.head_width();
        let mut arguments = self.query_and_cache(layer);
        arguments.extend([at(Buffer::Packed, 0), int(heads), int(d), int(context)]);
        let shared = ROW_THREADS as usize / 32 * (d + 2);
        self.push(Operation::AttendPacked, [1, heads, self.sequences], ROW_THREADS, shared, arguments);
    }

    /// grid (rows); shared: a factor for each part and head.
    fn pack_parts(&mut self) {
        let Dims { width, heads, .. } = self.shape.dims;
        let arguments = vec![
            at(Buffer::Partial, 0),
            at(Buffer::Stats, 0),
            at(Buffer::Packed, 0),
            int(width),
            int(heads),
            int(self.shape.splits as usize),
        ];
        let shared = heads * SPLITS_MAX as usize;
        self.push(Operation::PackParts, [self.sequences, 1, 1], ROW_THREADS, shared, arguments);
    }

    /// grid (tiles of outputs, groups of rows, blocks that share the inputs); shared: each warp's sums, and a
    /// word.
    fn skinny(&mut self, operation: Operation, outputs: usize, sharing: usize, arguments: Vec<Argument>) {
        let (groups, rows) = self.groups(operation);
        let grid = [outputs.div_ceil(SKINNY_OUTPUTS), groups, sharing];
        let shared = WARPS * SKINNY_OUTPUTS * rows + 1;
        self.push(operation, grid, GEMV_THREADS, shared, arguments);
    }

    fn skinny_qkv(&mut self, layer: usize) {
        let Dims { width, .. } = self.shape.dims;
        let mut arguments = vec![
            at(Buffer::Packed, 0),
            at(Buffer::QkvWeight, layer * 3 * width * width),
            at(Buffer::QkvBias, layer * 3 * width),
        ];
        arguments.extend(self.query_and_places(layer, self.sequences));
        self.skinny(Operation::SkinnyQkv, 3 * width, 1, arguments);
    }

    fn skinny_gelu(&mut self, layer: usize) {
        let Dims { width, inner, .. } = self.shape.dims;
        let arguments = vec![
            at(Buffer::Packed, 0),
            at(Buffer::ExpandWeight, layer * inner * width),
            at(Buffer::ExpandBias, layer * inner),
            at(Buffer::PackedHidden, 0),
            int(self.sequences),
            int(width),
            int(inner),
        ];
        self.skinny(Operation::SkinnyGelu, inner, 1, arguments);
    }

    fn skinny_residual(&mut self, x: Buffer, [weight, bias]: [Buffer; 2], layer: usize, inputs: usize) {
        let width = self.shape.dims.width;
        let (groups, _) = self.groups(Operation::SkinnyResidual);
        let arguments = vec![
            at(x, 0),
            at(weight, layer * width * inputs),
            at(bias, layer * width),
            at(Buffer::Residual, 0),
            at(Buffer::Shares, 0),
            at(Buffer::Arrived, 0),
            int(self.sequences),
            int(inputs),
            int(width),
        ];
        let sharing = self.shape.sharing(inputs, groups);
        self.skinny(Operation::SkinnyResidual, width, sharing, arguments);
    }

    /// Two launches. The head's grid (16 outputs a warp, groups of rows), no more than stay resident at once;
    /// shared: for each thread the best of its rows, 8 for 32 rows, as 64 bits, and a word.
    pub(super) fn skinny_head(&mut self, choice: Choice) {
        let vocabulary = self.shape.dims.vocabulary;
        self.pack_norm([Buffer::NormGain, Buffer::NormBias], 0);
        let (groups, rows) = self.groups(Operation::SkinnyHead);
        let mut arguments = vec![at(Buffer::Packed, 0), self.table()];
        arguments.extend(self.choosing(choice));
        let blocks = vocabulary.div_ceil(SKINNY_OUTPUTS * WARPS).min(2 * self.shape.processors as usize);
        let shared = 2 * (rows / 4) * GEMV_THREADS as usize + 1;
        self.push(Operation::SkinnyHead, [blocks, groups, 1], GEMV_THREADS, shared, arguments);
    }
}
