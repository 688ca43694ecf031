//! The device's own clock: when it began the first of some plans, and when it ended the last.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaEvent, CudaStream, sys};

use super::CudaError;
use super::driver::call;

/// A span of work, between two events in one stream.
pub(super) struct Clock {
    begin: CudaEvent,
    end: CudaEvent,
    began: bool,
}

impl Clock {
    /// That no work was noted on yet.
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Clock, CudaError> {
        let event = || call("make events", context.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)));
        Ok(Clock { begin: event()?, end: event()?, began: false })
    }

    /// Forgets what was noted.
    pub(super) fn restart(&mut self) {
        self.began = false;
    }

    /// Before work: it is the first of the span, or changes nothing.
    pub(super) fn note_begin(&mut self, stream: &CudaStream) -> Result<(), CudaError> {
        if self.began {
            return Ok(());
        }
        self.began = true;
        call("read its clock", self.begin.record(stream))
    }

    /// Behind work, which may be the last of the span.
    pub(super) fn note_end(&self, stream: &CudaStream) -> Result<(), CudaError> {
        call("read its clock", self.end.record(stream))
    }

    /// Nanoseconds of the span, for whose end this waits; none without work.
    pub(super) fn span_ns(&self) -> Result<Option<u64>, CudaError> {
        if !self.began {
            return Ok(None);
        }
        let elapsed = call("read its clock", self.begin.elapsed_ms(&self.end))?;
        Ok(Some((f64::from(elapsed) * 1e6).round() as u64))
    }
}
