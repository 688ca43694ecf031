//! Tokens on their way from the device to the host, while the next steps are already queued.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaEvent, CudaStream, result};

use super::CudaError;
use super::driver::call;

/// Steps whose tokens have not reached the host when the next is queued: far enough ahead to hide the launches.
pub(super) const PLACES: usize = 32;

/// Host memory that the device writes tokens into by itself: [`PLACES`] places of `batch` tokens, each with the
/// event that says when they are there.
pub(super) struct Pinned {
    tokens: *mut i32,
    /// Tokens in a place.
    pub(super) batch: usize,
    arrived: Vec<CudaEvent>,
    context: Arc<CudaContext>,
}

impl Pinned {
    /// Memory and events, in the context that is bound to this thread.
    pub(super) fn new(context: &Arc<CudaContext>, batch: usize) -> Result<Pinned, CudaError> {
        let arrived = (0..PLACES).map(|_| context.new_event(None)).collect::<Result<Vec<_>, _>>();
        let arrived = call("make events", arrived)?;
        // SAFETY: the context is bound to this thread; the memory is freed in `drop` alone.
        let made = unsafe { result::malloc_host(4 * (PLACES * batch).max(1), 0) };
        let tokens = call("make room in host memory", made)?.cast();
        Ok(Pinned { tokens, batch, arrived, context: context.clone() })
    }

    /// Queues the copy of `batch` tokens into a place.
    pub(super) fn bring(&self, place: usize, from: u64, stream: &CudaStream) -> Result<(), CudaError> {
        // SAFETY: the place lies in the allocation. Nobody else looks at it before its event has come: `steps`
        // waits for a place before it is used again.
        let copied = unsafe {
            let to = std::slice::from_raw_parts_mut(self.tokens.add(place * self.batch), self.batch);
            result::memcpy_dtoh_async(to, from, stream.cu_stream())
        };
        call("copy tokens from the device", copied)?;
        call("record an event", self.arrived[place].record(stream))
    }

    /// Waits for a place's tokens.
    pub(super) fn wait(&self, place: usize, tokens: &mut [i32]) -> Result<(), CudaError> {
        call("do a step", self.arrived[place].synchronize())?;
        // SAFETY: the place lies in the allocation, and the copy into it is done.
        let there = unsafe { std::slice::from_raw_parts(self.tokens.add(place * self.batch), self.batch) };
        tokens.copy_from_slice(there);
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated in `new`, freed here alone; `Device` waits for its stream before it drops this.
            let _ = unsafe { result::free_host(self.tokens.cast()) };
        }
    }
}
