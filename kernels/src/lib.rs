//! The numeric operations of GPT-2 on the CPU, with weights in f32, bf16, int8 or int4; and on NVIDIA
//! GPUs, in the module `cuda`.
//!
//! One packed weight layout ([`Packed`]: panels of 32 columns, in any [`Precision`]) and tiles of
//! rows times 32 columns carry prefill, decode, small batches and attention alike.
//! [`cpu::portable`] and [`cpu::integers::portable`] are the specification in plain loops; AVX2,
//! AVX-512 and NEON paths are chosen once, when [`Cpu`] is made, and are tested against it. Threads
//! come from a [`Team`] whose size the caller states. [`text`] scans bytes in the same manner.
//!
//! Invariant: nothing in here reads the environment, and no operation allocates once its scratch
//! has grown to the sizes in use.

mod buffer;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod precision;
mod prefetch;
pub mod text;

pub use buffer::{Buffer, ask_for_huge_pages};
pub use cpu::attention::{Attend, Span};
pub use cpu::engine::{Cpu, CpuError};
pub use cpu::isa::Isa;
pub use cpu::kv::{KvCache, KvShape};
pub use cpu::linear::{Best, Input, Linear, Output};
pub use cpu::pack::{PANEL, Packed};
pub use cpu::packed_file::{LAYOUT, PackedFile};
pub use cpu::packer::Packer;
pub use cpu::pool::{PinError, Pinning, Team, allowed_cpus};
pub use precision::{KvPrecision, Precision, UnknownPrecision};

/// The README's example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
