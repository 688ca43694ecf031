//! Flush-to-zero for the time of a job.
//!
//! Numbers below 1.2e-38 make the multiply units several times slower and mean nothing to a
//! model. While a [`Flushed`] lives, this thread treats them as zero, in and out.

use std::marker::PhantomData;

use mode::{FLUSH, Mode, read, write};

/// Holds flush-to-zero on the current thread; the former mode comes back on drop.
pub(crate) struct Flushed {
    former: Mode,
    /// The mode is a register of this very thread.
    _not_send: PhantomData<*const ()>,
}

impl Flushed {
    pub(crate) fn enter() -> Flushed {
        let former = read();
        write(former | FLUSH);
        Flushed { former, _not_send: PhantomData }
    }
}

impl Drop for Flushed {
    fn drop(&mut self) {
        write(self.former);
    }
}

/// MXCSR.
#[cfg(target_arch = "x86_64")]
mod mode {
    pub(super) type Mode = u32;

    /// Flush-to-zero (results) and denormals-are-zero (operands).
    pub(super) const FLUSH: Mode = 1 << 15 | 1 << 6;

    pub(super) fn read() -> Mode {
        let mut mode = 0u32;
        // SAFETY: stores the 4-byte MXCSR into `mode`; SSE is part of x86_64.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut mode, options(nostack)) };
        mode
    }

    pub(super) fn write(mode: Mode) {
        // SAFETY: loads a mode that differs from the current one only in the two flush bits, so
        // rounding and exception masks stay as Rust assumes; results differ by less than 1.2e-38.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &mode, options(nostack)) };
    }
}

/// FPCR.
#[cfg(target_arch = "aarch64")]
mod mode {
    pub(super) type Mode = u64;

    /// FZ: results and operands alike.
    pub(super) const FLUSH: Mode = 1 << 24;

    pub(super) fn read() -> Mode {
        let mode;
        // SAFETY: FPCR is readable everywhere; nothing else changes.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) mode, options(nomem, nostack, preserves_flags)) };
        mode
    }

    pub(super) fn write(mode: Mode) {
        // SAFETY: a mode that differs from the current one only in the flush bit, so rounding and
        // traps stay as Rust assumes; results differ by less than 1.2e-38.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) mode, options(nostack, preserves_flags)) };
    }
}

/// No such mode is known: numbers stay as they are.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod mode {
    pub(super) type Mode = u32;

    pub(super) const FLUSH: Mode = 0;

    pub(super) fn read() -> Mode {
        0
    }

    pub(super) fn write(_: Mode) {}
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn small_products_vanish_inside_and_only_inside() {
        let product = || black_box(1e-30f32) * black_box(1e-12f32);
        // A small operand by a large one: the result is none.
        let operand = || black_box(1e-42f32) * black_box(1e30f32);
        assert!(product() > 0.0 && operand() > 0.0);
        {
            let _flushed = Flushed::enter();
            assert_eq!(product(), 0.0);
            assert_eq!(operand(), 0.0);
        }
        assert!(product() > 0.0 && operand() > 0.0);
    }
}
