//! Prompts: products of many rows, by every tile and as a library is asked for them, and attention of many
//! queries.

use super::*;

/// Attention of a prompt's query over `count` positions: in f32 as [`attention`], in bf16 no further from it than
/// half a bf16 step of every weight and of the result allows, once the query is rounded too.
#[track_caller]
fn assert_attended(got: &[f64], q: &[f64], keys: &[f64], values: &[f64], count: usize, weights: Weights) {
    let q: Vec<f64> = q.iter().map(|x| rounded(*x, weights)).collect();
    let want = attention(&q, keys, values, count);
    let sizes: Vec<f64> = values.iter().map(|x| x.abs()).collect();
    let size = attention(&q, keys, &sizes, count);
    let half_step = if weights == Weights::F32 { 0.0 } else { 1.0 / 256.0 };
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        // Written so that a NaN fails.
        let close = (got - want).abs() <= half_step * (size[i] + want.abs()) + 1e-5 * size[i].max(0.1);
        assert!(close, "{got} for {want} at {i} of {count} positions");
    }
}

#[test]
fn prompts_are_products_and_causal_attention() {
    let small = cases().into_iter().filter(|(_, batch, _)| *batch <= 2);
    let by = |products| small.clone().map(move |case| (Shape { products, ..case.0 }, case.1, case.2));
    for (shape, sequences, schedule) in by(Products::Tiles).chain(by(Products::CublasLt)) {
        let length = [37, 20][sequences - 1];
        let (to_qkv, to_inner, residual, expand_bias) = match shape.products {
            Products::Tiles => (
                &[Operation::MatmulQkv][..],
                Operation::MatmulGelu,
                Operation::MatmulResidual,
                Buffer::ExpandBias,
            ),
            Products::CublasLt => (
                &[Operation::LibraryProduct, Operation::SplitQkv][..],
                Operation::LibraryGelu,
                Operation::LibraryResidual,
                Buffer::ExpandBiasRounded,
            ),
        };
        let mut stage = Stage::new(shape, schedule);
        let dims = shape.dims;
        let (c, f, h, d, t) = (dims.width, dims.inner, dims.heads, dims.head_width(), dims.context);
        let rows = sequences * length;
        // One sequence of the batch is left out where there is room: offsets count.
        let first = shape.batch - sequences;
        let plan = plan::prefill(&shape, first, sequences, length, Choice::Greedy).unwrap();
        let x = stage.fill(Buffer::Residual, 3.0);
        let (gain, norm_bias) = (stage.fill(Buffer::Norm1Gain, 1.0), stage.fill(Buffer::Norm1Bias, 0.2));
        let (weights, bias) = (stage.fill(Buffer::QkvWeight, 0.3), stage.fill(Buffer::QkvBias, 0.3));
        stage.fill(Buffer::Keys, 1.0);
        stage.fill(Buffer::Values, 1.0);
        let before: Vec<i32> = (0..shape.batch as i32).map(|b| 5 * b).collect();
        stage.set(Buffer::Position, &before);
        stage.play(&plan, &[&[Operation::Norm], to_qkv, &[Operation::AttendTiles]].concat());
        let normed = layer_norm(&x[..rows * c], &gain[..c], &norm_bias[..c], dims.epsilon);
        // With weights in bf16 everything that is multiplied is rounded too.
        let tolerance = if shape.weights == Weights::F32 { 1e-5 } else { 1.0 / 256.0 };
        assert_close(&stage.get(Buffer::Normed)[..rows * c], &normed, tolerance, "normed");
        let normed = stage.get(Buffer::Normed)[..rows * c].to_vec();
        let qkv = product(&normed, &weights[..3 * c * c], &bias[..3 * c], c);
        let (query, keys) = (stage.get(Buffer::Query), stage.get(Buffer::Keys));
        let (values, attended) = (stage.get(Buffer::Values), stage.get(Buffer::Attended));
        for row in 0..rows {
            let (sequence, place) = (first + row / length, row % length);
            let position = before[sequence] as usize + place;
            let want = &qkv[row * 3 * c..][..3 * c];
            let scaled: Vec<f64> = want[..c].iter().map(|x| x / (d as f64).sqrt()).collect();
            assert_close(&query[row * c..][..c], &scaled, 1e-5, "query");
            for head in 0..h {
                let cached = (sequence * h + head) * t * d;
                let key = &keys[cached + position * d..][..d];
                assert_close(key, &want[c + head * d..][..d], tolerance, "key");
                let value = &values[cached + position * d..][..d];
                assert_close(value, &want[2 * c + head * d..][..d], tolerance, "value");
                let at = row * c + head * d;
                let (k, v) = (&keys[cached..][..t * d], &values[cached..][..t * d]);
                assert_attended(&attended[at..][..d], &query[at..][..d], k, v, position + 1, shape.weights);
            }
        }
        let (w, b) = (stage.fill(Buffer::ProjectWeight, 0.3), stage.fill(Buffer::ProjectBias, 0.3));
        stage.play(&plan, &[residual]);
        let added = product(&attended[..rows * c], &w[..c * c], &b[..c], c);
        let want: Vec<f64> = x.iter().zip(&added).map(|(x, y)| x + y).collect();
        assert_close(&stage.get(Buffer::Residual)[..rows * c], &want, 1e-5, "residual");
        let (w, b) = (stage.fill(Buffer::ExpandWeight, 0.3), stage.fill(expand_bias, 0.3));
        stage.play(&plan, &[to_inner]);
        let hidden = product(&normed, &w[..f * c], &b[..f], c);
        let want: Vec<f64> = hidden.into_iter().map(gelu).collect();
        assert_close(&stage.get(Buffer::Inner)[..rows * f], &want, tolerance, "inner layer");
    }
}

#[test]
fn every_tile_of_a_product_is_that_product() {
    // Rows, outputs and inputs that fill tiles and stages, and that end inside of them.
    let mut seen = Vec::new();
    for (rows, heads, width, inner) in
        [(120, 31, 248, 248), (127, 17, 136, 136), (127, 7, 56, 136), (190, 8, 64, 40), (30, 9, 72, 264)]
    {
        let dims = Dims { inner, ..Dims::gpt2(1, heads, width, 257, 200) };
        let shape = Shape::new(dims, Weights::Bf16, 1, rows, 1).unwrap();
        let plan = plan::prefill(&shape, 0, 1, rows, Choice::Greedy).unwrap();
        let products = [Operation::MatmulQkv, Operation::MatmulResidual, Operation::MatmulGelu];
        let (c, f, d) = (width, inner, width / heads);
        let outcomes = Schedule::ALL.map(|schedule| {
            let mut stage = Stage::new(shape, schedule);
            let x = stage.fill(Buffer::Residual, 3.0);
            let (normed, attended) = (stage.fill(Buffer::Normed, 1.0), stage.fill(Buffer::Attended, 1.0));
            let mut side = |weight, bias| (stage.fill(weight, 0.3), stage.fill(bias, 0.3));
            let (wq, bq) = side(Buffer::QkvWeight, Buffer::QkvBias);
            let (wp, bp) = side(Buffer::ProjectWeight, Buffer::ProjectBias);
            let (we, be) = side(Buffer::ExpandWeight, Buffer::ExpandBias);
            stage.set(Buffer::Position, &[5]);
            stage.play(&plan, &products);
            let qkv = product(&normed, &wq, &bq, c);
            let added = product(&attended, &wp, &bp, c);
            let want: Vec<f64> = x.iter().zip(&added).map(|(x, y)| x + y).collect();
            assert_close(&stage.get(Buffer::Residual), &want, 1e-5, "residual");
            let want: Vec<f64> = product(&normed, &we, &be, c).into_iter().map(gelu).collect();
            assert_close(&stage.get(Buffer::Inner)[..rows * f], &want, 1.0 / 256.0, "inner layer");
            let cache = [stage.get(Buffer::Keys), stage.get(Buffer::Values)];
            for (row, want) in qkv.chunks(3 * c).enumerate() {
                let scaled: Vec<f64> = want[..c].iter().map(|x| x / (d as f64).sqrt()).collect();
                assert_close(&stage.get(Buffer::Query)[row * c..][..c], &scaled, 1e-5, "query");
                for (part, cache) in cache.iter().enumerate() {
                    let at = |i: usize| cache[(i / d * 200 + 5 + row) * d + i % d];
                    let got: Vec<f64> = (0..c).map(at).collect();
                    assert_close(&got, &want[(part + 1) * c..][..c], 1.0 / 256.0, "cache");
                }
            }
            stage
        });
        for buffer in [Buffer::Query, Buffer::Keys, Buffer::Values, Buffer::Residual, Buffer::Inner] {
            let bits = outcomes.each_ref().map(|stage| stage.emulation.array(buffer.index()).bytes());
            assert!(bits.iter().all(|other| *other == bits[0]), "a schedule changed the bits of {buffer:?}");
        }
        seen.extend(
            plan.steps.iter().map(|step| step.kernel).filter(|one| products.contains(&one.operation)),
        );
    }
    for operation in [Operation::MatmulQkv, Operation::MatmulResidual, Operation::MatmulGelu] {
        for &tile in operation.tiles(Weights::Bf16) {
            assert!(
                seen.contains(&Kernel::of_tile(operation, Weights::Bf16, tile)),
                "{operation:?} {tile:?}"
            );
        }
    }
}

#[test]
fn prompts_of_every_length_attend_to_themselves_and_to_what_was_there() {
    // Lengths around the rows of a warp and a tile; texts before them that end inside and at the edge of one.
    let before = [0, 5, 64, 77, 128, 1];
    for (i, length) in [1, 15, 16, 17, 63, 64, 65, 130].into_iter().enumerate() {
        for (j, d) in [8, 16, 32, 64, 128].into_iter().enumerate() {
            for weights in Weights::ALL {
                let dims = Dims::gpt2(1, 2, 2 * d, 257, 270);
                let shape = Shape::new(dims, weights, 3, 2 * length, 2).unwrap();
                let plan = plan::prefill(&shape, 1, 2, length, Choice::Greedy).unwrap();
                let held: Vec<i32> = (0..3).map(|b| before[(i + j + b) % before.len()]).collect();
                let outcomes = Schedule::ALL.map(|schedule| {
                    let mut stage = Stage::new(shape, schedule);
                    stage.fill(Buffer::Query, 4.0);
                    stage.fill(Buffer::Keys, 1.0);
                    stage.fill(Buffer::Values, 1.0);
                    stage.set(Buffer::Position, &held);
                    stage.play(&plan, &[Operation::AttendTiles]);
                    stage
                });
                let [query, keys, values, attended] =
                    [Buffer::Query, Buffer::Keys, Buffer::Values, Buffer::Attended]
                        .map(|b| outcomes[0].get(b));
                for row in 0..2 * length {
                    let (sequence, count) = (1 + row / length, row % length + 1);
                    let count = held[sequence] as usize + count;
                    for head in 0..2 {
                        let (at, cached) = ((row * 2 + head) * d, (sequence * 2 + head) * 270 * d);
                        let (k, v) = (&keys[cached..][..270 * d], &values[cached..][..270 * d]);
                        assert_attended(&attended[at..][..d], &query[at..][..d], k, v, count, weights);
                    }
                }
                for other in &outcomes[1..] {
                    let [one, other] =
                        [&outcomes[0], other].map(|s| s.emulation.array(Buffer::Attended.index()));
                    assert_eq!(one.bytes(), other.bytes(), "a schedule changed the bits");
                }
            }
        }
    }
}
