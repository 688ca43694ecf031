//! Buffers that lie in a file, one after another: mapped on Linux, read elsewhere.
//!
//! Why mapped: such a buffer costs no memory that the page cache has not already, so that it is there at
//! once, and processes share it. On a virtual machine whose host lends memory page by page, half a
//! gigabyte of new memory takes a second or two; what the page cache holds is there. What it may cost is
//! bandwidth of a decode step, where the file system has no large pages.
//!
//! The mapping is private: who writes to such a buffer gets a copy of the page, and the file stays as it
//! is. Whoever writes the file is to write another and rename it; changing it in place would change
//! weights in use.
//!
//! Invariant: no two buffers have a piece in common.

use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::sync::Arc;

use super::{Buffer, LINE};
#[cfg(target_os = "linux")]
use super::{HUGE, arena::Chunk};

/// What hands out the pieces of one file, front to back.
pub(crate) struct FileArena {
    #[cfg(target_os = "linux")]
    chunk: Arc<Chunk>,
    #[cfg(not(target_os = "linux"))]
    file: File,
    /// Where the next piece begins.
    at: usize,
    /// The file's length.
    end: usize,
}

impl FileArena {
    /// Begins at byte `start` of `file`, which is to be a multiple of 64.
    ///
    /// # Errors
    /// What the system says; `InvalidData` if there is nothing behind `start`, or at another boundary.
    pub(crate) fn open(file: &File, start: usize) -> io::Result<FileArena> {
        let end = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if start >= end || !start.is_multiple_of(LINE) {
            let why =
                format!("panels from byte {start} of {end}, a multiple of {LINE} before the end expected");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(FileArena {
            #[cfg(target_os = "linux")]
            chunk: Arc::new(Chunk::of_file(file, end)?),
            #[cfg(not(target_os = "linux"))]
            file: file.try_clone()?,
            at: start,
            end,
        })
    }

    /// The next `len` floats, or words, as this machine has them in memory.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file has not as many; `InvalidData` if the piece before had not a multiple
    /// of 64 bytes.
    pub(crate) fn next(&mut self, len: usize) -> io::Result<Buffer> {
        let bytes = len.checked_mul(size_of::<f32>()).filter(|&bytes| bytes <= self.end - self.at);
        let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
        if bytes == 0 {
            return Ok(Buffer::default());
        }
        if !self.at.is_multiple_of(LINE) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let buffer = self.piece(len)?;
        self.at += bytes;
        Ok(buffer)
    }

    #[cfg(target_os = "linux")]
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere the piece is read")]
    fn piece(&self, len: usize) -> io::Result<Buffer> {
        // SAFETY: `next` checked that the piece lies inside the file, so inside the mapping, and at a
        // multiple of 64; `at` only grows, so no other buffer has it.
        let ptr = unsafe { self.chunk.ptr.byte_add(self.at) };
        Ok(Buffer { ptr, len, chunk: Some(Arc::clone(&self.chunk)) })
    }

    #[cfg(not(target_os = "linux"))]
    fn piece(&mut self, len: usize) -> io::Result<Buffer> {
        use io::{Read, Seek, SeekFrom};
        let mut buffer = Buffer::zeroed(len);
        self.file.seek(SeekFrom::Start(self.at as u64))?;
        self.file.read_exact(buffer.bytes_mut())?;
        Ok(buffer)
    }
}

#[cfg(target_os = "linux")]
impl Chunk {
    /// All `bytes` of a file, which are more than none.
    fn of_file(file: &File, bytes: usize) -> io::Result<Chunk> {
        use std::os::fd::AsRawFd;
        // SAFETY: a private mapping at an address of the kernel's choice touches nothing; the kernel
        // checks the descriptor. madvise is a hint: a file system with large folios then reads the file
        // into them.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let raw = libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_PRIVATE, file.as_raw_fd(), 0);
            if raw == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            if bytes >= HUGE {
                libc::madvise(raw, bytes, libc::MADV_HUGEPAGE);
            }
            Ok(Chunk {
                ptr: std::ptr::NonNull::new(raw.cast()).expect("mmap returned a null mapping"),
                bytes,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(words: &[u32], lead: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; lead]).unwrap();
        words.iter().for_each(|word| file.write_all(&word.to_ne_bytes()).unwrap());
        file
    }

    #[test]
    fn pieces_are_what_the_file_has_and_outlive_what_handed_them_out() {
        let words: Vec<u32> = (0..16 * 40).collect();
        let file = file(&words, 128);
        let mut arena = FileArena::open(&file, 128).unwrap();
        let mut pieces: Vec<Buffer> = [16, 0, 32, 16 * 37].map(|len| arena.next(len).unwrap()).into();
        assert_eq!(arena.next(1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        drop(arena);
        // Written to, a piece is a copy: the file has what it had, and so has who opens it again.
        pieces[2].words_mut()[0] = 99;
        assert_eq!(pieces[0].words(), &words[..16]);
        assert_eq!(pieces[2].words()[..2], [99, 17]);
        assert_eq!(pieces[3].words(), &words[48..]);
        assert_eq!(FileArena::open(&file, 128).unwrap().next(640).unwrap().words(), &words);
    }

    #[test]
    fn what_cannot_be_a_row_of_panels_is_refused() {
        let file = file(&[0; 64], 0);
        for start in [4, 32, 256, 320] {
            assert_eq!(
                FileArena::open(&file, start).err().unwrap().kind(),
                io::ErrorKind::InvalidData,
                "{start}"
            );
        }
        let mut arena = FileArena::open(&file, 0).unwrap();
        assert_eq!(arena.next(usize::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        arena.next(8).unwrap();
        assert_eq!(arena.next(8).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
