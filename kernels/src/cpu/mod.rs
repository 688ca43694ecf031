//! CPU operations: a table of unit kernels per instruction set, and the threaded drivers above it.
//!
//! Layers, callers first: [`engine`] (what a model calls) over [`linear`] and [`attention`]
//! (partitioning and blocking) over tables of single-threaded kernels: [`table::Table`] on floats,
//! which [`portable`], `neon`, `avx2` and `avx512` fill, [`integers::Integers`] on whole numbers, and
//! [`dots::Dots`] on pairs of bf16. The vector paths share their formulas through `lanes` and `tiles`;
//! `portable` is written apart from them so that it can check them.

pub mod attention;
pub mod dots;
mod embed;
pub mod engine;
pub mod integers;
pub mod isa;
pub mod kv;
pub mod linear;
pub mod pack;
pub mod packed_file;
pub mod packer;
pub mod pool;
pub mod portable;
pub mod table;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tiles;

mod denormals;
mod share;
