//! `echo/noop`: takes every task and does nothing, so its samples are the price of asking.
//!
//! Invariant: a run touches no memory that grows with the task; where the task promises laps it
//! marks one, so that the price of a lap is in the row as well.

use anyhow::Result;
use std::hint::black_box;
use worker::{Answer, Engine, Identity, Job, Laps, Prepare, Receipt, Stop, Task, Unit};

/// The engine; it holds nothing.
pub struct Noop;

impl Engine for Noop {
    fn identity(&self) -> Identity {
        Identity { engine: "echo/noop".into(), language: "rust".into(), ..Identity::default() }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        let (calls, laps) = match order.task {
            Task::Boundary { repeat, .. } => (repeat, false),
            Task::Prefill { .. }
            | Task::Decode { .. }
            | Task::Generate { .. }
            | Task::Serve { .. }
            | Task::Start { .. } => (1, true),
            _ => (1, false),
        };
        Ok(Box::new(Nothing { calls, laps }))
    }
}

struct Nothing {
    /// Calls in one run: the crossings of a boundary task cost this much inside one language.
    calls: usize,
    laps: bool,
}

impl Job for Nothing {
    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        for call in 0..self.calls {
            black_box(nothing(black_box(call)));
        }
        if self.laps {
            laps.mark();
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt { units: self.calls as u64, unit: Unit::Calls, answer: Answer::Nothing, logits: None })
    }
}

#[inline(never)]
fn nothing(argument: usize) -> usize {
    argument
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::talk;
    use worker::{Reply, TaskKind};

    const TASKS: [&str; 10] = [
        r#"{"kind":"encode"}"#,
        r#"{"kind":"detokenize"}"#,
        r#"{"kind":"word_split"}"#,
        r#"{"kind":"prefill","tokens":8,"batch":1}"#,
        r#"{"kind":"decode","context":8,"tokens":4,"batch":1}"#,
        r#"{"kind":"generate","tokens":4}"#,
        r#"{"kind":"serve","slots":2,"tokens":[4,8]}"#,
        r#"{"kind":"load"}"#,
        r#"{"kind":"start","tokens":8}"#,
        r#"{"kind":"boundary","crossing":"empty","elements":0,"repeat":1000}"#,
    ];

    #[test]
    fn every_task_is_taken_and_answered_with_nothing() {
        assert_eq!(TASKS.len(), TaskKind::ALL.len());
        for task in TASKS {
            let orders = format!(
                "{{\"order\":\"prepare\",\"workload\":\"w\",\"task\":{task},\"files\":{{}},\"threads\":1}}\n\
                 {{\"order\":\"measure\",\"samples\":2,\"limit_ns\":1000000000}}\n"
            );
            let replies = talk(&mut Noop, &orders);
            assert!(matches!(replies[1], Reply::Ready { .. }), "{task}: {replies:?}");
            let Reply::Sample(sample) = &replies[2] else { panic!("{task}: {replies:?}") };
            assert_eq!(sample.digest, "");
            assert_eq!(sample.units, if task.contains("boundary") { 1000 } else { 1 }, "{task}");
            assert!(sample.laps_ns.len() <= 1);
        }
    }
}
