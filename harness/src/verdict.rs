//! Claims held against the summary. Pure: reads no clock, no process, no environment.

use crate::spec::Claim;
use crate::summary::Ratio;
use serde::Serialize;

/// What the rows say about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The interval lies inside the bounds, everywhere.
    Supported,
    /// The interval lies above the bounds, everywhere.
    Exceeded,
    /// The interval lies below the bounds or on the wrong side of 1, everywhere.
    Refuted,
    /// Different on different workloads or against different rivals.
    Mixed,
    /// The interval straddles a bound.
    Inconclusive,
    /// No hardware, data or contestant; or no rows in this record.
    OutOfReach,
}

impl Verdict {
    /// The words used in prose.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Supported => "supported",
            Verdict::Exceeded => "exceeded",
            Verdict::Refuted => "refuted",
            Verdict::Mixed => "mixed",
            Verdict::Inconclusive => "inconclusive",
            Verdict::OutOfReach => "out of reach",
        }
    }
}

/// One claim, judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// `S0`, …
    pub document: String,
    /// The document's title.
    pub title: String,
    /// The claim as declared.
    pub claim: Claim,
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence: the range of ratios seen, or why there is none.
    pub finding: String,
    /// The rows it rests on, each with its own verdict.
    pub rows: Vec<(Ratio, Verdict)>,
    /// Comparisons that were asked for and had no rows, with the reason.
    pub missing: Vec<String>,
}
