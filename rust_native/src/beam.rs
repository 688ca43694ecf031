//! Beam search, with Hugging Face's semantics, on one cache.
//!
//! Per prompt, `beams` unfinished texts grow side by side. A step scores every continuation by the
//! sum of log-probabilities (the repetition penalty acts on log-probabilities here) and looks at the
//! best `beams * max(2, 1 + stop tokens)`. A continuation by a stop token finishes if it is among the
//! first `beams`; the best `beams` others go on. Finished texts are ranked by
//! `sum / length^length_penalty`, the length being the new tokens with the stop token. The search
//! ends when no unfinished text, ranked at its present length, beats the worst of `beams` finished
//! ones, or at the last step, where the unfinished are ranked too (`early_stopping=False`).
//!
//! The prompt is computed once. A text keeps its place in the cache as long as it goes on in one
//! way; where it goes on in two, the second takes the place of a text that has died, and only what
//! differs between the two is copied: nothing before the point where they parted, and nothing at
//! all in a step in which every text goes on in one way.
//!
//! Ties go to the better beam, then to the lower token.

use crate::Cache;
use crate::generate::{Finish, GenerateError, GenerateOptions, Generated};
use crate::model::Gpt2;
use crate::sample::penalise;

/// One text in the search: its new tokens and their log-probabilities.
#[derive(Clone, Debug)]
struct Text {
    ids: Vec<u32>,
    logprobs: Vec<f32>,
    /// Sum of what the search ranks by; equals the sum of `logprobs` without a penalty.
    score: f64,
    /// The sequence of the cache that has its keys and values.
    place: usize,
}

/// A continuation of one beam by one token.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: f64,
    beam: usize,
    token: u32,
}

/// Better first.
fn order(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.score.total_cmp(&a.score).then(a.beam.cmp(&b.beam)).then(a.token.cmp(&b.token))
}

/// The best text found for one prompt.
pub(crate) fn search(
    model: &Gpt2,
    prompt: &[u32],
    options: &GenerateOptions,
    beams: usize,
    length_penalty: f32,
) -> Result<Generated, GenerateError> {
    let mut search = Search {
        model,
        prompt,
        options,
        beams,
        rank: |score: f64, len: usize| score / (len as f64).powf(f64::from(length_penalty)),
        cache: model.cache(beams, prompt.len() + options.max_new_tokens)?,
        held: vec![Vec::new(); beams],
        running: vec![Text { ids: Vec::new(), logprobs: Vec::new(), score: 0.0, place: 0 }],
        finished: Vec::new(),
        newest: Vec::with_capacity(beams),
    };
    model.prefill(&mut search.cache, &[prompt])?;
    for step in 1..=options.max_new_tokens {
        search.step(step);
        if search.is_done(step) {
            break;
        }
        search.advance()?;
    }
    Ok(search.best())
}

struct Search<'a, R> {
    model: &'a Gpt2,
    prompt: &'a [u32],
    options: &'a GenerateOptions,
    beams: usize,
    rank: R,
    cache: Cache,
    /// The new tokens whose keys and values each sequence of the cache holds behind the prompt.
    held: Vec<Vec<u32>>,
    /// Unfinished texts, best first; one at the start, then `beams` (fewer in a tiny vocabulary).
    /// Row i of the logits belongs to the i-th.
    running: Vec<Text>,
    /// Finished texts with their rank, best first, at most `beams`.
    finished: Vec<(f64, Finish, Text)>,
    /// Place and newest token of each running text.
    newest: Vec<(usize, u32)>,
}

impl<R: Fn(f64, usize) -> f64> Search<'_, R> {
    /// Replaces the running texts by their best continuations.
    fn step(&mut self, len: usize) {
        let mut next = Vec::with_capacity(self.beams);
        for (rank, candidate) in self.candidates().into_iter().enumerate() {
            let stops = self.options.stop.contains(&candidate.token);
            if stops && rank < self.beams {
                let text = self.continued(candidate);
                self.finish(text, Finish::Stop, len);
            } else if !stops && next.len() < self.beams {
                next.push(self.continued(candidate));
            }
        }
        self.running = next;
    }

    /// The best continuations of all running texts, best first.
    fn candidates(&self) -> Vec<Candidate> {
        let keep = self.beams * (1 + self.options.stop.len()).max(2);
        let mut best: Vec<Candidate> = Vec::with_capacity(keep + 1);
        let (mut scores, mut present, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        for (beam, text) in self.running.iter().enumerate() {
            let logits = self.cache.logits_row(beam);
            let total = (self.model.cpu().table().log_sum_exp)(logits);
            scores.clear();
            scores.extend(logits.iter().map(|logit| logit - total));
            present.clear();
            present.extend_from_slice(self.prompt);
            present.extend_from_slice(&text.ids);
            penalise(&mut scores, &present, self.options.repetition_penalty, &mut seen);
            for (&score, token) in scores.iter().zip(0..) {
                let candidate = Candidate { score: text.score + f64::from(score), beam, token };
                // Nearly all of a vocabulary ends here.
                if best.len() == keep && order(&candidate, &best[keep - 1]).is_gt() {
                    continue;
                }
                let at = best.partition_point(|other| order(other, &candidate).is_lt());
                best.insert(at, candidate);
                best.truncate(keep);
            }
        }
        best
    }

    fn continued(&self, candidate: Candidate) -> Text {
        let logits = self.cache.logits_row(candidate.beam);
        let total = (self.model.cpu().table().log_sum_exp)(logits);
        let mut text = self.running[candidate.beam].clone();
        text.ids.push(candidate.token);
        text.logprobs.push(logits[candidate.token as usize] - total);
        text.score = candidate.score;
        text
    }

    fn finish(&mut self, text: Text, how: Finish, len: usize) {
        let rank = (self.rank)(text.score, len);
        let at = self.finished.partition_point(|(other, ..)| *other >= rank);
        self.finished.insert(at, (rank, how, text));
        self.finished.truncate(self.beams);
    }

    /// Whether nothing that still runs can win; at the last step, after ranking what still runs.
    fn is_done(&mut self, len: usize) -> bool {
        if len == self.options.max_new_tokens {
            for text in std::mem::take(&mut self.running) {
                self.finish(text, Finish::Length, len);
            }
        }
        let Some(best) = self.running.first() else {
            return true;
        };
        let worst = self.finished.get(self.beams - 1);
        worst.is_some_and(|&(worst, ..)| (self.rank)(best.score, len) <= worst)
    }

    /// Gives each running text a place of its own and feeds its newest token to the model.
    fn advance(&mut self) -> Result<(), GenerateError> {
        let mut taken = vec![false; self.beams];
        let twins: Vec<usize> = (0..self.running.len())
            .filter(|&text| std::mem::replace(&mut taken[self.running[text].place], true))
            .collect();
        for text in twins {
            // There are as many places as beams, so one is free for each twin; and a free place is
            // nobody's source, since the first continuation of a text stays where it is.
            let place = taken.iter().position(|taken| !taken).expect("a place for every beam");
            taken[place] = true;
            self.copy_to(text, place);
        }
        self.newest.clear();
        self.newest.extend(self.running.iter().map(|text| (text.place, text.ids[text.ids.len() - 1])));
        self.model.decode_some(&mut self.cache, &self.newest)?;
        for text in &self.running {
            self.held[text.place].clone_from(&text.ids);
        }
        Ok(())
    }

    /// Moves a running text to `place`, where a text lies that parted from it somewhere.
    fn copy_to(&mut self, text: usize, place: usize) {
        let text = &mut self.running[text];
        let ids = &text.ids[..text.ids.len() - 1];
        let alike = self.held[place].iter().zip(ids).take_while(|(a, b)| a == b).count();
        // A place that was never used lacks the prompt as well.
        let start = if self.cache.len(place) == 0 { 0 } else { self.prompt.len() + alike };
        self.cache.copy(text.place, place, start..self.prompt.len() + ids.len());
        text.place = place;
    }

    fn best(self) -> Generated {
        // A search of at least one step ends with at least one finished text.
        let (_, finish, text) = self.finished.into_iter().next().expect("no text was ranked");
        Generated { ids: text.ids, logprobs: text.logprobs, finish, ..Generated::default() }
    }
}
