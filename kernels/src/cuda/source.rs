//! The kernels' text. One, because NVRTC is given no folder of headers to look in, and the emulation
//! compiles the same.

/// Every file in the order it must stand in, with its name.
pub const FILES: [(&str, &str); 10] = [
    ("common.cu", include_str!("kernels/common.cu")),
    ("gemv.cu", include_str!("kernels/gemv.cu")),
    ("attend.cu", include_str!("kernels/attend.cu")),
    ("tensor.cu", include_str!("kernels/tensor.cu")),
    ("prefill.cu", include_str!("kernels/prefill.cu")),
    ("skinny.cu", include_str!("kernels/skinny.cu")),
    ("attend_tiles.cu", include_str!("kernels/attend_tiles.cu")),
    ("sample.cu", include_str!("kernels/sample.cu")),
    ("stream.cu", include_str!("kernels/stream.cu")),
    ("entries.cu", include_str!("kernels/entries.cu")),
];

/// The whole text, with `#line` where a file begins, so that a compiler's message names file and line.
pub fn source() -> String {
    FILES.iter().map(|(name, text)| format!("#line 1 \"{name}\"\n{text}")).collect()
}
