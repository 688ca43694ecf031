//! Compiles the CUDA kernels as C++ for their emulation, where that is asked for. Otherwise there is
//! nothing to do: machine code for a GPU is made while running.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda-emulation")]
    emulation();
}

#[cfg(feature = "cuda-emulation")]
fn emulation() {
    println!("cargo::rerun-if-changed=src/cuda/kernels");
    println!("cargo::rerun-if-changed=src/cuda/emulation");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").file("src/cuda/emulation/emulation.cpp");
    // `#pragma unroll` is CUDA's.
    build.flag("-Wno-unknown-pragmas");
    if cfg!(feature = "cuda-emulation-sanitized") {
        // The first fault ends the program.
        build.flags(["-fsanitize=address,alignment", "-fno-sanitize-recover=all"]);
    }
    build.compile("cuda_emulation");
    if cfg!(feature = "cuda-emulation-sanitized") {
        // Behind the archive that needs them.
        println!("cargo::rustc-link-lib=asan");
        println!("cargo::rustc-link-lib=ubsan");
    }
}
