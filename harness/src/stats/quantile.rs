//! Order statistics: quantiles, the median with an interval that assumes no distribution, and tails
//! that are only called p90, p95 or p99 where there is enough data to say so.

/// Quantile `p` in [0, 1] of `sorted` (ascending, not empty) by linear interpolation between order
/// statistics at (n - 1) p: definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical
/// Packages", 1996.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let at = p * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// The values in ascending order. They must be numbers.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut all = values.to_vec();
    all.sort_by(f64::total_cmp);
    all
}

/// The median of `values` (not empty).
pub fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// The median and the narrowest symmetric pair of order statistics that covers the true median with
/// at least 95 % probability, whatever the distribution: x(k) and x(n + 1 - k) with the largest k
/// for which 2 P(Binomial(n, 1/2) < k) <= 0.05. Below 6 values no pair does: the extremes are given.
pub fn median_interval(values: &[f64]) -> (f64, f64, f64) {
    let all = sorted(values);
    let outside = depth(all.len());
    (quantile(&all, 0.5), all[outside], all[all.len() - 1 - outside])
}

/// How many values to leave off each end.
fn depth(n: usize) -> usize {
    // P(Binomial(n, 1/2) = k) in logarithms: 0.5^n underflows from n = 1075 on.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut below = 0.0;
    let mut k = 0;
    loop {
        below += log_term.exp();
        if 2.0 * below > 0.05 || k >= n {
            return k.saturating_sub(1);
        }
        log_term += ((n - k) as f64 / (k + 1) as f64).ln();
        k += 1;
    }
}

/// The largest of p90, p95, p99 that `n` values support with a finite 95 % interval (n >= 36, 72,
/// 368), else the maximum; with its value. `values` is not empty.
pub fn tail(values: &[f64]) -> (&'static str, f64) {
    let all = sorted(values);
    match all.len() {
        368.. => ("p99", quantile(&all, 0.99)),
        72.. => ("p95", quantile(&all, 0.95)),
        36.. => ("p90", quantile(&all, 0.90)),
        n => ("max", all[n - 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Rng;

    #[test]
    fn quantiles_of_a_ladder_are_its_rungs() {
        let ladder: Vec<f64> = (0..=100).map(f64::from).collect();
        for p in [0.0, 0.25, 0.5, 0.9, 1.0] {
            assert!((quantile(&ladder, p) - 100.0 * p).abs() < 1e-9);
        }
        assert_eq!(median(&[3.0, 1.0, 2.0, 10.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn depths_are_those_of_the_sign_test_table() {
        // k - 1 for the two-sided 5 % sign test: n = 6 -> extremes (k = 1), 9 -> 2nd, 15 -> 4th, 25 -> 8th, 100 -> 40th.
        for (n, k) in [(1, 1), (5, 1), (6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (20, 6), (25, 8), (100, 40)]
        {
            assert_eq!(depth(n) + 1, k, "n = {n}");
        }
        assert!(depth(5_000) > 2_400);
    }

    #[test]
    fn the_interval_covers_the_median_of_a_skewed_distribution() {
        let mut rng = Rng::seeded_by(&["skewed"]);
        for n in [6, 11, 40] {
            let covered = (0..2_000)
                .filter(|_| {
                    let values: Vec<f64> = (0..n).map(|_| (1.5 * rng.normal()).exp()).collect();
                    let (_, lo, hi) = median_interval(&values);
                    lo <= 1.0 && 1.0 <= hi
                })
                .count();
            assert!((1_880..=1_990).contains(&covered), "n = {n}: {covered} of 2000");
        }
    }

    #[test]
    fn tails_are_named_by_what_the_number_of_values_supports() {
        let ladder = |n: u32| (1..=n).map(f64::from).collect::<Vec<_>>();
        for (n, name) in
            [(1, "max"), (35, "max"), (36, "p90"), (71, "p90"), (72, "p95"), (367, "p95"), (368, "p99")]
        {
            assert_eq!(tail(&ladder(n)).0, name, "n = {n}");
        }
        assert_eq!(tail(&ladder(35)).1, 35.0);
        assert!((tail(&ladder(1_001)).1 - 991.0).abs() < 1e-9);
    }
}
