//! Assay's harness: asks, records, judges, draws. It links no engine.
//!
//! Data flows one way: `workloads + engines -> plan -> runner = worker = engine -> record ->
//! summary -> verdicts | gate -> report`. What comes after the record reads no clock, starts no
//! process and looks at no environment variable.
#![forbid(unsafe_code)]

pub mod cmp;
#[cfg(test)]
pub mod fixture;
pub mod gate;
pub mod glob;
pub mod inputs;
pub mod machine;
pub mod plan;
pub mod record;
pub mod report;
pub mod runner;
pub mod setup;
pub mod site;
pub mod spec;
pub mod stats;
pub mod summary;
pub mod verdict;
