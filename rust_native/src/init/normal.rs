//! Standard normal values from uniform words, bit-identical on every machine.
//!
//! Why own code: `ln` and `cos` differ between C libraries in the last bit, and then the same seed would
//! give two models. Here everything is f64 `+ - * /` and `sqrt`, which IEEE 754 rounds correctly, in a
//! fixed order (Rust never contracts to fused multiply-add by itself).
//!
//! Source: M. J. Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied
//! Statistics 37 (1988), routine PPND16: relative error about 1e-16.

/// The normal quantile at (word + 1/2) / 2^32: between -6.35 and 6.35, never infinite.
pub fn standard_normal(word: u32) -> f64 {
    quantile((f64::from(word) + 0.5) / 4_294_967_296.0)
}

/// The value below which a standard normal variable lies with probability `p`, for 0 < p < 1.
pub fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * polynomial(&A, r) / polynomial(&B, r);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = (-ln(tail)).sqrt();
    let magnitude = if r <= 5.0 {
        polynomial(&C, r - 1.6) / polynomial(&D, r - 1.6)
    } else {
        polynomial(&E, r - 5.0) / polynomial(&F, r - 5.0)
    };
    if q < 0.0 { -magnitude } else { magnitude }
}

/// Natural logarithm of a normal positive number:
/// x = m 2^e with m in [sqrt(1/2), sqrt(2)), ln x = e ln 2 + 2 artanh((m - 1) / (m + 1)).
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut m = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    if m >= std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    // |s| <= 0.1716, so the series' first omitted term, s^23 / 23, is below 1e-18.
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for k in (0..11).rev() {
        sum = sum * square + 1.0 / f64::from(2 * k + 1);
    }
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * sum
}

/// Horner's rule, lowest coefficient first.
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, &c| sum * x + c)
}

const A: [f64; 8] = [
    3.387_132_872_796_366_6,
    1.331_416_678_917_843_8e2,
    1.971_590_950_306_551_4e3,
    1.373_169_376_550_946e4,
    4.592_195_393_154_987e4,
    6.726_577_092_700_87e4,
    3.343_057_558_358_813e4,
    2.509_080_928_730_122_7e3,
];
const B: [f64; 8] = [
    1.0,
    4.231_333_070_160_091e1,
    6.871_870_074_920_579e2,
    5.394_196_021_424_751e3,
    2.121_379_430_158_659_7e4,
    3.930_789_580_009_271e4,
    2.872_908_573_572_194_3e4,
    5.226_495_278_852_855e3,
];
const C: [f64; 8] = [
    1.423_437_110_749_683_5,
    4.630_337_846_156_546,
    5.769_497_221_460_691,
    3.647_848_324_763_204_5,
    1.270_458_252_452_368_4,
    2.417_807_251_774_506e-1,
    2.272_384_498_926_918_4e-2,
    7.745_450_142_783_414e-4,
];
const D: [f64; 8] = [
    1.0,
    2.053_191_626_637_759,
    1.676_384_830_183_803_8,
    6.897_673_349_851e-1,
    1.481_039_764_274_800_8e-1,
    1.519_866_656_361_645_7e-2,
    5.475_938_084_995_345e-4,
    1.050_750_071_644_416_9e-9,
];
const E: [f64; 8] = [
    6.657_904_643_501_103,
    5.463_784_911_164_114,
    1.784_826_539_917_291_3,
    2.965_605_718_285_048_7e-1,
    2.653_218_952_657_612_4e-2,
    1.242_660_947_388_078_4e-3,
    2.711_555_568_743_487_6e-5,
    2.010_334_399_292_288_1e-7,
];
const F: [f64; 8] = [
    1.0,
    5.998_322_065_558_88e-1,
    1.369_298_809_227_358e-1,
    1.487_536_129_085_061_5e-2,
    7.868_691_311_456_133e-4,
    1.846_318_317_510_054_8e-5,
    1.421_511_758_316_446e-7,
    2.044_263_103_389_939_8e-15,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from Python's `statistics.NormalDist().inv_cdf`, an independent implementation.
    #[test]
    fn quantiles_agree_with_another_implementation() {
        let cases = [
            (1e-300, -37.0470962993612),
            (1e-15, -7.941345326170995),
            (1e-09, -5.9978070150076865),
            (1.1641532182693481e-10, -6.337957754553789),
            (1e-05, -4.2648907939228256),
            (0.01, -2.3263478740408408),
            (0.074, -1.4466320671589785),
            (0.0750001, -1.4395307645017297),
            (0.3, -0.5244005127080407),
            (0.45, -0.125661346855074),
            (0.7, 0.5244005127080407),
            (0.99, 2.3263478740408408),
            (0.9999999998835847, 6.337957754553789),
        ];
        for (p, expected) in cases {
            let found = quantile(p);
            assert!((found - expected).abs() <= 4e-16 * expected.abs().max(0.1), "{p}: {found} {expected}");
        }
        assert_eq!(quantile(0.5), 0.0);
    }

    #[test]
    fn extremes_are_finite_and_opposite() {
        assert_eq!(standard_normal(0), -standard_normal(u32::MAX));
        assert!((6.2..6.4).contains(&standard_normal(u32::MAX)));
    }

    #[test]
    fn logarithm_is_as_good_as_the_library() {
        for i in 1..4000 {
            let x = f64::from(i) * f64::from(i) / 4e6;
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1e-3), "{x}");
        }
    }
}
