//! The binary `engine-native`: rust_native, asked for work the way any program would ask it.
//!
//! Everything here is translation between the worker contract and the library's public interface;
//! nothing is computed, and no switch exists that the library's users do not have.

#![forbid(unsafe_code)]

mod bpe;
mod generate;
mod jobs;
mod model;
#[cfg(test)]
mod request_tests;
mod serve;
#[cfg(test)]
mod tests;

use worker::{Engine, serve};

fn main() -> anyhow::Result<()> {
    let variant = std::env::args().nth(1).unwrap_or_default();
    let mut engine: Box<dyn Engine> = match variant.as_str() {
        "cpu-f32" => Box::<model::CpuF32>::default(),
        "bpe" => Box::<bpe::Bpe>::default(),
        unknown => {
            eprintln!("engine-native: no variant `{unknown}`; there are: cpu-f32, bpe");
            std::process::exit(2);
        }
    };
    serve(engine.as_mut())
}
