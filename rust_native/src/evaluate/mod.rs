//! What a lower precision of weights or cache costs in answers: two models over one text, position by
//! position.
//!
//! Both read the same tokens (teacher forcing), so an early difference does not spoil the comparison
//! of what follows it, as it would in two texts generated side by side. At a position let `z [V]` be
//! the reference's logits and `y [V]` the other's, p = softmax(z), q = softmax(y). Everything is
//! summed in f64; logarithms are natural.
//!
//! - difference: max_i |y_i - z_i|, in logits.
//! - deviation: the root mean square of y - z over the standard deviation of z, which is free of the
//!   model's scale.
//! - divergence: KL(p || q) = sum_i p_i (log p_i - log q_i), in nats: what coding the reference's
//!   choices by the other model costs beyond the reference's own entropy (Kullback and Leibler, "On
//!   Information and Sufficiency", 1951).
//! - agreement: the share of positions at which both have the same largest logit. Where they have
//!   not, the margin is z at its own best minus z at the other's best: how clearly the reference
//!   preferred what was given up. Differences of at most d cannot overturn a margin above 2 d. Over the
//!   standard deviation of z it is the *regret*.
//! - perplexity: exp(-mean log p(next token)), over windows of the context length that overlap: each
//!   token is scored once, in the window that shows it the most context (the strided evaluation of
//!   Hugging Face's page "Perplexity of fixed-length models").

mod text;

use std::ops::Range;

use serde::Serialize;

pub use text::{SAMPLE, seeded_ids};

use crate::model::Gpt2;
use crate::{Config, Error};

/// How a text is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvaluateOptions {
    /// Tokens that pass through the models at a time, 2 to the context length; `None` is that length.
    pub window: Option<usize>,
    /// Tokens from one window's start to the next, fewer than a window; `None` is half of one, so that
    /// all but the first half of the first window are scored behind at least half a window.
    pub stride: Option<usize>,
}

/// How far a model lies from its reference; the [module's page](self) has the formulas.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Tokens scored: all but the first.
    pub tokens: usize,
    /// Windows they were scored in.
    pub windows: usize,
    /// Tokens a window.
    pub window: usize,
    /// Tokens from window to window.
    pub stride: usize,
    /// Largest difference of a logit.
    pub max_difference: f64,
    /// Mean deviation.
    pub mean_deviation: f64,
    /// Largest deviation.
    pub max_deviation: f64,
    /// Mean divergence, nats.
    pub mean_divergence: f64,
    /// Largest divergence, nats.
    pub max_divergence: f64,
    /// Share of positions with the same likeliest token, 0 to 1.
    pub agreement: f64,
    /// Positions without.
    pub disagreements: usize,
    /// Smallest margin among those, in logits.
    pub smallest_margin: Option<f64>,
    /// Largest margin among those: the clearest choice that was overturned.
    pub largest_margin: Option<f64>,
    /// Largest regret, 0 where all agree.
    pub max_regret: f64,
    /// The reference's perplexity.
    pub reference_perplexity: f64,
    /// The model's perplexity.
    pub perplexity: f64,
}

/// Holds `model` against `reference`, two models of one shape, over `ids`. Keeps the logits of one
/// window of each in memory, `2 x window x V` values.
///
/// # Errors
/// Models of different shapes, fewer than two tokens, a token outside the vocabulary, a window or a
/// stride outside its range.
pub fn evaluate(
    reference: &Gpt2,
    model: &Gpt2,
    ids: &[u32],
    options: &EvaluateOptions,
) -> Result<Evaluation, Error> {
    let config = reference.config();
    if model.config() != config {
        let found = "a model of another shape than the reference's";
        return Err(Error::argument("model", found, "load both from one checkpoint"));
    }
    if ids.len() < 2 {
        let found = format!("{} tokens", ids.len());
        return Err(Error::argument(
            "text",
            found,
            "give at least two: each is predicted from those before it",
        ));
    }
    let (window, stride) = cut(config, options)?;
    let mut sums = Sums::default();
    let mut windows = 0;
    for part in (Windows { tokens: ids.len(), window, stride, at: 0, scored: 1 }) {
        let text = &ids[part.start..part.end];
        let (z, y) = (reference.logits_all(text)?, model.logits_all(text)?);
        let v = config.vocab_size;
        for target in part.scored {
            // The logits of a position speak of the token behind it.
            let row = (target - part.start - 1) * v..(target - part.start) * v;
            sums.take(&z[row.clone()], &y[row], ids[target] as usize);
        }
        windows += 1;
    }
    Ok(sums.close(windows, window, stride))
}

fn cut(config: &Config, options: &EvaluateOptions) -> Result<(usize, usize), Error> {
    let most = config.n_positions;
    let window = options.window.unwrap_or(most);
    if !(2..=most).contains(&window) {
        let remedy = format!("use 2 to {most}, the context length");
        return Err(Error::argument("window", window.to_string(), remedy));
    }
    let stride = options.stride.unwrap_or(window / 2);
    // A window that does not overlap the one before would have nothing before its own first token.
    if !(1..window).contains(&stride) {
        let remedy = format!("use 1 to {}, less than the window", window - 1);
        return Err(Error::argument("stride", stride.to_string(), remedy));
    }
    Ok((window, stride))
}

/// Overlapping windows over a text, and which tokens are scored in each.
struct Windows {
    tokens: usize,
    window: usize,
    stride: usize,
    /// Where the next window starts.
    at: usize,
    /// The first token that no window has scored yet; token 0 has nothing before it.
    scored: usize,
}

struct Window {
    start: usize,
    end: usize,
    /// Tokens to score, each behind at least one other of the window.
    scored: Range<usize>,
}

impl Iterator for Windows {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        if self.scored >= self.tokens {
            return None;
        }
        let (start, end) = (self.at, self.tokens.min(self.at + self.window));
        let scored = self.scored..end;
        self.scored = end;
        self.at += self.stride;
        Some(Window { start, end, scored })
    }
}

#[derive(Default)]
struct Sums {
    tokens: usize,
    agreed: usize,
    max_difference: f64,
    deviation: f64,
    max_deviation: f64,
    max_regret: f64,
    divergence: f64,
    max_divergence: f64,
    margins: Option<(f64, f64)>,
    /// Sums of -log p and -log q of the tokens that came.
    reference_surprise: f64,
    surprise: f64,
}

impl Sums {
    fn take(&mut self, z: &[f32], y: &[f32], next: usize) {
        let (z_best, y_best) = (best(z), best(y));
        let (z_total, y_total) = (log_sum_exp(z, z[z_best]), log_sum_exp(y, y[y_best]));
        let (mut difference, mut squares, mut divergence) = (0.0f64, 0.0, 0.0);
        for (&z, &y) in z.iter().zip(y) {
            let (z, y) = (f64::from(z), f64::from(y));
            difference = difference.max((y - z).abs());
            squares += (y - z).powi(2);
            let (log_p, log_q) = (z - z_total, y - y_total);
            divergence += log_p.exp() * (log_p - log_q);
        }
        let spread = standard_deviation(z);
        let deviation = (squares / z.len() as f64).sqrt() / spread;
        // Equal distributions may sum to a rounding error below zero.
        let divergence = divergence.max(0.0);
        self.tokens += 1;
        self.max_difference = self.max_difference.max(difference);
        self.deviation += deviation;
        self.max_deviation = self.max_deviation.max(deviation);
        self.divergence += divergence;
        self.max_divergence = self.max_divergence.max(divergence);
        self.reference_surprise += z_total - f64::from(z[next]);
        self.surprise += y_total - f64::from(y[next]);
        if z_best == y_best {
            self.agreed += 1;
        } else {
            let margin = f64::from(z[z_best]) - f64::from(z[y_best]);
            self.max_regret = self.max_regret.max(margin / spread);
            let (least, most) = self.margins.unwrap_or((margin, margin));
            self.margins = Some((least.min(margin), most.max(margin)));
        }
    }

    fn close(self, windows: usize, window: usize, stride: usize) -> Evaluation {
        let n = self.tokens as f64;
        Evaluation {
            tokens: self.tokens,
            windows,
            window,
            stride,
            max_difference: self.max_difference,
            mean_deviation: self.deviation / n,
            max_deviation: self.max_deviation,
            mean_divergence: self.divergence / n,
            max_divergence: self.max_divergence,
            agreement: self.agreed as f64 / n,
            disagreements: self.tokens - self.agreed,
            smallest_margin: self.margins.map(|(least, _)| least),
            largest_margin: self.margins.map(|(_, most)| most),
            max_regret: self.max_regret,
            reference_perplexity: (self.reference_surprise / n).exp(),
            perplexity: (self.surprise / n).exp(),
        }
    }
}

/// Place of the largest, the first among equals.
fn best(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    best
}

/// log(sum exp), shifted by the largest so that nothing overflows.
fn log_sum_exp(logits: &[f32], max: f32) -> f64 {
    let max = f64::from(max);
    max + logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum::<f64>().ln()
}

fn standard_deviation(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(z: &[f32], y: &[f32], next: usize) -> Evaluation {
        let mut sums = Sums::default();
        sums.take(z, y, next);
        sums.close(1, 2, 1)
    }

    #[test]
    fn two_tokens_by_hand() {
        // p = (3/4, 1/4), q = (1/4, 3/4).
        let (z, y) = ([3f32.ln(), 0.0], [0.0, 3f32.ln()]);
        let seen = of(&z, &y, 0);
        let close = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-6, "{found}, not {wanted}");
        close(seen.mean_divergence, 0.5 * 3f64.ln());
        close(seen.max_difference, 3f64.ln());
        close(seen.max_deviation, 2.0);
        close(seen.max_regret, 2.0);
        close(seen.reference_perplexity, 4.0 / 3.0);
        close(seen.perplexity, 4.0);
        close(seen.smallest_margin.unwrap(), 3f64.ln());
        assert_eq!((seen.agreement, seen.disagreements), (0.0, 1));
    }

    #[test]
    fn equal_models_differ_in_nothing_and_a_constant_changes_no_probability() {
        let z = [0.5, -1.0, 2.0, 0.0];
        let same = of(&z, &z, 1);
        assert_eq!((same.max_difference, same.mean_divergence, same.agreement), (0.0, 0.0, 1.0));
        assert_eq!((same.smallest_margin, same.perplexity), (None, same.reference_perplexity));
        let shifted = of(&z, &z.map(|v| v + 8.0), 1);
        assert!(shifted.max_difference == 8.0 && shifted.mean_divergence < 1e-12, "{shifted:?}");
    }

    #[test]
    fn every_token_but_the_first_is_scored_once_behind_as_much_as_there_is() {
        for tokens in 2..40 {
            for window in 2..12 {
                for stride in 1..window {
                    let mut seen = vec![0; tokens];
                    for part in (Windows { tokens, window, stride, at: 0, scored: 1 }) {
                        assert!(part.end - part.start <= window && part.end <= tokens);
                        for target in part.scored {
                            seen[target] += 1;
                            let before = target - part.start;
                            assert!(before >= 1 && (before >= window - stride || part.start == 0));
                        }
                    }
                    assert!(
                        seen[0] == 0 && seen[1..].iter().all(|&n| n == 1),
                        "{tokens}, {window}, {stride}"
                    );
                }
            }
        }
    }
}
