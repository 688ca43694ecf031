//! Matrices that were packed before, in a file.
//!
//! The file holds what [`Packed::as_bytes`] gave, matrix after matrix, from a multiple of 64 bytes on, in
//! the byte order of the machine that wrote it. Its owner keeps [`LAYOUT`], precision and byte order
//! beside it; nothing of them can be seen in the panels.

use std::fs::File;
use std::io;

use super::integers;
use super::pack::Packed;
use crate::Precision;
use crate::buffer::file::FileArena;

/// What panels look like: another number for every change of any precision's.
pub const LAYOUT: u32 = 1;

/// Takes matrices out of a file, in the order they were put there.
pub struct PackedFile {
    arena: FileArena,
    precision: Precision,
}

impl PackedFile {
    /// `file` has matrices in `precision` from byte `start` on. On Linux they are mapped: they take no
    /// memory of their own and must not be changed in place.
    ///
    /// # Errors
    /// What the system says; `InvalidData` if nothing is behind `start` or it is not a multiple of 64.
    pub fn open(file: &File, start: usize, precision: Precision) -> io::Result<PackedFile> {
        Ok(PackedFile { arena: FileArena::open(file, start)?, precision })
    }

    /// The next matrix, `[k, n]`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file has not as much; `InvalidData` if `k` is above 131072 in int8; what the
    /// system says where files are read.
    pub fn next(&mut self, k: usize, n: usize) -> io::Result<Packed> {
        if self.precision == Precision::Int8 && k > integers::MAX_INPUTS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let data = self.arena.next(Packed::words_of(self.precision, k, n))?;
        Ok(Packed::new(data, self.precision, k, n))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::{Cpu, Isa};

    const SHAPES: [(usize, usize); 4] = [(70, 130), (1, 1), (33, 64), (256, 31)];

    fn weights(k: usize, n: usize) -> Vec<f32> {
        (0..k * n).map(|i| ((i * 37 + n) % 255) as f32 / 64.0 - 2.0).collect()
    }

    #[test]
    fn matrices_come_back_in_order_in_every_precision() {
        let cpu = Cpu::new(2, None).unwrap();
        for precision in Precision::ALL {
            let packed = SHAPES.map(|(k, n)| Packed::from_kn(&cpu, &weights(k, n), k, n, precision));
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&[1; 192]).unwrap();
            for matrix in &packed {
                assert_eq!(
                    matrix.as_bytes().len(),
                    4 * Packed::words_of(precision, matrix.inputs(), matrix.outputs())
                );
                assert!(matrix.as_bytes().len().is_multiple_of(64), "{precision}");
                file.write_all(matrix.as_bytes()).unwrap();
            }
            let mut kept = PackedFile::open(&file, 192, precision).unwrap();
            for matrix in &packed {
                let again = kept.next(matrix.inputs(), matrix.outputs()).unwrap();
                assert_eq!(again.as_bytes(), matrix.as_bytes(), "{precision}");
                assert_eq!((again.precision(), again.bytes()), (precision, matrix.bytes()));
            }
            assert_eq!(kept.next(1, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            let wide = kept.next(integers::MAX_INPUTS + 1, 1).unwrap_err().kind();
            assert_eq!(wide == io::ErrorKind::InvalidData, precision == Precision::Int8);
        }
    }

    /// Files of another layout must not be taken for this one's: where this fails, [`LAYOUT`] is to be
    /// another number, and these the new sums.
    #[test]
    fn the_layout_is_the_one_that_its_number_stands_for() {
        for isa in [None, Some(Isa::Portable)] {
            let cpu = Cpu::new(1, isa).unwrap();
            // FNV-1a over the words of all shapes.
            let sums = Precision::ALL.map(|precision| {
                let packed = SHAPES.map(|(k, n)| Packed::from_kn(&cpu, &weights(k, n), k, n, precision));
                let bytes = packed.iter().flat_map(|matrix| matrix.as_bytes().as_chunks().0);
                bytes.fold(0x811C_9DC5, |sum: u32, &word| {
                    (sum ^ u32::from_ne_bytes(word)).wrapping_mul(0x0100_0193)
                })
            });
            assert_eq!((LAYOUT, sums), (1, [2_566_911_045, 464_405_849, 1_328_453_802, 43_725_499]));
        }
    }
}
