//! Drawing the next token: temperature, top-k, top-p, by libtorch's own operations.
//!
//! The filters come in the order transformers applies them (temperature, top-k, top-p), so that the
//! work is the same; the draws differ, because the generators do.

use anyhow::Result;
use tch::{Kind, Tensor};
use worker::Sampling;

/// One draw a row: B x 1 ids from B x V logits.
pub fn draw(logits: &Tensor, sampling: &Sampling) -> Result<Tensor> {
    let mut scores = logits.f_div_scalar(f64::from(sampling.temperature))?;
    let vocabulary = scores.size()[1];
    let kept = sampling.top_k as i64;
    if (1..vocabulary).contains(&kept) {
        let (best, _) = scores.f_topk(kept, -1, true, true)?;
        let least = best.f_narrow(-1, kept - 1, 1)?;
        scores = scores.f_masked_fill(&scores.f_lt_tensor(&least)?, f64::NEG_INFINITY)?;
    }
    if sampling.top_p < 1.0 {
        // Ascending: what lies below the first 1 - p of the mass goes; the likeliest id always stays.
        let (sorted, order) = scores.f_sort(-1, false)?;
        let mass = sorted.f_softmax(-1, Kind::Float)?.f_cumsum(-1, Kind::Float)?;
        let remove = mass.f_le(1.0 - f64::from(sampling.top_p))?;
        let _ = remove.f_narrow(-1, vocabulary - 1, 1)?.f_fill_(0)?;
        let remove = remove.f_scatter(-1, &order, &remove)?;
        scores = scores.f_masked_fill(&remove, f64::NEG_INFINITY)?;
    }
    Ok(scores.f_softmax(-1, Kind::Float)?.f_multinomial(1, false)?)
}
