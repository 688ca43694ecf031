//! GGUF, the file that llama.cpp loads: key-value pairs, a table of tensors, then their values.
//!
//! Written from the format's specification (ggml's docs/gguf.md, version 3): everything is
//! little-endian, a string is its length as u64 and its bytes, and the values of each tensor begin at
//! a multiple of 32 bytes behind the table. Only what GPT-2 needs is here: f32 tensors, and values of
//! three types.
//!
//! Invariant: offsets in the table come from the same sizes that are written, and a tensor that gives
//! more or fewer values than its sizes say is an error, never a file.

use anyhow::{Context, Result, ensure};
use std::io::{Seek, Write};

/// Alignment of the values, the format's default.
const ALIGNMENT: u64 = 32;
/// ggml keeps names in 64 bytes, the last of them zero.
const LONGEST_NAME: usize = 63;

/// A value of the head.
pub enum Value {
    /// An unsigned number.
    U32(u32),
    /// A real number.
    F32(f32),
    /// Text.
    Text(String),
}

/// An f32 tensor to be written.
pub struct Tensor<'a> {
    /// llama.cpp's name of it.
    pub name: String,
    /// Sizes as ggml counts them: the dimension whose values lie side by side comes first.
    pub sizes: Vec<u64>,
    /// Gives all values, in order. Called once, so that no second copy of the model exists.
    pub values: Box<dyn Fn() -> Result<Vec<f32>> + 'a>,
}

impl Tensor<'_> {
    fn count(&self) -> Result<u64> {
        let product = self.sizes.iter().try_fold(1u64, |all, &size| all.checked_mul(size));
        product
            .filter(|&count| count > 0 && count < 1 << 40)
            .with_context(|| format!("{} of sizes {:?} is no possible tensor", self.name, self.sizes))
    }
}

/// Writes a whole file.
///
/// # Errors
/// Names that are empty, too long or used twice; sizes that are zero or overflow; a tensor whose
/// values are not as many as its sizes say; whatever `out` reports.
pub fn write(out: &mut (impl Write + Seek), head: &[(&str, Value)], tensors: &[Tensor<'_>]) -> Result<()> {
    let mut table = Vec::new();
    let mut offset = 0u64;
    for (at, tensor) in tensors.iter().enumerate() {
        let name = &tensor.name;
        ensure!(
            !name.is_empty() && name.len() <= LONGEST_NAME,
            "`{name}`: a tensor's name has 1 to {LONGEST_NAME} bytes"
        );
        ensure!(!tensors[..at].iter().any(|other| other.name == *name), "two tensors are called {name}");
        put_text(&mut table, name);
        put_u32(&mut table, tensor.sizes.len() as u32);
        tensor.sizes.iter().for_each(|&size| put_u64(&mut table, size));
        put_u32(&mut table, 0); // the type f32
        put_u64(&mut table, offset);
        offset += (tensor.count()? * 4).next_multiple_of(ALIGNMENT);
    }
    let mut start = b"GGUF".to_vec();
    put_u32(&mut start, 3);
    put_u64(&mut start, tensors.len() as u64);
    put_u64(&mut start, head.len() as u64);
    for (key, value) in head {
        put_text(&mut start, key);
        match value {
            Value::U32(number) => {
                put_u32(&mut start, 4);
                put_u32(&mut start, *number);
            }
            Value::F32(number) => {
                put_u32(&mut start, 6);
                put_u32(&mut start, number.to_bits());
            }
            Value::Text(text) => {
                put_u32(&mut start, 8);
                put_text(&mut start, text);
            }
        }
    }
    start.extend(table);
    out.write_all(&start)?;
    for tensor in tensors {
        pad(out)?;
        let (values, wanted) = ((tensor.values)()?, tensor.count()?);
        ensure!(
            values.len() as u64 == wanted,
            "{} has {} values; its sizes {:?} make {wanted}",
            tensor.name,
            values.len(),
            tensor.sizes
        );
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        out.write_all(&bytes)?;
    }
    pad(out)?;
    out.flush().context("cannot finish the file")
}

fn put_u32(to: &mut Vec<u8>, number: u32) {
    to.extend(number.to_le_bytes());
}

fn put_u64(to: &mut Vec<u8>, number: u64) {
    to.extend(number.to_le_bytes());
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    put_u64(to, text.len() as u64);
    to.extend(text.as_bytes());
}

fn pad(out: &mut (impl Write + Seek)) -> Result<()> {
    let here = out.stream_position()?;
    let missing = here.next_multiple_of(ALIGNMENT) - here;
    Ok(out.write_all(&[0; ALIGNMENT as usize][..missing as usize])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn tensor(name: &str, sizes: &[u64], count: usize) -> Tensor<'static> {
        let values = move || Ok((0..count).map(|at| at as f32).collect());
        Tensor { name: name.into(), sizes: sizes.into(), values: Box::new(values) }
    }

    fn bytes(head: &[(&str, Value)], tensors: &[Tensor<'_>]) -> Result<Vec<u8>> {
        let mut out = Cursor::new(Vec::new());
        write(&mut out, head, tensors)?;
        Ok(out.into_inner())
    }

    #[test]
    fn a_file_is_laid_out_as_the_specification_says() {
        let head = [("a", Value::U32(7)), ("bc", Value::F32(1.5)), ("d", Value::Text("né".into()))];
        let file = bytes(&head, &[tensor("x", &[3], 3), tensor("y.z", &[2, 2], 4)]).unwrap();
        let mut expected = b"GGUF\x03\0\0\0".to_vec();
        expected.extend([2u64.to_le_bytes(), 3u64.to_le_bytes()].concat());
        expected.extend(b"\x01\0\0\0\0\0\0\0a\x04\0\0\0\x07\0\0\0");
        expected.extend(b"\x02\0\0\0\0\0\0\0bc\x06\0\0\0\0\0\xc0\x3f");
        expected.extend(b"\x01\0\0\0\0\0\0\0d\x08\0\0\0\x03\0\0\0\0\0\0\0n\xc3\xa9");
        expected.extend(b"\x01\0\0\0\0\0\0\0x\x01\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0");
        expected.extend(0u64.to_le_bytes());
        expected.extend(b"\x03\0\0\0\0\0\0\0y.z\x02\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0");
        expected.extend(32u64.to_le_bytes());
        assert_eq!(file[..expected.len()], expected);
        let data = expected.len().next_multiple_of(32);
        assert!(file[expected.len()..data].iter().all(|&byte| byte == 0));
        let at = |from: usize| f32::from_le_bytes(file[from..from + 4].try_into().unwrap());
        assert_eq!([at(data), at(data + 4), at(data + 8), at(data + 12)], [0.0, 1.0, 2.0, 0.0]);
        assert_eq!([at(data + 32), at(data + 44)], [0.0, 3.0]);
        assert_eq!(file.len(), data + 64);
    }

    #[test]
    fn what_is_no_tensor_is_an_error_that_names_it() {
        for (tensors, says) in [
            (vec![tensor("x", &[3], 2)], "x has 2 values; its sizes [3] make 3"),
            (vec![tensor("x", &[2, 0], 0)], "no possible tensor"),
            (vec![tensor("x", &[u64::MAX, 2], 2)], "no possible tensor"),
            (vec![tensor("", &[1], 1)], "1 to 63 bytes"),
            (vec![tensor(&"n".repeat(64), &[1], 1)], "1 to 63 bytes"),
            (vec![tensor("x", &[1], 1), tensor("x", &[1], 1)], "two tensors are called x"),
        ] {
            let error = format!("{:#}", bytes(&[], &tensors).unwrap_err());
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
