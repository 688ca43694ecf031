//! Zeroed, aligned memory for weights, caches and scratch: f32, or words of 32 bits.
//!
//! Large buffers are page-mapped and marked for huge pages: decode streams half a gigabyte per
//! token, and 4 KiB pages would spend part of that bandwidth on address translation. Only whole
//! 2 MiB blocks are marked, so the tail of a tensor costs no more memory than it has.
//!
//! What stays together may lie together: see [`arena`] and [`file`].
//!
//! Invariant: `len` floats starting at `ptr` are initialised and owned by this value alone.

pub(crate) mod arena;
pub(crate) mod file;

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
#[cfg(target_os = "linux")]
use std::sync::Arc;

#[cfg(target_os = "linux")]
use arena::Chunk;

/// One huge page.
const HUGE: usize = 2 << 20;
/// One cache line, and one 512-bit register.
const LINE: usize = 64;

/// An owned slice of `f32`, zeroed at birth, aligned to 64 bytes (2 MiB when it is that large).
pub struct Buffer {
    ptr: NonNull<f32>,
    len: usize,
    /// The mapping this is a piece of; `None` when the memory is this buffer's alone.
    #[cfg(target_os = "linux")]
    chunk: Option<Arc<Chunk>>,
}

// SAFETY: a Buffer owns its memory as a Box<[f32]> does; f32 is Send and Sync.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zeroes. Aborts when memory is exhausted, as `Vec` does.
    pub fn zeroed(len: usize) -> Buffer {
        if len == 0 {
            return Buffer::alone(NonNull::dangling(), len);
        }
        let layout = layout(len);
        #[cfg(target_os = "linux")]
        if layout.size() >= HUGE {
            return Buffer::alone(map_huge(layout, layout.size() / HUGE * HUGE), len);
        }
        // SAFETY: the layout has a non-zero size because len > 0.
        let raw = unsafe { alloc_zeroed(layout) };
        match NonNull::new(raw.cast::<f32>()) {
            Some(ptr) => Buffer::alone(ptr, len),
            None => handle_alloc_error(layout),
        }
    }

    fn alone(ptr: NonNull<f32>, len: usize) -> Buffer {
        Buffer {
            ptr,
            len,
            #[cfg(target_os = "linux")]
            chunk: None,
        }
    }

    /// The same memory as 32-bit words: what is not f32 is kept in these.
    pub fn words(&self) -> &[u32] {
        // SAFETY: any bits are a u32 and an f32, the two have one size and alignment, and the
        // slice is as long and as borrowed as the one it comes from.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().cast(), self.len) }
    }

    /// The same memory as bytes, in this machine's order.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: initialised floats are initialised bytes; as long and as borrowed as the floats are.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().cast(), size_of_val::<[f32]>(self)) }
    }

    /// The same memory as bytes, to be read into.
    #[cfg(not(target_os = "linux"))]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; any bytes are floats, and &mut is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr().cast(), size_of_val::<[f32]>(self)) }
    }

    /// The same memory as 32-bit words, to write.
    pub fn words_mut(&mut self) -> &mut [u32] {
        words_mut(self)
    }
}

/// Asks for huge pages under all that a vector has room for, as far as it is whole 2 MiB blocks. A hint, worth a call
/// before a vector of megabytes is filled for the first time: the system then hands out its memory in a few
/// pieces instead of thousands.
pub fn ask_for_huge_pages<T>(vector: &mut Vec<T>) {
    #[cfg(target_os = "linux")]
    {
        let room = vector.spare_capacity_mut();
        let start = room.as_mut_ptr();
        let lead = start.addr().wrapping_neg() % HUGE;
        let whole = size_of_val(room).saturating_sub(lead) / HUGE * HUGE;
        if whole > 0 {
            // SAFETY: the range lies inside the vector's own memory and is page-aligned; the advice changes no byte.
            unsafe { libc::madvise(start.wrapping_byte_add(lead).cast(), whole, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = vector;
}

/// Floats as 32-bit words, to write.
pub(crate) fn words_mut(floats: &mut [f32]) -> &mut [u32] {
    // SAFETY: as in `words`, and &mut is exclusive.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), floats.len()) }
}

fn layout(len: usize) -> Layout {
    len.checked_mul(size_of::<f32>())
        .and_then(|bytes| Layout::from_size_align(bytes, LINE).ok())
        .expect("a buffer larger than the address space")
}

/// Maps fresh zero pages with a 2 MiB-aligned start and asks for huge pages on the first `huge` bytes.
#[cfg(target_os = "linux")]
fn map_huge(layout: Layout, huge: usize) -> NonNull<f32> {
    let bytes = layout.size();
    let reserve = bytes + HUGE;
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches nothing.
    let raw = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            reserve,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if raw == libc::MAP_FAILED {
        handle_alloc_error(layout);
    }
    let lead = raw.addr().wrapping_neg() % HUGE;
    let start = raw.wrapping_byte_add(lead);
    let used = page_ceil(bytes);
    // SAFETY: both unmapped ranges lie inside the mapping made above and outside `start..+used`,
    // and their bounds are page-aligned; madvise is a hint on whole blocks inside it.
    unsafe {
        if lead > 0 {
            libc::munmap(raw, lead);
        }
        if reserve - lead > used {
            libc::munmap(start.wrapping_byte_add(used), reserve - lead - used);
        }
        libc::madvise(start, huge, libc::MADV_HUGEPAGE);
    }
    NonNull::new(start.cast::<f32>()).expect("mmap returned a null mapping")
}

/// `bytes` rounded up to whole pages of the running system.
#[cfg(target_os = "linux")]
fn page_ceil(bytes: usize) -> usize {
    // SAFETY: sysconf only reads a constant of the system.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    bytes.div_ceil(page) * page
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        let layout = layout(self.len);
        #[cfg(target_os = "linux")]
        if self.chunk.is_some() {
            return;
        }
        #[cfg(target_os = "linux")]
        if layout.size() >= HUGE {
            // SAFETY: this exact range was mapped by `map_huge` and is unmapped once, here.
            unsafe { libc::munmap(self.ptr.as_ptr().cast(), page_ceil(layout.size())) };
            return;
        }
        // SAFETY: allocated in `zeroed` with this same layout, freed once.
        unsafe { dealloc(self.ptr.as_ptr().cast(), layout) };
    }
}

impl Default for Buffer {
    /// No memory at all.
    fn default() -> Buffer {
        Buffer::zeroed(0)
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: the invariant of this file: len initialised floats at ptr.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and &mut self is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} f32)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only blocks that are wholly a vector's own are marked, and nothing in them changes.
    #[test]
    #[cfg(target_os = "linux")]
    fn whole_blocks_of_a_vector_are_marked() {
        if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            println!("skipped: this kernel has no transparent huge pages");
            return;
        }
        // "hg" among the flags of the mapping that an address lies in.
        let marked = |address: usize| {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let (mut inside, mut found) = (false, None::<bool>);
            for line in maps.lines() {
                let bounds = line.split(' ').next().and_then(|bounds| bounds.split_once('-'));
                let hex = |digits| usize::from_str_radix(digits, 16).ok();
                if let Some((Some(from), Some(to))) = bounds.map(|(from, to)| (hex(from), hex(to))) {
                    inside = (from..to).contains(&address);
                } else if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                    found = Some(flags.split(' ').any(|flag| flag == "hg"));
                }
            }
            found == Some(true)
        };
        let mut vector: Vec<u32> = (0..1000).collect();
        vector.reserve_exact(4 * HUGE / size_of::<u32>());
        let (start, end) = (vector.as_ptr().addr(), vector.as_ptr().addr() + 4 * vector.capacity());
        assert!(!marked(start + 2 * HUGE));
        ask_for_huge_pages(&mut vector);
        assert!(marked(start + 2 * HUGE));
        assert!(!marked(start / HUGE * HUGE) && !marked(end / HUGE * HUGE));
        assert!((0..1000).eq(vector));
        // Nothing to mark.
        ask_for_huge_pages(&mut Vec::<u8>::new());
    }

    #[test]
    fn every_size_is_zeroed_aligned_and_writable() {
        for len in [0, 1, 15, 1024, HUGE / 4 - 1, HUGE / 4, HUGE / 4 + 1, HUGE + 12_345] {
            let mut buffer = Buffer::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&x| x == 0.0));
            if len > 0 {
                assert_eq!(buffer.as_ptr().addr() % LINE, 0);
                buffer[len - 1] = 1.0;
                assert_eq!(buffer.words()[len - 1], 1.0f32.to_bits());
                buffer.words_mut()[len - 1] = 2.0f32.to_bits();
                assert_eq!(buffer[len - 1], 2.0);
            }
        }
    }
}
