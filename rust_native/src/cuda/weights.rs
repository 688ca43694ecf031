//! A checkpoint's tensors into the buffers of a plan: linear maps turned to `[out][in]`, rounded where the
//! plan keeps bf16, all layers one behind another.

use kernels::cuda::Player;
use kernels::cuda::plan::{Buffer, Products, Shape, Weights};

use super::CudaGpt2Error;
use crate::Checkpoint;

/// Where the tensors of a layer belong: the ends of their names, and the buffers.
const VECTORS: [(&str, Buffer); 8] = [
    ("ln_1.weight", Buffer::Norm1Gain),
    ("ln_1.bias", Buffer::Norm1Bias),
    ("attn.c_attn.bias", Buffer::QkvBias),
    ("attn.c_proj.bias", Buffer::ProjectBias),
    ("ln_2.weight", Buffer::Norm2Gain),
    ("ln_2.bias", Buffer::Norm2Bias),
    ("mlp.c_fc.bias", Buffer::ExpandBias),
    ("mlp.c_proj.bias", Buffer::ContractBias),
];

/// Puts every tensor of `checkpoint` into `player`'s buffers, which are allocated for `shape`.
pub(super) fn upload(
    checkpoint: &Checkpoint,
    shape: &Shape,
    player: &mut impl Player,
) -> Result<(), CudaGpt2Error> {
    let Shape { dims, weights, products, .. } = *shape;
    let (c, f, v) = (dims.width, dims.inner, dims.vocabulary);
    let table = checkpoint.tensor("wte.weight", &[v, c])?;
    player.write(Buffer::TokenTable, 0, &bytes(&table, weights))?;
    drop(table);
    let positions = checkpoint.tensor("wpe.weight", &[dims.context, c])?;
    player.write(Buffer::PositionTable, 0, &bytes(&positions, Weights::F32))?;
    for layer in 0..dims.layers {
        for (name, buffer) in VECTORS {
            let n = match buffer {
                Buffer::QkvBias => 3 * c,
                Buffer::ExpandBias => f,
                _ => c,
            };
            let vector = checkpoint.tensor(&format!("h.{layer}.{name}"), &[n])?;
            player.write(buffer, layer * n, &bytes(&vector, Weights::F32))?;
            if buffer == Buffer::ExpandBias && products == Products::CublasLt {
                player.write(Buffer::ExpandBiasRounded, layer * n, &bytes(&vector, weights))?;
            }
        }
        for (name, k, n, buffer) in [
            ("attn.c_attn.weight", c, 3 * c, Buffer::QkvWeight),
            ("attn.c_proj.weight", c, c, Buffer::ProjectWeight),
            ("mlp.c_fc.weight", c, f, Buffer::ExpandWeight),
            ("mlp.c_proj.weight", f, c, Buffer::ContractWeight),
        ] {
            let matrix = checkpoint.tensor(&format!("h.{layer}.{name}"), &[k, n])?;
            player.write(buffer, layer * n * k, &bytes(&transposed(&matrix, k, n), weights))?;
        }
    }
    for (name, buffer) in [("ln_f.weight", Buffer::NormGain), ("ln_f.bias", Buffer::NormBias)] {
        player.write(buffer, 0, &bytes(&checkpoint.tensor(name, &[c])?, Weights::F32))?;
    }
    if !dims.tied {
        let head = checkpoint.tensor("lm_head.weight", &[v, c])?;
        player.write(Buffer::HeadWeight, 0, &bytes(&head, weights))?;
    }
    Ok(())
}

/// `[k][n]` as `[n][k]`, in squares that stay in the cache.
fn transposed(matrix: &[f32], k: usize, n: usize) -> Vec<f32> {
    const SIDE: usize = 32;
    let mut out = vec![0.0; k * n];
    for rows in (0..k).step_by(SIDE) {
        for columns in (0..n).step_by(SIDE) {
            for row in rows..(rows + SIDE).min(k) {
                for column in columns..(columns + SIDE).min(n) {
                    out[column * k + row] = matrix[row * n + column];
                }
            }
        }
    }
    out
}

fn bytes(values: &[f32], weights: Weights) -> Vec<u8> {
    match weights {
        Weights::F32 => values.iter().flat_map(|value| value.to_ne_bytes()).collect(),
        Weights::Bf16 => values.iter().flat_map(|&value| bf16(value).to_ne_bytes()).collect(),
    }
}

/// The upper half of an f32, rounded to nearest, ties to even.
fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // The mantissa's upper bits may all be zero, which would be an infinity.
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_to_bf16_is_to_nearest_even_and_keeps_what_is_no_number() {
        let cases = [
            (1.0, 0x3f80),
            (-2.0, 0xc000),
            (f32::from_bits(0x3f80_8000), 0x3f80),
            (f32::from_bits(0x3f81_8000), 0x3f82),
            (f32::from_bits(0x3f80_8001), 0x3f81),
            (f32::MAX, 0x7f80),
            (f32::INFINITY, 0x7f80),
            (0.0, 0),
            (-0.0, 0x8000),
        ];
        for (value, bits) in cases {
            assert_eq!(bf16(value), bits, "{value}");
        }
        for nan in [f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xff80_0001)] {
            assert!(f32::from_bits(u32::from(bf16(nan)) << 16).is_nan());
        }
    }

    #[test]
    fn a_matrix_is_turned() {
        for (k, n) in [(1, 1), (3, 5), (33, 70), (64, 32)] {
            let matrix: Vec<f32> = (0..k * n).map(|at| at as f32).collect();
            let turned = transposed(&matrix, k, n);
            for row in 0..k {
                for column in 0..n {
                    assert_eq!(turned[column * k + row], matrix[row * n + column], "{k} x {n}");
                }
            }
        }
    }
}
