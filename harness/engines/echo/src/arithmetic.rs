//! `limit/arithmetic`, `limit/arithmetic-bf16`, …: multiplies and adds as often as a prefill must, and does
//! nothing else.
//!
//! A prompt of many tokens is bound by arithmetic. How long the machine needs for as many multiply-adds, in
//! registers, without a load or a store between them, is a floor for every engine that computes the products
//! of GPT-2 as they are written: of all positions through every layer but the last, whose other rows nobody
//! asks for beyond their keys and values, causal attention, and one row through the head. The clever ways
//! that need fewer multiplications (Strassen's) are not counted with, nor does any engine here use them.
//!
//! Which instruction multiplies fastest in a precision is tried off the clock, when the engine is made: what
//! is exact in f32 may be used for all of them, the dot products of bf16 for bf16, those of bytes for int8 and
//! int4, whose activations are bytes too.

use crate::checkpoint::{Tensor, tensors};
use crate::multiply::Way;
use anyhow::{Context, Result, ensure};
use worker::{Answer, Engine, Identity, Job, Laps, Prepare, Receipt, Stop, Task, Unit, monotonic_ns};

/// The engine.
pub struct Arithmetic {
    precision: &'static str,
    way: Way,
}

impl Arithmetic {
    /// `arithmetic`, or `arithmetic-` and a precision lower than f32.
    pub fn parse(variant: &str) -> Option<Arithmetic> {
        let precision = match variant {
            "arithmetic" => "f32",
            "arithmetic-bf16" => "bf16",
            "arithmetic-int8" => "int8",
            "arithmetic-int4" => "int4",
            _ => return None,
        };
        Some(Arithmetic { precision, way: fastest(&Way::available(precision)) })
    }
}

/// Tries every way a few times, turn by turn, and gives the one with the fastest turn.
fn fastest(ways: &[Way]) -> Way {
    const TURNS: usize = 3;
    const MULTIPLY_ADDS: u64 = 4_000_000;
    let mut best = (u64::MAX, ways[0]);
    for _ in 0..TURNS {
        for &way in ways {
            let start = monotonic_ns();
            std::hint::black_box(way.run(MULTIPLY_ADDS));
            let spent = monotonic_ns() - start;
            if spent < best.0 {
                best = (spent, way);
            }
        }
    }
    best.1
}

impl Engine for Arithmetic {
    fn identity(&self) -> Identity {
        Identity {
            engine: match self.precision {
                "f32" => "limit/arithmetic".into(),
                lower => format!("limit/arithmetic-{lower}"),
            },
            language: "rust".into(),
            precision: self.precision.into(),
            settings: [("instruction".into(), self.way.to_string())].into(),
            ..Identity::default()
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        let Task::Prefill { tokens, batch } = order.task else {
            return Err(Stop::refused("arithmetic limits prefill; other tasks have other limits", ""));
        };
        let sizes = Sizes::of(&tensors(order.files.model()?)?)?;
        let multiply_adds = sizes.multiply_adds(tokens as u64).checked_mul(batch as u64);
        let multiply_adds = multiply_adds.context("more multiplications than can be counted")?;
        Ok(Box::new(Multiplying { way: self.way, threads: order.threads.max(1), multiply_adds, sum: 0.0 }))
    }
}

/// What a model's arithmetic follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    layers: u64,
    /// C
    width: u64,
    /// F
    inner: u64,
    /// V
    vocabulary: u64,
}

impl Sizes {
    fn of(tensors: &[Tensor]) -> Result<Sizes> {
        let matrix = |name: &str| -> Result<[u64; 2]> {
            let found = tensors.iter().find(|tensor| tensor.name == name);
            let shape = found.with_context(|| format!("the checkpoint has no {name}"))?.shape.as_slice();
            let &[rows, columns] = shape else { anyhow::bail!("{name} is no matrix: {shape:?}") };
            // Below 2^24 each: no product of them, and of a prompt, overflows.
            ensure!(rows.max(columns) < 1 << 24, "{name} has an impossible shape: {shape:?}");
            Ok([rows as u64, columns as u64])
        };
        let [vocabulary, width] = matrix("wte.weight")?;
        let [_, inner] = matrix("h.0.mlp.c_fc.weight")?;
        let layers = tensors.iter().filter(|tensor| tensor.name.ends_with(".attn.c_attn.weight")).count();
        Ok(Sizes { layers: layers as u64, width, inner, vocabulary })
    }

    /// Multiply-adds for one prompt of T tokens, logits of the last position.
    fn multiply_adds(self, t: u64) -> u64 {
        let Sizes { layers, width: c, inner: f, vocabulary: v } = self;
        let rest_of_block = c * c + 2 * c * f;
        // Scores and weighted sums of values: each position with itself and those before.
        let attention = c * t * (t + 1);
        let whole = t * (3 * c * c + rest_of_block) + attention;
        let last = t * 2 * c * c + c * c + 2 * c * t + rest_of_block;
        layers.saturating_sub(1) * whole + layers.min(1) * last + c * v
    }
}

struct Multiplying {
    way: Way,
    threads: usize,
    multiply_adds: u64,
    sum: f64,
}

impl Job for Multiplying {
    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let (way, each) = (self.way, self.multiply_adds.div_ceil(self.threads as u64));
        // Threads are made for each run: some tens of microseconds, against milliseconds of arithmetic.
        self.sum = std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.threads).map(|_| scope.spawn(move || way.run(each))).collect();
            let own = way.run(each);
            others.into_iter().fold(own, |sum, other| sum + other.join().unwrap_or(f64::NAN))
        });
        laps.mark();
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        ensure!(self.sum.is_finite() && self.sum != 0.0, "the sums are {}", self.sum);
        let units = 2 * self.multiply_adds;
        Ok(Receipt { units, unit: Unit::Operations, answer: Answer::Nothing, logits: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::write;
    use crate::tests::talk;
    use worker::Reply;

    const HEADER: &str = r#"{"wte.weight":{"shape":[100,16]},"h.0.attn.c_attn.weight":{"shape":[16,48]},
        "h.1.attn.c_attn.weight":{"shape":[16,48]},"h.0.mlp.c_fc.weight":{"shape":[16,64]}}"#;

    #[test]
    fn multiply_adds_are_those_of_the_products() {
        let sizes = Sizes { layers: 2, width: 16, inner: 64, vocabulary: 100 };
        // One token: both blocks whole but for the last query, attention over one position, the head.
        let block = 3 * 256 + 256 + 2 * 16 * 64;
        assert_eq!(sizes.multiply_adds(1), 2 * (block + 2 * 16) + 16 * 100);
        // Two tokens: position 0 sees one, position 1 two; of the last block only position 1 goes on.
        let first = 2 * block + 3 * 2 * 16;
        let last = 2 * 2 * 256 + 256 + 2 * 2 * 16 + 256 + 2 * 16 * 64;
        assert_eq!(sizes.multiply_adds(2), first + last + 16 * 100);
    }

    #[test]
    fn every_variant_multiplies_and_refuses_what_it_does_not_limit() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), HEADER);
        let order = |task: &str| {
            format!(
                "{{\"order\":\"prepare\",\"workload\":\"w\",\"task\":{task},\
                 \"files\":{{\"model\":{:?}}},\"threads\":2}}\n\
                 {{\"order\":\"measure\",\"samples\":1,\"limit_ns\":10000000000}}\n",
                folder.path()
            )
        };
        let orders = [
            order(r#"{"kind":"prefill","tokens":4,"batch":3}"#),
            order(r#"{"kind":"decode","context":4,"tokens":5,"batch":1}"#),
        ];
        for variant in ["arithmetic", "arithmetic-bf16", "arithmetic-int8", "arithmetic-int4"] {
            let replies = talk(&mut Arithmetic::parse(variant).unwrap(), &orders.concat());
            let sample = replies.iter().find_map(|reply| match reply {
                Reply::Sample(sample) => Some(sample),
                _ => None,
            });
            let sizes = Sizes { layers: 2, width: 16, inner: 64, vocabulary: 100 };
            let expected = (6 * sizes.multiply_adds(4), Unit::Operations, 1);
            let sample = sample.map(|sample| (sample.units, sample.unit, sample.laps_ns.len()));
            assert_eq!(sample, Some(expected), "{replies:?}");
            assert!(replies.iter().any(|reply| matches!(reply, Reply::Refused { .. })));
        }
    }

    #[test]
    fn a_model_that_is_none_is_refused_by_name() {
        let error = Sizes::of(&[]).unwrap_err().to_string();
        assert!(error.contains("wte.weight"), "{error}");
        let flat = [Tensor { name: "wte.weight".into(), shape: vec![7] }];
        assert!(Sizes::of(&flat).unwrap_err().to_string().contains("no matrix"));
    }
}
