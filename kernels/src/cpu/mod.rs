//! CPU operations: a table of unit kernels per instruction set, and the threaded drivers above it.
//!
//! Layers, callers first: [`engine`] (what a model calls) over [`linear`] and [`attention`]
//! (partitioning and blocking) over a [`table::Table`] of single-threaded kernels, which
//! [`portable`], `avx2` and `avx512` fill. The two vector paths share their formulas through
//! `lanes`; `portable` is written apart from them so that it can check them.

pub mod attention;
mod embed;
pub mod engine;
pub mod isa;
pub mod linear;
pub mod pack;
pub mod pool;
pub mod portable;
pub mod table;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod lanes;

mod denormals;
mod share;
