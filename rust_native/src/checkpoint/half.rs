//! Little-endian f32, f16 and bf16 bytes to f32 values; exact, since f32 contains the other two.
//!
//! Invariant: input length is a multiple of the element size (the header's checks uphold it); a
//! remainder would be ignored.

/// Reads f32 from any alignment.
pub(super) fn f32_from_le(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
}

/// Widens f16.
pub(super) fn f16(two: [u8; 2]) -> f32 {
    widen(u16::from_le_bytes(two))
}

/// Widens bf16: the upper half of an f32.
pub(super) fn bf16(two: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(two)) << 16)
}

/// IEEE 754 binary16 to binary32: 1 sign, 5 exponent (bias 15), 10 fraction bits.
fn widen(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 31;
    let fraction = u32::from(bits) & 1023;
    match exponent {
        // Zero and subnormals: fraction x 2^-24, an exact product in f32.
        0 => {
            let magnitude = fraction as f32 * f32::from_bits((127 - 24) << 23);
            f32::from_bits(sign | magnitude.to_bits())
        }
        31 => f32::from_bits(sign | 0x7F80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in f64.
    fn by_definition(bits: u16) -> f64 {
        let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
        let exponent = i32::from(bits >> 10 & 31);
        let fraction = f64::from(bits & 1023);
        match exponent {
            0 => sign * fraction * 2f64.powi(-24),
            31 if fraction == 0.0 => sign * f64::INFINITY,
            31 => f64::NAN,
            _ => sign * (1024.0 + fraction) * 2f64.powi(exponent - 25),
        }
    }

    #[test]
    fn every_half_is_exact() {
        for bits in 0..=u16::MAX {
            let wide = f16(bits.to_le_bytes());
            let expected = by_definition(bits);
            if expected.is_nan() {
                assert!(wide.is_nan());
            } else {
                assert_eq!(f64::from(wide).to_bits(), expected.to_bits(), "{bits:#06x}");
            }
        }
    }

    #[test]
    fn bf16_is_the_upper_half() {
        for value in [0.0_f32, -1.0, 1.5, 3.389_531_4e38, f32::INFINITY, -0.0] {
            let upper = (value.to_bits() >> 16) as u16;
            let wide = bf16(upper.to_le_bytes());
            assert_eq!(wide.to_bits(), value.to_bits() & 0xFFFF_0000);
        }
    }
}
