//! The safetensors header, parsed and validated in full; pure functions over bytes.
//!
//! Layout: 8 bytes little-endian header length N, N bytes of JSON, then the data. The JSON maps names to
//! `{"dtype", "shape", "data_offsets": [begin, end]}` and `__metadata__` to strings
//! (<https://github.com/huggingface/safetensors>, section "Format").
//!
//! Invariant: for every returned tensor `start <= end <= data.len()`, `end - start` is exactly
//! shape x size of the type, and the tensors together tile the data without overlap or hole.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::problem;
use crate::Error;

/// The official bound on the header's length.
pub const MAX_HEADER: u64 = 100_000_000;

/// Element type of a tensor. Only the three floating types have a use here; others may occur in buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE 754 single.
    F32,
    /// IEEE 754 half.
    F16,
    /// The upper half of a single.
    Bf16,
    /// A known type that is no model weight: its spelling.
    Other(&'static str),
}

/// Types outside the three, with bytes per element.
const OTHERS: [(&str, usize); 13] = [
    ("BOOL", 1),
    ("U8", 1),
    ("I8", 1),
    ("F8_E4M3", 1),
    ("F8_E5M2", 1),
    ("F8_E8M0", 1),
    ("U16", 2),
    ("I16", 2),
    ("U32", 4),
    ("I32", 4),
    ("U64", 8),
    ("I64", 8),
    ("F64", 8),
];

impl Dtype {
    /// The type and its bytes per element, or `None` for an unknown spelling.
    fn of(name: &str) -> Option<(Self, usize)> {
        match name {
            "F32" => Some((Self::F32, 4)),
            "F16" => Some((Self::F16, 2)),
            "BF16" => Some((Self::Bf16, 2)),
            _ => OTHERS
                .iter()
                .find(|(other, _)| *other == name)
                .map(|&(other, size)| (Self::Other(other), size)),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Other(name) => name,
        })
    }
}

/// One tensor's place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The name as the file spells it.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the data.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A validated header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where the data begins in the file.
    pub data: usize,
    /// The tensors in order of their offsets.
    pub tensors: Vec<Tensor>,
}

/// Validates a whole safetensors file, given as bytes; `path` only serves the messages.
///
/// # Errors
/// [`Error::Checkpoint`] naming the part that breaks the format. Never panics, whatever the bytes.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Layout, Error> {
    const AGAIN: &str = "the file is damaged or incomplete: fetch or write it again";
    let Some((prefix, rest)) = bytes.split_first_chunk::<8>() else {
        let found = format!("{} bytes, less than the 8 of a header length", bytes.len());
        return Err(problem(path, "header length", found, AGAIN));
    };
    let length = u64::from_le_bytes(*prefix);
    if length > MAX_HEADER {
        let found = format!("{length} bytes, above the format's bound of {MAX_HEADER}");
        return Err(problem(path, "header length", found, "is this a safetensors file?"));
    }
    let (header, data) =
        usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)).ok_or_else(|| {
            let found = format!("{length} bytes, but only {} follow", rest.len());
            problem(path, "header length", found, AGAIN)
        })?;
    if header.first() != Some(&b'{') {
        return Err(problem(path, "header", "does not begin with `{`", AGAIN));
    }
    let Header(entries) = serde_json::from_slice(header)
        .map_err(|why| problem(path, "header", format!("not a valid safetensors header: {why}"), AGAIN))?;
    let mut tensors = entries
        .into_iter()
        .map(|(name, entry)| check_tensor(path, name, entry))
        .collect::<Result<Vec<_>, _>>()?;
    tensors.sort_by(|a, b| (a.start, a.end, &a.name).cmp(&(b.start, b.end, &b.name)));
    check_tiling(path, &tensors, data.len())?;
    Ok(Layout { data: 8 + header.len(), tensors })
}

fn check_tensor(path: &Path, name: String, entry: Entry) -> Result<Tensor, Error> {
    let bad = |found: String, remedy: &str| problem(path, &format!("tensor `{name}`"), found, remedy);
    let Some((dtype, size)) = Dtype::of(&entry.dtype) else {
        let found = format!("unknown type {:?}", entry.dtype);
        return Err(bad(found, "save the model as F32, F16 or BF16"));
    };
    let expected = entry
        .shape
        .iter()
        .try_fold(1_u64, |product, &dim| product.checked_mul(dim))
        .and_then(|elements| elements.checked_mul(size as u64));
    let Some(expected) = expected else {
        let found = format!("shape {:?}, whose size overflows", entry.shape);
        return Err(bad(found, "the file is damaged"));
    };
    let [start, end] = entry.data_offsets;
    let Some(length) = end.checked_sub(start) else {
        return Err(bad(format!("offsets [{start}, {end}] run backwards"), "the file is damaged"));
    };
    if length != expected {
        let found = format!(
            "{length} bytes at offsets [{start}, {end}], but {dtype} {:?} takes {expected}",
            entry.shape
        );
        return Err(bad(found, "the file is damaged"));
    }
    let address =
        |n: u64| usize::try_from(n).map_err(|_| bad(format!("offset or size {n}"), "use a 64-bit system"));
    let shape = entry.shape.iter().map(|&dim| address(dim)).collect::<Result<_, _>>()?;
    let (start, end) = (address(start)?, address(end)?);
    Ok(Tensor { name, dtype, shape, start, end })
}

/// Sorted tensors must tile `0..length`.
fn check_tiling(path: &Path, tensors: &[Tensor], length: usize) -> Result<(), Error> {
    let mut at = 0;
    for tensor in tensors {
        let item = format!("tensor `{}`", tensor.name);
        if tensor.end > length {
            let found = format!("ends at byte {}, but the data has {length}", tensor.end);
            return Err(problem(path, &item, found, "the file is truncated: fetch it again"));
        }
        if tensor.start < at {
            let found = format!("begins at byte {}, inside another that ends at {at}", tensor.start);
            return Err(problem(path, &item, found, "the file is damaged: fetch it again"));
        }
        if tensor.start > at {
            let found = format!("begins at byte {}, leaving a hole from {at}", tensor.start);
            return Err(problem(path, &item, found, "the file is damaged: fetch it again"));
        }
        at = tensor.end;
    }
    if at < length {
        let found = format!("{} bytes after the last tensor", length - at);
        return Err(problem(path, "data", found, "the file is damaged: fetch it again"));
    }
    Ok(())
}

/// One header entry as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header's entries in file order, duplicate names refused.
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut seen = std::collections::HashSet::new();
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(de::Error::custom(format_args!("{name:?} is given twice")));
            }
            if name == "__metadata__" {
                map.next_value::<Metadata>()?;
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Header(entries))
    }
}

/// `__metadata__`: strings to strings, duplicate keys refused; the contents have no use here.
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_unit<E>(self) -> Result<Metadata, E> {
                Ok(Metadata)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut seen = std::collections::HashSet::new();
                while let Some((key, _)) = map.next_entry::<String, String>()? {
                    if !seen.insert(key.clone()) {
                        let why = format_args!("{key:?} is given twice in __metadata__");
                        return Err(de::Error::custom(why));
                    }
                }
                Ok(Metadata)
            }
        }
        input.deserialize_any(Strings)
    }
}
