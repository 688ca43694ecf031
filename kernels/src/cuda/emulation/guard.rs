//! Guards that the address sanitizer knows of, where the kernels are compiled with it; else nothing happens here.

#[cfg(feature = "cuda-emulation-sanitized")]
mod sanitizer {
    use std::ffi::c_void;

    unsafe extern "C" {
        pub(super) fn __asan_poison_memory_region(at: *const c_void, bytes: usize);
        pub(super) fn __asan_unpoison_memory_region(at: *const c_void, bytes: usize);
    }
}

/// From here on a kernel that touches these bytes ends the program. Rust, which is not compiled with the sanitizer,
/// may still look at them.
pub(super) fn forbid(bytes: &[u8]) {
    #[cfg(feature = "cuda-emulation-sanitized")]
    // SAFETY: only the sanitizer's own notes on memory that is there are changed.
    unsafe {
        sanitizer::__asan_poison_memory_region(bytes.as_ptr().cast(), bytes.len());
    }
    #[cfg(not(feature = "cuda-emulation-sanitized"))]
    let _ = bytes;
}

/// They are ordinary memory again.
pub(super) fn allow(bytes: &[u8]) {
    #[cfg(feature = "cuda-emulation-sanitized")]
    // SAFETY: as in `forbid`.
    unsafe {
        sanitizer::__asan_unpoison_memory_region(bytes.as_ptr().cast(), bytes.len());
    }
    #[cfg(not(feature = "cuda-emulation-sanitized"))]
    let _ = bytes;
}
