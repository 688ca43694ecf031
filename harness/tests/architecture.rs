//! The arrows that must not exist (ARCHITECTURE.md), read from Cargo.lock, the manifests and the
//! sources: a forbidden dependency or import fails here with its path.
//!
//! Cargo.lock is the graph that builds use, development and build dependencies included, so what
//! holds there holds for every way a crate is built. Invariant: nothing here needs a network, a
//! Python or a library of anybody's.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `folder` (or `folder` itself) that ends in `.ending`, sorted, relative to the root.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let (root, mut found) = (root(), Vec::new());
    let mut open = vec![root.join(folder)];
    while let Some(next) = open.pop() {
        if next.is_dir() {
            let hidden = next.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                name.starts_with('.') || name == "target" || name == "__pycache__"
            });
            if !hidden {
                open.extend(std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
            }
        } else if next.extension().is_some_and(|found| found == ending) {
            found.push(next.strip_prefix(&root).unwrap().to_path_buf());
        }
    }
    found.sort();
    found
}

/// A source file without comments and without its tests, which stand last.
fn code(path: &Path) -> String {
    let text = read(&root().join(path));
    let body = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Package name -> names of the packages it depends on, from Cargo.lock.
fn lock() -> BTreeMap<String, BTreeSet<String>> {
    let lock: toml::Table = toml::from_str(&read(&root().join("Cargo.lock"))).unwrap();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        let needs = graph.entry(package["name"].as_str().unwrap().into()).or_default();
        for need in package.get("dependencies").and_then(|list| list.as_array()).into_iter().flatten() {
            // An ambiguous name is written with its version behind it.
            needs.insert(need.as_str().unwrap().split(' ').next().unwrap().into());
        }
    }
    graph
}

/// Everything `from` depends on, each with the path that leads there.
fn reach(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeMap<String, String> {
    assert!(graph.contains_key(from), "{from} is not in Cargo.lock");
    let mut paths = BTreeMap::new();
    let mut open = vec![(from.to_string(), from.to_string())];
    while let Some((name, path)) = open.pop() {
        for need in graph.get(&name).into_iter().flatten() {
            if !paths.contains_key(need) {
                let path = format!("{path} -> {need}");
                paths.insert(need.clone(), path.clone());
                open.push((need.clone(), path));
            }
        }
    }
    paths
}

/// Folder -> package name of every workspace member.
fn members() -> BTreeMap<String, String> {
    let workspace: toml::Table = toml::from_str(&read(&root().join("Cargo.toml"))).unwrap();
    let listed = workspace["workspace"]["members"].as_array().unwrap();
    listed
        .iter()
        .map(|folder| {
            let folder = folder.as_str().unwrap();
            let manifest: toml::Table =
                toml::from_str(&read(&root().join(folder).join("Cargo.toml"))).unwrap();
            (folder.to_string(), manifest["package"]["name"].as_str().unwrap().to_string())
        })
        .collect()
}

fn engines() -> Vec<String> {
    members()
        .into_iter()
        .filter(|(folder, _)| folder.starts_with("harness/engines/"))
        .map(|(_, name)| name)
        .collect()
}

fn assert_never(graph: &BTreeMap<String, BTreeSet<String>>, from: &str, forbidden: &[&str]) {
    let reached = reach(graph, from);
    for name in forbidden {
        if let Some(path) = reached.get(*name) {
            panic!("{from} must not depend on {name}: {path}");
        }
    }
}

#[test]
fn what_is_measured_knows_nothing_of_who_measures() {
    let graph = lock();
    let engines = engines();
    for subject in ["rust_native", "kernels"] {
        assert_never(&graph, subject, &["harness", "worker", "tch", "torch-sys", "pyo3", "numpy"]);
        assert_never(&graph, subject, &engines.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let binding = "rust_native_python";
    assert_never(&graph, binding, &["harness", "worker", "tch", "torch-sys"]);
    assert_never(&graph, binding, &engines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_never(&graph, "kernels", &["rust_native"]);
    for engine in engines.iter().map(String::as_str).chain(["harness", "worker", "rust_native"]) {
        assert_never(&graph, engine, &[binding]);
    }
    for path in files("kernels", "rs").into_iter().chain(files("rust_native", "rs")) {
        let code = code(&path);
        for word in ["harness::", "worker::"] {
            assert!(!code.contains(word), "{} says `{word}`", path.display());
        }
    }
}

#[test]
fn the_harness_links_no_engine_no_libtorch_and_no_python() {
    let graph = lock();
    let foreign = [
        "tch",
        "torch-sys",
        "pyo3",
        "pyo3-ffi",
        "numpy",
        "llama-cpp-sys-2",
        "cudarc",
        "rust_native",
        "kernels",
        "tokenizers",
    ];
    assert_never(&graph, "harness", &foreign);
    assert_never(&graph, "harness", &engines().iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn the_worker_stays_small() {
    let allowed = BTreeSet::from(["anyhow", "libc", "serde", "serde_json", "sha2"].map(String::from));
    let has = &lock()["worker"];
    assert!(has.is_subset(&allowed), "worker depends on {:?}", has.difference(&allowed));
}

#[test]
fn engines_know_the_worker_alone_and_foreign_runtimes_stay_in_their_own_process() {
    let graph = lock();
    let engines = engines();
    assert!(engines.len() >= 4, "{engines:?}");
    for engine in &engines {
        let reached = reach(&graph, engine);
        assert!(reached.contains_key("worker"), "{engine} does not speak the wire of `worker`");
        for other in engines.iter().map(String::as_str).chain(["harness"]) {
            assert!(!reached.contains_key(other), "{engine} must not depend on {other}");
        }
    }
    // PyO3 has a second home, which is no engine: the wheel that Python users install.
    let homes: [(&str, &[&str]); 3] = [
        ("tch", &["engine-libtorch"]),
        ("pyo3", &["engine-python", "rust_native_python"]),
        ("llama-cpp-sys-2", &["engine-llama-cpp"]),
    ];
    for (runtime, homes) in homes {
        let linked: Vec<String> =
            members().into_values().filter(|name| reach(&graph, name).contains_key(runtime)).collect();
        assert_eq!(linked, homes, "who links {runtime}");
    }
}

#[test]
fn a_plain_cargo_build_needs_neither_python_nor_libtorch_nor_cmake() {
    let workspace: toml::Table = toml::from_str(&read(&root().join("Cargo.toml"))).unwrap();
    let (graph, members) = (lock(), members());
    for folder in workspace["workspace"]["default-members"].as_array().unwrap() {
        assert_never(
            &graph,
            &members[folder.as_str().unwrap()],
            &["tch", "torch-sys", "pyo3", "numpy", "llama-cpp-sys-2"],
        );
    }
}

#[test]
fn one_file_starts_processes() {
    let starters: Vec<PathBuf> = files("harness/src", "rs")
        .into_iter()
        .filter(|path| {
            let code = code(path);
            code.contains("Command::new") || code.contains("process::Command")
        })
        .collect();
    // `process::{…, Command, …}` is an import too; it would be useless without `Command::new`.
    assert_eq!(starters, [Path::new("harness/src/runner/process.rs")]);
}

#[test]
fn after_the_record_there_is_no_clock_no_process_and_no_environment() {
    let parts = ["summary", "summary.rs", "verdict", "verdict.rs", "gate.rs", "cmp.rs", "report", "stats"];
    let mut looked_at = 0;
    for part in parts {
        let path = format!("harness/src/{part}");
        assert!(root().join(&path).exists(), "{path} is gone; the map moved");
        for path in files(&path, "rs").into_iter().filter(|path| !path.ends_with("tests.rs")) {
            let code = code(&path);
            for word in [
                "std::process",
                "std::time",
                "Instant",
                "SystemTime",
                "std::env",
                "std::thread",
                "monotonic_ns",
            ] {
                assert!(!code.contains(word), "{} says `{word}`", path.display());
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 20, "only {looked_at} files were looked at");
}

#[test]
fn workloads_name_no_engine_and_no_claim() {
    let workloads = harness::spec::load_workloads(&root().join("harness/workloads")).unwrap();
    let engines = harness::spec::load_engines(&root().join("harness/engines")).unwrap();
    let claims = harness::spec::load_claims(&root().join("harness/claims")).unwrap();
    let mut names: Vec<&str> =
        engines.iter().flat_map(|family| &family.engine).map(|engine| engine.name.as_str()).collect();
    names.extend(claims.iter().flat_map(|document| &document.claim).map(|claim| claim.id.as_str()));
    for workload in &workloads {
        let stanza = serde_json::to_string(workload).unwrap();
        for name in &names {
            assert!(!stanza.contains(name), "workload {} names {name}", workload.name);
        }
    }
}

#[test]
fn unsafe_code_stays_where_it_is_promised() {
    // Kernels, the worker's wire, mapped files, the seams to foreign code, and two tests' allocators.
    let rooms = [
        "kernels/src/",
        "harness/worker/src/clock.rs",
        "harness/worker/src/serve.rs",
        "harness/engines/echo/src/multiply.rs",
        "harness/engines/echo/src/stream.rs",
        "harness/engines/echo/src/sum.rs",
        "harness/engines/libtorch/src/place.rs",
        "harness/engines/libtorch/src/weights.rs",
        "harness/engines/llama_cpp/src/checkpoint.rs",
        "harness/engines/llama_cpp/src/llama.rs",
        "harness/engines/python/src/interpreter.rs",
        "rust_native/src/checkpoint/map.rs",
        "kernels/benches/shares/roof.rs",
        "kernels/tests/no_allocation.rs",
        "rust_native/tests/no_allocation.rs",
    ];
    for path in
        files("harness", "rs").into_iter().chain(files("kernels", "rs")).chain(files("rust_native", "rs"))
    {
        let shown = path.to_string_lossy();
        if rooms.iter().any(|room| shown.starts_with(room)) || shown == "harness/tests/architecture.rs" {
            continue;
        }
        let text = read(&root().join(&path));
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let found = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
            assert!(!found.iter().any(|word| line.contains(word)), "{shown}: {}", line.trim());
        }
    }
    for path in [
        "harness/src/lib.rs",
        "harness/src/main.rs",
        "harness/engines/native/src/main.rs",
        "harness/engines/rust_tokenizers/src/main.rs",
        "rust_native/src/bin/gpt2/main.rs",
        "rust_native/src/bpe/mod.rs",
        "rust_native/python/src/lib.rs",
    ] {
        assert!(
            read(&root().join(path)).contains("#![forbid(unsafe_code)]"),
            "{path} promises no unsafe code"
        );
    }
}

#[test]
fn the_python_side_knows_nothing_of_rust_in_its_process() {
    let sources = files("python_ref", "py");
    assert!(sources.len() > 10, "{sources:?}");
    for path in sources {
        let (text, shown) = (read(&root().join(&path)), path.display());
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("import ") || line.starts_with("from "))
        {
            let module = line.split_whitespace().nth(1).unwrap_or_default();
            let first = module.split('.').next().unwrap_or_default();
            assert!(!["harness", "assay", "engine_python", "pyo3"].contains(&first), "{shown}: {line}");
            let peer = path.starts_with("python_ref/peers");
            assert!(!peer || first != "worker", "{shown}: a peer knows no worker: {line}");
        }
        if path.starts_with("python_ref/peers") {
            assert!(!text.contains("ASSAY_"), "{shown}: a peer reads no variable of the harness");
        }
    }
}
