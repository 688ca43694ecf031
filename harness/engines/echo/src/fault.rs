//! `fault-*`: `count` with one defect each, to test that the harness turns it into a row.
//!
//! Every defect begins with the second run, so that one good sample is already on record when it
//! strikes; `fault-wrong` is wrong from its first run, as a wrong engine would be.

use crate::count::{Counting, identity};
use anyhow::Result;
use std::io::Write;
use std::time::Duration;
use worker::{Answer, Engine, Identity, Job, Laps, Prepare, Receipt, Stop};

/// The variant whose reply stream is spoilt; see [`Garbled`].
pub const GARBAGE: &str = "fault-garbage";

/// How long a run of `fault-slow` sleeps, from its second run on.
const SLOW: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Crash,
    Hang,
    Garbage,
    Wrong,
    Slow,
}

/// A counting engine with a defect.
pub struct Faulty {
    variant: String,
    fault: Fault,
}

impl Faulty {
    /// `fault-crash`, `fault-hang`, `fault-garbage`, `fault-wrong` or `fault-slow`.
    pub fn parse(variant: &str) -> Option<Faulty> {
        let fault = match variant {
            "fault-crash" => Fault::Crash,
            "fault-hang" => Fault::Hang,
            GARBAGE => Fault::Garbage,
            "fault-wrong" => Fault::Wrong,
            "fault-slow" => Fault::Slow,
            _ => return None,
        };
        Some(Faulty { variant: variant.into(), fault })
    }

    /// The engine of `fault-garbage`: sound itself, to be served over a [`Garbled`] stream.
    pub fn garbage() -> Faulty {
        Faulty { variant: GARBAGE.into(), fault: Fault::Garbage }
    }
}

impl Engine for Faulty {
    fn identity(&self) -> Identity {
        identity(&self.variant)
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        Ok(Box::new(Striking { sound: Counting::new(order, 0)?, fault: self.fault, runs: 0 }))
    }
}

struct Striking {
    sound: Counting,
    fault: Fault,
    runs: u32,
}

impl Job for Striking {
    fn reset(&mut self) -> Result<()> {
        self.sound.reset()
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        self.sound.run(laps)?;
        self.runs += 1;
        if self.runs >= 2 {
            match self.fault {
                Fault::Crash => std::process::abort(),
                Fault::Hang => loop {
                    std::thread::sleep(Duration::from_secs(3600));
                },
                Fault::Slow => std::thread::sleep(SLOW),
                Fault::Garbage | Fault::Wrong => {}
            }
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let mut receipt = self.sound.receipt()?;
        if self.fault == Fault::Wrong {
            match &mut receipt.answer {
                Answer::Ids(ids) => ids.last_mut().into_iter().for_each(|id| *id += 1),
                Answer::Bytes(bytes) => bytes.last_mut().into_iter().for_each(|byte| *byte ^= 1),
                _ => {}
            }
        }
        Ok(receipt)
    }
}

/// Passes `hello`, `ready` and the first sample on, and spoils every line after them.
pub struct Garbled<W> {
    inner: W,
    lines: u32,
}

impl<W: Write> Garbled<W> {
    const SOUND_LINES: u32 = 3;

    /// Over the stream that the harness reads.
    pub fn new(inner: W) -> Garbled<W> {
        Garbled { inner, lines: 0 }
    }
}

impl<W: Write> Write for Garbled<W> {
    /// The worker writes one whole line a call.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.lines += 1;
        if self.lines <= Self::SOUND_LINES {
            self.inner.write_all(line)?;
        } else {
            self.inner.write_all(b"%%% \xff\xfe this is no reply {\n")?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use worker::{Reply, digest_ids, monotonic_ns, serve_on};

    fn lines(engine: &mut dyn Engine, out: &mut impl Write) {
        let folder = tempfile::tempdir().unwrap();
        let texts = folder.path().join("texts.jsonl");
        std::fs::write(&texts, "\"abc\"\n").unwrap();
        let orders = format!(
            "{{\"order\":\"prepare\",\"workload\":\"w\",\"task\":{{\"kind\":\"encode\"}},\
             \"files\":{{\"texts\":{texts:?}}},\"threads\":1}}\n\
             {{\"order\":\"measure\",\"samples\":2,\"limit_ns\":1000000000000}}\n"
        );
        serve_on(engine, orders.as_bytes(), out, monotonic_ns()).unwrap();
    }

    #[test]
    fn a_wrong_engine_differs_in_its_last_id() {
        let mut out = Vec::new();
        lines(&mut Faulty::parse("fault-wrong").unwrap(), &mut out);
        let line = String::from_utf8(out).unwrap();
        let Reply::Sample(sample) = serde_json::from_str(line.lines().nth(2).unwrap()).unwrap() else {
            panic!("{line}")
        };
        assert_eq!(sample.digest, digest_ids(&[97, 98, 100]));
    }

    #[test]
    fn a_slow_engine_is_slow_after_its_first_run() {
        let mut out = Vec::new();
        lines(&mut Faulty::parse("fault-slow").unwrap(), &mut out);
        let replies: Vec<Reply> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let Reply::Sample(second) = &replies[3] else { panic!("{replies:?}") };
        assert!(second.wall_ns >= SLOW.as_nanos() as u64);
    }

    #[test]
    fn garbage_follows_one_good_sample() {
        let mut out = Vec::new();
        lines(&mut Faulty::garbage(), &mut Garbled::new(&mut out));
        let lines: Vec<&[u8]> = out.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[..3].iter().all(|line| serde_json::from_slice::<Reply>(line).is_ok()));
        assert!(lines[3..].iter().all(|line| serde_json::from_slice::<Reply>(line).is_err()));
    }
}
