//! The crate's table of CUDA kernels: what each fuses, reads and takes, and what a GPU said of it, where one did.

use std::path::Path;

use kernels::cuda::plan::{self, Choice, Dims, Launch, Operation, Shape, Weights};

/// What `gpt2 shares` printed on a GPU: the file below results/gpu, and its text.
pub(crate) type Record = (String, String);

/// The newest of results/gpu/<machine>/<date>-<revision>.csv.
pub(crate) fn record() -> Option<Record> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/gpu");
    let machines = std::fs::read_dir(folder).ok()?.flatten();
    let files = machines.filter_map(|machine| std::fs::read_dir(machine.path()).ok()).flatten().flatten();
    let newest = files.map(|file| file.path()).max_by_key(|path| path.file_name().map(ToOwned::to_owned))?;
    let name = newest.components().rev().take(2).collect::<Vec<_>>();
    let name: Vec<_> = name.iter().rev().map(|part| part.as_os_str().to_string_lossy()).collect();
    Some((name.join("/"), std::fs::read_to_string(&newest).ok()?))
}

/// The table and where its times come from; `registers` of an operation in one format on sm_90a.
pub(crate) fn table(registers: impl Fn(Operation, Weights) -> String, record: Option<&Record>) -> String {
    let mut text = match record {
        Some((file, _)) => format!("Times from [results/gpu/{file}](../results/gpu/{file}).\n\n"),
        None => "No times: not run on a GPU yet.\n\n".to_owned(),
    };
    text += "| kernel | fuses | reads | registers, f32 | registers, bf16 | a launch | of the floor's bandwidth |\n\
             | --- | --- | ---: | --- | --- | ---: | ---: |\n";
    let launches = launches();
    for operation in Operation::ALL {
        let there = |weights| operation.weights().is_empty() || operation.weights().contains(&weights);
        let [f32, bf16] = Weights::ALL.map(|weights| match there(weights) {
            true => registers(operation, weights),
            false => "none".to_owned(),
        });
        let reads = launches.iter().find(|(launch, _)| launch.kernel.operation == operation);
        let reads = match reads.map_or(0, |(_, bytes)| *bytes) {
            0 => "rows alone".to_owned(),
            bytes @ 1..100_000 => format!("{:.1} kB", bytes as f64 / 1e3),
            bytes => format!("{:.2} MB", bytes as f64 / 1e6),
        };
        let [time, share] = record.and_then(|(_, text)| measured(text, operation)).unwrap_or_else(|| {
            let never = if record.is_some() { "not in this run" } else { "not run" };
            [never.to_owned(), never.to_owned()]
        });
        let (name, fuses) = (operation.name(), fuses(operation));
        text += &format!("| `{name}` | {fuses} | {reads} | {f32} | {bf16} | {time} | {share} |\n");
    }
    text
}

/// Launches of GPT-2 124M in bf16 with what each reads: a step behind 128 positions and a prompt of 128 tokens, and
/// for kernels of more than 8 rows a step of 64 sequences.
fn launches() -> Vec<(Launch, usize)> {
    let dims = Dims::gpt2(12, 12, 768, 50257, 1024);
    let one = Shape::new(dims, Weights::Bf16, 1, 128, 132).unwrap();
    let many = Shape::new(dims, Weights::Bf16, 64, 64, 132).unwrap();
    let library = Shape { products: plan::Products::CublasLt, ..one };
    let plans = [
        (one, plan::decode(&one, 1, Choice::Greedy).unwrap()),
        (one, plan::prefill(&one, 0, 1, 128, Choice::Greedy).unwrap()),
        (library, plan::prefill(&library, 0, 1, 128, Choice::Greedy).unwrap()),
        (many, plan::decode(&many, 64, Choice::Greedy).unwrap()),
        (one, plan::stream(&one, 1, 128).unwrap()),
    ];
    let all =
        plans.into_iter().flat_map(|(shape, plan)| plan.steps.into_iter().map(move |step| (shape, step)));
    all.map(|(shape, step)| (step.clone(), step.bytes(&shape, 128))).collect()
}

/// Microseconds of one launch, and the share of the floor's bandwidth, of an operation's bf16 kernel in a text of
/// `gpt2 shares`.
fn measured(text: &str, operation: Operation) -> Option<[String; 2]> {
    let mut rows = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let of = |name: &str| {
        let behind = name.strip_prefix(operation.name());
        behind.is_some_and(|rest| rest.is_empty() || rest == "_bf16" || rest.starts_with("_bf16_"))
    };
    let row = rows.find(|row| row.len() == 7 && of(row[1]))?;
    let [launches, microseconds] = [row[2], row[4]].map(|number| number.parse::<f64>().ok());
    let share = row[6].trim().parse::<f64>().map(|share| format!("{:.0} %", 100.0 * share));
    Some([
        format!("{:.2} µs", microseconds? / launches?),
        share.unwrap_or_else(|_| "reads no weights".to_owned()),
    ])
}

fn fuses(operation: Operation) -> &'static str {
    use Operation as Is;
    match operation {
        Is::Embed => "both tables' rows, their sum",
        Is::NormQkv => "layer norm, product, bias, scale of queries, places in the cache",
        Is::Attend => "scores, softmax, sum of values of a part of the positions",
        Is::Project => "combination of the parts, product, bias, residual",
        Is::NormExpand => "layer norm, product, bias, GELU",
        Is::Contract => "product, bias, residual",
        Is::NormHead => "layer norm, logits, the best of them, next token and position",
        Is::Sample => "temperature, top-k, top-p, draw, next token and position",
        Is::Norm => "layer norm, rounding",
        Is::MatmulQkv => "product, bias, scale of queries, places in the cache",
        Is::MatmulGelu => "product, bias, GELU, rounding",
        Is::MatmulResidual => "product, bias, residual",
        Is::SplitQkv => "bias, scale of queries, places in the cache, behind cuBLASLt's product",
        Is::AttendTiles => "both products of attention, mask, softmax, rounding",
        Is::PackNorm => "layer norm, rounding, packing",
        Is::AttendPacked => "all of `attend`, rounding, packing",
        Is::PackParts => "combination of the parts, rounding, packing",
        Is::SkinnyQkv => "product for up to 64 rows, bias, scale of queries, places in the cache",
        Is::SkinnyGelu => "product for up to 64 rows, bias, GELU, rounding, packing",
        Is::SkinnyResidual => "product for up to 64 rows, sums of several blocks, bias, residual",
        Is::SkinnyHead => "logits of up to 64 rows, the best of them, next token and position",
        Is::Stream => "nothing: it reads what a step must read, the floor",
        Is::LibraryProduct | Is::LibraryGelu | Is::LibraryResidual => "cuBLASLt's own",
    }
}

#[test]
fn a_run_on_a_gpu_fills_the_table_by_kernel_and_launch() {
    let text = "part,kernel,launches,bytes,microseconds,gb_per_s,of_limit\n\
        limit,stream,1,4000,1.000,4.0,1.000\n\
        step,all,62,9000,90.000,3.0,0.750\n\
        step,norm_qkv_bf16_r1,12,3000,30.000,3.2,0.804\n\
        step,attend_bf16,12,10,6.000,1.0,0.250\n\
        prompt,layer_norm_bf16,24,0,48.000,,\n";
    let of = |operation| measured(text, operation);
    assert_eq!(of(Operation::NormQkv), Some(["2.50 µs".into(), "80 %".into()]));
    assert_eq!(of(Operation::Attend), Some(["0.50 µs".into(), "25 %".into()]));
    assert_eq!(of(Operation::Stream), Some(["1.00 µs".into(), "100 %".into()]));
    assert_eq!(of(Operation::Norm), Some(["2.00 µs".into(), "reads no weights".into()]));
    assert_eq!((of(Operation::AttendTiles), of(Operation::Embed)), (None, None), "no other's row");
    let record = ("h100/2026-01-01-abc.csv".to_owned(), text.to_owned());
    let shown = table(|_, _| "40".to_owned(), Some(&record));
    assert!(shown.starts_with("Times from [results/gpu/h100/2026-01-01-abc.csv]"), "{shown}");
    assert!(shown.contains("| 3.54 MB | 40 | 40 | 2.50 µs | 80 % |"), "{shown}");
    assert!(shown.contains("| not in this run | not in this run |"), "{shown}");
}
