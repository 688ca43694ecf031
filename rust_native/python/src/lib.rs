//! rust_native's byte-level BPE as a Python module.
//!
//! Why so little: everything is in the library, and here only what crosses. Texts are read where Python keeps them
//! (a `str` as its UTF-8, which CPython makes once and keeps), ids become numpy arrays over the very memory they
//! were written to, and the interpreter's lock is released while a text of any length is worked on.
//!
//! Invariant: nothing that Python could change is read while the lock is released.

#![forbid(unsafe_code)]

mod input;

use numpy::PyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use rust_native::{Error, Special};
use std::path::PathBuf;

use input::Text;

/// Below this many bytes of text the lock is kept: the work is done before another thread would have the lock, and
/// who gives it away in every short call may wait for it each time.
const SHORT: usize = 2048;

type Array<'py, T> = Bound<'py, PyArray1<T>>;

/// A byte-level BPE tokenizer. It never changes; threads share it.
#[pyclass(frozen, module = "rust_native_bpe")]
struct Tokenizer {
    inner: rust_native::Tokenizer,
}

#[pymethods]
impl Tokenizer {
    /// GPT-2's tokenizer, 50257 ids; no file is needed.
    #[staticmethod]
    fn gpt2(py: Python<'_>) -> Self {
        py.detach(|| Tokenizer { inner: rust_native::Tokenizer::gpt2() })
    }

    /// A tokenizer.json, or a folder that has one or vocab.json with merges.txt.
    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let load = || match path.is_dir() {
            true => rust_native::Tokenizer::from_dir(&path),
            false => rust_native::Tokenizer::from_tokenizer_json(&path),
        };
        py.detach(load).map(|inner| Tokenizer { inner }).map_err(raised)
    }

    /// How many ids there are, special ones included.
    #[getter]
    fn vocabulary_size(&self) -> usize {
        self.inner.vocabulary_size()
    }

    /// Special tokens and their ids.
    #[getter]
    fn special_tokens<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let tokens = PyDict::new(py);
        for (token, id) in self.inner.special_tokens() {
            tokens.set_item(token, id)?;
        }
        Ok(tokens)
    }

    /// The ids of a text, as an array of uint32.
    #[pyo3(signature = (text, *, special = "refuse"))]
    fn encode<'py>(&self, py: Python<'py>, text: Text, special: &str) -> PyResult<Array<'py, u32>> {
        let special = treatment(special)?;
        let ids = working(py, text.as_ref().len(), || {
            let mut ids = Vec::with_capacity(text.as_ref().len() / 3 + 8);
            kernels::ask_for_huge_pages(&mut ids);
            self.inner.encoder().encode_bytes_into(text.as_ref(), special, &mut ids)?;
            // Arrays are kept: what was guessed too much is given back, which moves nothing.
            ids.shrink_to_fit();
            Ok(ids)
        })?;
        Ok(PyArray1::from_vec(py, ids))
    }

    /// The ids of many texts in one array, and where each text's begin: those of text i are
    /// ids[starts[i]:starts[i + 1]].
    #[pyo3(signature = (texts, *, special = "refuse", threads = 1))]
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<Text>,
        special: &str,
        threads: i64,
    ) -> PyResult<(Array<'py, u32>, Array<'py, i64>)> {
        let special = treatment(special)?;
        let threads = match usize::try_from(threads) {
            Ok(threads @ 1..) => threads,
            _ => return Err(PyValueError::new_err(format!("threads: {threads}; give a number from 1 on"))),
        };
        let bytes = texts.iter().map(|text| text.as_ref().len()).sum();
        let (ids, starts) = working(py, bytes, || {
            let (ids, starts) = self.inner.encode_joined(&texts, special, threads)?;
            // Signed, because numpy makes floats of uint64 mixed with other integers.
            Ok((ids, starts.into_iter().map(|start| start as i64).collect()))
        })?;
        Ok((PyArray1::from_vec(py, ids), PyArray1::from_vec(py, starts)))
    }

    /// How many ids encode would give, without keeping them.
    #[pyo3(signature = (text, *, special = "refuse"))]
    fn count(&self, py: Python<'_>, text: Text, special: &str) -> PyResult<usize> {
        let special = treatment(special)?;
        working(py, text.as_ref().len(), || self.inner.encoder().count_bytes(text.as_ref(), special))
    }

    /// The text of ids; what is not UTF-8 becomes U+FFFD.
    fn decode(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<String> {
        let ids = input::ids(ids, self.inner.vocabulary_size())?;
        working(py, 4 * ids.len(), || self.inner.decode_lossy(&ids))
    }

    /// The bytes of ids.
    fn decode_bytes<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let ids = input::ids(ids, self.inner.vocabulary_size())?;
        let bytes = working(py, 4 * ids.len(), || self.inner.decode_bytes(&ids))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn __repr__(&self) -> String {
        format!("Tokenizer(vocabulary_size={})", self.vocabulary_size())
    }
}

/// Does `work` on about `bytes` bytes of text, the lock released unless they are few.
fn working<T: Send>(
    py: Python<'_>,
    bytes: usize,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> PyResult<T> {
    let done = if bytes < SHORT { work() } else { py.detach(work) };
    done.map_err(raised)
}

fn treatment(special: &str) -> PyResult<Special> {
    match special {
        "allow" => Ok(Special::Allow),
        "ignore" => Ok(Special::Ignore),
        "refuse" => Ok(Special::Refuse),
        other => {
            Err(PyValueError::new_err(format!("special: {other:?}; use \"allow\", \"ignore\" or \"refuse\"")))
        }
    }
}

/// The library's message: OSError (FileNotFoundError, …) for what cannot be read, else ValueError.
fn raised(error: Error) -> PyErr {
    let line = error.to_string();
    match error {
        Error::Io { cause, .. } => std::io::Error::new(cause.kind(), line).into(),
        Error::SpecialToken { .. } => {
            PyValueError::new_err(format!("{line} (special=\"allow\", special=\"ignore\")"))
        }
        _ => PyValueError::new_err(line),
    }
}

/// Byte-level BPE: text to token ids and back.
#[pymodule]
fn rust_native_bpe(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("isa", kernels::text::Scanner::best().isa().name())?;
    module.add_class::<Tokenizer>()
}
