//! Guesses from the text itself: speculative decoding by prompt lookup.
//!
//! A text that quotes or repeats itself often goes on as it went on before. The guess is what
//! followed the latest earlier occurrence of the text's own end; one pass through the model then
//! verifies all guessed tokens at once, at nearly the price of one, because at small batches a pass
//! is paid for by reading the weights. A guess is kept as far as it equals what the model chooses,
//! so the choice is never changed, only found sooner (Saxena, "Prompt Lookup Decoding", 2023; the
//! verification is that of Leviathan et al., 2023, for greedy choices).

use super::GenerateError;

/// How to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Tokens guessed at a time at most, at least 1. Fewer are tried after a miss, more again after
    /// a hit.
    pub tokens: usize,
    /// The longest end of the text that is looked for, at least 1; where it does not occur, shorter
    /// ones are.
    pub ngram: usize,
}

impl Default for Lookup {
    fn default() -> Lookup {
        Lookup { tokens: 8, ngram: 3 }
    }
}

impl Lookup {
    pub(super) fn check(&self) -> Result<(), GenerateError> {
        for (field, value) in [("lookup tokens", self.tokens), ("lookup ngram", self.ngram)] {
            if value == 0 {
                return Err(GenerateError::option(field, 0, "use at least 1, or leave lookup out"));
            }
        }
        Ok(())
    }

    /// How many tokens to guess next, after `accepted` of `proposed` were right.
    pub(super) fn next_length(&self, proposed: usize, accepted: usize) -> usize {
        match accepted {
            0 => (proposed / 2).max(1),
            _ if accepted == proposed => (2 * proposed).min(self.tokens),
            _ => proposed,
        }
    }
}

/// Puts a guess of `count` tokens behind `text`: what followed the latest earlier occurrence of its
/// longest end that occurs, of at most `ngram` tokens. A guess that reaches the end of the text goes
/// on with itself, so a loop is guessed in full. Gives the number of tokens, 0 without an occurrence.
pub(super) fn propose(text: &mut Vec<u32>, ngram: usize, count: usize) -> usize {
    let (mut longest, mut from) = (0, 0);
    for after in (1..text.len()).rev() {
        let alike = text[..after].iter().rev().zip(text.iter().rev());
        let len = alike.take(ngram).take_while(|(a, b)| a == b).count();
        if len > longest {
            (longest, from) = (len, after);
            if len == ngram {
                break;
            }
        }
    }
    if longest == 0 {
        return 0;
    }
    for at in from..from + count {
        text.push(text[at]);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: ends from long to short, places from late to early.
    fn by_definition(text: &[u32], ngram: usize, count: usize) -> Vec<u32> {
        for len in (1..=ngram.min(text.len().saturating_sub(1))).rev() {
            let end = &text[text.len() - len..];
            let places = text[..text.len() - 1].windows(len).enumerate().rev();
            if let Some((at, _)) = places.into_iter().find(|(_, window)| *window == end) {
                let mut all = text.to_vec();
                for i in 0..count {
                    all.push(all[at + len + i]);
                }
                return all.split_off(text.len());
            }
        }
        Vec::new()
    }

    #[test]
    fn a_guess_is_what_followed_the_longest_end() {
        let mut text = vec![5, 1, 2, 3, 9, 2, 3, 8, 1, 2, 3];
        assert_eq!(propose(&mut text, 3, 2), 2);
        assert_eq!(text[11..], [9, 2], "three tokens match, though two match later");
        let mut text = vec![5, 1, 2, 3, 9, 2, 3, 8, 1, 2, 3];
        propose(&mut text, 2, 2);
        assert_eq!(text[11..], [8, 1], "of equal matches the latest");
        let mut text = vec![7, 4, 4];
        assert_eq!(propose(&mut text, 3, 5), 5);
        assert_eq!(text, [7, 4, 4, 4, 4, 4, 4, 4], "a loop goes on");
        for mut text in [vec![], vec![1], vec![1, 2, 3]] {
            let before = text.clone();
            assert_eq!((propose(&mut text, 3, 4), &text), (0, &before));
        }
    }

    #[test]
    fn guesses_follow_the_definition() {
        let mut state = 1u64;
        for round in 0..2_000 {
            let mut draw = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let (len, letters) = (draw(20), 1 + draw(4));
            let text: Vec<u32> = (0..len).map(|_| draw(letters) as u32).collect();
            let (ngram, count) = (1 + draw(4) as usize, 1 + draw(6) as usize);
            let mut guessed = text.clone();
            propose(&mut guessed, ngram, count);
            assert_eq!(guessed[text.len()..], by_definition(&text, ngram, count), "{round}: {text:?}");
        }
    }

    #[test]
    fn guesses_grow_with_hits_and_shrink_with_misses() {
        let lookup = Lookup { tokens: 6, ngram: 3 };
        let next = |proposed, accepted| lookup.next_length(proposed, accepted);
        assert_eq!([next(6, 0), next(1, 0), next(3, 2), next(2, 2), next(6, 6)], [3, 1, 3, 4, 6]);
    }
}
