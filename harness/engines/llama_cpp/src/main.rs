//! The binary `engine-llama-cpp`: GPT-2 by llama.cpp, called from Rust as its users call it.
//!
//! Nothing of the computation is here. The model folder is converted to GGUF off the clock (`gguf`,
//! `checkpoint`, `convert`), llama.cpp is asked through one file of bindings (`llama`), and the rest is
//! translation between that and the worker contract. What is left at its default and what is not, the
//! identity says, with ggml's own line about the processor it was built for.

mod checkpoint;
mod convert;
mod engine;
mod generate;
mod gguf;
mod jobs;
mod llama;
#[cfg(test)]
mod tests;

use convert::Kind;

const KINDS: [Kind; 4] = [Kind::F32, Kind::Bf16, Kind::Q8, Kind::Q4];

fn main() -> anyhow::Result<()> {
    let variant = std::env::args().nth(1).unwrap_or_default();
    let Some(kind) = KINDS.into_iter().find(|kind| kind.word() == variant) else {
        let known = KINDS.map(Kind::word).join(", ");
        eprintln!("engine-llama-cpp: no variant `{variant}`; there are: {known}");
        std::process::exit(2);
    };
    worker::serve(&mut engine::LlamaCpp::new(kind, convert::home()))
}
