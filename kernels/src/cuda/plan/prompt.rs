//! The layers of a prompt: products of many rows, and attention of many queries.

use super::build::{Builder, at, int};
use super::{
    Argument, Buffer, Dims, GEMV_THREADS, Kernel, Operation, POSITIONS, Products, QUERIES, ROW_THREADS,
    TENSOR_POSITIONS, TENSOR_STAGES, TILE, TILE_DEPTH, Tile, Weights,
};

impl Builder<'_> {
    /// A layer of a prompt: 7 launches.
    pub(super) fn prompt_layer(&mut self, layer: usize) {
        let Dims { width, inner, .. } = self.shape.dims;
        self.norm([Buffer::Norm1Gain, Buffer::Norm1Bias], layer);
        match self.shape.products {
            Products::Tiles => self.matmul_qkv(layer),
            Products::CublasLt => self.library_qkv(layer),
        }
        self.attend_tiles(layer);
        let project = [Buffer::Attended, Buffer::ProjectWeight, Buffer::ProjectBias, Buffer::Residual];
        self.product(Operation::MatmulResidual, project, layer, width, width);
        self.norm([Buffer::Norm2Gain, Buffer::Norm2Bias], layer);
        let expand = [Buffer::Normed, Buffer::ExpandWeight, Buffer::ExpandBias, Buffer::Inner];
        self.product(Operation::MatmulGelu, expand, layer, width, inner);
        let contract = [Buffer::Inner, Buffer::ContractWeight, Buffer::ContractBias, Buffer::Residual];
        self.product(Operation::MatmulResidual, contract, layer, inner, width);
    }

    fn matmul_qkv(&mut self, layer: usize) {
        let Dims { width, .. } = self.shape.dims;
        let mut arguments = vec![
            at(Buffer::Normed, 0),
            at(Buffer::QkvWeight, layer * 3 * width * width),
            at(Buffer::QkvBias, layer * 3 * width),
            int(self.rows()),
        ];
        arguments.extend(self.query_and_places(layer, self.length));
        self.matmul(Operation::MatmulQkv, 3 * width, arguments);
    }

    /// The product by cuBLASLt, then grid (rows) for bias, scale and the places in the cache.
    fn library_qkv(&mut self, layer: usize) {
        let Dims { width, .. } = self.shape.dims;
        let weight = at(Buffer::QkvWeight, layer * 3 * width * width);
        let numbers = [self.rows(), width, 3 * width].map(int);
        let mut arguments = vec![at(Buffer::Normed, 0), weight, at(Buffer::Joined, 0)];
        arguments.extend(numbers);
        self.library(Operation::LibraryProduct, arguments);
        let mut arguments = vec![at(Buffer::Joined, 0), at(Buffer::QkvBias, layer * 3 * width)];
        arguments.extend(self.query_and_places(layer, self.length));
        self.push(Operation::SplitQkv, [self.rows(), 1, 1], ROW_THREADS, 0, arguments);
    }

    /// `operation` on rows of `inputs`, by `[rows, weights, bias, result]` of a layer, for `outputs`.
    fn product(
        &mut self,
        operation: Operation,
        [x, weight, bias, y]: [Buffer; 4],
        layer: usize,
        inputs: usize,
        outputs: usize,
    ) {
        let library = self.shape.products == Products::CublasLt;
        let (operation, bias) = match operation {
            Operation::MatmulGelu if library => (Operation::LibraryGelu, Buffer::ExpandBiasRounded),
            Operation::MatmulResidual if library => (Operation::LibraryResidual, bias),
            tiles => (tiles, bias),
        };
        let arguments = vec![
            at(x, 0),
            at(weight, layer * outputs * inputs),
            at(bias, layer * outputs),
            at(y, 0),
            int(self.rows()),
            int(inputs),
            int(outputs),
        ];
        if library {
            self.library(operation, arguments);
        } else {
            self.matmul(operation, outputs, arguments);
        }
    }

    /// cuBLASLt chooses its own grid; what is said here is how the emulation shares the outputs.
    fn library(&mut self, operation: Operation, arguments: Vec<Argument>) {
        self.push(operation, [1, 1, 1], ROW_THREADS, 0, arguments);
    }

    /// grid (rows); shared: a sum a warp.
    fn norm(&mut self, [gain, bias]: [Buffer; 2], layer: usize) {
        let Dims { width, epsilon, .. } = self.shape.dims;
        let arguments = vec![
            at(Buffer::Residual, 0),
            at(gain, layer * width),
            at(bias, layer * width),
            at(Buffer::Normed, 0),
            int(width),
            Argument::Float(epsilon),
        ];
        let warps = ROW_THREADS as usize / 32;
        self.push(Operation::Norm, [self.rows(), 1, 1], ROW_THREADS, 2 * warps, arguments);
    }

    /// grid (tiles of outputs, tiles of rows); shared in f32: a tile of either side, padded by 4 floats; in
    /// bf16: four stages of such a pair, rows padded by 16 bytes.
    fn matmul(&mut self, operation: Operation, outputs: usize, arguments: Vec<Argument>) {
        let rows = self.rows();
        let grid = |m: usize, n: usize| [outputs.div_ceil(n), rows.div_ceil(m), 1];
        if self.shape.weights == Weights::F32 {
            let shared = 2 * TILE_DEPTH * (TILE + 4);
            return self.push(operation, grid(TILE, TILE), GEMV_THREADS, shared, arguments);
        }
        let tile = product_tile(rows, outputs, self.shape.processors as usize);
        let (m, n) = (tile.rows as usize, tile.columns as usize);
        let shared = TENSOR_STAGES * (m + n) * (tile.depth() + 8) / 2;
        let kernel = Kernel::of_tile(operation, Weights::Bf16, tile);
        self.push_kernel(kernel, grid(m, n), GEMV_THREADS, shared, arguments);
    }

    /// grid (tiles of queries, heads, sequences); shared in f32: queries, weights, keys (padded) and values
    /// of a tile; in bf16: two tiles of keys and of values, rows padded by 16 bytes.
    fn attend_tiles(&mut self, layer: usize) {
        let Dims { heads, context, .. } = self.shape.dims;
        let d = self.shape.dims.head_width();
        let mut arguments = self.query_and_cache(layer);
        arguments.extend([at(Buffer::Attended, 0), int(self.length), int(heads), int(d), int(context)]);
        let (operation, weights) = (Operation::AttendTiles, self.shape.weights);
        let fits = |tile: &&Tile| tile.columns as usize >= d;
        let (kernel, queries, shared) = match operation.tiles(weights).iter().find(fits) {
            Some(&tile) => {
                let row = (tile.columns as usize + 8) / 2;
                let kernel = Kernel::of_tile(operation, weights, tile);
                (kernel, tile.rows as usize, 2 * 2 * TENSOR_POSITIONS * row)
            }
            None => {
                let shared = QUERIES * (d + POSITIONS) + POSITIONS * (2 * d + 1);
                (Kernel::new(operation, weights, 1), QUERIES, shared)
            }
        };
        let grid = [self.length.div_ceil(queries), heads, self.sequences];
        self.push_kernel(kernel, grid, ROW_THREADS, shared, arguments);
    }
}

/// The tile that a product on tensor cores is cut into: the one by which the multiprocessor with most blocks
/// has least to do, of equal ones the largest. A block of m x n has, for each input, m n products to make and
/// m + n numbers to bring; that one of these takes as long as 64 of those is a guess until it is measured.
fn product_tile(rows: usize, outputs: usize, processors: usize) -> Tile {
    let cost = |tile: &Tile| {
        let (m, n) = (tile.rows as usize, tile.columns as usize);
        let blocks = rows.div_ceil(m) * outputs.div_ceil(n);
        blocks.div_ceil(processors) * (m * n + 64 * (m + n))
    };
    Tile::OF_PRODUCTS.into_iter().rev().min_by_key(cost).expect("there are tiles")
}
