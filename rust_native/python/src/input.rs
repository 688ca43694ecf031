//! What Python hands over: texts, and ids in whatever holds them.

use numpy::{PyArray1, PyArrayMethods, PyUntypedArray};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PySequence, PyString};
use std::fmt::Display;

/// A `str` or `bytes`, held so that it can be read with the lock released: neither ever changes.
pub enum Text {
    /// Its UTF-8.
    Str(PyBackedStr),
    /// The same of a long one.
    Copied(Vec<u8>),
    /// Bytes of any kind.
    Bytes(PyBackedBytes),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Text {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Text> {
        if let Ok(text) = object.cast::<PyString>() {
            if let Some(copied) = copied(&text)? {
                return Ok(Text::Copied(copied));
            }
            // A lone surrogate has no UTF-8: UnicodeEncodeError, which is a ValueError.
            return Ok(Text::Str(PyBackedStr::try_from(text.to_owned())?));
        }
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Text::Bytes(PyBackedBytes::from(bytes.to_owned())));
        }
        let kind = object.get_type().name()?;
        Err(PyTypeError::new_err(format!("a text is str or bytes, not {kind}")))
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        match self {
            Text::Str(text) => text.as_bytes(),
            Text::Copied(text) => text,
            Text::Bytes(bytes) => bytes,
        }
    }
}

/// Characters from which on the UTF-8 of a `str` is copied, unless it keeps one anyway.
const LONG: usize = 1 << 16;
/// Characters of it that are copied at once.
const SLICE: usize = 1 << 14;

/// The UTF-8 of a long `str` that keeps none yet.
///
/// CPython would write it into a block of three bytes a character, copy that and keep it as long as the `str` lives:
/// pages of memory that are all new, for what is mostly read once. A slice is small enough to stay in a cache, and
/// one that is ASCII, which in most languages' documents many are, is its UTF-8 already.
fn copied(text: &Bound<'_, PyString>) -> PyResult<Option<Vec<u8>>> {
    let length = text.len()?;
    if length < LONG || text.call_method0("isascii")?.extract()? || keeps_utf8(text, length)? {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(length + length / 8);
    let sequence = text.cast::<PySequence>()?;
    for from in (0..length).step_by(SLICE) {
        let slice = sequence.get_slice(from, (from + SLICE).min(length))?;
        // Whatever is wrong with it, the whole text's error names the right place.
        let Ok(utf8) = slice.cast::<PyString>()?.to_str() else { return Ok(None) };
        bytes.extend_from_slice(utf8.as_bytes());
    }
    Ok(Some(bytes))
}

/// Whether a `str` beyond ASCII keeps its UTF-8. Its size says so: a header, as many bytes a character as its widest
/// needs, with one character more at the end, and that UTF-8 if there is one. Where that is mistaken time is lost, nothing else.
fn keeps_utf8(text: &Bound<'_, PyString>, length: usize) -> PyResult<bool> {
    static HEADER: PyOnceLock<usize> = PyOnceLock::new();
    let size = |text: &Bound<'_, PyString>| text.call_method0("__sizeof__")?.extract::<usize>();
    let two = || PyString::new(text.py(), "\u{100}\u{101}");
    let header = HEADER.get_or_try_init(text.py(), || Ok::<_, PyErr>(size(&two())? - 3 * 2))?;
    let characters = size(text)?.saturating_sub(*header);
    Ok(![1, 2, 4].map(|width| width * (length + 1)).contains(&characters))
}

/// Ids from an array or from anything that gives integers one by one, copied: an array may change as soon as
/// the lock is released. Arrays of uint32 and int64 are read as they lie, others as lists.
pub fn ids(given: &Bound<'_, PyAny>, vocabulary: usize) -> PyResult<Vec<u32>> {
    if let Ok(array) = given.cast::<PyArray1<u32>>()
        && let Ok(ids) = array.to_vec()
    {
        return Ok(ids);
    }
    if let Ok(array) = given.cast::<PyArray1<i64>>()
        && let Ok(wide) = array.to_vec()
    {
        let narrow = |id: i64| u32::try_from(id).map_err(|_| unknown(id, vocabulary));
        return wide.into_iter().map(narrow).collect();
    }
    let given = match given.cast::<PyUntypedArray>() {
        Ok(array) => array.call_method0("tolist")?,
        Err(_) => given.clone(),
    };
    let one = |id: Bound<'_, PyAny>| match id.extract::<u32>() {
        Err(error) if error.is_instance_of::<PyOverflowError>(id.py()) => Err(unknown(&id, vocabulary)),
        other => other,
    };
    given.try_iter()?.map(|id| one(id?)).collect()
}

/// As the library says it, of a number that its ids cannot hold.
fn unknown(id: impl Display, vocabulary: usize) -> PyErr {
    PyValueError::new_err(format!(
        "token id {id} is outside the vocabulary of {vocabulary} ids; use ids from 0 to {}",
        vocabulary.saturating_sub(1)
    ))
}
