//! The kernels by name: what each is for, and how its symbol is spelled.

use super::Weights;

/// What a kernel does. The `.cu` file of each has its signature and equations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Rows of the token table plus rows of the position table.
    Embed,
    /// Layer norm, queries, keys and values of few rows; keys and values go straight into the cache.
    NormQkv,
    /// One query a sequence against a part of its positions.
    Attend,
    /// The parts combined, the output projection of few rows, added to the residual stream.
    Project,
    /// Layer norm, the inner layer of few rows, GELU.
    NormExpand,
    /// The way back from the inner layer of few rows, added to the residual stream.
    Contract,
    /// The last layer norm, the logits of few rows, the best of each, the next token and position.
    NormHead,
    /// Draws the next token from the logits instead.
    Sample,
    /// Layer norm of any number of rows.
    Norm,
    /// Queries, keys and values of many rows.
    MatmulQkv,
    /// A product of many rows, then GELU.
    MatmulGelu,
    /// A product of many rows, added to its result.
    MatmulResidual,
    /// Queries, keys and values of many rows, which a library's product left side by side, to their places.
    SplitQkv,
    /// Causal attention of many queries.
    AttendTiles,
    /// Layer norm of the last row of each sequence, rounded and packed for tensor cores.
    PackNorm,
    /// One query a sequence against all its positions; the result rounded and packed for tensor cores.
    AttendPacked,
    /// The parts of attention combined, rounded and packed for tensor cores.
    PackParts,
    /// Queries, keys and values of up to 64 packed rows, which share each weight that is read.
    SkinnyQkv,
    /// A product of up to 64 packed rows, then GELU; packed again.
    SkinnyGelu,
    /// A product of up to 64 packed rows, added to the residual stream.
    SkinnyResidual,
    /// The logits of up to 64 packed rows, the best of each, the next token and position.
    SkinnyHead,
    /// Reads what a step must read, and nothing else.
    Stream,
    /// cuBLASLt: a product of many rows, in f32.
    LibraryProduct,
    /// cuBLASLt: a product of many rows, bias, GELU.
    LibraryGelu,
    /// cuBLASLt: a product of many rows, bias, added to its result.
    LibraryResidual,
}

impl Operation {
    /// All that are kernels of this crate.
    pub const ALL: [Operation; 22] = [
        Operation::Embed,
        Operation::NormQkv,
        Operation::Attend,
        Operation::Project,
        Operation::NormExpand,
        Operation::Contract,
        Operation::NormHead,
        Operation::Sample,
        Operation::Norm,
        Operation::MatmulQkv,
        Operation::MatmulGelu,
        Operation::MatmulResidual,
        Operation::SplitQkv,
        Operation::AttendTiles,
        Operation::PackNorm,
        Operation::AttendPacked,
        Operation::PackParts,
        Operation::SkinnyQkv,
        Operation::SkinnyGelu,
        Operation::SkinnyResidual,
        Operation::SkinnyHead,
        Operation::Stream,
    ];

    /// Whether cuBLASLt does it, and no kernel of this crate.
    pub fn is_library(self) -> bool {
        use Operation::{LibraryGelu, LibraryProduct, LibraryResidual};
        matches!(self, LibraryProduct | LibraryGelu | LibraryResidual)
    }

    /// The symbol's stem.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Embed => "embed",
            Operation::NormQkv => "norm_qkv",
            Operation::Attend => "attend",
            Operation::Project => "project",
            Operation::NormExpand => "norm_expand",
            Operation::Contract => "contract",
            Operation::NormHead => "norm_head",
            Operation::Sample => "sample",
            Operation::Norm => "layer_norm",
            Operation::MatmulQkv => "matmul_qkv",
            Operation::MatmulGelu => "matmul_gelu",
            Operation::MatmulResidual => "matmul_residual",
            Operation::SplitQkv => "split_qkv",
            Operation::AttendTiles => "attend_tiles",
            Operation::PackNorm => "pack_norm",
            Operation::AttendPacked => "attend_packed",
            Operation::PackParts => "pack_parts",
            Operation::SkinnyQkv => "skinny_qkv",
            Operation::SkinnyGelu => "skinny_gelu",
            Operation::SkinnyResidual => "skinny_residual",
            Operation::SkinnyHead => "skinny_head",
            Operation::Stream => "stream",
            Operation::LibraryProduct => "library_product",
            Operation::LibraryGelu => "library_gelu",
            Operation::LibraryResidual => "library_residual",
        }
    }

    /// The weights, keys and values that it is compiled for; none where it reads none, and so exists once.
    pub fn weights(self) -> &'static [Weights] {
        match self {
            Operation::Sample | Operation::PackNorm | Operation::PackParts | Operation::Stream => &[],
            Operation::AttendPacked
            | Operation::SkinnyQkv
            | Operation::SkinnyGelu
            | Operation::SkinnyResidual
            | Operation::SkinnyHead => &[Weights::Bf16],
            _ => &Weights::ALL,
        }
    }

    /// The numbers of rows that it is compiled for, where it keeps that many sums in registers.
    pub fn row_counts(self) -> &'static [u32] {
        match self {
            Operation::NormQkv
            | Operation::Project
            | Operation::NormExpand
            | Operation::Contract
            | Operation::NormHead => &[1, 2, 4, 8],
            Operation::SkinnyQkv
            | Operation::SkinnyGelu
            | Operation::SkinnyResidual
            | Operation::SkinnyHead => &[16, 32, 64],
            _ => &[],
        }
    }

    /// The tiles that it is compiled for with `weights`, where there is a choice.
    pub fn tiles(self, weights: Weights) -> &'static [Tile] {
        match (self, weights) {
            (Operation::AttendTiles, Weights::Bf16) => &Tile::OF_QUERIES,
            (Operation::MatmulQkv | Operation::MatmulGelu | Operation::MatmulResidual, Weights::Bf16) => {
                &Tile::OF_PRODUCTS
            }
            _ => &[],
        }
    }
}

/// The part of a result that a block makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// Rows of a prompt.
    pub rows: u32,
    /// Outputs; of attention the numbers of a head.
    pub columns: u32,
}

impl Tile {
    /// Of attention on tensor cores, by the width of a head.
    const OF_QUERIES: [Tile; 4] =
        [Tile::new(64, 16), Tile::new(64, 32), Tile::new(64, 64), Tile::new(64, 128)];

    /// Of products on tensor cores, from the smallest on.
    pub const OF_PRODUCTS: [Tile; 3] = [Tile::new(64, 64), Tile::new(128, 64), Tile::new(128, 128)];

    /// Inputs that a product takes at a time.
    pub(super) fn depth(self) -> usize {
        if self == Tile::new(64, 64) { 64 } else { 32 }
    }

    const fn new(rows: u32, columns: u32) -> Tile {
        Tile { rows, columns }
    }
}

/// One compiled kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kernel {
    /// What it does.
    pub operation: Operation,
    /// With weights in what; `None` where it reads none.
    pub weights: Option<Weights>,
    /// Rows whose sums it keeps at once; `None` where that is no question.
    pub rows: Option<u32>,
    /// What a block makes; `None` where there is no choice.
    pub tile: Option<Tile>,
}

impl Kernel {
    /// The kernel of `operation` for `weights`, which counts only where it reads some, and for at least
    /// `rows` rows at once, up to the most that it is compiled for; of several tiles the first.
    pub fn new(operation: Operation, weights: Weights, rows: usize) -> Kernel {
        let counts = operation.row_counts();
        let rows = counts.iter().copied().find(|&count| count as usize >= rows).or(counts.last().copied());
        let tile = operation.tiles(weights).first().copied();
        let weights = operation.weights().contains(&weights).then_some(weights);
        Kernel { operation, weights, rows, tile }
    }

    /// The kernel of `operation` for `weights` that makes `tile`, one of [`Operation::tiles`].
    pub fn of_tile(operation: Operation, weights: Weights, tile: Tile) -> Kernel {
        Kernel { tile: Some(tile), ..Kernel::new(operation, weights, 1) }
    }

    /// Every kernel of this crate, in the order of operations.
    pub fn all() -> Vec<Kernel> {
        let mut all = Vec::new();
        for operation in Operation::ALL {
            // One of either where there is no choice: `new` leaves it out of the kernel.
            let kept = if operation.weights().is_empty() { &[Weights::F32] } else { operation.weights() };
            for &weights in kept {
                let rows = operation.row_counts().iter().map(|&count| count as usize);
                let tiles = operation.tiles(weights).iter();
                let one = Kernel::new(operation, weights, 1);
                let alone = (one.rows.is_none() && one.tile.is_none()).then_some(one);
                let rows = rows.map(|rows| Kernel::new(operation, weights, rows));
                let tiles = tiles.map(|&tile| Kernel::of_tile(operation, weights, tile));
                all.extend(rows.chain(tiles).chain(alone));
            }
        }
        all
    }

    /// Its symbol: `attend_bf16`, `norm_qkv_f32_r4`, `attend_tiles_bf16_t64x128`, `sample`.
    pub fn name(self) -> String {
        let mut name = self.operation.name().to_owned();
        if let Some(weights) = self.weights {
            name = format!("{name}_{}", weights.name());
        }
        match (self.rows, self.tile) {
            (Some(rows), _) => format!("{name}_r{rows}"),
            (None, Some(Tile { rows, columns })) => format!("{name}_t{rows}x{columns}"),
            (None, None) => name,
        }
    }
}
