//! Asking for memory before it is read, in each architecture's words.

/// Asks for the cache line at `at`. A hint: it never faults, whatever the address, and changes
/// nothing. Where neither architecture's word is known, nothing is asked.
#[inline(always)]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(unused_variables))]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing, and every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    // The intrinsic is not stable in Rust 1.95.
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch reads nothing, and every AArch64 has it.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at.addr(), options(nomem, nostack, preserves_flags));
    }
}
