//! What can go wrong on the way to a GPU, each with its remedy.

use super::Library;

/// A library that is not here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {library}: {reason}; {}", library.remedy())]
pub struct Absent {
    /// Which one.
    pub library: Library,
    /// Where it was looked for, or what the loader said.
    pub reason: String,
}

/// Why work on the GPU cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// A library of CUDA is not here.
    #[error(transparent)]
    Absent(#[from] Absent),
    /// The driver is older than what is spoken to it.
    #[error(
        "the NVIDIA driver knows CUDA {}.{} at most; install one for CUDA 13.0 or newer",
        .found / 1000, .found % 1000 / 10
    )]
    OldDriver {
        /// As the driver states it: 1000 x major + 10 x minor.
        found: i32,
    },
    /// The driver is here, a GPU is not.
    #[error("the NVIDIA driver sees no GPU ({reason}); look at `nvidia-smi -L` and CUDA_VISIBLE_DEVICES")]
    NoDevice {
        /// What the driver said.
        reason: String,
    },
    /// The GPU, or what was compiled for it, cannot do this at all.
    #[error("{what}: {reason}; {remedy}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// Why it cannot be had.
        reason: String,
        /// What to do, in the imperative.
        remedy: &'static str,
    },
    /// NVRTC refused a source text, or could not begin.
    #[error(
        "NVRTC did not compile {name} for {architecture}; name the folder of another NVRTC, or mend it: {log}"
    )]
    Compile {
        /// The name the source was given.
        name: String,
        /// For which architecture.
        architecture: String,
        /// The compiler's own words.
        log: String,
    },
    /// A call of the driver failed, or a player could not go on.
    #[error("the GPU could not {action}: {cause}; {remedy}")]
    Call {
        /// What was being done, in the infinitive.
        action: String,
        /// The driver's word for it.
        cause: String,
        /// What to do, in the imperative.
        remedy: &'static str,
    },
}

impl CudaError {
    /// Whether this machine, as it is, cannot do what was asked: nothing went wrong, something is missing.
    pub fn is_absence(&self) -> bool {
        match self {
            CudaError::Absent(_)
            | CudaError::OldDriver { .. }
            | CudaError::NoDevice { .. }
            | CudaError::Unsupported { .. } => true,
            CudaError::Compile { .. } | CudaError::Call { .. } => false,
        }
    }
}
