//! Block log-ratios and their interval.
//!
//! A block is one round of one heat: in it both sides took their turns within the same few seconds,
//! so what slowed the machine slowed both and cancels in the ratio. Rounds of one heat share their
//! processes (their memory layout, their luck), so they are not independent trials: the bootstrap
//! draws heats first and rounds within them second. Logarithms make a ratio and its reciprocal
//! mirror images.

use super::{Rng, quantile, sorted, t_95};
use std::collections::BTreeMap;

/// From this many blocks on the interval is bootstrapped; below it is Student's t.
pub const BOOTSTRAP_FROM: usize = 8;
const DRAWS: usize = 4_000;

/// One block: which heat it belongs to, and ln(b / a).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// The set of processes.
    pub heat: u32,
    /// ln(b / a).
    pub log_ratio: f64,
}

/// A ratio with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioInterval {
    /// exp of the mean over heats of the mean log-ratio: the geometric mean of the blocks.
    pub ratio: f64,
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
    /// Blocks.
    pub n: usize,
}

/// The interval of the ratio, or nothing below two blocks: one round says nothing about the next.
///
/// The same blocks and the same generator give the same bits.
pub fn ratio_interval(blocks: &[Block], rng: Rng) -> Option<RatioInterval> {
    if blocks.len() < 2 {
        return None;
    }
    let mut heats: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for block in blocks {
        heats.entry(block.heat).or_default().push(block.log_ratio);
    }
    let heats: Vec<Vec<f64>> = heats.into_values().collect();
    let centre = mean(&heats.iter().map(|rounds| mean(rounds)).collect::<Vec<_>>());
    let student = student_half_width(&heats, blocks);
    let (lo, hi) = match blocks.len() {
        ..BOOTSTRAP_FROM => (centre - student, centre + student),
        _ => bootstrap(&heats, centre, student, rng),
    };
    Some(RatioInterval { ratio: centre.exp(), lo: lo.exp(), hi: hi.exp(), n: blocks.len() })
}

/// Half the width of Student's interval over the blocks; with three heats or more, over the heats'
/// means where that is wider, because it knows what heats have in common.
fn student_half_width(heats: &[Vec<f64>], blocks: &[Block]) -> f64 {
    let over_blocks = half_width(&blocks.iter().map(|block| block.log_ratio).collect::<Vec<_>>());
    if heats.len() < 3 {
        return over_blocks;
    }
    over_blocks.max(half_width(&heats.iter().map(|rounds| mean(rounds)).collect::<Vec<_>>()))
}

fn half_width(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let centre = mean(values);
    let variance = values.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / (n - 1.0);
    t_95(values.len() - 1) * (variance / n).sqrt()
}

/// Percentile bootstrap over heats, then rounds within the drawn heat. With fewer than 8 heats the
/// percentile interval is known to be too narrow (a resample of h heats has (h - 1) / h of the
/// variance, and normal quantiles stand in for t's); each side is stretched by the factor that
/// repairs exactly that.
fn bootstrap(heats: &[Vec<f64>], centre: f64, student: f64, mut rng: Rng) -> (f64, f64) {
    let h = heats.len();
    let draws: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let of_heats: f64 = (0..h)
                .map(|_| {
                    let rounds = &heats[rng.below(h)];
                    let picked: f64 = (0..rounds.len()).map(|_| rounds[rng.below(rounds.len())]).sum();
                    picked / rounds.len() as f64
                })
                .sum();
            of_heats / h as f64
        })
        .collect();
    let draws = sorted(&draws);
    let (lo, hi) = (quantile(&draws, 0.025), quantile(&draws, 0.975));
    if h < 2 {
        // One heat: rounds are all there is; resampled rounds alone are too narrow as well.
        return (lo.min(centre - student), hi.max(centre + student));
    }
    let stretch = (h as f64 / (h - 1) as f64).sqrt() * t_95(h - 1).min(t_95(2)) / 1.959_964;
    (centre - (centre - lo) * stretch, centre + (hi - centre) * stretch)
}

/// The A/A floor of a ratio of something to itself: exp of the end of the log-interval that is
/// farther from 0. At least 1.
pub fn floor_of(again: &RatioInterval) -> f64 {
    again.lo.ln().abs().max(again.hi.ln().abs()).exp()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(rng: &mut Rng, heats: u32, rounds: u32, of_heats: f64, of_rounds: f64) -> Vec<Block> {
        (0..heats)
            .flat_map(|heat| {
                let mood = rng.normal() * of_heats;
                (0..rounds)
                    .map(|_| Block { heat, log_ratio: 2f64.ln() + mood + rng.normal() * of_rounds })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn intervals_cover_a_ratio_of_two_as_often_as_they_say() {
        let mut rng = Rng::seeded_by(&["coverage"]);
        for (heats, rounds, of_heats, of_rounds) in [
            (1, 6, 0.0, 0.05), // Student
            (2, 3, 0.0, 0.05), // Student
            (2, 4, 0.02, 0.02),
            (1, 10, 0.0, 0.05), // one heat, resampled
            (3, 4, 0.02, 0.05),
            (5, 4, 0.05, 0.05),
            (10, 3, 0.05, 0.02),
        ] {
            let tries = 400;
            let covered = (0..tries)
                .filter(|_| {
                    let blocks = play(&mut rng, heats, rounds, of_heats, of_rounds);
                    let seen = ratio_interval(&blocks, Rng::new(rng.bits())).unwrap();
                    seen.lo <= 2.0 && 2.0 <= seen.hi
                })
                .count();
            let share = covered as f64 / f64::from(tries);
            assert!((0.91..=1.0).contains(&share), "{heats} x {rounds}: {share}");
        }
    }

    #[test]
    fn intervals_are_not_idly_wide() {
        let mut rng = Rng::seeded_by(&["width"]);
        let blocks = play(&mut rng, 6, 5, 0.01, 0.02);
        let seen = ratio_interval(&blocks, Rng::new(1)).unwrap();
        assert!(seen.hi / seen.lo < 1.05, "{seen:?}");
        assert_eq!(seen.n, 30);
    }

    #[test]
    fn heats_that_disagree_widen_the_interval_however_many_rounds_they_have() {
        let disagree: Vec<Block> =
            (0..80).map(|at| Block { heat: at / 20, log_ratio: f64::from(at / 20 % 2) * 0.2 }).collect();
        let seen = ratio_interval(&disagree, Rng::new(1)).unwrap();
        assert!(seen.lo < 1.02 && seen.hi > 1.2, "{seen:?}");
    }

    #[test]
    fn the_reciprocal_has_the_mirrored_interval_and_draws_repeat() {
        let mut rng = Rng::seeded_by(&["mirror"]);
        let blocks = play(&mut rng, 2, 2, 0.0, 0.05);
        let turned: Vec<Block> =
            blocks.iter().map(|block| Block { log_ratio: -block.log_ratio, ..*block }).collect();
        let (one, other) =
            (ratio_interval(&blocks, Rng::new(3)).unwrap(), ratio_interval(&turned, Rng::new(3)).unwrap());
        assert!((one.lo * other.hi - 1.0).abs() < 1e-9 && (one.ratio * other.ratio - 1.0).abs() < 1e-9);
        assert_eq!(Some(one), ratio_interval(&blocks, Rng::new(3)));
    }

    #[test]
    fn one_block_has_no_interval_and_a_floor_is_its_farther_end() {
        assert_eq!(ratio_interval(&[Block { heat: 0, log_ratio: 0.0 }], Rng::new(1)), None);
        let interval = |lo, hi| RatioInterval { ratio: 1.0, lo, hi, n: 9 };
        assert!((floor_of(&interval(0.8, 1.1)) - 1.25).abs() < 1e-12);
        assert!((floor_of(&interval(0.99, 1.1)) - 1.1).abs() < 1e-12);
        assert_eq!(floor_of(&interval(1.0, 1.0)), 1.0);
    }
}
