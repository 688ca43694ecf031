//! `guess`: a contestant that stands for a language model, for tests of how answers are weighed.
//!
//! Its logits behind a context are drawn by a hash of all ids before them, so they depend on every id
//! and on nothing else, as a model's do; greedy steps follow from them. `guess-off-PERCENT` adds noise of
//! at most so many hundredths of the logits' standard deviation, as a lower precision would, and follows
//! its own logits. The faults: `guess-blind` chooses the id in the middle, `guess-restless` another
//! last id at every run; their logits are sound.

use anyhow::{Result, ensure};
use worker::{Answer, Engine, Identity, Job, Laps, Prepare, Receipt, Stop, Task, Unit};

/// Ids there are; the model folder's config.json must say the same.
pub const VOCABULARY: usize = 100;

/// The engine.
#[derive(Clone)]
pub struct Guess {
    variant: String,
    /// Noise, in standard deviations.
    off: f64,
    blind: bool,
    restless: bool,
}

impl Guess {
    /// `guess`, `guess-off-PERCENT`, `guess-blind` or `guess-restless`.
    pub fn parse(variant: &str) -> Option<Guess> {
        let sound = Guess { variant: variant.into(), off: 0.0, blind: false, restless: false };
        match variant.strip_prefix("guess")? {
            "" => Some(sound),
            "-blind" => Some(Guess { blind: true, ..sound }),
            "-restless" => Some(Guess { restless: true, ..sound }),
            other => {
                let percent: u32 = other.strip_prefix("-off-")?.parse().ok()?;
                Some(Guess { off: f64::from(percent) / 100.0, ..sound })
            }
        }
    }

    /// Logits behind a context.
    fn logits(&self, context: u64) -> Vec<f32> {
        // Uniform on [-1, 1) has a standard deviation of 1 / sqrt(3).
        let noise = self.off / 3f64.sqrt();
        let draw = |seed: u64| (mixed(seed) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        let one = |id: u64| draw(context ^ (id << 32)) + noise * draw(context ^ (id << 32) ^ 1);
        (0..VOCABULARY as u64).map(|id| one(id) as f32).collect()
    }

    fn choose(&self, logits: &[f32]) -> u32 {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        order[if self.blind { VOCABULARY / 2 } else { 0 }]
    }
}

/// A context so far: a hash of its ids.
fn behind(context: u64, ids: &[u32]) -> u64 {
    ids.iter().fold(context, |state, &id| mixed(state ^ u64::from(id)))
}

/// SplitMix64's step.
fn mixed(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Engine for Guess {
    fn identity(&self) -> Identity {
        Identity { engine: format!("echo/{}", self.variant), language: "rust".into(), ..Identity::default() }
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        let (batch, steps, fed) = match order.task {
            Task::Prefill { batch, .. } => (batch, 1, false),
            Task::Decode { tokens, batch, .. } => (batch, tokens, true),
            Task::Start { .. } => (1, 1, false),
            _ => return Err(Stop::refused(format!("guesses ids and knows no {}", order.task.kind()), "")),
        };
        let ids = order.files.read_ids()?;
        if batch == 0 || ids.is_empty() || !ids.len().is_multiple_of(batch) {
            return Err(anyhow::anyhow!("{} ids for {batch} sequences", ids.len()).into());
        }
        let contexts = ids.chunks(ids.len() / batch).map(|ids| behind(0, ids));
        let contexts = contexts.map(|context| match fed {
            true => behind(context, &[self.choose(&self.logits(context))]),
            false => context,
        });
        let (contexts, prompt) = (contexts.collect(), if fed { 0 } else { ids.len() });
        Ok(Box::new(Guessing {
            engine: self.clone(),
            contexts,
            steps,
            prompt,
            runs: 0,
            ids: vec![],
            last: vec![],
        }))
    }
}

struct Guessing {
    engine: Guess,
    /// One a sequence.
    contexts: Vec<u64>,
    steps: usize,
    /// Ids read on the clock, where those count as its units.
    prompt: usize,
    runs: u32,
    ids: Vec<u32>,
    last: Vec<f32>,
}

impl Job for Guessing {
    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        (self.runs, self.ids, self.last) = (self.runs + 1, vec![], vec![]);
        for &context in &self.contexts {
            let mut context = context;
            for step in 0..self.steps {
                let logits = self.engine.logits(context);
                let id = self.engine.choose(&logits);
                self.ids.push(id);
                context = behind(context, &[id]);
                if step + 1 == self.steps {
                    self.last.extend(logits);
                }
            }
        }
        if let (true, Some(last)) = (self.engine.restless, self.ids.last_mut()) {
            *last = (*last + self.runs - 1) % VOCABULARY as u32;
        }
        for _ in 0..self.steps {
            laps.mark();
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        ensure!(!self.ids.is_empty(), "nothing was guessed");
        let units = if self.prompt > 0 { self.prompt } else { self.ids.len() } as u64;
        let (answer, logits) = (Answer::Ids(self.ids.clone()), Some(self.last.clone()));
        Ok(Receipt { units, unit: Unit::Tokens, answer, logits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::talk;
    use worker::{Reply, write_ids};

    fn samples(variant: &str, task: &str) -> Vec<(u64, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        write_ids(&path, &[1, 2, 3, 4]).unwrap();
        let orders = format!(
            "{{\"order\":\"prepare\",\"workload\":\"w\",\"task\":{task},\"files\":{{\"ids\":{path:?}}},\"threads\":1}}\n\
             {{\"order\":\"measure\",\"samples\":2,\"limit_ns\":1000000000000}}\n"
        );
        let replies = talk(&mut Guess::parse(variant).unwrap(), &orders);
        let samples = replies.into_iter().filter_map(|reply| match reply {
            Reply::Sample(sample) => Some((sample.units, sample.digest)),
            _ => None,
        });
        samples.collect()
    }

    #[test]
    fn sound_variants_repeat_themselves_and_the_restless_one_does_not() {
        let decode = r#"{"kind":"decode","context":2,"tokens":6,"batch":2}"#;
        for variant in ["guess", "guess-off-5", "guess-blind"] {
            let seen = samples(variant, decode);
            assert!(seen.len() == 2 && seen[0] == seen[1] && seen[0].0 == 12, "{variant}: {seen:?}");
        }
        assert_ne!(samples("guess", decode)[0], samples("guess-blind", decode)[0]);
        let restless = samples("guess-restless", decode);
        assert!(restless[0] == samples("guess", decode)[0] && restless[0].1 != restless[1].1);
        assert_eq!(samples("guess", r#"{"kind":"prefill","tokens":4,"batch":1}"#)[0].0, 4);
    }

    #[test]
    fn noise_is_as_large_as_asked() {
        let (sound, off) = (Guess::parse("guess").unwrap(), Guess::parse("guess-off-30").unwrap());
        let apart = sound.logits(7).into_iter().zip(off.logits(7)).map(|(a, b)| (a - b).abs());
        let most = apart.fold(0.0, f32::max) * 3f32.sqrt();
        assert!((0.25..=0.3).contains(&most), "{most}");
    }
}
