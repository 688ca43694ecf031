//! A launch made ready: grid, block, and arguments as bytes, so that launching it again costs one call.

use std::ffi::c_void;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaFunction, CudaStream, sys};

/// One kernel launch with its arguments as the driver reads them.
pub(super) struct Prepared {
    /// What runs; its module is held with it.
    pub(super) function: CudaFunction,
    /// Blocks.
    pub(super) grid: [u32; 3],
    /// Threads of a block.
    pub(super) block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub(super) shared_bytes: u32,
    /// The arguments' bytes, each at the start of its 8.
    pub(super) values: Box<[[u8; 8]]>,
}

impl Prepared {
    /// Launches it, `early`: before the one in front of it has ended.
    pub(super) fn fire(&self, stream: &CudaStream, early: bool) -> Result<(), DriverError> {
        let mut pointers: [*mut c_void; 32] = [std::ptr::null_mut(); 32];
        let pointers = &mut pointers[..self.values.len()];
        for (pointer, value) in pointers.iter_mut().zip(&self.values) {
            *pointer = value.as_ptr().cast_mut().cast();
        }
        let ([gx, gy, gz], [bx, by, bz]) = (self.grid, self.block);
        let (function, stream) = (self.function.cu_function(), stream.cu_stream());
        if !early {
            // SAFETY: the function's module is held by `self`; each pointer leads to 8 live bytes, of which the
            // driver reads as many as the kernel's signature says, before it returns. That the arguments are
            // those of the signature is the plan's promise, and its addresses lie in buffers that `Device` holds.
            return unsafe {
                result::launch_kernel(
                    function,
                    (gx, gy, gz),
                    (bx, by, bz),
                    self.shared_bytes,
                    stream,
                    pointers,
                )
            };
        }
        let id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        let value = sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 };
        let mut attribute = sys::CUlaunchAttribute { id, pad: [0; 4], value };
        let config = sys::CUlaunchConfig {
            gridDimX: gx,
            gridDimY: gy,
            gridDimZ: gz,
            blockDimX: bx,
            blockDimY: by,
            blockDimZ: bz,
            sharedMemBytes: self.shared_bytes,
            hStream: stream,
            attrs: &mut attribute,
            numAttrs: 1,
        };
        // SAFETY: as above; the configuration and its one attribute are alive until the call returns.
        unsafe { sys::cuLaunchKernelEx(&config, function, pointers.as_mut_ptr(), std::ptr::null_mut()) }
            .result()
    }
}
