//! Every CUDA kernel compiles to machine code for three generations, and takes of a multiprocessor what
//! src/cuda/registers.csv says: registers and spills from the assembler, shared memory from the plans of
//! GPT-2 124M.
//!
//! `ASSAY_BLESS=1` writes the table anew where a change is meant, and the README's from it. Without NVRTC
//! (in ASSAY_CUDA_LIB, CUDA_HOME, the locked Python side or the loader's folders) the table is only held to
//! the list of kernels, and the test says so.
#![cfg(feature = "cuda")]

#[path = "cuda_registers/page.rs"]
mod page;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kernels::cuda::plan::{self, Choice, Dims, Kernel, Operation, Plan, Products, Shape, Weights};
use kernels::cuda::source::source;
use kernels::cuda::{Architecture, Libraries, Library, Nvrtc, Search, Usage};

const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90a", "sm_120"];
const HEADER: &str = "kernel,architecture,registers,spill_bytes,stack_bytes,shared_bytes\n";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda")
}

fn nvrtc() -> Option<Nvrtc> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python_ref/.venv/lib");
    let site = std::fs::read_dir(venv).into_iter().flatten().flatten();
    let site = site.map(|entry| entry.path().join("site-packages"));
    let named = std::env::var_os("ASSAY_CUDA_LIB").map(PathBuf::from);
    let home = std::env::var_os("CUDA_HOME").map(PathBuf::from);
    let search = Search::usual(named.as_deref(), home.as_deref(), site);
    let libraries = Libraries::open(&search, &[Library::Nvrtc]);
    match Nvrtc::new(&libraries) {
        Ok(nvrtc) => Some(nvrtc),
        Err(error) => {
            eprintln!("SKIPPED the fresh compile of registers.csv: {error}");
            None
        }
    }
}

/// Threads of a block, and the most shared memory that a plan of GPT-2 124M gives it, of each kernel; of those
/// that it does without, because of the width of its heads or the tile that is best for 1024 rows on 132
/// multiprocessors, a plan of something like it.
fn blocks() -> BTreeMap<String, (u32, u32)> {
    let mut most = of_plans(12, 1024, 132);
    for (heads, rows, processors) in [(6, 1024, 132), (24, 1024, 132), (48, 64, 132), (12, 1024, 1)] {
        for (kernel, block) in of_plans(heads, rows, processors) {
            most.entry(kernel).or_insert(block);
        }
    }
    most
}

fn of_plans(heads: usize, rows: usize, processors: u32) -> BTreeMap<String, (u32, u32)> {
    let mut most = BTreeMap::new();
    for weights in Weights::ALL {
        let dims = Dims::gpt2(12, heads, 768, 50257, 1024);
        let shape = Shape::new(dims, weights, 64, rows, processors).unwrap();
        let split = Shape { splits: 2, ..shape };
        let choice = Choice::Sampled { temperature: 1.0, top_k: 0, top_p: 1.0 };
        let mut plans: Vec<Plan> =
            [1, 2, 4, 8, 16, 32, 64].map(|batch| plan::decode(&shape, batch, choice).unwrap()).into();
        plans.push(plan::decode(&split, 64, choice).unwrap());
        plans.push(plan::prefill(&shape, 0, 1, rows, choice).unwrap());
        plans.push(plan::stream(&shape, 1, 0).unwrap());
        let library = Shape { products: Products::CublasLt, ..shape };
        plans.push(plan::prefill(&library, 0, 1, rows, choice).unwrap());
        for step in plans.iter().flat_map(|plan| &plan.steps) {
            let entry = most.entry(step.kernel.name()).or_insert((step.block[0], 0));
            entry.1 = step.shared_bytes.max(entry.1);
        }
    }
    most
}

/// One line a kernel and architecture, in the order of [`Kernel::all`].
fn compiled(nvrtc: Nvrtc) -> String {
    let (text, blocks) = (source(), blocks());
    let usages: Vec<Vec<Usage>> = std::thread::scope(|scope| {
        let threads: Vec<_> = ARCHITECTURES
            .iter()
            .map(|name| {
                let text = &text;
                scope.spawn(move || {
                    let done = nvrtc.compile("kernels.cu", text, &Architecture::named(*name), &[]).unwrap();
                    Usage::read(&done.log)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut table = HEADER.to_owned();
    for kernel in Kernel::all().into_iter().map(Kernel::name) {
        for (architecture, usage) in ARCHITECTURES.iter().zip(&usages) {
            let found = usage.iter().find(|usage| usage.kernel == kernel);
            let found = found.unwrap_or_else(|| panic!("{kernel} is not in the code for {architecture}"));
            let Usage { registers, stack_bytes, .. } = found;
            let spills = found.spill_store_bytes + found.spill_load_bytes;
            let line =
                format!("{kernel},{architecture},{registers},{spills},{stack_bytes},{}\n", blocks[&kernel].1);
            table += &line;
        }
    }
    table
}

/// Registers of each kernel of an operation on one architecture.
fn registers(table: &str, operation: Operation, weights: Weights) -> String {
    let kernels = Kernel::all()
        .into_iter()
        .filter(|kernel| kernel.operation == operation && kernel.weights.is_none_or(|kept| kept == weights));
    let number = |kernel: Kernel| {
        let line = table.lines().find(|line| line.starts_with(&format!("{},sm_90a,", kernel.name())));
        line.and_then(|line| line.split(',').nth(2)).unwrap_or("?").to_owned()
    };
    kernels.map(number).collect::<Vec<_>>().join(" ")
}

/// The README's table of registers.
fn readme_table(table: &str) -> String {
    let mut text = String::from("| kernel | f32 | bf16 |\n| --- | --- | --- |\n");
    for operation in Operation::ALL {
        let mut columns = Weights::ALL.map(|weights| {
            let there = operation.weights().is_empty() || operation.weights().contains(&weights);
            if there { registers(table, operation, weights) } else { "none".to_owned() }
        });
        if operation.weights().is_empty() {
            columns[1] = "the same".to_owned();
        }
        let [f32, bf16] = columns;
        text += &format!("| `{}` | {f32} | {bf16} |\n", operation.name());
    }
    text
}

/// The pages that show tables, with a table's name and what it says by the registers of `csv`.
fn pages(csv: &str) -> [(PathBuf, &'static str, String); 2] {
    let crate_page = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let of = |operation, weights| registers(csv, operation, weights);
    [
        (folder().join("README.md"), "registers", readme_table(csv)),
        (crate_page, "cuda kernels", page::table(of, page::record().as_ref())),
    ]
}

/// What of a page stands before the table of a name, that table, and what stands behind it.
fn around<'a>(page: &'a str, name: &str) -> [&'a str; 3] {
    let begin = format!("<!-- {name} -->\n");
    let begin = page.find(&begin).expect("a begin mark") + begin.len();
    let end = page.find(&format!("<!-- /{name} -->")).expect("an end mark");
    [&page[..begin], &page[begin..end], &page[end..]]
}

fn blessing() -> bool {
    std::env::var_os("ASSAY_BLESS").is_some()
}

#[test]
fn the_table_is_what_the_assembler_says() {
    let path = folder().join("registers.csv");
    if let Some(nvrtc) = nvrtc() {
        let fresh = compiled(nvrtc);
        if blessing() {
            std::fs::write(&path, &fresh).unwrap();
            for (path, name, table) in pages(&fresh) {
                let page = std::fs::read_to_string(&path).unwrap();
                let [before, _, after] = around(&page, name);
                std::fs::write(&path, format!("{before}{table}{after}")).unwrap();
            }
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        for (kept, fresh) in kept.lines().zip(fresh.lines()) {
            assert_eq!(kept, fresh, "ASSAY_BLESS=1 writes the table anew");
        }
        assert_eq!(kept.lines().count(), fresh.lines().count());
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(kept.starts_with(HEADER));
    let blocks = blocks();
    let mut lines = kept.lines().skip(1);
    for kernel in Kernel::all().into_iter().map(Kernel::name) {
        for architecture in ARCHITECTURES {
            let line: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
            assert_eq!(line[..2], [&kernel, architecture], "ASSAY_BLESS=1 writes the table anew");
            let [registers, spills, stack, bytes] = [2, 3, 4, 5].map(|i| line[i].parse::<u32>().unwrap());
            let (threads, shared) = blocks[&kernel];
            // Two blocks fit a multiprocessor's 65,536 registers, and nothing is spilled.
            assert!(2 * threads * registers <= 65_536, "{kernel} on {architecture}: {registers} registers");
            assert_eq!((spills, stack), (0, 0), "{kernel} on {architecture} spills");
            assert_eq!(bytes, shared, "{kernel}");
            // What sm_120 lets a block have; sm_80 and sm_90a have more.
            assert!(bytes <= 99 << 10, "{kernel}: {bytes} bytes of shared memory");
        }
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn the_pages_show_the_registers_of_the_table() {
    if blessing() {
        return; // The other test is writing all of them.
    }
    let csv = std::fs::read_to_string(folder().join("registers.csv")).unwrap();
    for (path, name, table) in pages(&csv) {
        let page = std::fs::read_to_string(&path).unwrap();
        let [_, shown, _] = around(&page, name);
        assert_eq!(shown, table, "{}: ASSAY_BLESS=1 writes it anew", path.display());
    }
}
