//! What is read where nobody gives a text.

use crate::init::philox::Philox;

/// English prose of some 1,100 tokens, written for this purpose: a little more than one context of GPT-2.
pub const SAMPLE: &str = include_str!("sample.txt");

/// `count` ids below `vocabulary`, drawn with equal probability from a fixed seed: for models whose
/// vocabulary is not known. The same on every machine.
///
/// # Panics
/// If `vocabulary` is 0 and `count` is not.
pub fn seeded_ids(count: usize, vocabulary: usize) -> Vec<u32> {
    let draws = Philox::new(0, 0);
    (0..count as u64).map(|i| ((u64::from(draws.block(i)[0]) * vocabulary as u64) >> 32) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_ids_are_the_same_everywhere_and_fill_their_range() {
        let ids = seeded_ids(1000, 50);
        assert_eq!(ids, seeded_ids(1000, 50));
        assert!((0..50).all(|id| ids.contains(&id)) && ids.iter().all(|&id| id < 50));
        assert_eq!(ids[..10], seeded_ids(10, 50));
    }

    #[test]
    fn the_sample_fills_one_context() {
        let tokens = crate::Tokenizer::gpt2().encode(SAMPLE, crate::Special::Ignore).unwrap().len();
        assert!((1024..1400).contains(&tokens), "{tokens}");
    }
}
