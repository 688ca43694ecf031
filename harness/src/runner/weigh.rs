//! Answers in lower precision: which steps of an answer are weighed, and what they weigh.
//!
//! Let z be f32's logits behind a context, s their standard deviation over the vocabulary, y the
//! engine's own logits there. A chosen id i has the *regret* (max z - z_i) / s: how clearly f32 would
//! have preferred another. Where y is known: the *deviation*, the root mean square of y - z over s, and
//! the *divergence* KL(softmax z || softmax y) in nats. Contexts are the engine's own, so a step stays
//! comparable behind an early difference. Of several sequences the worst counts. Everything is summed
//! in f64.
//!
//! Invariant: logits that are not finite, or of another shape, are infinitely far away.

use std::collections::BTreeSet;
use worker::Task;

/// Evenly spaced steps of an answer that are weighed, the first and the last among them; the step
/// where it first differs from the reference's comes besides. Each costs a prefill in f32.
const STEPS: usize = 5;

/// An answer of ids, as far as a step-by-step reading of its task goes.
pub(super) struct Chosen<'a> {
    /// Sequences, B.
    pub batch: usize,
    /// B x T ids that stand before the answer.
    pub prompt: &'a [u32],
    /// B x N ids, sequence after sequence.
    pub ids: &'a [u32],
}

/// What stood before one step of every sequence, and what each chose there.
pub(super) struct Step {
    /// B x T ids.
    pub contexts: Vec<u32>,
    /// B ids.
    pub chosen: Vec<u32>,
}

impl Chosen<'_> {
    /// Ids a sequence, N.
    pub fn steps(&self) -> usize {
        self.ids.len() / self.batch
    }

    /// Step `at`, 0 to N - 1.
    pub fn step(&self, at: usize) -> Step {
        let (before, all) = (self.prompt.len() / self.batch, self.steps());
        let (mut contexts, mut chosen) = (Vec::new(), Vec::new());
        for row in 0..self.batch {
            contexts.extend(&self.prompt[row * before..][..before]);
            contexts.extend(&self.ids[row * all..][..at]);
            chosen.push(self.ids[row * all + at]);
        }
        Step { contexts, chosen }
    }

    /// The steps that are weighed. `reference`: another answer of the same shape, if there is one.
    pub fn weighed(&self, reference: Option<&[u32]>) -> BTreeSet<usize> {
        let last = self.steps() - 1;
        let mut steps: BTreeSet<usize> = (0..STEPS).map(|n| last * n / (STEPS - 1)).collect();
        let same_shape = reference.filter(|ids| ids.len() == self.ids.len());
        let differs = |&at: &usize| same_shape.is_some_and(|ids| ids[at] != self.ids[at]);
        let within = |at: usize| at % self.steps();
        steps.extend((0..self.ids.len()).filter(differs).map(within).min());
        steps
    }
}

/// How the ids of a task's answer are to be read; none where they are not the likeliest ids one after
/// another, or there are none: such an answer is held to its units and to itself alone.
pub(super) fn reading(task: &Task) -> Option<Reading> {
    match *task {
        Task::Prefill { batch, .. } => Some(Reading { batch, steps: 1, fed: false }),
        Task::Start { .. } => Some(Reading { batch: 1, steps: 1, fed: false }),
        Task::Decode { tokens, batch, .. } => Some(Reading { batch, steps: tokens, fed: true }),
        Task::Generate { tokens, sampling: None, beams: None, .. } => {
            Some(Reading { batch: 1, steps: tokens, fed: false })
        }
        _ => None,
    }
}

/// The shape of an answer of ids.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    /// Sequences.
    pub batch: usize,
    /// Ids a sequence.
    pub steps: usize,
    /// True where one more id stands between prompt and answer: what the context itself predicts.
    pub fed: bool,
}

impl Reading {
    /// The ids of an answer, without the text that may follow them; nothing where it is too short.
    pub fn ids(self, answer: &[u8]) -> Option<Vec<u32>> {
        let words = answer.as_chunks::<4>().0.get(..self.batch * self.steps)?;
        Some(words.iter().map(|&four| u32::from_le_bytes(four)).collect())
    }
}

/// The worst regret of `chosen` under `logits`, B x V.
pub(super) fn regret(logits: &[f32], chosen: &[u32]) -> f64 {
    rows(logits, chosen.len()).zip(chosen).fold(0.0, |worst: f64, (z, &id)| {
        let most = z.iter().fold(f64::NEG_INFINITY, |most, &z| most.max(f64::from(z)));
        let own = z.get(id as usize).map_or(f64::NEG_INFINITY, |&z| f64::from(z));
        worst.max(finite(ratio(most - own, standard_deviation(z))))
    })
}

/// The worst deviation of `theirs` from `reference`, both B x V.
pub(super) fn deviation(theirs: &[f32], reference: &[f32], batch: usize) -> f64 {
    worst(theirs, reference, batch, |y, z| {
        let squares = y.iter().zip(z).map(|(&y, &z)| (f64::from(y) - f64::from(z)).powi(2));
        ratio((squares.sum::<f64>() / z.len() as f64).sqrt(), standard_deviation(z))
    })
}

/// The worst divergence of `theirs` from `reference`, both B x V.
pub(super) fn divergence(theirs: &[f32], reference: &[f32], batch: usize) -> f64 {
    worst(theirs, reference, batch, |y, z| {
        let (y_total, z_total) = (log_sum_exp(y), log_sum_exp(z));
        let terms = y.iter().zip(z).map(|(&y, &z)| {
            let (log_q, log_p) = (f64::from(y) - y_total, f64::from(z) - z_total);
            log_p.exp() * (log_p - log_q)
        });
        // Equal distributions may sum to a rounding error below zero.
        let sum: f64 = terms.sum();
        if sum.is_nan() { sum } else { sum.max(0.0) }
    })
}

fn worst(theirs: &[f32], reference: &[f32], batch: usize, of: impl Fn(&[f32], &[f32]) -> f64) -> f64 {
    if theirs.len() != reference.len() || theirs.is_empty() || !theirs.len().is_multiple_of(batch) {
        return f64::INFINITY;
    }
    rows(theirs, batch).zip(rows(reference, batch)).fold(0.0, |worst, (y, z)| worst.max(finite(of(y, z))))
}

fn rows(logits: &[f32], batch: usize) -> std::slice::ChunksExact<'_, f32> {
    logits.chunks_exact((logits.len() / batch.max(1)).max(1))
}

/// What is not a number is as far away as can be.
fn finite(value: f64) -> f64 {
    if value.is_nan() { f64::INFINITY } else { value }
}

/// Nothing over nothing is no difference.
fn ratio(difference: f64, scale: f64) -> f64 {
    if difference == 0.0 { 0.0 } else { difference / scale }
}

fn standard_deviation(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = logits.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(f64::from(logit)));
    most + logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stand_behind_the_engines_own_ids() {
        let prompt = [1, 2, 7, 8];
        let ids = [10, 11, 12, 20, 21, 22];
        let chosen = Chosen { batch: 2, prompt: &prompt, ids: &ids };
        let step = chosen.step(0);
        assert_eq!((step.contexts, step.chosen), (vec![1, 2, 7, 8], vec![10, 20]));
        let step = chosen.step(2);
        assert_eq!((step.contexts, step.chosen), (vec![1, 2, 10, 11, 7, 8, 20, 21], vec![12, 22]));
    }

    #[test]
    fn the_first_the_last_and_the_first_difference_are_weighed() {
        let ids: Vec<u32> = (0..64).collect();
        let chosen = Chosen { batch: 1, prompt: &[1], ids: &ids };
        assert!(chosen.weighed(None).into_iter().eq([0, 15, 31, 47, 63]));
        let mut other = ids.clone();
        (other[7], other[40]) = (99, 99);
        assert!(chosen.weighed(Some(&other)).into_iter().eq([0, 7, 15, 31, 47, 63]));
        assert_eq!(chosen.weighed(Some(&other[..9])).len(), 5, "another shape says nothing");
        // Of several sequences the earliest step counts, whichever sequence differs there.
        let chosen = Chosen { batch: 2, prompt: &[1, 2], ids: &ids[..40] };
        let mut other = ids[..40].to_vec();
        (other[13], other[22]) = (99, 99);
        assert!(chosen.weighed(Some(&other)).contains(&2));
        assert!(Chosen { batch: 1, prompt: &[1], ids: &ids[..1] }.weighed(None).into_iter().eq([0]));
    }

    #[test]
    fn figures_by_hand() {
        // z = (ln 3, 0): p = (3/4, 1/4), mean ln 3 / 2, standard deviation ln 3 / 2.
        let (z, y) = ([3f32.ln(), 0.0], [0.0, 3f32.ln()]);
        let close = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-6, "{found}, not {wanted}");
        assert_eq!(regret(&z, &[0]), 0.0);
        close(regret(&z, &[1]), 2.0);
        close(deviation(&y, &z, 1), 2.0);
        close(divergence(&y, &z, 1), 0.5 * 3f64.ln());
        assert_eq!((deviation(&z, &z, 1), divergence(&z, &z, 1)), (0.0, 0.0));
        // Of two sequences the worse one counts.
        let (two, mixed) = ([z, z].concat(), [z, y].concat());
        close(deviation(&mixed, &two, 2), 2.0);
        close(regret(&two, &[0, 1]), 2.0);
    }

    #[test]
    fn what_cannot_be_compared_is_infinitely_far() {
        let z = [1.0, 0.0, 0.5];
        assert!(regret(&z, &[3]).is_infinite());
        for bad in [&[1.0, f32::NAN, 0.5][..], &[1.0, f32::INFINITY, 0.5], &[1.0, 0.0], &[]] {
            assert!(deviation(bad, &z, 1).is_infinite(), "{bad:?}");
            assert!(divergence(bad, &z, 1).is_infinite(), "{bad:?}");
        }
        assert_eq!((deviation(&[2.0; 3], &[2.0; 3], 1), regret(&[2.0; 3], &[1])), (0.0, 0.0));
    }

    #[test]
    fn an_answer_is_read_by_its_task() {
        let generate = |beams| Task::Generate { tokens: 2, cache: true, sampling: None, beams, lookup: None };
        assert!(reading(&generate(Some(4))).is_none(), "the best text is not made of the likeliest ids");
        let read = reading(&generate(None)).unwrap();
        let bytes = [7u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
        assert_eq!(read.ids(&[&bytes[..], b"text"].concat()), Some(vec![7, 8]));
        assert_eq!(read.ids(&bytes[..7]), None);
        assert!(reading(&Task::Decode { context: 4, tokens: 2, batch: 3 }).unwrap().fed);
        assert!(
            reading(&Task::Load {}).is_none()
                && reading(&Task::Encode { batch: false, fresh: false }).is_none()
        );
    }
}
