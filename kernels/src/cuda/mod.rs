//! GPT-2 on a GPU: its kernels, and the plans that launch them.
//!
//! [`plan`] says as data which kernels a step is; who has a device plays it there, and the emulation
//! plays the same plan on the CPU. Kernels are compiled while running, by NVRTC; nothing of CUDA is linked,
//! and what is not here is a [`CudaError`] with its remedy. See README.md beside this file.

mod cubin_cache;
mod error;
mod library;
mod nvrtc;
pub mod plan;

pub use cubin_cache::CubinCache;
pub use error::{Absent, CudaError};
pub use library::{Libraries, Library, Search};
pub use nvrtc::{Architecture, Compiled, Nvrtc, Usage};
