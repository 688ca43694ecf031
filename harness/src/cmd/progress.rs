//! Live progress on stderr: one line rewritten on a terminal, one line a workload elsewhere.

use harness::runner::Progress;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

pub struct Live {
    started: Instant,
    terminal: bool,
    last_workload: String,
    width: usize,
}

impl Live {
    pub fn new() -> Live {
        Live {
            started: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            last_workload: String::new(),
            width: 0,
        }
    }

    /// Ends the rewritten line.
    pub fn finish(&mut self) {
        if self.terminal {
            eprint!("\r{:width$}\r", "", width = self.width);
        }
    }
}

impl Progress for Live {
    fn turn(&mut self, done: u64, total: u64, heat: u32, workload: &str, engine: &str) {
        let spent = self.started.elapsed();
        let left = if done == 0 {
            String::new()
        } else {
            let rest = spent.mul_f64((total.saturating_sub(done)) as f64 / done as f64);
            format!(" · about {} left", minutes(rest))
        };
        let percent = 100 * done / total.max(1);
        if self.terminal {
            let line = format!("[{percent:3} %] heat {} · {workload} · {engine}{left}", heat + 1);
            let pad = self.width.saturating_sub(line.chars().count());
            eprint!("\r{line}{:pad$}", "");
            self.width = line.chars().count();
            let _ = std::io::stderr().flush();
        } else if self.last_workload != format!("{heat} {workload}") {
            eprintln!("[{percent:3} %] {} heat {} · {workload}{left}", minutes(spent), heat + 1);
        }
        self.last_workload = format!("{heat} {workload}");
    }

    fn note(&mut self, text: &str) {
        self.finish();
        eprintln!("note: {text}");
    }
}

/// `4m10s`
pub fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}m{:02}s", seconds / 60, seconds % 60)
}
