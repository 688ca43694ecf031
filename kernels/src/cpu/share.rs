//! One output slice written by several threads in disjoint parts.

use std::marker::PhantomData;

/// A `&mut [f32]` lent to a whole team; each part must have one writer.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    ptr: *mut f32,
    len: usize,
    _lent: PhantomData<&'a mut [f32]>,
}

// SAFETY: a Shared only carries the address; `part` states what its users must uphold.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Shared<'a> {
        Shared { ptr: slice.as_mut_ptr(), len: slice.len(), _lent: PhantomData }
    }

    /// The floats `start..start + len` to read, bounds checked.
    ///
    /// # Safety
    /// While the result lives, nobody holds a `part` that overlaps it.
    pub(crate) unsafe fn view(&self, start: usize, len: usize) -> &'a [f32] {
        assert!(start <= self.len && len <= self.len - start, "view outside the shared slice");
        // SAFETY: in bounds by the assert, unwritten by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.ptr.add(start), len) }
    }

    /// The floats `start..start + len` to write, bounds checked.
    ///
    /// # Safety
    /// While the result lives, nobody else holds a `part` or `view` that overlaps it.
    #[allow(clippy::mut_from_ref, reason = "the contract above is what makes it exclusive")]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &'a mut [f32] {
        assert!(start <= self.len && len <= self.len - start, "part outside the shared slice");
        // SAFETY: in bounds by the assert, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }
}
