//! One output slice written by several threads in disjoint parts.

use std::marker::PhantomData;

use crate::prefetch::prefetch;

/// A `&mut [T]` lent to a whole team; each part must have one writer.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, T = f32> {
    ptr: *mut T,
    len: usize,
    _lent: PhantomData<&'a mut [T]>,
}

// SAFETY: a Shared only carries the address; `part` states what its users must uphold.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above; `view` shares and `part` hands over, which T allows.
unsafe impl<T: Send + Sync> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Shared<'a, T> {
        Shared { ptr: slice.as_mut_ptr(), len: slice.len(), _lent: PhantomData }
    }

    /// The elements `start..start + len` to read, bounds checked.
    ///
    /// # Safety
    /// While the result lives, nobody holds a `part` that overlaps it.
    pub(crate) unsafe fn view(&self, start: usize, len: usize) -> &'a [T] {
        assert!(start <= self.len && len <= self.len - start, "view outside the shared slice");
        // SAFETY: in bounds by the assert, unwritten by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.ptr.add(start), len) }
    }

    /// The elements `start..start + len` to write, bounds checked.
    ///
    /// # Safety
    /// While the result lives, nobody else holds a `part` or `view` that overlaps it.
    #[allow(clippy::mut_from_ref, reason = "the contract above is what makes it exclusive")]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "part outside the shared slice");
        // SAFETY: in bounds by the assert, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }

    /// Asks for the element `at`, which somebody is about to read or write.
    pub(crate) fn ask(&self, at: usize) {
        prefetch(self.ptr.wrapping_add(at));
    }
}
