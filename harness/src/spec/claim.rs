//! A claim: a sentence of a source document turned into a statement that rows can decide.
//!
//! The reading is fixed before anything is measured: who is said to beat whom, on which workloads,
//! by which metric, by how much.

use super::{read_toml, toml_files};
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One file of harness/claims: one source document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Short name, `S0` … `S3`.
    pub document: String,
    /// Its title, as printed in reports.
    pub title: String,
    /// Its claims.
    pub claim: Vec<Claim>,
}

/// One claim under one reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// `S3-02`; another reading of the same sentence adds a letter.
    pub id: String,
    /// The document's words, exactly.
    pub quote: String,
    /// What we take them to say, in one or two sentences.
    pub reading: String,
    /// True where the sentence itself compares precisions, or does not mind: only then are engines of
    /// different precision compared, and the finding says which.
    #[serde(default)]
    pub across_precisions: bool,
    /// How rows decide it.
    pub test: Reading,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Time of a whole warm run, by the workload's clock.
    Time,
    /// Time of the first run after preparation.
    FirstTime,
    /// Time to the first token inside a run.
    FirstToken,
    /// Median time between tokens.
    TokenTime,
    /// 99th percentile of the time between tokens over its median (needs the rows for it).
    Jitter,
    /// From spawn to the first token.
    SinceSpawn,
    /// Peak resident memory of the process.
    PeakMemory,
    /// Bytes needed on disk.
    Footprint,
}

impl Metric {
    /// The word used in TOML, CSV and prose.
    pub fn word(self) -> &'static str {
        match self {
            Metric::Time => "time",
            Metric::FirstTime => "first_time",
            Metric::FirstToken => "first_token",
            Metric::TokenTime => "token_time",
            Metric::Jitter => "jitter",
            Metric::SinceSpawn => "since_spawn",
            Metric::PeakMemory => "peak_memory",
            Metric::Footprint => "footprint",
        }
    }
}

/// The statement. Ratios are `metric(slower) / metric(faster)`: above 1, `faster` wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reading {
    /// Every engine of `faster` against every engine of `slower` on the same workload: the ratio
    /// lies in `bounds` (upper bound absent: at least the lower).
    Engines {
        /// Engine names.
        faster: Vec<String>,
        /// Engine names.
        slower: Vec<String>,
        /// Workload names or globs (`encode/*`).
        over: Vec<String>,
        /// What is compared.
        metric: Metric,
        /// `[lo, hi]`, or `[lo]` for "at least".
        bounds: Vec<f64>,
    },
    /// The same engine on two workloads: `metric(slower_on) / metric(faster_on)` lies in `bounds`.
    Workloads {
        /// Engine names, each judged by itself.
        engines: Vec<String>,
        /// The workload said to be faster.
        faster_on: String,
        /// The workload said to be slower.
        slower_on: String,
        /// What is compared.
        metric: Metric,
        /// As above.
        bounds: Vec<f64>,
    },
    /// A part's share of a whole, `metric(part_on) / metric(whole_on)` of one engine, is below
    /// `minor` (supported) or above `major` (refuted).
    Share {
        /// Engine that does the part.
        part_engine: String,
        /// Workload of the part.
        part_on: String,
        /// Engine that does the whole.
        whole_engine: String,
        /// Workload of the whole.
        whole_on: String,
        /// What is compared.
        metric: Metric,
        /// Supported when the interval lies below.
        minor: f64,
        /// Refuted when the interval lies above.
        major: f64,
    },
    /// Cannot be measured here, and why.
    OutOfReach {
        /// No hardware, data or contestant.
        because: String,
    },
}

/// Reads every claims file below `folder`; ids must be unique, bounds in order.
pub fn load_claims(folder: &Path) -> Result<Vec<Document>> {
    let mut documents: Vec<Document> = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for path in toml_files(folder)? {
        let document: Document = read_toml(&path)?;
        for claim in &document.claim {
            if let Err(error) = claim.check() {
                bail!("{}: claim `{}`: {error:#}", path.display(), claim.id);
            }
            ensure!(!ids.contains(&claim.id), "{}: claim `{}` is declared twice", path.display(), claim.id);
            ids.push(claim.id.clone());
        }
        documents.push(document);
    }
    ensure!(!ids.is_empty(), "{}: no claim found", folder.display());
    Ok(documents)
}

/// Names in claims that no engine and no workload of this program bears: one line each, with the
/// claim's id. A claim may still be judged (its comparison is then out of reach), but a typing
/// mistake must not hide as one.
pub fn unknown_names(documents: &[Document], engines: &[&str], workloads: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    for claim in documents.iter().flat_map(|document| &document.claim) {
        let (of_engines, of_workloads) = claim.names();
        for name in of_engines.into_iter().filter(|name| !engines.contains(name)) {
            lines.push(format!("claim {}: no engine is named {name}", claim.id));
        }
        let known = |glob: &str| workloads.iter().any(|name| crate::glob::matches_glob(glob, name));
        for glob in of_workloads.into_iter().filter(|glob| !known(glob)) {
            lines.push(format!("claim {}: no workload is named {glob}", claim.id));
        }
    }
    lines
}

impl Claim {
    /// The engines and the workloads (names or globs) it speaks of.
    pub fn names(&self) -> (Vec<&str>, Vec<&str>) {
        fn all(names: &[String]) -> Vec<&str> {
            names.iter().map(String::as_str).collect()
        }
        match &self.test {
            Reading::Engines { faster, slower, over, .. } => {
                (faster.iter().chain(slower).map(String::as_str).collect(), all(over))
            }
            Reading::Workloads { engines, faster_on, slower_on, .. } => {
                (all(engines), vec![faster_on, slower_on])
            }
            Reading::Share { part_engine, part_on, whole_engine, whole_on, .. } => {
                (vec![part_engine, whole_engine], vec![part_on, whole_on])
            }
            Reading::OutOfReach { .. } => (vec![], vec![]),
        }
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.quote.trim().is_empty(), "`quote` is empty");
        ensure!(!self.reading.trim().is_empty(), "`reading` is empty");
        match &self.test {
            Reading::Engines { bounds, faster, slower, over, .. } => {
                ensure!(
                    !faster.is_empty() && !slower.is_empty() && !over.is_empty(),
                    "`faster`, `slower` and `over` must name something"
                );
                check_bounds(bounds)
            }
            Reading::Workloads { bounds, engines, .. } => {
                ensure!(!engines.is_empty(), "`engines` must name something");
                check_bounds(bounds)
            }
            Reading::Share { minor, major, .. } => {
                ensure!(
                    0.0 < *minor && minor <= major && *major <= 1.0,
                    "0 < `minor` <= `major` <= 1 must hold"
                );
                Ok(())
            }
            Reading::OutOfReach { because } => {
                ensure!(!because.trim().is_empty(), "`because` is empty");
                Ok(())
            }
        }
    }
}

fn check_bounds(bounds: &[f64]) -> Result<()> {
    match bounds {
        [lo] if *lo > 0.0 => Ok(()),
        [lo, hi] if *lo > 0.0 && lo <= hi => Ok(()),
        _ => bail!("`bounds` must be [lo] or [lo, hi] with 0 < lo <= hi"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        document = "S0"
        title = "An essay"
        [[claim]]
        id = "S0-01"
        quote = "10-100x"
        reading = "ten to a hundred times"
        test = { kind = "engines", faster = ["a/b"], slower = ["c/d"], over = ["encode/*"], metric = "time", bounds = [10.0, 100.0] }
    "#;

    fn load(text: &str) -> Result<Vec<Document>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s0.toml"), text).unwrap();
        load_claims(folder.path())
    }

    #[test]
    fn a_claim_reads_and_mistakes_are_named() {
        assert_eq!(load(GOOD).unwrap()[0].claim[0].id, "S0-01");
        for (from, to, says) in [
            ("[10.0, 100.0]", "[100.0, 10.0]", "bounds"),
            ("\"time\"", "\"vibes\"", "vibes"),
            ("10-100x", " ", "quote"),
            ("[\"a/b\"]", "[]", "faster"),
        ] {
            let error = format!("{:#}", load(&GOOD.replacen(from, to, 1)).unwrap_err());
            assert!(error.contains(says), "{says}: {error}");
        }
    }

    #[test]
    fn the_committed_claims_read_and_each_speaks_for_its_own_document() {
        let documents = load_claims(&Path::new(env!("CARGO_MANIFEST_DIR")).join("claims")).unwrap();
        let names: Vec<&str> = documents.iter().map(|document| document.document.as_str()).collect();
        assert_eq!(names, ["S0", "S1", "S2", "S3"]);
        for document in &documents {
            for claim in &document.claim {
                assert!(claim.id.starts_with(&format!("{}-", document.document)), "{}", claim.id);
            }
            let measured =
                document.claim.iter().filter(|claim| !matches!(claim.test, Reading::OutOfReach { .. }));
            assert!(measured.count() >= 7, "{}", document.document);
        }
    }

    #[test]
    fn names_that_nobody_bears_are_listed() {
        let documents = load(GOOD).unwrap();
        assert!(unknown_names(&documents, &["a/b", "c/d"], &["encode/x"]).is_empty());
        let lines = unknown_names(&documents, &["a/b"], &["decode/x"]);
        assert_eq!(
            lines,
            ["claim S0-01: no engine is named c/d", "claim S0-01: no workload is named encode/*"]
        );
    }
}
