//! Buffers as pieces of large mappings, so that small matrices share huge pages too and have no tails of
//! small ones.
//!
//! Invariant: no two buffers have a piece in common, and a mapping stays until the last of its pieces is
//! dropped.

#[cfg(target_os = "linux")]
use std::alloc::Layout;
#[cfg(target_os = "linux")]
use std::ptr::NonNull;
#[cfg(target_os = "linux")]
use std::sync::Arc;

use super::Buffer;
#[cfg(target_os = "linux")]
use super::{HUGE, LINE, layout, map_huge};

/// Buffers that are made together and stay about as long as each other, such as a model's weights.
/// Memory goes back to the system when the last of a mapping is dropped.
#[derive(Default)]
pub(crate) struct Arena {
    #[cfg(target_os = "linux")]
    chunk: Option<Arc<Chunk>>,
    /// Bytes of the chunk that are taken.
    #[cfg(target_os = "linux")]
    used: usize,
}

/// A mapping that buffers have their pieces of.
#[cfg(target_os = "linux")]
pub(super) struct Chunk {
    pub(super) ptr: NonNull<f32>,
    pub(super) bytes: usize,
}

// SAFETY: a Chunk only keeps the mapping; who may touch which part is said by its buffers.
#[cfg(target_os = "linux")]
unsafe impl Send for Chunk {}
// SAFETY: as above.
#[cfg(target_os = "linux")]
unsafe impl Sync for Chunk {}

#[cfg(target_os = "linux")]
impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: this exact range was mapped by whoever made this; every buffer in it held an Arc of
        // this and is gone.
        unsafe { libc::munmap(self.ptr.as_ptr().cast(), self.bytes) };
    }
}

impl Arena {
    /// Address space taken at a time. What is not touched costs nothing, so a chunk may be larger than
    /// the model; a partly used huge page at its end is the price, which few chunks keep small.
    #[cfg(target_os = "linux")]
    const CHUNK: usize = 256 << 20;

    /// `len` zeroes, as [`Buffer::zeroed`].
    #[cfg(target_os = "linux")]
    pub(crate) fn zeroed(&mut self, len: usize) -> Buffer {
        let bytes = layout(len).size().next_multiple_of(LINE);
        if bytes == 0 {
            return Buffer::default();
        }
        let chunk = match self.chunk.take().filter(|chunk| chunk.bytes - self.used >= bytes) {
            Some(chunk) => chunk,
            None => {
                self.used = 0;
                let bytes = bytes.max(Arena::CHUNK).next_multiple_of(HUGE);
                let layout = Layout::from_size_align(bytes, LINE).expect("checked by `layout`");
                Arc::new(Chunk { ptr: map_huge(layout, bytes), bytes })
            }
        };
        // SAFETY: `used + bytes <= chunk.bytes`, so the piece lies inside the mapping, and `used` only
        // grows, so no other buffer has it.
        let ptr = unsafe { chunk.ptr.byte_add(self.used) };
        self.used += bytes;
        self.chunk = Some(Arc::clone(&chunk));
        Buffer { ptr, len, chunk: Some(chunk) }
    }

    /// `len` zeroes, as [`Buffer::zeroed`].
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn zeroed(&mut self, len: usize) -> Buffer {
        Buffer::zeroed(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_hands_out_zeroes_that_do_not_overlap_and_outlive_it() {
        let mut arena = Arena::default();
        // The sixth does not fit the first mapping any more.
        let lens = [1, 15, HUGE, 60 << 20, 17, 70 << 20, 0, 3];
        let mut buffers = lens.map(|len| arena.zeroed(len));
        drop(arena);
        buffers[1] = Buffer::default();
        for buffer in &mut buffers {
            let last = buffer.len().saturating_sub(1);
            assert!(buffer.first().is_none_or(|&v| v == 0.0) && buffer.get(last).is_none_or(|&v| v == 0.0));
            assert!(buffer.is_empty() || buffer.as_ptr().addr().is_multiple_of(LINE));
            let len = buffer.len() as f32;
            for at in [0, last] {
                if let Some(v) = buffer.get_mut(at) {
                    *v = len;
                }
            }
        }
        for (buffer, len) in buffers.iter().zip([1, 0, HUGE, 60 << 20, 17, 70 << 20, 0, 3]) {
            let ends = [buffer.first(), buffer.last()];
            assert!(buffer.len() == len && ends.into_iter().flatten().all(|&v| v == len as f32), "{len}");
        }
    }
}
