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
    /// Largest difference of a logit over the standard deviation of f32's logits at that position.
    pub deviation: f64,
    /// Largest Kullback-Leibler divergence from f32 at a position, in nats.
    pub divergence: f64,
}

/// Every precision below f32. METHODOLOGY.md has the measurements behind the figures.
pub const TOLERANCES: [Tolerance; 3] = [
    Tolerance { precision: "bf16", deviation: 0.1, divergence: 0.001 },
    Tolerance { precision: "int8", deviation: 0.25, divergence: 0.01 },
    Tolerance { precision: "int4", deviation: 1.5, divergence: 0.1 },
];

impl Tolerance {
    /// The budgets of a precision; none where answers must be equal.
    pub fn of(precision: &str) -> Option<&'static Tolerance> {
        TOLERANCES.iter().find(|tolerance| tolerance.precision == precision)
    }

    /// How far f32 may prefer another id to the one that was chosen, over the standard deviation of its
    /// logits. If each logit lies within d of f32's, the largest lies within 2 d of f32's largest.
    pub fn regret(&self) -> f64 {
        2.0 * self.deviation
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
            assert!(pair[0].deviation < pair[1].deviation && pair[0].divergence < pair[1].divergence);
        }
        for known in ["", "f32", "bf16", "int8", "int4"] {
            assert!(check(known).is_ok(), "{known}");
        }
        let error = check("int7").unwrap_err().to_string();
        assert!(error.contains("int7") && error.contains("int8"), "{error}");
    }
}
