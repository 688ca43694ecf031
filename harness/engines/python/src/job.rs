//! One workload of a peer. On the clock: input to Python, the peer's run, its answer to Rust.

use crate::interpreter::failure;
use anyhow::{Context, Result, bail};
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;
use worker::{Answer, Job, Laps, Receipt, Unit, monotonic_ns};

/// What Python calls when a token id is known.
#[pyclass]
struct Mark {
    ends_ns: Vec<u64>,
}

#[pymethods]
impl Mark {
    fn __call__(&mut self) {
        self.ends_ns.push(monotonic_ns());
    }
}

/// Which input a run hands over.
enum Takes {
    Texts,
    Ids,
    Nothing,
}

/// A job made by a peer's `prepare`.
pub struct PeerJob {
    job: Py<PyAny>,
    mark: Py<Mark>,
    takes: Takes,
    texts: Vec<String>,
    ids: Vec<u32>,
    /// numpy.asarray and numpy.uint32: how a peer's list of ids becomes an array.
    asarray: (Py<PyAny>, Py<PyAny>),
    answer: (Option<Vec<u32>>, Option<String>),
}

impl PeerJob {
    /// `texts` and `ids` are what the order's files held.
    pub fn new(
        py: Python<'_>,
        job: Py<PyAny>,
        texts: Option<Vec<String>>,
        ids: Option<Vec<u32>>,
    ) -> PyResult<PeerJob> {
        let takes = match job.getattr(py, "takes")?.extract::<&str>(py)? {
            "texts" if texts.is_some() => Takes::Texts,
            "ids" if ids.is_some() => Takes::Ids,
            "" => Takes::Nothing,
            lacking => {
                let lacking = format!("the order names no {lacking} (files.{lacking})");
                return Err(PyValueError::new_err(lacking));
            }
        };
        let numpy = py.import("numpy")?;
        let asarray = (numpy.getattr("asarray")?.unbind(), numpy.getattr("uint32")?.unbind());
        let mark = Py::new(py, Mark { ends_ns: Vec::new() })?;
        let (texts, ids) = (texts.unwrap_or_default(), ids.unwrap_or_default());
        Ok(PeerJob { job, mark, takes, texts, ids, asarray, answer: (None, None) })
    }

    fn cross(&mut self, py: Python<'_>) -> PyResult<()> {
        let job = self.job.bind(py);
        let given = match self.takes {
            Takes::Texts => PyList::new(py, &self.texts)?.into_any(),
            Takes::Ids => PyArray1::from_slice(py, &self.ids).into_any(),
            Takes::Nothing => py.None().into_bound(py),
        };
        job.call_method1(intern!(py, "run"), (given, &self.mark))?;
        let answer = job.call_method0(intern!(py, "answer"))?;
        let (ids, text): (Option<Bound<'_, PyAny>>, Option<String>) = answer.extract()?;
        self.answer = (ids.map(|ids| self.take_ids(ids)).transpose()?, text);
        Ok(())
    }

    /// Ids of any kind, as an array of u32 (made here unless the peer made one), copied out.
    fn take_ids(&self, ids: Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        let py = ids.py();
        let array = match ids.cast_into::<PyArray1<u32>>() {
            Ok(array) => array,
            Err(other) => self
                .asarray
                .0
                .bind(py)
                .call1((other.into_inner(), &self.asarray.1))?
                .cast_into::<PyArray1<u32>>()?,
        };
        Ok(array.to_vec()?)
    }
}

impl Job for PeerJob {
    fn reset(&mut self) -> Result<()> {
        self.answer = (None, None);
        Python::attach(|py| {
            let mut mark = self.mark.borrow_mut(py);
            mark.ends_ns.clear();
            mark.ends_ns.reserve(1024);
            drop(mark);
            self.job.call_method0(py, intern!(py, "reset")).map_err(|error| failure(py, error))?;
            Ok(())
        })
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        Python::attach(|py| {
            self.cross(py).map_err(|error| failure(py, error))?;
            for &end_ns in &self.mark.borrow(py).ends_ns {
                laps.mark_at(end_ns);
            }
            Ok(())
        })
    }

    fn receipt(&self) -> Result<Receipt> {
        Python::attach(|py| {
            let (units, unit, compare, logits) = read_receipt(py, &self.job).map_err(|e| failure(py, e))?;
            let unit: Unit = serde_json::from_value(unit.as_str().into())
                .with_context(|| format!("the peer counts in `{unit}`"))?;
            let answer = match (compare, self.answer.clone()) {
                (false, _) | (true, (None, None)) => Answer::Nothing,
                (true, (Some(ids), None)) => Answer::Ids(ids),
                (true, (None, Some(text))) => Answer::Bytes(text.into_bytes()),
                (true, (Some(ids), Some(text))) => Answer::IdsThenBytes(ids, text.into_bytes()),
            };
            if units == 0 && matches!(unit, Unit::Loads) {
                bail!("nothing was loaded");
            }
            Ok(Receipt { units, unit, answer, logits })
        })
    }
}

type Fields = (u64, String, bool, Option<Vec<f32>>);

fn read_receipt(py: Python<'_>, job: &Py<PyAny>) -> PyResult<Fields> {
    let receipt = job.bind(py).call_method0("receipt")?;
    let logits: Option<PyReadonlyArrayDyn<'_, f32>> = receipt.getattr("logits")?.extract()?;
    Ok((
        receipt.getattr("units")?.extract()?,
        receipt.getattr("unit")?.extract()?,
        receipt.getattr("compare")?.extract()?,
        logits.map(|logits| logits.as_array().iter().copied().collect()),
    ))
}
