//! Flush-to-zero for the time of a job.
//!
//! Numbers below 1.2e-38 make the multiply units several times slower and mean nothing to a
//! model. While a [`Flushed`] lives, this thread treats them as zero, in and out.

use std::marker::PhantomData;

/// Holds flush-to-zero on the current thread; the former mode comes back on drop.
pub(crate) struct Flushed {
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    former: u32,
    /// The mode is a register of this very thread.
    _not_send: PhantomData<*const ()>,
}

impl Flushed {
    pub(crate) fn enter() -> Flushed {
        let former = read();
        /// Flush-to-zero (results) and denormals-are-zero (operands) of MXCSR.
        const FTZ_DAZ: u32 = 1 << 15 | 1 << 6;
        write(former | FTZ_DAZ);
        Flushed { former, _not_send: PhantomData }
    }
}

impl Drop for Flushed {
    fn drop(&mut self) {
        write(self.former);
    }
}

#[cfg(target_arch = "x86_64")]
fn read() -> u32 {
    let mut mode = 0u32;
    // SAFETY: stores the 4-byte MXCSR into `mode`; SSE is part of x86_64.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut mode, options(nostack)) };
    mode
}

#[cfg(target_arch = "x86_64")]
fn write(mode: u32) {
    // SAFETY: loads a mode that differs from the current one only in the two flush bits, so
    // rounding and exception masks stay as Rust assumes; results differ by less than 1.2e-38.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &mode, options(nostack)) };
}

#[cfg(not(target_arch = "x86_64"))]
fn read() -> u32 {
    0
}

#[cfg(not(target_arch = "x86_64"))]
fn write(_mode: u32) {}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn small_products_vanish_inside_and_only_inside() {
        let product = || black_box(1e-30f32) * black_box(1e-12f32);
        assert!(product() > 0.0);
        {
            let _flushed = Flushed::enter();
            assert_eq!(product(), 0.0);
        }
        assert!(product() > 0.0);
    }
}
