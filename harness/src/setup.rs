//! Makes an installation ready: Python side, engines, model, vocabulary. Each step says what it does,
//! is skipped when it is already done, and on failure names the remedy.

use crate::runner::{output, run};
use crate::site::Site;
use crate::spec::Family;
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Free bytes that a set-up from nothing needs: Python side, Rust build, model.
const DISK_NEEDED: u64 = 14 << 30;

/// What families written in C++ need besides a compiler, said where one cannot be built.
const BUILD_TOOLS: &str = " (cmake and libclang are among the Python side's packages; without it install them, \
     Debian: apt-get install cmake libclang-dev)";

/// What a set-up ended with.
#[derive(Debug, Default)]
pub struct Ready {
    /// Families that could not be made ready, and why. The run goes on without them.
    pub without: Vec<String>,
}

/// Runs every step that is not done yet.
pub fn setup(site: &Site, families: &[Family]) -> Result<Ready> {
    let mut ready = Ready::default();
    check_tools(site)?;
    let python = match python_side(site) {
        Ok(()) => true,
        Err(error) => {
            let line = format!("the Python side is not ready: {error:#}; engines that need it sit out");
            eprintln!("{line}");
            ready.without.push(line);
            false
        }
    };
    step("building gpt2");
    let gpt2 = ["cargo", "build", "--release", "--locked", "-q", "-p", "rust_native"].map(String::from);
    run(&gpt2, &BTreeMap::new(), site.root(), "cannot build rust_native")?;
    if python && let Err(error) = wheel(site) {
        let line = format!("{error:#}; python/rust-native-bpe and python-alone/rust-native-bpe sit out");
        eprintln!("{line}");
        ready.without.push(line);
    }
    let environment = site.python_environment();
    for family in families.iter().filter(|family| !family.build.is_empty()) {
        let names: Vec<&str> = family.engine.iter().map(|engine| engine.name.as_str()).collect();
        let label = names.first().and_then(|name| name.split('/').next()).unwrap_or("?");
        if !python && family.needs.iter().any(|need| need != "build-tools") {
            continue;
        }
        step(&format!("building {label}"));
        let environment = if family.needs.is_empty() { &BTreeMap::new() } else { &environment };
        let build: Vec<String> = family.build.iter().map(|word| site.fill(word)).collect();
        if let Err(error) = run(&build, environment, site.root(), &format!("cannot build {label}")) {
            let remedy = if family.needs.iter().any(|need| need == "build-tools") { BUILD_TOOLS } else { "" };
            let line = format!("{error:#}{remedy}; {} sit out", names.join(", "));
            eprintln!("{line}");
            ready.without.push(line);
        }
    }
    step("model and vocabulary");
    site.model("gpt2")?;
    site.vocabulary()?;
    Ok(ready)
}

fn check_tools(site: &Site) -> Result<()> {
    ensure!(
        output(&["cc", "--version"], site.root()).is_some(),
        "no C compiler (`cc`): install gcc or clang (Debian: apt-get install build-essential) and run this again"
    );
    let fresh = !site.venv().exists();
    if let Some(free) = free_bytes(site.root()).filter(|&free| fresh && free < DISK_NEEDED) {
        anyhow::bail!(
            "{} MiB are free at {}; a set-up from nothing needs {} MiB: free some or clone elsewhere",
            free >> 20,
            site.root().display(),
            DISK_NEEDED >> 20
        );
    }
    Ok(())
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let text = output(&["df", "-Pk", "."], folder)?;
    let kib: u64 = text.lines().nth(1)?.split_ascii_whitespace().nth(3)?.parse().ok()?;
    Some(kib * 1024)
}

/// python_ref/.venv, exactly as python_ref/requirements.lock says.
fn python_side(site: &Site) -> Result<()> {
    let lock = site.root().join("python_ref/requirements.lock");
    let text = std::fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let wanted = digest(&text);
    let stamp = site.venv().join("assay-lock.sha256");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) && site.python().exists() {
        return Ok(());
    }
    step("setting up the Python side (some minutes at the first time)");
    let uv = uv(site)?;
    let none = BTreeMap::new();
    let venv = site.venv().to_string_lossy().into_owned();
    let base = std::env::var("ASSAY_PYTHON").unwrap_or_else(|_| "python3".into());
    let make = [&uv, "venv", "--quiet", "--clear", "--no-python-downloads", "--python", &base, &venv]
        .map(String::from);
    run(
        &make,
        &none,
        site.root(),
        "cannot make python_ref/.venv (Python 3.11 or newer with its shared library is needed)",
    )?;
    let python = site.python().to_string_lossy().into_owned();
    let lock = lock.to_string_lossy().into_owned();
    let sync =
        [&uv, "pip", "sync", "--quiet", "--require-hashes", "--python", &python, &lock].map(String::from);
    run(
        &sync,
        &none,
        site.root(),
        "cannot install python_ref/requirements.lock (is the package registry reachable?)",
    )?;
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// The tokenizer of rust_native as a wheel, in the Python side's environment. It comes after the lock, whose
/// installation would remove it. cargo decides what is to be built, and a wheel that is installed to the byte
/// is left alone.
fn wheel(site: &Site) -> Result<()> {
    step("building the wheel rust-native-bpe");
    let (out, python) = (site.made().join("wheel"), site.python().to_string_lossy().into_owned());
    if out.exists() {
        std::fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
    }
    let maturin = site.venv().join("bin/maturin").to_string_lossy().into_owned();
    let (folder, manifest) = (out.to_string_lossy().into_owned(), "rust_native/python/Cargo.toml");
    let build = [&maturin, "build", "--release", "--locked", "--quiet", "--manifest-path", manifest];
    let build = build.into_iter().chain(["--interpreter", &python, "--out", &folder]).map(String::from);
    let build: Vec<String> = build.collect();
    run(&build, &site.python_environment(), site.root(), "cannot build the wheel rust-native-bpe")?;
    let made = std::fs::read_dir(&out).with_context(|| format!("cannot read {}", out.display()))?;
    let wheel = made.flatten().map(|entry| entry.path()).next().context("maturin built no wheel")?;
    let bytes = std::fs::read(&wheel).with_context(|| format!("cannot read {}", wheel.display()))?;
    let stamp = site.venv().join("assay-wheel.sha256");
    let wanted = digest(&bytes);
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    let (uv, wheel) = (uv(site)?, wheel.to_string_lossy().into_owned());
    let install = [&uv, "pip", "install", "--quiet", "--no-deps", "--reinstall", "--python", &python, &wheel]
        .map(String::from);
    run(&install, &BTreeMap::new(), site.root(), "cannot install the wheel rust-native-bpe")?;
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// uv from PATH, or from PyPI into a folder of ours.
fn uv(site: &Site) -> Result<String> {
    if output(&["uv", "--version"], site.root()).is_some() {
        return Ok("uv".into());
    }
    let own: PathBuf = site.made().join("uv");
    let program = own.join("bin/uv");
    if !program.exists() {
        let none = BTreeMap::new();
        let folder = own.to_string_lossy().into_owned();
        let base = std::env::var("ASSAY_PYTHON").unwrap_or_else(|_| "python3".into());
        let make = [&base, "-m", "venv", &folder].map(String::from);
        run(&make, &none, site.root(), "cannot make a folder for uv (is Python 3 with venv installed?)")?;
        let pip = own.join("bin/pip").to_string_lossy().into_owned();
        let install = [&pip, "install", "--quiet", "uv"].map(String::from);
        run(&install, &none, site.root(), "cannot install uv (is the package registry reachable?)")?;
    }
    Ok(program.to_string_lossy().into_owned())
}

fn step(what: &str) {
    eprintln!("setup: {what} …");
}
