//! Lets the binary find the libpython it was linked with, and that Python's own library.
//!
//! Without the rpath only a system Python is found at run time; without its home an embedded
//! interpreter looks for the standard library next to whatever `python3` comes first on PATH.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
    let home = pyo3_build_config::get()
        .run_python_script("import sys; print(sys.base_prefix, end='')")
        .expect("the interpreter PyO3 was configured with (PYO3_PYTHON, or python3 on PATH) must run");
    println!("cargo:rustc-env=ASSAY_PYTHON_HOME={home}");
    println!("cargo:rerun-if-env-changed=PYO3_PYTHON");
}
