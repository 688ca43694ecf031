//! A workload: what to do, naming no engine.

use super::{Input, PROFILES, PROFILES_IN_WORDS, read_toml, toml_files};
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;
use worker::{Task, TaskKind};

/// One workload of harness/workloads/**.toml.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// `story/variant`, unique.
    pub name: String,
    /// What to do.
    pub task: Task,
    /// What to do it with; absent where the task needs none (load, boundary).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// Which model configuration, by the size word of `gpt2 init`.
    #[serde(default = "gpt2")]
    pub model: String,
    /// Threads every engine may use.
    #[serde(default = "one")]
    pub threads: usize,
    /// Profiles that include it.
    #[serde(default = "full")]
    pub profiles: Vec<String>,
    /// A text that takes a plain encoder seconds: engines marked `slow` are not asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub large: bool,
    /// The pinned answer, where the input is generated and so the same everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// Largest allowed relative difference of the last logits (f32 engines).
    #[serde(default = "logit_budget")]
    pub logit_budget: f64,
}

/// A pinned answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Units of work of one run.
    pub units: u64,
    /// Digest of the answer.
    pub digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Why these workloads exist: printed by `assay list --why` and in the report.
    #[allow(dead_code)]
    analysis: String,
    workload: Vec<Workload>,
}

/// Reads every workload below `folder`. Names must be unique, sizes sane.
pub fn load_workloads(folder: &Path) -> Result<Vec<Workload>> {
    let mut all: Vec<Workload> = Vec::new();
    for path in toml_files(folder)? {
        let file: File = read_toml(&path)?;
        ensure!(
            !file.analysis.trim().is_empty(),
            "{}: `analysis` is empty; say what the story shows",
            path.display()
        );
        for workload in file.workload {
            if let Err(error) = workload.check() {
                bail!("{}: workload `{}`: {error:#}", path.display(), workload.name);
            }
            if all.iter().any(|other| other.name == workload.name) {
                bail!("{}: workload `{}` is declared twice; rename one", path.display(), workload.name);
            }
            all.push(workload);
        }
    }
    ensure!(!all.is_empty(), "{}: no workload found", folder.display());
    Ok(all)
}

impl Workload {
    fn check(&self) -> Result<()> {
        ensure!(
            self.name.split('/').count() == 2
                && self.name.chars().all(|c| c.is_ascii_alphanumeric() || "/-_".contains(c)),
            "a name reads `story/variant` in letters, digits, - and _"
        );
        ensure!((1..=1024).contains(&self.threads), "`threads` must be 1 to 1024");
        ensure!(!self.profiles.is_empty(), "`profiles` is empty; name `quick`, `full`, `gpu` or several");
        for profile in &self.profiles {
            ensure!(PROFILES.contains(&profile.as_str()), "unknown profile `{profile}`; {PROFILES_IN_WORDS}");
        }
        let needs_texts = matches!(
            self.task.kind(),
            TaskKind::Encode
                | TaskKind::WordSplit
                | TaskKind::Generate
                | TaskKind::Serve
                | TaskKind::Detokenize
        );
        ensure!(!needs_texts || self.input.is_some(), "task `{}` needs an `input`", self.task.kind());
        if let Some(input) = &self.input {
            input.check()?;
        }
        match &self.task {
            Task::Prefill { tokens, batch } => {
                ensure!(*tokens >= 1 && *batch >= 1, "`tokens` and `batch` must be at least 1")
            }
            Task::Decode { context, tokens, batch } => {
                ensure!(
                    *context >= 1 && *tokens >= 1 && *batch >= 1,
                    "`context`, `tokens` and `batch` must be at least 1"
                );
            }
            Task::Generate { tokens, sampling, cache, beams, lookup } => {
                ensure!(*tokens >= 1, "`tokens` must be at least 1");
                ensure!(*beams != Some(0) && *lookup != Some(0), "`beams` and `lookup` must be at least 1");
                let ways = [sampling.is_some(), !cache, beams.is_some(), lookup.is_some()];
                ensure!(
                    ways.into_iter().filter(|way| *way).count() <= 1,
                    "of `sampling`, `cache` = false, `beams` and `lookup` only one"
                );
            }
            Task::Serve { slots, tokens } => ensure!(
                *slots >= 1 && !tokens.is_empty() && !tokens.contains(&0),
                "`slots` and each of `tokens` must be at least 1"
            ),
            Task::Start { tokens } => ensure!(*tokens >= 1, "`tokens` must be at least 1"),
            Task::Boundary { repeat, .. } => ensure!(*repeat >= 1, "`repeat` must be at least 1"),
            Task::Encode { .. } | Task::Detokenize {} | Task::WordSplit {} | Task::Load {} => {}
        }
        Ok(())
    }

    /// Bytes of input text one run works on, 0 where there is none.
    pub fn input_bytes(&self) -> u64 {
        match (&self.input, self.task.kind()) {
            (Some(input), TaskKind::Encode | TaskKind::Detokenize | TaskKind::WordSplit) => {
                input.bytes as u64
            }
            _ => 0,
        }
    }
}

fn gpt2() -> String {
    "gpt2".into()
}
fn one() -> usize {
    1
}
fn full() -> Vec<String> {
    vec!["full".into()]
}
fn logit_budget() -> f64 {
    1e-4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Vec<Workload>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("w.toml"), text).unwrap();
        load_workloads(folder.path())
    }

    const GOOD: &str = r#"
        analysis = "why"
        [[workload]]
        name = "encode/prose-64k"
        task = { kind = "encode" }
        input = { text = "prose", bytes = 65_536 }
    "#;

    #[test]
    fn a_stanza_reads_with_its_defaults() {
        let all = load(GOOD).unwrap();
        assert_eq!(all[0].threads, 1);
        assert_eq!(all[0].profiles, ["full"]);
        assert_eq!(all[0].input_bytes(), 65_536);
    }

    #[test]
    fn a_fresh_tokenizer_is_asked_for_by_its_word_and_is_another_task() {
        let plain = load(GOOD).unwrap().remove(0).task;
        let fresh = load(&GOOD.replace("\"encode\"", "\"encode\", fresh = true")).unwrap().remove(0).task;
        assert_eq!(fresh, Task::Encode { batch: false, fresh: true });
        assert_ne!(fresh, plain);
        let wire = |task| serde_json::to_string(task).unwrap();
        assert_eq!(wire(&plain), r#"{"kind":"encode","batch":false}"#, "an older worker understands it");
        assert_eq!(wire(&fresh), r#"{"kind":"encode","batch":false,"fresh":true}"#);
    }

    #[test]
    fn mistakes_name_file_and_field() {
        for (from, to, says) in [
            ("\"encode\"", "\"encod\"", "encod"),
            ("65_536 }", "65_536, colour = 1 }", "colour"),
            ("encode/prose-64k", "prose", "story/variant"),
            ("input = { text = \"prose\", bytes = 65_536 }", "", "needs an `input`"),
            ("name =", "threads = 0\nname =", "threads"),
            ("name =", "profiles = [\"slow\"]\nname =", "slow"),
            ("analysis = \"why\"", "analysis = \" \"", "analysis"),
            ("\"encode\" }", "\"generate\", tokens = 4, beams = 0 }", "`beams`"),
            ("\"encode\" }", "\"generate\", tokens = 4, beams = 2, lookup = 3 }", "only one"),
            ("\"encode\" }", "\"serve\", slots = 2, tokens = [4, 0] }", "`tokens`"),
            ("65_536 }", "65_536, shared = 65_537 }", "`shared`"),
            ("\"encode\" }", "\"encode\", cold = true }", "cold"),
            ("[[workload]]", "[[workload", "w.toml"),
        ] {
            let error = format!("{:#}", load(&GOOD.replace(from, to)).unwrap_err());
            assert!(error.contains(says) && error.contains("w.toml"), "{says}: {error}");
        }
        let twice = format!("{GOOD}\n{}", GOOD.replace("analysis = \"why\"", ""));
        assert!(format!("{:#}", load(&twice).unwrap_err()).contains("twice"));
    }
}
