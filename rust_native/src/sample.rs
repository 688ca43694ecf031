//! From logits to one token: repetition penalty, temperature, top-k, top-p, and the draw.
//!
//! Semantics and order are Hugging Face's: the penalty divides a positive and multiplies a negative
//! logit of each token already present; then the logits are divided by the temperature; then top-k
//! keeps the k largest and all equal to the k-th; then top-p keeps the most probable tokens up to
//! and including the one that reaches p.
//!
//! The draw of step t of sequence s is one number of Philox 4x32-10 with the seed as key, s as the
//! stream and t as the counter: it depends on nothing else, so a batch, a single run and another
//! machine draw alike as long as their logits agree.

use crate::generate::GenerateError;
use crate::init::philox::Philox;

/// How to draw a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; below 1 sharpens, above 1 flattens. Above 0.
    pub temperature: f32,
    /// Keep only the k most probable tokens; `None` keeps all.
    pub top_k: Option<usize>,
    /// Keep only the most probable tokens that together reach p, in (0, 1]; `None` keeps all.
    pub top_p: Option<f32>,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { temperature: 1.0, top_k: None, top_p: None }
    }
}

impl Sampling {
    pub(crate) fn check(&self) -> Result<(), GenerateError> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            let remedy = "use a temperature above 0, or greedy decoding";
            return Err(GenerateError::option("temperature", self.temperature, remedy));
        }
        if self.top_k == Some(0) {
            return Err(GenerateError::option("top_k", 0, "use at least 1, or leave it out"));
        }
        if let Some(p) = self.top_p
            && !(p > 0.0 && p <= 1.0)
        {
            let remedy = "use a value above 0 and at most 1, or leave it out";
            return Err(GenerateError::option("top_p", p, remedy));
        }
        Ok(())
    }
}

pub(crate) fn check_penalty(penalty: f32) -> Result<(), GenerateError> {
    if penalty > 0.0 && penalty.is_finite() {
        return Ok(());
    }
    Err(GenerateError::option("repetition_penalty", penalty, "use a factor above 0; 1 is none"))
}

/// Penalises every token of `present` once, however often it occurs.
pub(crate) fn penalise(scores: &mut [f32], present: &[u32], penalty: f32, seen: &mut Vec<u32>) {
    if penalty == 1.0 {
        return;
    }
    seen.clear();
    seen.extend_from_slice(present);
    seen.sort_unstable();
    seen.dedup();
    for &token in seen.iter() {
        let score = &mut scores[token as usize];
        *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
    }
}

/// A number in [0, 1) with 53 random bits, for step `step` of sequence `sequence`.
pub(crate) fn uniform(seed: u64, sequence: u64, step: u64) -> f64 {
    let [high, low, ..] = Philox::new(seed, sequence).block(step);
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

/// Draws tokens; keeps its working memory between draws.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    /// Candidates: logit, then probability, and token.
    candidates: Vec<(f32, u32)>,
}

/// Larger logits first, then lower tokens: a total order, so results do not depend on a sort.
fn better(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

impl Sampler {
    /// The token that `uniform` in [0, 1) picks from `logits` under `how`.
    pub(crate) fn draw(&mut self, logits: &[f32], how: &Sampling, uniform: f64) -> u32 {
        let list = &mut self.candidates;
        list.clear();
        list.extend(logits.iter().zip(0..).map(|(&logit, token)| (logit / how.temperature, token)));
        if let Some(k) = how.top_k.filter(|&k| k < list.len()) {
            let (_, &mut (least, _), _) = list.select_nth_unstable_by(k - 1, better);
            list.retain(|&(logit, _)| logit >= least);
        }
        let max = list.iter().fold(f32::NEG_INFINITY, |max, &(logit, _)| max.max(logit));
        let weight = |logit: f32| f64::from(logit - max).exp();
        if let Some(p) = how.top_p.filter(|&p| p < 1.0) {
            let total: f64 = list.iter().map(|&(logit, _)| weight(logit)).sum();
            let keep = nucleus(list, f64::from(p) * total, weight);
            list.truncate(keep);
        }
        // In the order of tokens, whatever order the selection left.
        list.sort_unstable_by_key(|&(_, token)| token);
        let total: f64 = list.iter().map(|&(logit, _)| weight(logit)).sum();
        let mut left = uniform * total;
        for &(logit, token) in list.iter() {
            left -= weight(logit);
            if left < 0.0 {
                return token;
            }
        }
        // Rounding left a crumb: it belongs to the last token with any weight.
        list.iter().rev().find(|&&(logit, _)| weight(logit) > 0.0).map_or(0, |&(_, token)| token)
    }
}

/// Brings the most probable candidates to the front and says how many reach `mass`. Sorts only as
/// many as needed: a nucleus is usually a small part of the vocabulary.
fn nucleus(list: &mut [(f32, u32)], mass: f64, weight: impl Fn(f32) -> f64) -> usize {
    let (mut sum, mut sorted) = (0.0, 0);
    while sorted < list.len() {
        let rest = &mut list[sorted..];
        let step = (sorted * 3).max(64).min(rest.len());
        if step < rest.len() {
            rest.select_nth_unstable_by(step - 1, better);
        }
        rest[..step].sort_unstable_by(better);
        for (i, &(logit, _)) in rest[..step].iter().enumerate() {
            sum += weight(logit);
            if sum >= mass {
                return sorted + i + 1;
            }
        }
        sorted += step;
    }
    list.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws `n` times and gives Pearson's chi-square against `want`, whose zeros must stay zero.
    fn chi_square(logits: &[f32], how: &Sampling, want: &[f64], n: u64) -> f64 {
        let mut counts = vec![0u64; logits.len()];
        let mut sampler = Sampler::default();
        for step in 0..n {
            counts[sampler.draw(logits, how, uniform(7, 3, step)) as usize] += 1;
        }
        let mut sum = 0.0;
        for (token, (&count, &p)) in counts.iter().zip(want).enumerate() {
            let expected = p * n as f64;
            if p == 0.0 {
                assert_eq!(count, 0, "token {token} was excluded");
            } else {
                sum += (count as f64 - expected).powi(2) / expected;
            }
        }
        sum
    }

    fn normalised(weights: &[f64]) -> Vec<f64> {
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    }

    const LOGITS: [f32; 6] = [0.5, 2.0, -1.0, 1.0, 2.0, 0.0];

    /// 99.9 % quantile of chi-square with 5 degrees of freedom.
    const LIMIT: f64 = 20.5;

    #[test]
    fn draws_follow_the_softmax() {
        for temperature in [0.5f32, 1.0, 2.0] {
            let how = Sampling { temperature, ..Sampling::default() };
            let want = LOGITS.map(|l| f64::from(l / temperature).exp());
            assert!(chi_square(&LOGITS, &how, &normalised(&want), 20_000) < LIMIT);
        }
    }

    #[test]
    fn top_k_keeps_ties_with_the_kth() {
        let how = Sampling { top_k: Some(1), ..Sampling::default() };
        assert!(chi_square(&LOGITS, &how, &[0.0, 0.5, 0.0, 0.0, 0.5, 0.0], 4_000) < LIMIT);
        let how = Sampling { top_k: Some(3), ..Sampling::default() };
        let e = |x: f64| x.exp();
        let want = normalised(&[0.0, e(2.0), 0.0, e(1.0), e(2.0), 0.0]);
        assert!(chi_square(&LOGITS, &how, &want, 20_000) < LIMIT);
        let how = Sampling { top_k: Some(100), ..Sampling::default() };
        let want = normalised(&LOGITS.map(|l| f64::from(l).exp()));
        assert!(chi_square(&LOGITS, &how, &want, 20_000) < LIMIT);
    }

    #[test]
    fn top_p_keeps_the_token_that_reaches_p() {
        let logits = [0.1f32, 0.2, 0.3, 0.4].map(f32::ln);
        for (p, want) in [
            (0.05, [0.0, 0.0, 0.0, 1.0]),
            (0.5, [0.0, 0.0, 3.0, 4.0]),
            (0.75, [0.0, 2.0, 3.0, 4.0]),
            (0.95, [1.0, 2.0, 3.0, 4.0]),
            (1.0, [1.0, 2.0, 3.0, 4.0]),
        ] {
            let how = Sampling { top_p: Some(p), ..Sampling::default() };
            assert!(chi_square(&logits, &how, &normalised(&want), 20_000) < LIMIT, "top_p {p}");
        }
    }

    #[test]
    fn a_nucleus_is_the_sorted_prefix_whatever_its_size() {
        let list: Vec<(f32, u32)> = (0..5000u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761 ^ (i << 5)) >> 8) as f32 * 1e-6, i))
            .collect();
        let mut sorted = list.clone();
        sorted.sort_unstable_by(better);
        let weight = |logit: f32| f64::from(logit).exp();
        let total: f64 = list.iter().map(|&(l, _)| weight(l)).sum();
        for part in [1e-6, 0.01, 0.3, 0.9, 0.9999] {
            let mut sum = 0.0;
            let want = 1 + sorted
                .iter()
                .take_while(|&&(l, _)| {
                    sum += weight(l);
                    sum < part * total
                })
                .count();
            let mut mine = list.clone();
            let keep = nucleus(&mut mine, part * total, weight);
            assert_eq!(keep, want);
            assert_eq!(mine[..keep], sorted[..keep]);
        }
    }

    #[test]
    fn the_edges_of_the_unit_interval_are_tokens_with_weight() {
        let mut sampler = Sampler::default();
        let logits = [f32::NEG_INFINITY, 0.0, 0.0, f32::NEG_INFINITY];
        let how = Sampling::default();
        assert_eq!(sampler.draw(&logits, &how, 0.0), 1);
        assert_eq!(sampler.draw(&logits, &how, 1.0 - f64::EPSILON / 2.0), 2);
    }

    #[test]
    fn the_penalty_lowers_each_present_token_once() {
        let mut scores = [2.0, -2.0, 3.0];
        penalise(&mut scores, &[0, 1, 0, 1], 2.0, &mut Vec::new());
        assert_eq!(scores, [1.0, -4.0, 3.0]);
    }
}
