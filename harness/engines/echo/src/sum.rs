//! Reads memory as fast as one core can: a sum over f32 values, wide and branch-free.
//!
//! Four streams a core, a quarter of the range apart: one stream leaves line-fill buffers idle, and
//! the hardware prefetcher stops at each 4 KiB page, so the loop also asks for the line 2 KiB ahead.
//! Every byte is read exactly once. `portable` is the specification; the tiers differ only in the
//! order of additions.

use std::fmt;

/// Streams read side by side.
const STREAMS: usize = 4;

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
    pub fn sum(self, values: &[f32]) -> f32 {
        let quarter = values.len() / STREAMS / 16 * 16;
        let (streams, rest) = values.split_at(quarter * STREAMS);
        let streams: [&[f32]; STREAMS] = std::array::from_fn(|at| &streams[at * quarter..][..quarter]);
        let wide = match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Tier of this kind is made only where the processor has avx512f.
            Kind::Avx512 => unsafe { x86::sum_avx512(streams) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Tier of this kind is made only where the processor has avx2.
            Kind::Avx2 => unsafe { x86::sum_avx2(streams) },
            Kind::Portable => portable(streams),
        };
        wide + rest.iter().sum::<f32>()
    }
}

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

fn portable(streams: [&[f32]; STREAMS]) -> f32 {
    let mut sums = [[0.0f32; 16]; STREAMS];
    for (stream, sums) in streams.iter().zip(&mut sums) {
        for chunk in stream.chunks_exact(16) {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum += value;
            }
        }
    }
    sums.iter().flatten().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::STREAMS;
    use std::arch::x86_64::*;

    /// Values between a load and the line asked for ahead of it.
    const AHEAD: usize = 512;

    #[target_feature(enable = "avx512f")]
    pub fn sum_avx512(streams: [&[f32]; STREAMS]) -> f32 {
        let mut sums = [_mm512_setzero_ps(); STREAMS];
        let length = streams[0].len();
        for at in (0..length).step_by(16) {
            for (stream, sum) in streams.iter().zip(&mut sums) {
                let chunk = &stream[at..at + 16];
                _mm_prefetch::<_MM_HINT_T0>(chunk.as_ptr().wrapping_add(AHEAD).cast());
                // SAFETY: `chunk` holds 16 values; the load needs no alignment.
                *sum = _mm512_add_ps(*sum, unsafe { _mm512_loadu_ps(chunk.as_ptr()) });
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    #[target_feature(enable = "avx2")]
    pub fn sum_avx2(streams: [&[f32]; STREAMS]) -> f32 {
        let mut sums = [_mm256_setzero_ps(); 2 * STREAMS];
        let length = streams[0].len();
        for at in (0..length).step_by(16) {
            for (stream, pair) in streams.iter().zip(sums.chunks_exact_mut(2)) {
                let chunk = &stream[at..at + 16];
                _mm_prefetch::<_MM_HINT_T0>(chunk.as_ptr().wrapping_add(AHEAD).cast());
                // SAFETY: `chunk` holds 16 values: two halves of 8; the loads need no alignment.
                let (low, high) =
                    unsafe { (_mm256_loadu_ps(chunk.as_ptr()), _mm256_loadu_ps(chunk[8..].as_ptr())) };
                pair[0] = _mm256_add_ps(pair[0], low);
                pair[1] = _mm256_add_ps(pair[1], high);
            }
        }
        let mut lanes = [0.0f32; 8];
        let mut total = 0.0;
        for sum in sums {
            // SAFETY: `lanes` has room for 8 values; the store needs no alignment.
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
    fn every_tier_reads_every_value_once() {
        for length in [0, 1, 15, 16, 63, 64, 65, 127, 4096, 10_007] {
            // Small whole numbers: their sums are exact in f32 whatever the order.
            let values: Vec<f32> = (0..length).map(|at| (at % 7) as f32 - 3.0).collect();
            let expected: f32 = values.iter().sum();
            for tier in Tier::all() {
                assert_eq!(tier.sum(&values), expected, "{tier} at {length} values");
            }
        }
    }
}
