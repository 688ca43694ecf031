//! The command `gpt2`: thin verbs over the library.
//!
//! Data goes to stdout, everything else to stderr. Exit status 0 is success, 1 an error told in one line,
//! 2 a wrong command line. A reader that closes the pipe early ends the command quietly.

#![forbid(unsafe_code)]

mod decode;
mod encode;
mod evaluate;
#[cfg(feature = "fetch")]
mod fetch;
mod generate;
mod init;
mod input;
#[cfg(feature = "cuda")]
mod kernels;
mod model;
mod progress;
mod scaling;
#[cfg(feature = "cuda")]
mod shares;
mod train;
mod vocabulary;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// GPT-2 and its tokenizer on the CPU.
#[derive(Parser)]
#[command(name = "gpt2", version, max_term_width = 100)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Generate(Box<generate::Generate>),
    Evaluate(evaluate::Evaluate),
    Scaling(scaling::Scaling),
    Encode(encode::Encode),
    Decode(decode::Decode),
    Init(init::Init),
    Vocabulary(vocabulary::Vocabulary),
    Train(train::Train),
    #[cfg(feature = "cuda")]
    Kernels(kernels::Kernels),
    #[cfg(feature = "cuda")]
    Shares(shares::Shares),
    #[cfg(feature = "fetch")]
    Fetch(fetch::Fetch),
}

fn main() -> ExitCode {
    let result = match Command::parse().verb {
        Verb::Generate(verb) => verb.run(),
        Verb::Evaluate(verb) => verb.run(),
        Verb::Scaling(verb) => verb.run(),
        Verb::Encode(verb) => verb.run(),
        Verb::Decode(verb) => verb.run(),
        Verb::Init(verb) => verb.run(),
        Verb::Vocabulary(verb) => verb.run(),
        Verb::Train(verb) => verb.run(),
        #[cfg(feature = "cuda")]
        Verb::Kernels(verb) => verb.run(),
        #[cfg(feature = "cuda")]
        Verb::Shares(verb) => verb.run(),
        #[cfg(feature = "fetch")]
        Verb::Fetch(verb) => verb.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpt2: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether whoever read our output has gone.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}
