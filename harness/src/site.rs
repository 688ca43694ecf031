//! Where things are in this installation: repository, binaries, Python side, model, inputs.
//!
//! Everything that is made lies in `.assay` below the repository (and `python_ref/.venv`, `target`);
//! removing it loses no record.

use crate::inputs::{Inputs, Packages, prompt_ids};
use crate::runner::{self, Launch, output};
use crate::spec::{Contestant, Input, Workload};
use anyhow::{Context, Result, ensure};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use worker::{Files, TaskKind};

/// An installation.
pub struct Site {
    root: PathBuf,
    /// The user's own Hugging Face folder, in place of the seeded `gpt2`.
    model: Option<PathBuf>,
    /// In place of `gpt2` for tests: another size word.
    size: Option<String>,
    corpus: Option<PathBuf>,
    inputs: OnceCell<Inputs>,
}

impl Site {
    /// Finds the repository: `ASSAY_ROOT`, or the first folder above the working directory or above
    /// this program that holds harness/workloads.
    pub fn find(model: Option<PathBuf>, size: Option<String>, corpus: Option<PathBuf>) -> Result<Site> {
        let given = std::env::var_os("ASSAY_ROOT").map(PathBuf::from);
        let starts = [given, std::env::current_dir().ok(), std::env::current_exe().ok()];
        let root = starts
            .into_iter()
            .flatten()
            .find_map(|start| {
                start.ancestors().find(|dir| dir.join("harness/workloads").is_dir()).map(Path::to_path_buf)
            })
            .context("no Assay repository here: run this inside a clone, or set ASSAY_ROOT to one")?;
        if let Some(folder) = &model {
            ensure!(
                folder.join("config.json").is_file(),
                "--model {}: no config.json there; give a Hugging Face GPT-2 folder",
                folder.display()
            );
        }
        let model = model.map(|folder| folder.canonicalize().unwrap_or(folder));
        Ok(Site { root, model, size, corpus, inputs: OnceCell::new() })
    }

    /// The repository.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// What set-up and runs make.
    pub fn made(&self) -> PathBuf {
        self.root.join(".assay")
    }
    /// This process's own folder for what is on its way.
    pub fn scratch(&self) -> PathBuf {
        self.made().join("scratch").join(std::process::id().to_string())
    }
    /// results/
    pub fn results(&self) -> PathBuf {
        std::env::var_os("ASSAY_RESULTS").map_or_else(|| self.root.join("results"), PathBuf::from)
    }
    /// What cargo makes.
    pub fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), PathBuf::from)
    }
    /// Release binaries.
    pub fn bin(&self) -> PathBuf {
        self.target().join("release")
    }
    /// The Python side's virtual environment.
    pub fn venv(&self) -> PathBuf {
        self.root.join("python_ref/.venv")
    }
    /// Its interpreter.
    pub fn python(&self) -> PathBuf {
        self.venv().join("bin/python")
    }
    /// Its packages, once set up.
    pub fn site_packages(&self) -> Option<PathBuf> {
        let lib = std::fs::read_dir(self.venv().join("lib")).ok()?;
        lib.flatten().map(|entry| entry.path().join("site-packages")).find(|path| path.is_dir())
    }
    /// True when neither the model nor the text is the user's own.
    pub fn pins_hold(&self) -> bool {
        self.corpus.is_none()
    }

    /// Variables for building and running whatever touches Python, libtorch or the build tools of C++.
    pub fn python_environment(&self) -> BTreeMap<String, String> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut all = BTreeMap::from([
            ("LIBTORCH_USE_PYTORCH".into(), "1".into()),
            ("PYO3_PYTHON".into(), show(&self.python())),
            ("PATH".into(), format!("{}:{path}", show(&self.venv().join("bin")))),
        ]);
        if let Some(packages) = self.site_packages() {
            all.insert("LD_LIBRARY_PATH".into(), show(&packages.join("torch/lib")));
            all.extend(self.libclang(&packages));
        }
        all
    }

    /// What lets bindgen use the wheel of libclang, which brings no headers: the C compiler's are used.
    fn libclang(&self, packages: &Path) -> Vec<(String, String)> {
        let folder = packages.join("clang/native");
        let headers = output(&["cc", "-print-file-name=include"], &self.root);
        match headers.filter(|_| folder.is_dir()) {
            Some(headers) => vec![
                ("LIBCLANG_PATH".into(), show(&folder)),
                ("BINDGEN_EXTRA_CLANG_ARGS".into(), format!("-isystem {headers}")),
            ],
            None => Vec::new(),
        }
    }

    /// The model folder of a workload; a seeded one is made where it is missing.
    pub fn model(&self, size: &str) -> Result<PathBuf> {
        match (&self.model, &self.size, size) {
            (Some(folder), _, "gpt2") => Ok(folder.clone()),
            (_, Some(other), "gpt2") => self.seeded(other),
            _ => self.seeded(size),
        }
    }

    fn seeded(&self, size: &str) -> Result<PathBuf> {
        let folder = self.made().join("model").join(size);
        if !folder.join("model.safetensors").is_file() {
            eprintln!("making the seeded model `{size}` …");
            let command = [
                show(&self.bin().join("gpt2")),
                "init".into(),
                "--dir".into(),
                show(&folder),
                "--size".into(),
                size.into(),
            ];
            runner::run(&command, &BTreeMap::new(), &self.root, "cannot make the seeded model")?;
        }
        Ok(folder)
    }

    /// The vocabulary folder: the user's model's own where it has one, else the embedded default.
    pub fn vocabulary(&self) -> Result<PathBuf> {
        if let Some(folder) = self.model.as_ref().filter(|folder| folder.join("tokenizer.json").is_file()) {
            return Ok(folder.clone());
        }
        let folder = self.made().join("vocabulary/gpt2");
        if !folder.join("tokenizer.json").is_file() {
            let command =
                [show(&self.bin().join("gpt2")), "vocabulary".into(), "--dir".into(), show(&folder)];
            runner::run(&command, &BTreeMap::new(), &self.root, "cannot write the vocabulary")?;
        }
        Ok(folder)
    }

    /// The input files.
    pub fn inputs(&self) -> &Inputs {
        self.inputs.get_or_init(|| {
            let root = self.root.clone();
            let packages = Packages::new(move || metadata(&root));
            Inputs::new(self.made().join("inputs"), packages, self.corpus.clone())
        })
    }

    /// The ids file of a text, for `detokenize`.
    pub fn ids_of(&self, input: &Input) -> PathBuf {
        self.inputs().ids_of(input)
    }

    /// Puts this installation's folders in the place of `{bin}`, `{target}`, `{root}`, ….
    pub fn fill(&self, text: &str) -> String {
        let packages = self.site_packages().unwrap_or_default();
        [
            ("{bin}", show(&self.bin())),
            ("{target}", show(&self.target())),
            ("{python}", show(&self.python())),
            ("{root}", show(&self.root)),
            ("{site_packages}", show(&packages)),
            ("{torch_lib}", show(&packages.join("torch/lib"))),
        ]
        .iter()
        .fold(text.to_string(), |text, (name, value)| text.replace(name, value))
    }
}

impl runner::Site for Site {
    fn launch(&self, engine: &Contestant) -> Result<Launch, String> {
        let python_missing = engine.needs.iter().any(|need| need == "python" || need == "libtorch")
            && (!self.python().exists() || self.site_packages().is_none());
        if python_missing {
            return Err("the Python side is not set up (run scripts/setup)".into());
        }
        let command: Vec<String> = engine.run.iter().map(|word| self.fill(word)).collect();
        if command[0].contains('/') && !Path::new(&command[0]).exists() {
            return Err(format!(
                "{} is not built (run scripts/setup)",
                command[0].rsplit('/').next().unwrap_or_default()
            ));
        }
        let mut environment: BTreeMap<String, String> =
            engine.environment.iter().map(|(name, value)| (name.clone(), self.fill(value))).collect();
        if let Some(packages) = self.site_packages() {
            environment.entry("ASSAY_SITE_PACKAGES".into()).or_insert_with(|| show(&packages));
        }
        environment.entry("ASSAY_PYTHON_REF".into()).or_insert_with(|| show(&self.root.join("python_ref")));
        // No engine asks the network for anything while it is measured.
        environment.entry("HF_HUB_OFFLINE".into()).or_insert_with(|| "1".into());
        Ok(Launch { command, environment })
    }

    fn files(&self, workload: &Workload) -> Result<Files> {
        let kind = workload.task.kind();
        let mut files = Files::default();
        if matches!(
            kind,
            TaskKind::Prefill
                | TaskKind::Decode
                | TaskKind::Generate
                | TaskKind::Serve
                | TaskKind::Load
                | TaskKind::Start
        ) {
            files.model = Some(self.model(&workload.model)?);
        }
        if matches!(kind, TaskKind::Encode | TaskKind::Detokenize | TaskKind::Generate | TaskKind::Serve) {
            files.vocabulary = Some(self.vocabulary()?);
        }
        if let Some(input) = &workload.input {
            match kind {
                TaskKind::Detokenize => files.ids = Some(self.ids_of(input)),
                _ => files.texts = Some(self.inputs().texts(input)?),
            }
        }
        if let (Some(count), Some(model)) = (prompt_ids(&workload.task), &files.model) {
            files.ids = Some(self.inputs().prompt(count, vocabulary_size(model)?)?);
        }
        Ok(files)
    }

    fn prompt(&self, workload: &Workload) -> Result<Vec<u32>> {
        let path = match (workload.task.kind(), &workload.input) {
            (TaskKind::Generate, Some(input)) => Some(self.ids_of(input)),
            _ => self.files(workload)?.ids,
        };
        worker::read_ids(&path.with_context(|| format!("{} has no prompt of ids", workload.name))?)
    }
}

/// What `cargo metadata` says of the packages that Cargo.lock pins for this platform.
fn metadata(root: &Path) -> Result<String> {
    let host = output(&["rustc", "-vV"], root)
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("host: ").map(String::from)))
        .context("cannot ask rustc for its host; is Rust installed (rustup.rs)?")?;
    let ask = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", &host];
    output(&ask, root).context("`cargo metadata --locked` failed; run `cargo fetch --locked` to see why")
}

fn vocabulary_size(model: &Path) -> Result<u32> {
    let path = model.join("config.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let config: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    config["vocab_size"]
        .as_u64()
        .and_then(|size| u32::try_from(size).ok())
        .filter(|&size| size > 0)
        .with_context(|| format!("{}: `vocab_size` is missing or no positive number", path.display()))
}

fn show(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
