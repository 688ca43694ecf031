//! Multiply-adds in registers, as fast as one core makes them.
//!
//! Every way keeps [`CHAINS`] sums going side by side, as many as a core's latency times its units asks for,
//! and multiplies by numbers the compiler cannot know. More is not better: on Zen 4 one of two processes with
//! 16 chains, and every one with 24, came to little more than half of the rate. Sums stay finite and normal:
//! floats converge to a fixed point or stay where they are, whole numbers wrap around.

use std::fmt;
use std::hint::black_box;

/// Independent sums.
const CHAINS: usize = 12;

/// An instruction that multiplies and adds; made by [`Way::available`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// f32, 16 or 8 at a time.
    #[cfg(target_arch = "x86_64")]
    Fma512,
    #[cfg(target_arch = "x86_64")]
    Fma256,
    /// Pairs of bf16 into f32.
    #[cfg(target_arch = "x86_64")]
    Bf16Dot,
    /// Four bytes by four bytes into 32 bits.
    #[cfg(target_arch = "x86_64")]
    ByteDot512,
    #[cfg(target_arch = "x86_64")]
    ByteDot256,
    /// Whatever the compiler makes of a product and a sum.
    Portable,
}

impl Way {
    /// Every way this processor has for products in `precision`: f32's for all, and its own.
    pub fn available(precision: &str) -> Vec<Way> {
        let mut ways = vec![Way(Kind::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            let found = [
                (Kind::Fma512, is_x86_feature_detected!("avx512f")),
                (Kind::Fma256, is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")),
            ];
            let bf16 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
            let vnni = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
            let bytes = [(Kind::ByteDot512, vnni), (Kind::ByteDot256, is_x86_feature_detected!("avxvnni"))];
            let own: &[(Kind, bool)] = match precision {
                "bf16" => &[(Kind::Bf16Dot, bf16)],
                "int8" | "int4" => &bytes,
                _ => &[],
            };
            ways.extend(found.iter().chain(own).filter(|(_, there)| *there).map(|&(kind, _)| Way(kind)));
        }
        ways
    }

    /// At least `count` multiply-adds on this thread; the sum of everything, so that nothing is idle.
    pub fn run(self, count: u64) -> f64 {
        let turns = count.div_ceil((CHAINS * self.lanes()) as u64);
        match self.0 {
            Kind::Portable => portable(turns),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Way of this kind is made only where the processor has the features named there;
            // so for each below.
            Kind::Fma512 => unsafe { x86::fma512(turns) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: see Fma512.
            Kind::Fma256 => unsafe { x86::fma256(turns) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: see Fma512.
            Kind::Bf16Dot => unsafe { x86::bf16_dot(turns) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: see Fma512.
            Kind::ByteDot512 => unsafe { x86::byte_dot512(turns) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: see Fma512.
            Kind::ByteDot256 => unsafe { x86::byte_dot256(turns) },
        }
    }

    /// Multiply-adds of one instruction.
    fn lanes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Fma512 => 16,
            #[cfg(target_arch = "x86_64")]
            Kind::Fma256 => 8,
            #[cfg(target_arch = "x86_64")]
            Kind::Bf16Dot => 32,
            #[cfg(target_arch = "x86_64")]
            Kind::ByteDot512 => 64,
            #[cfg(target_arch = "x86_64")]
            Kind::ByteDot256 => 32,
            Kind::Portable => 4,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Fma512 => "vfmadd, 512 bits",
            #[cfg(target_arch = "x86_64")]
            Kind::Fma256 => "vfmadd, 256 bits",
            #[cfg(target_arch = "x86_64")]
            Kind::Bf16Dot => "vdpbf16ps, 512 bits",
            #[cfg(target_arch = "x86_64")]
            Kind::ByteDot512 => "vpdpbusd, 512 bits",
            #[cfg(target_arch = "x86_64")]
            Kind::ByteDot256 => "vpdpbusd, 256 bits",
            Kind::Portable => "portable",
        })
    }
}

/// Sums converge to `ADDED / (1 - FACTOR)`.
const FACTOR: f32 = 0.999;
const ADDED: f32 = 1e-3;

fn portable(turns: u64) -> f64 {
    let (factor, added) = (black_box(FACTOR), black_box(ADDED));
    let mut sums = [[1.0f32; 4]; CHAINS];
    for _ in 0..turns {
        for sum in sums.iter_mut().flatten() {
            *sum = *sum * factor + added;
        }
    }
    sums.iter().flatten().map(|&sum| f64::from(sum)).sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ADDED, CHAINS, FACTOR, black_box};
    use std::arch::x86_64::*;

    /// `turns` times `sum = step(sum)` for every chain. Twelve variables and no array: the compiler kept
    /// part of an array in memory, and its stores were slower than the multiplications.
    macro_rules! chains {
        ($turns:ident, $first:expr, |$sum:ident| $step:expr, $last:expr) => {{
            const { assert!(CHAINS == 12, "as many variables as chains") };
            chains!(@ $turns, $first, $sum, $step, $last, a b c d e f g h i j k l)
        }};
        (@ $turns:ident, $first:expr, $sum:ident, $step:expr, $last:expr, $($chain:ident)*) => {{
            $(let mut $chain = $first;)*
            for _ in 0..$turns {
                $({ let $sum = $chain; $chain = $step; })*
            }
            let last = $last;
            [$(f64::from(last($chain))),*].iter().sum()
        }};
    }

    #[target_feature(enable = "avx512f")]
    pub fn fma512(turns: u64) -> f64 {
        let (factor, added) = (_mm512_set1_ps(black_box(FACTOR)), _mm512_set1_ps(black_box(ADDED)));
        chains!(turns, _mm512_set1_ps(black_box(1.0)), |sum| _mm512_fmadd_ps(sum, factor, added), |sum| {
            _mm512_cvtss_f32(sum)
        })
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn fma256(turns: u64) -> f64 {
        let (factor, added) = (_mm256_set1_ps(black_box(FACTOR)), _mm256_set1_ps(black_box(ADDED)));
        chains!(turns, _mm256_set1_ps(black_box(1.0)), |sum| _mm256_fmadd_ps(sum, factor, added), |sum| {
            _mm256_cvtss_f32(sum)
        })
    }

    /// Each product is of 2^-126 by itself and vanishes: the sums stay what they were.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn bf16_dot(turns: u64) -> f64 {
        // SAFETY: both are 64 bytes for which any bits are a value.
        let pairs: __m512bh = unsafe { std::mem::transmute(_mm512_set1_epi32(black_box(0x0080_0080))) };
        chains!(turns, _mm512_set1_ps(black_box(1.0)), |sum| _mm512_dpbf16_ps(sum, pairs, pairs), |sum| {
            _mm512_cvtss_f32(sum)
        })
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn byte_dot512(turns: u64) -> f64 {
        let bytes = _mm512_set1_epi32(black_box(0x0101_0101));
        chains!(turns, _mm512_set1_epi32(black_box(1)), |sum| _mm512_dpbusd_epi32(sum, bytes, bytes), |sum| {
            _mm512_cvtsi512_si32(sum)
        })
    }

    #[target_feature(enable = "avx2,avxvnni")]
    pub fn byte_dot256(turns: u64) -> f64 {
        let bytes = _mm256_set1_epi32(black_box(0x0101_0101));
        chains!(
            turns,
            _mm256_set1_epi32(black_box(1)),
            |sum| _mm256_dpbusd_avx_epi32(sum, bytes, bytes),
            |sum| { _mm256_cvtsi256_si32(sum) }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_every_way_stay_finite_and_are_not_nothing() {
        for precision in ["f32", "bf16", "int8"] {
            for way in Way::available(precision) {
                for count in [0, 1, 1_000_000] {
                    let sum = way.run(count);
                    assert!(sum.is_finite() && sum != 0.0, "{way} {count}: {sum}");
                }
            }
        }
    }

    #[test]
    fn more_multiply_adds_move_the_sums() {
        for way in Way::available("int8").into_iter().filter(|way| way.lanes() > 16) {
            // Four products of one each turn and lane, from one on.
            let counted = (CHAINS * way.lanes()) as u64;
            assert!(way.run(3 * counted) > way.run(counted), "{way}");
        }
    }
}
