//! Which instruction set runs: asked of the CPU once, or stated by the caller.

use std::fmt;

use super::table::Table;

/// An instruction set the kernels are written for, from the specification upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain loops, every machine; the specification of the others.
    Portable,
    /// 128-bit NEON, of AArch64.
    Neon,
    /// 256-bit AVX2 with FMA.
    Avx2,
    /// 512-bit AVX-512F.
    Avx512,
}

impl Isa {
    /// All sets, of every architecture; those of one slowest first.
    pub const ALL: [Isa; 4] = [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512];

    /// The fastest set this CPU and operating system run.
    pub fn best() -> Isa {
        Isa::available().last().unwrap_or(Isa::Portable)
    }

    /// The sets this machine runs, slowest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.table().is_some())
    }

    /// The name used in identities and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// The kernels of this set, or `None` where the CPU lacks it.
    pub(crate) fn table(self) -> Option<&'static Table> {
        match self {
            Isa::Portable => Some(&super::portable::TABLE),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => super::neon::Neon::detect().map(super::neon::Neon::table),
            #[cfg(not(target_arch = "aarch64"))]
            Isa::Neon => None,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => super::avx2::Avx2::detect().map(super::avx2::Avx2::table),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => super::avx512::Avx512::detect().map(super::avx512::Avx512::table),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => None,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
