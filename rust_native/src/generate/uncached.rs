//! Generation that computes the whole text again for every token: the ablation that shows what a
//! cache saves. Nobody would want it otherwise.

use std::ops::ControlFlow;

use super::choose::Chooser;
use super::{GenerateError, GenerateOptions, Generated};
use crate::model::Gpt2;

/// [`Gpt2::generate`] with `use_cache` off, of a checked request.
pub(super) fn generate(
    model: &Gpt2,
    prompts: &[&[u32]],
    options: &GenerateOptions,
    on_token: &mut impl FnMut(usize, u32, f32) -> ControlFlow<()>,
) -> Result<Vec<Generated>, GenerateError> {
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
    let mut cache = model.cache(prompts.len(), longest + options.max_new_tokens)?;
    let mut chooser = Chooser::default();
    let mut texts: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.to_vec()).collect();
    let mut results = vec![Generated::default(); prompts.len()];
    // Row i of the logits belongs to `active[i]`.
    let mut active: Vec<usize> = (0..prompts.len()).collect();
    for step in 0..options.max_new_tokens {
        let whole: Vec<&[u32]> = active.iter().map(|&s| texts[s].as_slice()).collect();
        model.prefill(&mut cache, &whole)?;
        let mut row = 0;
        active.retain(|&sequence| {
            let (logits, text) = (cache.logits_row(row), &mut texts[sequence]);
            row += 1;
            let (id, logprob) = chooser.choose(model, logits, text, options, sequence as u64, step);
            text.push(id);
            let told = on_token(sequence, id, logprob);
            results[sequence].take(id, logprob, told, options)
        });
        if active.is_empty() {
            break;
        }
    }
    Ok(results)
}
