//! Reads memory as fast as one core can: a sum over f32 values, wide and branch-free.
//!
//! How many streams of addresses a core should follow side by side to fill its line buffers differs
//! between processors and between one busy core and all of them, so there are several patterns and
//! [`crate::stream`] takes the one that is fastest where it runs. Asking for lines ahead in software
//! was tried and lost 5-10 % on Zen 4 in every pattern. Every byte is read exactly once. `portable`
//! is the specification; the tiers differ only in the order of additions.

use std::fmt;

/// How a range is walked: so many streams, equally far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// From one end to the other, four cache lines a turn.
    One,
    /// Four streams, one line of each a turn.
    Four,
    /// Eight streams, two lines of each a turn.
    Eight,
}

impl Pattern {
    /// Every pattern.
    pub const ALL: [Pattern; 3] = [Pattern::One, Pattern::Four, Pattern::Eight];
}

/// The widest path this processor has; made by [`Tier::detect`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Tier {
    /// The best tier of this processor.
    pub fn detect() -> Tier {
        Tier::all()[0]
    }

    /// Every tier this processor can run, best first.
    pub fn all() -> Vec<Tier> {
        let mut tiers = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                tiers.push(Tier(Kind::Avx512));
            }
            if is_x86_feature_detected!("avx2") {
                tiers.push(Tier(Kind::Avx2));
            }
        }
        tiers.push(Tier(Kind::Portable));
        tiers
    }

    /// Sum of `values`, each read once.
    pub fn sum(self, values: &[f32], pattern: Pattern) -> f32 {
        match pattern {
            Pattern::One => self.walk::<1, 4>(values),
            Pattern::Four => self.walk::<4, 1>(values),
            Pattern::Eight => self.walk::<8, 2>(values),
        }
    }

    /// S streams, U lines of 16 values of each a turn.
    fn walk<const S: usize, const U: usize>(self, values: &[f32]) -> f32 {
        let length = values.len() / S / (LINE * U) * (LINE * U);
        let (streams, rest) = values.split_at(length * S);
        let streams: [&[f32]; S] = std::array::from_fn(|at| &streams[at * length..][..length]);
        let wide = match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Tier of this kind is made only where the processor has avx512f.
            Kind::Avx512 => unsafe { x86::sum_avx512::<S, U>(streams) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Tier of this kind is made only where the processor has avx2.
            Kind::Avx2 => unsafe { x86::sum_avx2::<S, U>(streams) },
            Kind::Portable => portable(streams),
        };
        wide + rest.iter().sum::<f32>()
    }
}

/// Values in a cache line.
const LINE: usize = 16;

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512f",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            Kind::Portable => "portable",
        })
    }
}

fn portable<const S: usize>(streams: [&[f32]; S]) -> f32 {
    let mut sums = [0.0f32; LINE];
    for line in streams.iter().flat_map(|stream| stream.chunks_exact(LINE)) {
        for (sum, value) in sums.iter_mut().zip(line) {
            *sum += value;
        }
    }
    sums.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::LINE;
    use std::arch::x86_64::*;

    /// Streams of equal length, a multiple of U lines.
    #[target_feature(enable = "avx512f")]
    pub fn sum_avx512<const S: usize, const U: usize>(streams: [&[f32]; S]) -> f32 {
        let mut sums = [[_mm512_setzero_ps(); U]; S];
        for at in (0..streams[0].len()).step_by(LINE * U) {
            for (stream, sums) in streams.iter().zip(&mut sums) {
                let lines = &stream[at..at + LINE * U];
                for (u, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: `lines` holds U lines of 16 values and u < U; no alignment is needed.
                    let line = unsafe { _mm512_loadu_ps(lines.as_ptr().add(LINE * u)) };
                    *sum = _mm512_add_ps(*sum, line);
                }
            }
        }
        sums.into_iter().flatten().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    /// Streams of equal length, a multiple of U lines.
    #[target_feature(enable = "avx2")]
    pub fn sum_avx2<const S: usize, const U: usize>(streams: [&[f32]; S]) -> f32 {
        let mut sums = [[[_mm256_setzero_ps(); 2]; U]; S];
        for at in (0..streams[0].len()).step_by(LINE * U) {
            for (stream, sums) in streams.iter().zip(&mut sums) {
                let lines = &stream[at..at + LINE * U];
                for (half, sum) in sums.iter_mut().flatten().enumerate() {
                    // SAFETY: `lines` holds 2 U halves of 8 values and half < 2 U; no alignment is needed.
                    let values = unsafe { _mm256_loadu_ps(lines.as_ptr().add(LINE / 2 * half)) };
                    *sum = _mm256_add_ps(*sum, values);
                }
            }
        }
        let mut total = 0.0;
        for sum in sums.into_iter().flatten().flatten() {
            let mut lanes = [0.0f32; 8];
            // SAFETY: `lanes` has room for 8 values; no alignment is needed.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
            total += lanes.iter().sum::<f32>();
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tier_and_pattern_reads_every_value_once() {
        for length in [0, 1, 15, 16, 63, 64, 65, 127, 255, 256, 257, 4096, 10_007] {
            // Small whole numbers: their sums are exact in f32 whatever the order.
            let values: Vec<f32> = (0..length).map(|at| (at % 7) as f32 - 2.0).collect();
            let expected: f32 = values.iter().sum();
            for tier in Tier::all() {
                for pattern in Pattern::ALL {
                    assert_eq!(tier.sum(&values, pattern), expected, "{tier} {pattern:?} {length}");
                }
            }
        }
    }
}
