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

use worker::{Engine, serve};

fn main() -> anyhow::Result<()> {
    let variant = std::env::args().nth(1).unwrap_or_default();
    let Some(mut engine) = engine(&variant) else {
        eprintln!(
            "engine-native: no variant `{variant}`; there are: cpu-f32, cpu-bf16, cpu-int8, cpu-int4, {}, bpe",
            cuda::VARIANTS.map(|variant| variant.name).join(", ")
        );
        std::process::exit(2);
    };
    serve(engine.as_mut())
}

fn engine(variant: &str) -> Option<Box<dyn Engine>> {
    match variant {
        "bpe" => Some(Box::<bpe::Bpe>::default()),
        gpu if gpu.starts_with("cuda-") => {
            let variable = |name: &str| std::env::var_os(name).map(Into::into);
            Some(Box::new(cuda::Cuda::parse(gpu, variable)?))
        }
        _ => Some(Box::new(model::Cpu::parse(variant)?)),
    }
}
