//! What can go wrong with a model on a GPU.

use kernels::cuda::CudaError;
use kernels::cuda::plan::PlanError;

use crate::Error;
use crate::generate::GenerateError;

/// Why a model does not run, or not on, on a GPU. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CudaGpt2Error {
    /// The checkpoint.
    #[error(transparent)]
    Model(#[from] Error),
    /// The request: prompts, tokens, lengths, sampling.
    #[error(transparent)]
    Request(#[from] GenerateError),
    /// A shape that the kernels do not have.
    #[error("{0}; use the CPU for this model")]
    Plan(#[from] PlanError),
    /// The GPU, its driver or its libraries.
    #[error(transparent)]
    Device(#[from] CudaError),
}
