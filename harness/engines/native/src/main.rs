//! The binary `engine-native`: rust_native, asked for work the way any program would ask it.
//!
//! Everything here is translation between the worker contract and the library's public interface;
//! nothing is computed, and no switch exists that the library's users do not have.

#![forbid(unsafe_code)]

mod bpe;
mod cuda;
mod generate;
mod jobs;
mod model;
#[cfg(test)]
mod request_tests;
mod serve;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use worker::{Engine, serve};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let variant = arguments.next().unwrap_or_default().to_string_lossy().into_owned();
    let Some(mut engine) = engine(&variant, arguments.next().map(PathBuf::from)) else {
        eprintln!(
            "engine-native: no variant `{variant}`; there are: cpu-f32, cpu-bf16, cpu-int8, cpu-int4 (each with \
             a folder behind it to keep packed weights in and map them from), {}, bpe",
            cuda::VARIANTS.map(|variant| variant.name).join(", ")
        );
        std::process::exit(2);
    };
    serve(engine.as_mut())
}

fn engine(variant: &str, folder: Option<PathBuf>) -> Option<Box<dyn Engine>> {
    match variant {
        "bpe" => Some(Box::<bpe::Bpe>::default()),
        gpu if gpu.starts_with("cuda-") => {
            let variable = |name: &str| std::env::var_os(name).map(Into::into);
            Some(Box::new(cuda::Cuda::parse(gpu, variable)?))
        }
        _ => Some(Box::new(model::Cpu::parse(variant, folder)?)),
    }
}
