//! Steps of more than 8 rows with weights in bf16, whose products are for tensor cores.
//!
//! Rows are rounded before each product, so a product is held to loops over the rows as they were packed, and
//! the packing to the rounding of what it packs.

use super::*;

/// Each number is the nearest bf16, which is at most 1 / 256 of it away, of one that is right to 1e-5 of the
/// largest.
#[track_caller]
fn assert_rounded(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-3_f64, |max, x| max.max(x.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        // Written so that a NaN fails.
        let close = (got - want).abs() <= want.abs() / 256.0 + 1e-5 * scale;
        assert!(close && *got == rounded(*got, Weights::Bf16), "{what}: {got} for {want} at {i}");
    }
}

/// Batches around tiles of 8 rows and groups of 64; widths that fill no block of inputs and no tile of
/// outputs; an inner width whose inputs are shared by 2 and 4 blocks.
fn cases() -> Vec<(Shape, usize, Schedule)> {
    let dims =
        |heads, width, inner, vocabulary| Dims { inner, ..Dims::gpt2(1, heads, width, vocabulary, 70) };
    let dims = [dims(2, 64, 256, 257), dims(3, 24, 40, 130), dims(1, 32, 1536, 16), dims(2, 32, 3072, 5)];
    let mut schedules = Schedule::ALL.into_iter().cycle();
    let mut cases = Vec::new();
    for (i, batch) in [9, 16, 17, 33, 64, 65].into_iter().enumerate() {
        for (j, dims) in dims.into_iter().enumerate() {
            let processors = if batch > 64 { 8 } else { 4 };
            let shape = Shape::new(dims, Weights::Bf16, batch + i % 2, 100, processors).unwrap();
            let shape = Shape { splits: [1, 3][(i + j) % 2], ..shape };
            cases.push((shape, batch, schedules.next().unwrap()));
        }
        // Another schedule for each width next time.
        schedules.next();
    }
    cases
}

/// Positions that end before, at and behind the least part of a split, and at the last.
fn positions(batch: usize) -> Vec<i32> {
    [0, 63, 64, 69, 1, 40].into_iter().cycle().take(batch).collect()
}

/// Launches of the first layer that end with attention added to the residual stream.
fn attention_steps(shape: &Shape) -> std::ops::Range<usize> {
    if shape.splits == 1 { 3..5 } else { 3..6 }
}

/// Those of its inner layer.
fn inner_steps(shape: &Shape) -> std::ops::Range<usize> {
    let first = attention_steps(shape).end;
    first..first + 3
}

impl Stage {
    /// Plays these launches of `plan`, counted from its first.
    fn play_steps(&mut self, plan: &Plan, steps: std::ops::Range<usize>) {
        let part = Plan { buffers: plan.buffers.clone(), steps: plan.steps[steps].to_vec() };
        let ready = self.emulation.ready(&part).unwrap();
        self.emulation.play(ready).unwrap();
    }

    /// The rows of a packed buffer, one behind another.
    fn packed(&self, buffer: Buffer, rows: usize, inputs: usize) -> Vec<f64> {
        let (x, blocks) = (self.get(buffer), inputs.div_ceil(32));
        let place = |row: usize, k: usize| {
            (((row / 8) * blocks + k / 32) * 32 + row % 8 * 4 + k % 32 / 8) * 8 + k % 8
        };
        (0..rows)
            .flat_map(|row| (0..inputs).map(move |k| (row, k)))
            .map(|(row, k)| x[place(row, k)])
            .collect()
    }

    #[track_caller]
    fn assert_nobody_is_counted(&self) {
        for buffer in [Buffer::Best, Buffer::Finished, Buffer::Arrived] {
            let bytes = self.emulation.array(buffer.index()).bytes();
            assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == 0), "{buffer:?}");
        }
    }
}

#[test]
fn rows_are_normed_packed_and_become_query_and_cache() {
    for (shape, batch, schedule) in cases() {
        let mut stage = Stage::new(shape, schedule);
        let dims = shape.dims;
        let (c, h, d, t) = (dims.width, dims.heads, dims.head_width(), dims.context);
        let x = stage.fill(Buffer::Residual, 3.0);
        let (gain, norm_bias) = (stage.fill(Buffer::Norm1Gain, 1.0), stage.fill(Buffer::Norm1Bias, 0.2));
        let (weights, bias) = (stage.fill(Buffer::QkvWeight, 0.3), stage.fill(Buffer::QkvBias, 0.3));
        stage.set(Buffer::Position, &positions(batch));
        stage.play_steps(&plan::decode(&shape, batch, Choice::Greedy).unwrap(), 1..3);
        let normed = stage.packed(Buffer::Packed, batch, c);
        let want = layer_norm(&x[..batch * c], &gain, &norm_bias, dims.epsilon);
        assert_rounded(&normed, &want, "packed");
        let want = product(&normed, &weights, &bias, c);
        let (keys, values) = (stage.get(Buffer::Keys), stage.get(Buffer::Values));
        let query = stage.get(Buffer::Query);
        for b in 0..batch {
            let row = &want[b * 3 * c..][..3 * c];
            let scaled: Vec<f64> = row[..c].iter().map(|x| x / (d as f64).sqrt()).collect();
            assert_close(&query[b * c..][..c], &scaled, 1e-5, "query");
            let place = |i: usize| ((b * h + i / d) * t + positions(batch)[b] as usize) * d + i % d;
            for (cache, part) in [(&keys, 1), (&values, 2)] {
                let got: Vec<f64> = (0..c).map(|i| cache[place(i)]).collect();
                assert_rounded(&got, &row[part * c..][..c], "cache");
            }
        }
        // Nothing else of the cache was touched: one position of each sequence.
        assert_eq!(keys.iter().filter(|x| !x.is_nan()).count(), batch * c);
    }
}

#[test]
fn parts_of_attention_are_combined_packed_and_added() {
    for (shape, batch, schedule) in cases() {
        let mut stage = Stage::new(shape, schedule);
        let dims = shape.dims;
        let c = dims.width;
        let query = stage.fill(Buffer::Query, 2.0);
        let (keys, values) = (stage.fill(Buffer::Keys, 1.0), stage.fill(Buffer::Values, 1.0));
        let (weights, bias) = (stage.fill(Buffer::ProjectWeight, 0.3), stage.fill(Buffer::ProjectBias, 0.3));
        let x = stage.fill(Buffer::Residual, 1.0);
        stage.set(Buffer::Position, &positions(batch));
        stage.play_steps(&plan::decode(&shape, batch, Choice::Greedy).unwrap(), attention_steps(&shape));
        let want = step_attention(dims, &positions(batch), &query, &keys, &values);
        let attended = stage.packed(Buffer::Packed, batch, c);
        assert_rounded(&attended, &want, "packed");
        let added = product(&attended, &weights, &bias, c);
        let want: Vec<f64> = x.iter().zip(&added).map(|(x, y)| x + y).collect();
        assert_close(&stage.get(Buffer::Residual)[..batch * c], &want, 1e-5, "attention");
    }
}

#[test]
fn packed_rows_go_through_the_inner_layer() {
    for (shape, batch, schedule) in cases() {
        let mut stage = Stage::new(shape, schedule);
        let (c, f) = (shape.dims.width, shape.dims.inner);
        let x = stage.fill(Buffer::Residual, 3.0);
        let (gain, norm_bias) = (stage.fill(Buffer::Norm2Gain, 1.0), stage.fill(Buffer::Norm2Bias, 0.2));
        let (w1, b1) = (stage.fill(Buffer::ExpandWeight, 0.3), stage.fill(Buffer::ExpandBias, 0.3));
        let (w2, b2) = (stage.fill(Buffer::ContractWeight, 0.3), stage.fill(Buffer::ContractBias, 0.3));
        let plan = plan::decode(&shape, batch, Choice::Greedy).unwrap();
        stage.play_steps(&plan, inner_steps(&shape));
        let normed = stage.packed(Buffer::Packed, batch, c);
        let want = layer_norm(&x[..batch * c], &gain, &norm_bias, shape.dims.epsilon);
        assert_rounded(&normed, &want, "packed");
        let want: Vec<f64> = product(&normed, &w1, &b1, c).into_iter().map(gelu).collect();
        let hidden = stage.packed(Buffer::PackedHidden, batch, f);
        assert_rounded(&hidden, &want, "hidden");
        let added = product(&hidden, &w2, &b2, f);
        let want: Vec<f64> = x.iter().zip(&added).map(|(x, y)| x + y).collect();
        assert_close(&stage.get(Buffer::Residual)[..batch * c], &want, 1e-5, "inner layer");
        stage.assert_nobody_is_counted();
    }
    let sharing = |(shape, batch, _): &(Shape, usize, Schedule)| {
        plan::decode(shape, *batch, Choice::Greedy).unwrap().steps[inner_steps(shape).end - 1].grid[2]
    };
    let sharing: Vec<u32> = cases().iter().map(sharing).collect();
    assert!([1, 2, 4].iter().all(|blocks| sharing.contains(blocks)), "{sharing:?}");
}

#[test]
fn the_head_of_packed_rows_chooses_the_next_token_and_goes_on() {
    for (shape, batch, schedule) in cases() {
        let mut stage = Stage::new(shape, schedule);
        let (c, v, t) = (shape.dims.width, shape.dims.vocabulary, shape.dims.context);
        stage.fill(Buffer::Residual, 3.0);
        stage.fill(Buffer::NormGain, 1.0);
        stage.fill(Buffer::NormBias, 0.2);
        let table = stage.fill(Buffer::TokenTable, 0.3);
        let plan = plan::decode(&shape, batch, Choice::Greedy).unwrap();
        // Twice, as a second step would: it must find everything as the first did.
        for _ in 0..2 {
            stage.set(Buffer::Position, &positions(batch));
            stage.play_steps(&plan, plan.steps.len() - 2..plan.steps.len());
        }
        let want = product(&stage.packed(Buffer::Packed, batch, c), &table, &[], c);
        let logits = stage.get(Buffer::Logits);
        assert_close(&logits[..batch * v], &want, 1e-5, "logits");
        for b in 0..batch {
            let row = &logits[b * v..][..v];
            let best = (0..v).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            assert_eq!(stage.integers(Buffer::Token)[b], best as i32);
            let next = positions(batch)[b] + 1;
            assert_eq!(stage.integers(Buffer::Position)[b], next);
            if (next as usize) < t {
                assert_eq!(stage.integers(Buffer::Output)[b * t + next as usize], best as i32);
            }
        }
        stage.assert_nobody_is_counted();
    }
}

#[test]
fn of_equal_logits_of_packed_rows_the_lowest_id_is_chosen() {
    for schedule in Schedule::ALL {
        let shape = Shape::new(Dims::gpt2(1, 2, 64, 257, 16), Weights::Bf16, 17, 17, 1).unwrap();
        let mut stage = Stage::new(shape, schedule);
        stage.fill(Buffer::Residual, 1.0);
        stage.fill(Buffer::NormGain, 0.0);
        stage.fill(Buffer::NormBias, 0.0);
        stage.fill(Buffer::TokenTable, 1.0);
        let plan = plan::decode(&shape, 17, Choice::Greedy).unwrap();
        stage.play_steps(&plan, plan.steps.len() - 2..plan.steps.len());
        assert_eq!(stage.integers(Buffer::Token), [0; 17]);
    }
}

#[test]
fn the_schedule_changes_no_bit_of_packed_rows() {
    let dims = Dims { inner: 1536, ..Dims::gpt2(2, 2, 32, 257, 70) };
    let bits = Schedule::ALL.map(|schedule| {
        let shape = Shape::new(dims, Weights::Bf16, 33, 33, 4).unwrap();
        let mut stage = Stage::new(shape, schedule);
        for buffer in Buffer::ALL.into_iter().filter(|&buffer| buffer <= Buffer::Values) {
            stage.fill(buffer, 0.4);
        }
        stage.set(Buffer::Position, &positions(33));
        let plan = plan::decode(&shape, 33, Choice::Greedy).unwrap();
        stage.play_steps(&plan, 0..plan.steps.len());
        let bits = |buffer: Buffer| stage.emulation.array(buffer.index()).bytes().to_vec();
        [Buffer::Keys, Buffer::Values, Buffer::Residual, Buffer::Logits, Buffer::Token].map(bits)
    });
    assert!(bits.iter().all(|one| *one == bits[0]));
}
