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
            let gpt2 = site.bin().join("gpt2");
            ensure!(gpt2.exists(), "the command gpt2 is not built; run scripts/setup");
            let [gpt2, shown] = [gpt2, folder.clone()].map(|path| path.to_string_lossy().into_owned());
            let command = [gpt2, "fetch".into(), repository.clone(), "--dir".into(), shown];
            run_command(&command, &BTreeMap::new(), site.root(), &format!("cannot fetch {repository}"))?;
            println!("{}", folder.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
