//! An engine as its family's engine.toml declares it: how to start it and what it offers.

use super::{PROFILES, PROFILES_IN_WORDS, Tolerance, Workload, precision, read_toml, toml_files};
use crate::glob::matches_any;
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use worker::TaskKind;

/// Why an engine takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Does the work and is compared.
    Contestant,
    /// Does nothing: the price of protocol and call.
    Null,
    /// Does the least that physics asks: the limit the others are shown against.
    Limit,
}

/// One engine of a family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contestant {
    /// `family/variant`, unique.
    pub name: String,
    /// Command line; `{bin}`, `{python}`, `{root}`, … are filled in.
    pub run: Vec<String>,
    /// Why it takes part.
    pub role: Role,
    /// "f32", "bf16", "int8", "int4"; empty for tokenizers.
    #[serde(default)]
    pub precision: String,
    /// Tasks it offers; others are not asked of it.
    pub tasks: Vec<TaskKind>,
    /// Tasks whose reference answer it gives; one engine a task in the whole project.
    #[serde(default)]
    pub reference_for: Vec<TaskKind>,
    /// Tasks in which a run measures it twice (the A/A arm).
    #[serde(default)]
    pub aa_for: Vec<TaskKind>,
    /// Profiles it takes part in where it is not named; empty: all but `gpu`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Globs of the workloads it is asked for; empty: all of its tasks'.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Not asked for `large` workloads, which would take most of a run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub slow: bool,
    /// How far its last logits may lie from the reference's where its own arithmetic is coarser than its
    /// precision; absent: the workload's budget.
    #[serde(default)]
    pub logit_budget: Option<f64>,
    /// Variables of its process; `{torch_lib}`, `{site_packages}`, `{root}`, … are filled in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Language of the code that asks for the work.
    pub language: String,
    /// One sentence for readers.
    pub note: String,
    /// From the family's file.
    #[serde(default)]
    pub needs: Vec<String>,
}

impl Contestant {
    /// How far its answers may lie from f32's; none where they must be equal.
    pub fn tolerance(&self) -> Option<&'static Tolerance> {
        Tolerance::of(&self.precision)
    }

    /// Whether it is asked for this workload.
    pub fn does(&self, workload: &Workload) -> bool {
        let meant = self.only.is_empty() || matches_any(&self.only, &workload.name);
        meant && self.tasks.contains(&workload.task.kind()) && !(self.slow && workload.large)
    }
}

/// One engine.toml.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Command that builds it, `{target}` filled in; absent where nothing is to be built.
    #[serde(default)]
    pub build: Vec<String>,
    /// What set-up must have made: `python`, `libtorch`, `build-tools`.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Its engines.
    pub engine: Vec<Contestant>,
}

/// Reads every engine.toml below `folder`, sorted by file, in the order written.
pub fn load_engines(folder: &Path) -> Result<Vec<Family>> {
    let mut families: Vec<Family> = Vec::new();
    for path in toml_files(folder)? {
        if path.file_name().is_none_or(|name| name != "engine.toml") {
            continue;
        }
        let mut family: Family = read_toml(&path)?;
        for need in &family.needs {
            ensure!(
                ["python", "libtorch", "build-tools"].contains(&need.as_str()),
                "{}: `needs` names `{need}`; there are `python`, `libtorch` and `build-tools`",
                path.display()
            );
        }
        for engine in &mut family.engine {
            ensure!(
                engine.name.split('/').count() == 2,
                "{}: engine `{}`: a name reads `family/variant`",
                path.display(),
                engine.name
            );
            if let Err(error) = precision::check(&engine.precision) {
                bail!("{}: engine `{}`: {error:#}", path.display(), engine.name);
            }
            ensure!(!engine.run.is_empty(), "{}: engine `{}`: `run` is empty", path.display(), engine.name);
            for profile in &engine.profiles {
                ensure!(
                    PROFILES.contains(&profile.as_str()),
                    "{}: engine `{}`: unknown profile `{profile}`; {PROFILES_IN_WORDS}",
                    path.display(),
                    engine.name
                );
            }
            engine.needs = family.needs.clone();
        }
        families.push(family);
    }
    let engines: Vec<&Contestant> = families.iter().flat_map(|family| &family.engine).collect();
    for (at, engine) in engines.iter().enumerate() {
        if engines[..at].iter().any(|other| other.name == engine.name) {
            bail!("engine `{}` is declared twice below {}; rename one", engine.name, folder.display());
        }
        ensure!(
            engine.reference_for.is_empty() || engine.tolerance().is_none(),
            "`{}` computes in {} and cannot be a reference; an f32 engine can",
            engine.name,
            engine.precision
        );
        for task in &engine.reference_for {
            if let Some(other) = engines[..at].iter().find(|other| other.reference_for.contains(task)) {
                bail!(
                    "`{}` and `{}` both claim to be the reference for {task}; keep one",
                    other.name,
                    engine.name
                );
            }
        }
    }
    ensure!(!engines.is_empty(), "{}: no engine.toml found", folder.display());
    Ok(families)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        build = ["cargo", "build"]
        [[engine]]
        name = "echo/noop"
        run = ["{bin}/engine-echo", "noop"]
        role = "null"
        tasks = ["encode"]
        language = "rust"
        note = "nothing"
    "#;

    fn load(text: &str) -> Result<Vec<Family>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("engine.toml"), text).unwrap();
        load_engines(folder.path())
    }

    #[test]
    fn a_family_reads_and_mistakes_are_named() {
        assert_eq!(load(GOOD).unwrap()[0].engine[0].role, Role::Null);
        for (from, to, says) in [
            ("\"null\"", "\"nil\"", "nil"),
            ("echo/noop", "echo", "family/variant"),
            ("build", "needs = [\"java\"]\nbuild", "java"),
            ("role =", "precision = \"int7\"\nrole =", "int7"),
            ("role =", "precision = \"int8\"\nreference_for = [\"encode\"]\nrole =", "cannot be a reference"),
            ("[\"{bin}/engine-echo\", \"noop\"]", "[]", "`run` is empty"),
            ("language", "profiles = [\"slow\"]\nlanguage", "slow"),
        ] {
            let error = format!("{:#}", load(&GOOD.replacen(from, to, 1)).unwrap_err());
            assert!(error.contains(says), "{says}: {error}");
        }
        let twice = format!("{GOOD}\n{}", &GOOD[GOOD.find("[[engine]]").unwrap()..]);
        assert!(format!("{:#}", load(&twice).unwrap_err()).contains("twice"));
    }
}
