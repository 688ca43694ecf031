//! Carries out a plan: heats of live processes, rounds of turns, every answer checked, every row
//! written before the next is measured.
//!
//! A fault of an engine costs its own rows and nothing else.

mod answers;
mod heat;
mod judge;
mod process;
mod references;
mod rows;
mod verify;
mod weigh;

pub use heat::{Heats, Outcome, Progress, Site};
pub use judge::Judge;
pub use process::{Fault, INTERRUPTED, Launch, Worker, output, run};
pub use references::{Reference, References, first_difference, logit_error};
