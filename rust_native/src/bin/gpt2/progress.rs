//! One line of progress on stderr, redrawn on a terminal, silent in a log until the end.

use std::io::{self, IsTerminal, Write};

/// Tells how far the writing of a file is.
pub struct Progress {
    what: String,
    terminal: bool,
    last: Option<u64>,
}

impl Progress {
    /// Begins; `what` completes the sentence "writing …".
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), terminal: io::stderr().is_terminal(), last: None }
    }

    /// `done` of `total` bytes. Files below 64 MiB are written before anyone could read this.
    pub fn at(&mut self, done: u64, total: u64) {
        if total < 64 << 20 {
            return;
        }
        let percent = 100 * done / total;
        if self.last.is_none() && !self.terminal {
            eprintln!("writing {} ({} MB)", self.what, total / 1_000_000);
        }
        if self.terminal && self.last != Some(percent) {
            let end = if done == total { "\n" } else { "" };
            eprint!("\rwriting {}: {percent} % of {} MB{end}", self.what, total / 1_000_000);
            // Without a terminal to flush to, there is nobody to tell either.
            let _ = io::stderr().flush();
        }
        self.last = Some(percent);
    }
}
