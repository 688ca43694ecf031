//! What every engine process is made of: the wire, the clocks, the memory ladder and the one timing loop.
//!
//! An engine implements [`Engine`] and [`Job`]; [`serve`] does the rest. The loop lives here, once,
//! so that no engine can time itself more kindly than another. This crate knows no engine and
//! depends on nothing of ours.

mod clock;
mod footprint;
mod load;
mod memory;
mod serve;
mod task;
mod wire;

pub use clock::{Laps, Reading, monotonic_ns, read_clocks};
pub use footprint::{Footprint, mapped_files};
pub use load::Load;
pub use memory::{Memory, read_memory, reset_peak};
pub use serve::{Engine, Job, Stop, serve, serve_on};
pub use task::{Crossing, Sampling, Task, TaskKind};
pub use wire::{
    Answer, Files, Identity, Order, PROTOCOL, Prepare, Receipt, Reply, SampleReply, Unit, digest_bytes,
    digest_ids, read_ids, read_texts, write_ids,
};
