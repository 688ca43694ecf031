//! The elements of one tensor as f32, read from its file where and when they are wanted.
//!
//! Invariant: exactly the tensor's own bytes are read, whatever is asked for.

use super::format::{Dtype, Tensor};
use super::half;
use super::map::{MappedFile, f32_bytes};
use crate::Error;

/// A tensor of f32, f16 or bf16 in an open file; [`Elements::read`] may be called by several threads.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a> {
    file: &'a MappedFile,
    tensor: &'a Tensor,
    widen: Option<fn([u8; 2]) -> f32>,
}

impl<'a> Elements<'a> {
    /// `None` if the tensor's type has no exact f32 value.
    pub(super) fn new(file: &'a MappedFile, tensor: &'a Tensor) -> Option<Self> {
        let widen: Option<fn([u8; 2]) -> f32> = match tensor.dtype {
            Dtype::F32 => None,
            Dtype::F16 => Some(half::f16),
            Dtype::Bf16 => Some(half::bf16),
            Dtype::Other(_) => return None,
        };
        Some(Self { file, tensor, widen })
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "a tensor, not a collection")]
    pub fn len(&self) -> usize {
        self.tensor.shape.iter().product()
    }

    /// Puts elements `start..start + out.len()`, in row-major order, into `out`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, or was cut short after it had been opened.
    ///
    /// # Panics
    /// If there are no such elements.
    pub fn read(&self, start: usize, out: &mut [f32]) -> Result<(), Error> {
        let in_range = start <= self.len() && out.len() <= self.len() - start;
        assert!(in_range, "{} elements from {start} of {}", out.len(), self.len());
        match self.widen {
            Some(widen) => self.read_halves(start, out, widen),
            None => {
                self.file.read(self.tensor.start + size_of::<f32>() * start, f32_bytes(out))?;
                if cfg!(target_endian = "big") {
                    out.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
                }
                Ok(())
            }
        }
    }

    fn read_halves(&self, start: usize, out: &mut [f32], widen: fn([u8; 2]) -> f32) -> Result<(), Error> {
        /// Elements read at once: enough that the call does not matter, little enough for the stack.
        const PIECE: usize = 4096;
        let mut bytes = [[0; 2]; PIECE];
        for (piece, out) in out.chunks_mut(PIECE).enumerate() {
            let bytes = &mut bytes[..out.len()];
            self.file.read(self.tensor.start + 2 * (start + piece * PIECE), bytes.as_flattened_mut())?;
            for (v, &two) in out.iter_mut().zip(&*bytes) {
                *v = widen(two);
            }
        }
        Ok(())
    }
}
