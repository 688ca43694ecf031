//! The interpreter in this process: where it finds its library, the packages and the peers.
//!
//! Only the project's own environment counts: packages that happen to be installed beside the base
//! interpreter are taken off the path, or they would shadow the locked ones.

use anyhow::{Error, Result, anyhow};
use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use std::path::{Path, PathBuf};
use worker::Stop;

/// What to do about anything that is not installed.
pub const REMEDY: &str = "run scripts/setup";

/// Starts Python with the home it was built with. To be called first in `main`.
pub fn start() {
    let home = env!("ASSAY_PYTHON_HOME");
    let mut variables = vec![("PYTHONNOUSERSITE", "1")];
    if std::env::var_os("PYTHONHOME").is_none() && Path::new(home).is_dir() {
        variables.push(("PYTHONHOME", home));
    }
    for (name, value) in variables {
        // SAFETY: `main` calls this before any thread exists, so nobody reads the environment now.
        unsafe { std::env::set_var(name, value) };
    }
    Python::initialize();
}

/// Puts the folder of the peers on Python's path.
pub fn find_peers(py: Python<'_>) -> Result<(), Stop> {
    let peers = python_ref();
    if !peers.join("peers").is_dir() {
        return Err(Stop::refused(
            format!("{}: no folder `peers`", peers.display()),
            "set ASSAY_PYTHON_REF to the folder python_ref",
        ));
    }
    let path = py.import("sys").and_then(|sys| sys.getattr("path"));
    // As text: the import system skips entries that are pathlib's objects.
    let put = path.and_then(|path| path.call_method1("insert", (0, peers.to_string_lossy())));
    put.map(drop).map_err(|error| stop(py, error))
}

/// Puts the packages of the environment on Python's path, in place of the base interpreter's own.
pub fn find_packages(py: Python<'_>) -> Result<(), Stop> {
    let packages = site_packages(py);
    if !packages.is_dir() {
        return Err(Stop::refused(format!("{}: no such folder", packages.display()), REMEDY));
    }
    replace_packages(py, &packages).map_err(|error| stop(py, error))
}

fn replace_packages(py: Python<'_>, packages: &Path) -> PyResult<()> {
    let site = py.import("site")?;
    let own: Vec<String> = site.call_method0("getsitepackages")?.extract()?;
    let path = py.import("sys")?.getattr("path")?;
    let kept: Vec<String> = path.extract::<Vec<String>>()?.into_iter().filter(|p| !own.contains(p)).collect();
    path.call_method0("clear")?;
    path.call_method1("extend", (kept,))?;
    site.call_method1("addsitedir", (packages.to_string_lossy(),))?;
    Ok(())
}

/// ASSAY_PYTHON_REF, or the folder of this checkout.
fn python_ref() -> PathBuf {
    std::env::var_os("ASSAY_PYTHON_REF")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../python_ref"), PathBuf::from)
}

/// ASSAY_SITE_PACKAGES, or that of python_ref's environment for this Python.
fn site_packages(py: Python<'_>) -> PathBuf {
    std::env::var_os("ASSAY_SITE_PACKAGES").map_or_else(
        || {
            let version = py.version_info();
            let folder = format!(".venv/lib/python{}.{}/site-packages", version.major, version.minor);
            python_ref().join(folder)
        },
        PathBuf::from,
    )
}

/// A Python exception as the wire knows it: refusals and missing packages are no faults.
pub fn stop(py: Python<'_>, error: PyErr) -> Stop {
    let value = error.value(py);
    if let (Ok(reason), Ok(remedy)) = (value.getattr("reason"), value.getattr("remedy")) {
        return Stop::refused(reason.to_string(), remedy.to_string());
    }
    if error.is_instance_of::<PyImportError>(py) {
        return Stop::refused(one_line(py, &error), REMEDY);
    }
    Stop::Failed(failure(py, error))
}

/// A Python exception with its causes on one line.
pub fn failure(py: Python<'_>, error: PyErr) -> Error {
    anyhow!(one_line(py, &error))
}

fn one_line(py: Python<'_>, error: &PyErr) -> String {
    let mut line = error.to_string();
    let mut next = error.cause(py);
    while let Some(cause) = next {
        line = format!("{line}: {cause}");
        next = cause.cause(py);
    }
    line
}
