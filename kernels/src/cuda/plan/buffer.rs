//! What plans work on: every array that kernels read or write, and how large it is for a shape.

use super::{Dims, GEMV_THREADS, Products, Shape};

impl Shape {
    /// All buffers, at the index of their [`Buffer`].
    pub fn buffers(&self) -> Vec<BufferSpec> {
        Buffer::ALL.into_iter().map(|buffer| self.buffer(buffer)).collect()
    }

    fn buffer(&self, buffer: Buffer) -> BufferSpec {
        let Dims { layers, heads, width, inner, vocabulary, context, tied, .. } = self.dims;
        let (batch, rows, splits) = (self.batch, self.rows, self.splits as usize);
        let skinny = self.skinny_buffers();
        let library = |elements| if self.products == Products::CublasLt { elements } else { 0 };
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
            Buffer::Normed => ("normed", rows * width, weights),
            Buffer::Query => ("query", rows * width, Number::F32),
            Buffer::Partial => ("partial", batch * splits * width, Number::F32),
            Buffer::Stats => ("stats", batch * splits * heads * 2, Number::F32),
            Buffer::Attended => ("attended", rows * width, weights),
            Buffer::Inner => ("inner", rows * inner, weights),
            Buffer::Hidden => ("hidden", batch * inner, Number::F32),
            Buffer::Packed => ("packed", skinny.packed, Number::Bf16),
            Buffer::PackedHidden => ("packed_hidden", skinny.packed_hidden, Number::Bf16),
            Buffer::Shares => ("shares", skinny.shares, Number::F32),
            Buffer::Arrived => ("arrived", skinny.arrived, Number::U32),
            Buffer::Joined => ("joined", library(3 * rows * width), Number::F32),
            Buffer::Seen => ("seen", self.stream_blocks() * GEMV_THREADS as usize / 32, Number::U32),
            Buffer::ExpandBiasRounded => ("expand_bias_rounded", library(layers * inner), weights),
        };
        BufferSpec { buffer, name, elements, number }
    }
}

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
    /// `[rows][C]` W: its layer norm, in a prompt's plan
    Normed,
    /// `[rows][C]` f32: queries, scaled
    Query,
    /// `[B][splits][C]` f32: unnormalised sums of values of each part of the positions
    Partial,
    /// `[B][splits][H][2]` f32: each part's largest score and sum of weights
    Stats,
    /// `[rows][C]` W: attention's result, in a prompt's plan
    Attended,
    /// `[rows][F]` W: the inner layer, in a prompt's plan
    Inner,
    /// `[B][F]` f32: the inner layer, in a step's plan
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
    /// `[rows][3C]` f32: queries, keys and values as cuBLASLt leaves them. This one and the next have elements
    /// only where it makes the products.
    Joined,
    /// `[L][F]` W: the bias of the inner layer once more, in the numbers of the result, as cuBLASLt wants it
    ExpandBiasRounded,
    /// `[warps]` u32: the xor of all 32-bit words that each warp of `stream` read
    Seen,
}

impl Buffer {
    /// All, in the order of their indices.
    pub const ALL: [Buffer; 43] = [
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
        Buffer::Inner,
        Buffer::Hidden,
        Buffer::Packed,
        Buffer::PackedHidden,
        Buffer::Shares,
        Buffer::Arrived,
        Buffer::Joined,
        Buffer::ExpandBiasRounded,
        Buffer::Seen,
    ];

    /// Whether kernels may read it before anything was written to it: then it counts as zeros. All others
    /// are weights, or are written first.
    pub fn starts_as_zeros(self) -> bool {
        use Buffer::{Arrived, Best, Drawn, Finished, Output, Position, Prompt, Seed, Token};
        matches!(self, Prompt | Token | Position | Output | Seed | Drawn | Best | Finished | Arrived)
    }

    /// Where it stands in [`Plan::buffers`](super::Plan::buffers).
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
