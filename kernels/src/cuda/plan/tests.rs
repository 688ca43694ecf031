//! The plans as data: that a device would take them, and what they are made of.

use super::*;

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for dims in [Dims::gpt2(12, 12, 768, 50257, 1024), Dims::gpt2(2, 2, 64, 257, 160)] {
        for dims in [dims, Dims { tied: false, inner: 40, ..dims }] {
            for batch in [1, 2, 3, 8, 9, 64] {
                shapes.push(Shape::new(dims, Weights::Bf16, batch, 256, 132).unwrap());
                let shape = Shape::new(dims, Weights::F32, batch, 256, 1).unwrap();
                shapes.extend([shape, Shape { products: Products::CublasLt, ..shape }]);
            }
        }
    }
    shapes
}

fn plans(shape: &Shape) -> Vec<Plan> {
    let drawn = Choice::Sampled { temperature: 1.0, top_k: 5, top_p: 0.5 };
    let last = shape.batch - 1;
    vec![
        decode(shape, shape.batch, Choice::Greedy).unwrap(),
        decode(shape, 1, drawn).unwrap(),
        prefill(shape, last, 1, 100, Choice::Greedy).unwrap(),
        stream(shape, shape.batch, 100).unwrap(),
        prefill(shape, 0, shape.batch, (256 / shape.batch).min(shape.dims.context), drawn).unwrap(),
    ]
}

#[test]
fn buffers_stand_at_their_index_and_plans_of_a_shape_share_them() {
    for shape in shapes() {
        for plan in plans(&shape) {
            assert_eq!(plan.buffers, shape.buffers());
            for (index, spec) in plan.buffers.iter().enumerate() {
                assert_eq!((spec.buffer, spec.buffer.index()), (Buffer::ALL[index], index));
            }
        }
    }
}

#[test]
fn every_launch_is_one_a_device_takes() {
    for shape in shapes() {
        for step in plans(&shape).iter().flat_map(|plan| &plan.steps) {
            let name = step.kernel.name();
            assert!(step.grid.iter().all(|&n| n > 0), "{name}");
            assert!(step.grid[1].max(step.grid[2]) <= 65535, "{name}");
            assert!(step.block[0] % 32 == 0 && step.block[1..] == [1, 1], "{name}");
            assert!(step.shared_bytes <= 99 << 10, "{name}");
            let library = step.kernel.operation.is_library();
            assert!(library || Kernel::all().contains(&step.kernel), "{name}");
            assert!(!library || shape.products == Products::CublasLt, "{name}");
            for argument in &step.arguments {
                let Argument::Buffer { id, offset } = argument else { continue };
                let spec = &shape.buffers()[id.index()];
                assert!(*offset < spec.elements, "{name}: {} at {offset}", spec.name);
                // 16-byte loads begin where an argument points.
                let small = matches!(spec.number, Number::I32 | Number::U32 | Number::U64);
                let logits = matches!(id, Buffer::Logits);
                assert!(small || logits || offset * spec.number.bytes() % 16 == 0, "{name}: {}", spec.name);
            }
        }
    }
}

#[test]
fn a_step_is_five_launches_a_layer_and_two() {
    let shape = Shape::new(Dims::gpt2(12, 12, 768, 50257, 1024), Weights::Bf16, 1, 1, 132).unwrap();
    let plan = decode(&shape, 1, Choice::Greedy).unwrap();
    assert_eq!(plan.steps.len(), 62);
    // Every multiprocessor of an H200 has a block of attention.
    assert_eq!(plan.steps[2].grid, [11, 12, 1]);
    let drawn = Choice::Sampled { temperature: 1.0, top_k: 0, top_p: 1.0 };
    assert_eq!(decode(&shape, 1, drawn).unwrap().steps.len(), 63);
    assert_eq!(prefill(&shape, 0, 1, 1, Choice::Greedy).unwrap().steps.len(), 86);
    let library = Shape { products: Products::CublasLt, ..shape };
    assert_eq!(prefill(&library, 0, 1, 1, Choice::Greedy).unwrap().steps.len(), 98);
    assert_eq!(decode(&library, 1, Choice::Greedy).unwrap().steps, plan.steps);
}

#[test]
fn a_prompts_products_are_cut_so_that_all_multiprocessors_have_work() {
    let tiles = |rows, processors| {
        let dims = Dims::gpt2(1, 12, 768, 50257, 8192);
        let shape = Shape::new(dims, Weights::Bf16, 1, rows, processors).unwrap();
        let plan = prefill(&shape, 0, 1, rows, Choice::Greedy).unwrap();
        let tiles = plan.steps.iter().filter_map(|step| {
            let products = step.kernel.operation != Operation::AttendTiles;
            step.kernel.tile.filter(|_| products).map(|tile| (tile.rows, tile.columns))
        });
        tiles.collect::<Vec<_>>()
    };
    // Queries, keys and values; attention's output; the inner layer; the way back.
    assert_eq!(tiles(1024, 132), [(128, 64); 4]);
    assert_eq!(tiles(64, 132), [(64, 64); 4]);
    assert_eq!(tiles(8192, 132)[0], (128, 128));
    assert_eq!(tiles(8192, 1), [(128, 128); 4]);
}

#[test]
fn more_than_8_rows_in_bf16_read_each_weight_once_for_64() {
    let dims = Dims::gpt2(12, 12, 768, 50257, 1024);
    let plan = |weights, batch| {
        let shape = Shape::new(dims, weights, batch, batch, 132).unwrap();
        decode(&shape, batch, Choice::Greedy).unwrap()
    };
    for (batch, rows, groups) in [(9, 16, 1), (16, 16, 1), (17, 32, 1), (33, 64, 1), (65, 64, 2)] {
        let plan = plan(Weights::Bf16, batch);
        assert_eq!(plan.steps.len(), 87);
        let products = plan.steps.iter().filter(|step| step.kernel.rows.is_some());
        let products: Vec<_> = products.collect();
        assert_eq!(products.len(), 4 * 12 + 1);
        for step in products {
            assert_eq!((step.kernel.rows, step.grid[1]), (Some(rows), groups));
        }
    }
    // Blocks share the inputs of a product where there are many for few outputs.
    let steps = plan(Weights::Bf16, 64).steps;
    assert_eq!([2, 4, 7].map(|step| steps[step].grid), [[144, 1, 1], [48, 1, 1], [48, 1, 4]]);
    assert_eq!(plan(Weights::F32, 64).steps.len(), 62);
    assert_eq!(plan(Weights::Bf16, 8).steps.len(), 62);
}

#[test]
fn kernels_have_names_of_their_own() {
    let mut names: Vec<String> = Kernel::all().into_iter().map(Kernel::name).collect();
    assert_eq!(names.len(), 82);
    assert!(names.iter().any(|name| name == "norm_qkv_bf16_r4") && names.contains(&"sample".into()));
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 82);
    assert_eq!(Kernel::new(Operation::Project, Weights::F32, 3).rows, Some(4));
    assert_eq!(Kernel::new(Operation::Project, Weights::F32, 64).rows, Some(8));
    assert_eq!(Kernel::new(Operation::SkinnyHead, Weights::Bf16, 70).name(), "skinny_head_bf16_r64");
    assert_eq!(Kernel::new(Operation::Attend, Weights::F32, 64).rows, None);
}

#[test]
fn what_the_kernels_cannot_do_is_refused_with_the_number_at_fault() {
    let good = Dims::gpt2(2, 2, 64, 257, 160);
    let refused = |dims: Dims, batch, word: &str| {
        let said = Shape::new(dims, Weights::F32, batch, 1, 132).unwrap_err().to_string();
        assert!(said.starts_with("no CUDA plan: ") && said.contains(word), "{said}");
    };
    refused(Dims { heads: 32, ..good }, 1, "it is 2");
    refused(Dims { heads: 3, ..good }, 1, "must divide the width; heads 3");
    refused(Dims { inner: 70, ..good }, 1, "multiple of 8; it is 70");
    refused(Dims { layers: 0, ..good }, 1, "at least a layer");
    refused(Dims { vocabulary: 1 << 25, ..good }, 1, "2^24");
    refused(good, 0, "got 0");
    refused(good, 1025, "got 1025");
    let shape = Shape::new(good, Weights::F32, 2, 40, 132).unwrap();
    assert!(Shape { splits: 33, ..shape }.check().is_err());
    assert!(Shape { processors: 0, ..shape }.check().is_err());
    assert!(decode(&shape, 3, Choice::Greedy).is_err());
    assert!(decode(&shape, 0, Choice::Greedy).is_err());
    for (first, sequences, length) in [(1, 2, 1), (0, 0, 1), (0, 1, 0), (0, 1, 161), (0, 2, 21)] {
        assert!(prefill(&shape, first, sequences, length, Choice::Greedy).is_err());
    }
}
