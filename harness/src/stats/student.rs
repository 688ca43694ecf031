//! Student's t: the interval of a mean where there are too few blocks to resample.

/// Two-sided 95 % quantile of Student's t: the x with P(|T| <= x) = 0.95 at `df` >= 1 degrees of
/// freedom, to about 1e-9, by bisection on `two_sided`.
pub fn t_95(df: usize) -> f64 {
    let (mut low, mut high) = (1.0, 13.0); // 12.706 at df = 1, 1.960 at infinity
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if two_sided(middle, df) < 0.95 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// P(|T| <= t), by the finite series for whole degrees of freedom: Abramowitz and Stegun,
/// "Handbook of Mathematical Functions", 26.7.3 (odd) and 26.7.4 (even).
fn two_sided(t: f64, df: usize) -> f64 {
    let angle = (t / (df as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let odd = df % 2 == 1;
    // Sum over cos^k with the coefficients 2/3 4/5 … (odd) or 1/2 3/4 … (even).
    let (mut term, mut k) = if odd { (cos, 1) } else { (1.0, 0) };
    let mut sum = 0.0;
    while k + 2 <= df {
        sum += term;
        term *= cos * cos * (k + 1) as f64 / (k + 2) as f64;
        k += 2;
    }
    if odd { (angle + sin * sum) * 2.0 / std::f64::consts::PI } else { sin * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_printed_table() {
        for (df, x) in [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (5, 2.571),
            (6, 2.447),
            (7, 2.365),
            (10, 2.228),
            (29, 2.045),
            (30, 2.042),
            (120, 1.980),
        ] {
            assert!((t_95(df) - x).abs() < 6e-4, "df = {df}: {}", t_95(df));
        }
    }
}
