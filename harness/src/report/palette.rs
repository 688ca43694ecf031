//! One colour an engine family, the same in every chart: Okabe and Ito's set, safe for the colour-blind.
//!
//! Source: M. Okabe, K. Ito, "Color Universal Design" (2008). Colour never carries meaning alone:
//! every mark has its name beside it.

use plotters::style::RGBColor;

/// Text and axes.
pub const INK: RGBColor = RGBColor(34, 34, 34);
/// Secondary text.
pub const PALE_INK: RGBColor = RGBColor(95, 95, 95);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(224, 224, 224);
/// Paper.
pub const PAPER: RGBColor = RGBColor(255, 255, 255);
/// The range a claim names.
pub const BAND: RGBColor = RGBColor(222, 235, 247);

const BLUE: RGBColor = RGBColor(0, 114, 178);
const SKY: RGBColor = RGBColor(86, 180, 233);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const PURPLE: RGBColor = RGBColor(204, 121, 167);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const GREY: RGBColor = RGBColor(140, 140, 140);

/// The colour of `family/variant`, by its family. Families not known here share one colour of their
/// own; limits and null engines are grey.
pub fn of_engine(engine: &str) -> RGBColor {
    match family(engine) {
        "native" => BLUE,
        "rust" => SKY,
        "libtorch" => VERMILLION,
        "python" => ORANGE,
        "python-alone" => PURPLE,
        "limit" | "echo" => GREY,
        _ => GREEN,
    }
}

/// What stands before the slash.
pub fn family(engine: &str) -> &str {
    engine.split('/').next().unwrap_or(engine)
}

/// Steps of grey from dark to light, for parts of a whole (never for engines).
pub fn step(at: usize, of: usize) -> RGBColor {
    let (dark, light) = (60.0, 220.0);
    let level = dark + (light - dark) * at as f64 / (of.max(2) - 1) as f64;
    let level = level.min(light) as u8;
    RGBColor(level, level, level)
}

/// `colour` moved towards white: `1.0` leaves it, `0.0` is white.
pub fn tint(colour: RGBColor, strength: f64) -> RGBColor {
    let mix = |c: u8| (255.0 - (255.0 - f64::from(c)) * strength.clamp(0.0, 1.0)).round() as u8;
    RGBColor(mix(colour.0), mix(colour.1), mix(colour.2))
}

/// Dark or white, whichever is legible on `ground` (ITU-R BT.709 weights; the border is where both
/// contrast equally by WCAG's formula).
pub fn text_on(ground: RGBColor) -> RGBColor {
    let luminance =
        0.2126 * f64::from(ground.0) + 0.7152 * f64::from(ground.1) + 0.0722 * f64::from(ground.2);
    if luminance > 122.0 { INK } else { PAPER }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_differ_and_variants_agree() {
        let families = ["native/a", "rust/a", "libtorch/a", "python/a", "python-alone/a", "limit/a", "new/a"];
        for (at, one) in families.iter().enumerate() {
            assert!(families[..at].iter().all(|other| of_engine(other) != of_engine(one)), "{one}");
        }
        assert_eq!(of_engine("python/tokenizers"), of_engine("python/pure-bpe"));
    }

    #[test]
    fn steps_run_from_dark_to_light_and_text_stays_legible() {
        let steps: Vec<_> = (0..6).map(|at| step(at, 6)).collect();
        assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!([text_on(steps[0]), text_on(BLUE)], [PAPER, PAPER]);
        assert_eq!(text_on(steps[5]), INK);
        assert_eq!(tint(BLUE, 1.0), BLUE);
        assert_eq!(tint(BLUE, 0.0), PAPER);
    }
}
