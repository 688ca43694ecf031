//! `gpt2 fetch`: a published model from the Hugging Face Hub into a plain folder.
//!
//! Invariant: the folder only receives whole files, the weights last, and what was fetched has been opened
//! and checked before success is told. No token is sent: public models only.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use rust_native::Checkpoint;
use rust_native::checkpoint::{CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE};

/// Fetched where the repository has them, besides configuration and weights.
const EXTRAS: [&str; 5] =
    ["generation_config.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"];
/// Where downloads lie until they are whole; an interrupted one is continued from here.
const PARTIAL: &str = ".fetch";

/// Download a public model from the Hugging Face Hub and print its folder.
///
/// The variable HF_ENDPOINT names another hub.
#[derive(Args)]
pub struct Fetch {
    /// The repository, such as openai-community/gpt2
    repository: String,
    /// Folder to write to; created if absent
    #[arg(long)]
    dir: PathBuf,
    /// Branch, tag or commit
    #[arg(long, default_value = "main")]
    revision: String,
}

impl Fetch {
    /// Runs the verb.
    pub fn run(self) -> Result<()> {
        let dir = &self.dir;
        ensure!(
            !dir.join(WEIGHTS_FILE).exists() && !dir.join(INDEX_FILE).exists(),
            "{} already holds a model; choose another folder",
            dir.display()
        );
        let partial = dir.join(PARTIAL);
        fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        let kind = RepoType::Model;
        let repo = Repo::with_revision(self.repository.clone(), kind, self.revision.clone());
        let repo = api(&partial)?.repo(repo);
        let info = repo.info().with_context(|| {
            format!(
                "cannot ask the hub about {}; check the name and the network, or give a folder \
                 that is already here as --model",
                self.repository
            )
        })?;
        let names: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        for name in wanted(&names).with_context(|| self.repository.clone())? {
            eprintln!("fetching {name}");
            fetch(&repo, &name, dir)?;
        }
        Checkpoint::open(dir).with_context(|| format!("{} is not usable here", self.repository))?;
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        writeln!(io::stdout(), "{}", dir.display())?;
        Ok(())
    }
}

fn api(partial: &Path) -> Result<Api> {
    // A cache of our own: neither the user's cache nor a token in it is touched.
    let builder = ApiBuilder::from_cache(Cache::new(partial.to_owned())).with_retries(3);
    let builder = match std::env::var("HF_ENDPOINT") {
        Ok(endpoint) => builder.with_endpoint(endpoint),
        Err(_) => builder,
    };
    Ok(builder.with_progress(io::IsTerminal::is_terminal(&io::stderr())).build()?)
}

/// What to fetch; last what stands for completeness: the weights, or the index after its shards.
fn wanted(names: &[String]) -> Result<Vec<String>> {
    let has = |name: &str| names.iter().any(|known| known == name);
    ensure!(has(CONFIG_FILE), "the repository has no {CONFIG_FILE}; is it a model?");
    let mut list: Vec<String> = vec![CONFIG_FILE.to_owned()];
    list.extend(EXTRAS.into_iter().filter(|name| has(name)).map(str::to_owned));
    if has(WEIGHTS_FILE) {
        list.push(WEIGHTS_FILE.to_owned());
    } else if has(INDEX_FILE) {
        list.extend(names.iter().filter(|name| is_shard(name)).cloned());
        list.push(INDEX_FILE.to_owned());
    } else {
        bail!("the repository has no safetensors weights; choose one that has");
    }
    Ok(list)
}

/// A plain shard name in the repository's top folder.
fn is_shard(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.contains(['/', '\\']) && !name.starts_with('.')
}

/// Downloads one file and moves it into the folder whole.
fn fetch(repo: &ApiRepo, name: &str, dir: &Path) -> Result<()> {
    let pointer = repo.download(name).with_context(|| {
        format!("cannot download {name}; check the network and the disk, then run the same again")
    })?;
    let blob = fs::canonicalize(&pointer).with_context(|| format!("cannot read {}", pointer.display()))?;
    fs::rename(&blob, dir.join(name)).with_context(|| format!("cannot move {name} into {}", dir.display()))
}
