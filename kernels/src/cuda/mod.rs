//! GPT-2 on NVIDIA GPUs: kernels in CUDA C++, compiled while running, and the plans that launch them.
//!
//! [`plan`] says as data which kernels a step is. A [`Player`] plays it: [`Device`] on a GPU, launch by launch
//! or as a captured graph, and the tests' emulation on the CPU.
//!
//! Nothing of CUDA is needed to build this. The driver, NVRTC and cuBLASLt are opened by [`Libraries`] when a
//! program asks for them, and whatever is missing is a [`CudaError`] that says what to do. [`Nvrtc`] compiles
//! the sources to machine code for one architecture, [`CubinCache`] keeps it on disk.
//!
//! Invariant: no function of cudarc is called before [`Libraries`] has found the library it lives in; cudarc
//! answers a missing one with a panic.

mod clock;
mod cubin_cache;
mod device;
mod driver;
#[cfg(feature = "cuda-emulation")]
pub mod emulation;
mod error;
mod launch;
mod library;
mod nvrtc;
mod pinned;
pub mod plan;
mod player;
mod products;
pub mod source;

pub use cubin_cache::CubinCache;
pub use device::{Device, Launching};
pub use error::{Absent, CudaError};
pub use library::{Libraries, Library, Search};
pub use nvrtc::{Architecture, Compiled, Nvrtc, Usage};
pub use player::{Player, Ready};
