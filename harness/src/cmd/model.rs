//! `assay model`: seeded models, and Hugging Face's where there is a network.

use crate::Common;
use anyhow::{Result, bail, ensure};
use clap::{Args, Subcommand};
use harness::runner::run as run_command;
use harness::site::Site;
use std::collections::BTreeMap;
use std::process::ExitCode;

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Write the seeded model of a size (gpt2, medium, …) and print its folder.
    Seed {
        /// A size word of `gpt2 init`.
        #[arg(default_value = "gpt2")]
        size: String,
    },
    /// Download a GPT-2 checkpoint (for example openai-community/gpt2) and print its folder.
    Fetch {
        /// `owner/name` on the Hugging Face Hub.
        repository: String,
    },
}

/// What a model folder is made of; those a repository does not have are passed over.
const FILES: [&str; 7] = [
    "--include",
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
];

pub fn run(options: &Options) -> Result<ExitCode> {
    let common = Common::default();
    let site = Site::find(common.model, common.size, common.corpus)?;
    match &options.verb {
        Verb::Seed { size } => println!("{}", site.model(size)?.display()),
        Verb::Fetch { repository } => {
            if repository.split('/').filter(|part| !part.is_empty()).count() != 2 {
                bail!("`{repository}` is no repository; write owner/name, for example openai-community/gpt2");
            }
            let folder = site.made().join("model").join(repository.replace('/', "--"));
            let hub = site.venv().join("bin/hf");
            ensure!(
                hub.exists(),
                "the Python side is not set up, and with it the Hub's client; run scripts/setup"
            );
            let shown = folder.to_string_lossy().into_owned();
            let mut command = vec![hub.to_string_lossy().into_owned(), "download".into(), repository.clone()];
            command.extend(FILES.map(String::from));
            command.extend(["--local-dir".into(), shown]);
            let why =
                format!("cannot fetch {repository}: is there a network, and does the repository exist?");
            run_command(&command, &BTreeMap::new(), site.root(), &why)?;
            println!("{}", folder.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
