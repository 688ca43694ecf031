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
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("src/cuda/emulation/emulation.cpp")
        // `#pragma unroll` is CUDA's.
        .flag("-Wno-unknown-pragmas")
        .compile("cuda_emulation");
}
