//! The driver: is there one, is it new enough, which GPU is meant; and its answers as errors with a remedy.

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use super::{CudaError, Libraries, Library};

/// The oldest driver that is spoken to: CUDA 13.0.
const DRIVER: i32 = 13_000;

/// The newest CUDA of the driver, and the GPU that it counts as `ordinal`.
pub(super) fn find(libraries: &Libraries, ordinal: usize) -> Result<(i32, sys::CUdevice), CudaError> {
    libraries.place(Library::Driver)?;
    let mut version = 0;
    // SAFETY: the driver is open for good; the pointer is to a live integer.
    call("tell the driver's version", unsafe { sys::cuDriverGetVersion(&mut version) }.result())?;
    if version < DRIVER {
        return Err(CudaError::OldDriver { found: version });
    }
    let no_device = |reason: String| CudaError::NoDevice { reason };
    result::init().map_err(|error| no_device(words(error)))?;
    let count = result::device::get_count().map_err(|error| no_device(words(error)))?;
    let number = i32::try_from(ordinal).unwrap_or(i32::MAX);
    if number >= count {
        return Err(no_device(format!("it counts {count}, and number {ordinal} was asked for")));
    }
    Ok((version, call("find the GPU", result::device::get(number))?))
}

/// The driver's answer, with what was being done.
pub(super) fn call<T>(action: impl Into<String>, answer: Result<T, DriverError>) -> Result<T, CudaError> {
    answer.map_err(|error| CudaError::Call {
        action: action.into(),
        remedy: match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                "free its memory (`nvidia-smi` shows who holds it), or ask for a smaller batch or context"
            }
            sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | sys::CUresult::CUDA_ERROR_INVALID_IMAGE => {
                "remove the folder of compiled kernels, so that they are compiled for this GPU"
            }
            _ => "look at `nvidia-smi` and start anew: after a fault a process cannot use its GPU any more",
        },
        cause: words(error),
    })
}

/// The driver's name for an error.
fn words(error: DriverError) -> String {
    match error.error_name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => format!("error {}", error.0 as u32),
    }
}
