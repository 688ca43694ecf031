//! A small generator of our own, so that the same record gives the same intervals on every machine
//! and with every version of every library.
//!
//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): ample
//! for resampling a few hundred rows, and short enough to read.

/// What the state of the generator grows by with every draw.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The draw that follows `state`.
pub fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The same seed, the same draws.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A seed made of words (FNV-1a), so that every comparison has draws of its own.
    pub fn seeded_by(words: &[&str]) -> Rng {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for word in words {
            for byte in word.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        Rng(hash)
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        let drawn = splitmix(self.0);
        self.0 = self.0.wrapping_add(STEP);
        drawn
    }

    /// Uniform in 0..n by multiply-shift; `n` must be positive. The bias, n / 2^64, is beneath notice.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_first_draws_come_out() {
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.bits(), 6_457_827_717_110_365_317);
        assert_eq!(rng.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn draws_are_even_and_normal_ones_have_mean_0_and_variance_1() {
        let mut rng = Rng::seeded_by(&["even"]);
        let mut seen = [0u32; 7];
        (0..70_000).for_each(|_| seen[rng.below(7)] += 1);
        assert!(seen.iter().all(|&n| (9_600..10_400).contains(&n)), "{seen:?}");
        let draws: Vec<f64> = (0..50_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 5e4;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 5e4;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn words_are_told_apart_by_their_borders() {
        assert_ne!(Rng::seeded_by(&["ab", "c"]).bits(), Rng::seeded_by(&["a", "bc"]).bits());
    }
}
