//! What Python hands over: texts, and ids in whatever holds them.

use numpy::{PyArray1, PyArrayMethods, PyUntypedArray};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyString};
use std::fmt::Display;

/// A `str` or `bytes`, held so that it can be read with the lock released: neither ever changes.
pub enum Text {
    /// Its UTF-8.
    Str(PyBackedStr),
    /// Bytes of any kind.
    Bytes(PyBackedBytes),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Text {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Text> {
        if let Ok(text) = object.cast::<PyString>() {
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
            Text::Bytes(bytes) => bytes,
        }
    }
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
