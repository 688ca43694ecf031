//! Precisions an engine may compute in, and how far its answers may then lie from f32's.
//!
//! f32 engines (and tokenizers, whose precision is empty) must give the reference's very answer. One of
//! lower precision cannot: near a tie it chooses another id, and everything behind it is another text.
//! Its answers are weighed instead (METHODOLOGY.md, section 2), within the budgets below.

use anyhow::{Result, bail};

/// How far a precision may lie from f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The word in engine.toml, on the wire and in records.
    pub precision: &'static str,
    /// How clearly f32 may prefer another id to the one that was chosen, in standard deviations of its
    /// logits at that position.
    pub regret: f64,
    /// Root mean square of the logits' differences over the standard deviation of f32's.
    pub deviation: f64,
    /// Kullback-Leibler divergence from f32, in nats.
    pub divergence: f64,
}

/// Every precision below f32. METHODOLOGY.md has the measurements behind the figures.
pub const TOLERANCES: [Tolerance; 3] = [
    Tolerance { precision: "bf16", regret: 0.1, deviation: 0.02, divergence: 0.001 },
    Tolerance { precision: "int8", regret: 0.5, deviation: 0.1, divergence: 0.02 },
    Tolerance { precision: "int4", regret: 2.5, deviation: 0.6, divergence: 0.2 },
];

impl Tolerance {
    /// The budgets of a precision; none where answers must be equal.
    pub fn of(precision: &str) -> Option<&'static Tolerance> {
        TOLERANCES.iter().find(|tolerance| tolerance.precision == precision)
    }
}

/// A precision that engine.toml may name.
pub(super) fn check(precision: &str) -> Result<()> {
    if ["", "f32"].contains(&precision) || Tolerance::of(precision).is_some() {
        return Ok(());
    }
    let known: Vec<&str> = TOLERANCES.iter().map(|tolerance| tolerance.precision).collect();
    bail!(
        "`precision` names `{precision}`, for which no budget is stated; there are f32, {} and \"\" (tokenizers)",
        known.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_precisions_have_budgets_that_grow_and_the_others_none() {
        assert!(Tolerance::of("f32").is_none() && Tolerance::of("").is_none());
        for pair in TOLERANCES.windows(2) {
            let figures = |of: &Tolerance| [of.regret, of.deviation, of.divergence];
            let (less, more) = (figures(&pair[0]), figures(&pair[1]));
            assert!(less.iter().zip(more).all(|(less, more)| *less < more), "{pair:?}");
        }
        for known in ["", "f32", "bf16", "int8", "int4"] {
            assert!(check(known).is_ok(), "{known}");
        }
        let error = check("int7").unwrap_err().to_string();
        assert!(error.contains("int7") && error.contains("int8"), "{error}");
    }
}
