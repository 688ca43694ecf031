//! The binary `engine-libtorch`: GPT-2 written in Rust against libtorch, through the crate tch.
//!
//! It is the middle of the comparison: the kernels that PyTorch runs, without Python above them. It
//! links the very libtorch of the Python wheel the other engines import, so that a difference
//! between them is no difference of kernels. A libtorch that is missing is the loader's error and
//! comes before `main`; the harness turns it into a row.

mod cache;
mod engine;
mod generate;
mod jobs;
mod model;
mod place;
mod sampling;
#[cfg(test)]
mod tests;
mod versions;
mod weights;

use cache::CacheKind;
use place::Place;

fn main() -> anyhow::Result<()> {
    let variant = std::env::args().nth(1).unwrap_or_default();
    let (name, kind) = match variant.strip_suffix("-cat") {
        Some(name) => (name, CacheKind::Grown),
        None => (variant.as_str(), CacheKind::Static),
    };
    let place = Place::parse(name).filter(|place| kind == CacheKind::Static || *place == Place::CPU);
    let Some(place) = place else {
        eprintln!(
            "engine-libtorch: no variant `{variant}`; there are: cpu-f32, cpu-f32-cat, cuda-f32, cuda-bf16"
        );
        std::process::exit(2);
    };
    worker::serve(&mut engine::Libtorch::new(kind, place))
}
