//! The crossing itself: Rust calls a Python function that gives back what it is handed.
//!
//! | crossing | on the clock, a call |
//! | --- | --- |
//! | empty | the call |
//! | list | a list of int objects made, called with, read back into a `Vec<u32>` |
//! | copy | a numpy array made from a slice, called with, copied back into a `Vec<u32>` |
//! | shared | an array over Rust's own memory, made once, called with, read in place |

use crate::interpreter::{failure, stop};
use anyhow::{Result, anyhow};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::hint::black_box;
use worker::{Answer, Crossing, Job, Laps, Receipt, Stop, Unit};

/// `repeat` calls.
pub struct Boundary {
    crossing: Crossing,
    repeat: usize,
    function: Py<PyAny>,
    ids: Vec<u32>,
    shared: Py<PyArray1<u32>>,
    back: Back,
}

/// What the last call gave back.
enum Back {
    Nothing,
    Ids(Vec<u32>),
    Array(Py<PyArray1<u32>>),
}

impl Boundary {
    /// `ids` are the `elements` that cross.
    pub fn new(
        py: Python<'_>,
        crossing: Crossing,
        elements: usize,
        repeat: usize,
        ids: Vec<u32>,
    ) -> Result<Boundary, Stop> {
        if ids.len() != elements {
            let held = ids.len();
            return Err(anyhow!("{elements} elements are to cross, files.ids holds {held}").into());
        }
        let name = match crossing {
            Crossing::Empty => "empty",
            Crossing::List => "take_list",
            Crossing::Copy | Crossing::Shared => "take_array",
        };
        let function = py.import("peers.boundary").and_then(|module| module.getattr(name));
        let function = function.map_err(|error| stop(py, error))?.unbind();
        // The array takes the vector over: the elements stay where Rust put them.
        let shared = PyArray1::from_vec(py, ids.clone()).unbind();
        Ok(Boundary { crossing, repeat, function, ids, shared, back: Back::Nothing })
    }

    fn cross(&mut self, py: Python<'_>) -> PyResult<()> {
        let function = self.function.bind(py);
        match self.crossing {
            Crossing::Empty => {
                for _ in 0..self.repeat {
                    function.call0()?;
                }
            }
            Crossing::List => {
                for _ in 0..self.repeat {
                    let list = PyList::new(py, &self.ids)?;
                    self.back = Back::Ids(function.call1((list,))?.extract()?);
                }
            }
            Crossing::Copy => {
                for _ in 0..self.repeat {
                    let array = PyArray1::from_slice(py, &self.ids);
                    let back = function.call1((array,))?.cast_into::<PyArray1<u32>>()?;
                    self.back = Back::Ids(back.to_vec()?);
                }
            }
            Crossing::Shared => {
                for _ in 0..self.repeat {
                    let back = function.call1((&self.shared,))?.cast_into::<PyArray1<u32>>()?;
                    black_box(back.readonly().as_slice()?);
                    self.back = Back::Array(back.unbind());
                }
            }
        }
        Ok(())
    }
}

impl Job for Boundary {
    fn reset(&mut self) -> Result<()> {
        self.back = Back::Nothing;
        Ok(())
    }

    fn run(&mut self, _laps: &mut Laps) -> Result<()> {
        Python::attach(|py| self.cross(py).map_err(|error| failure(py, error)))
    }

    fn receipt(&self) -> Result<Receipt> {
        let ids = match &self.back {
            Back::Nothing => Vec::new(),
            Back::Ids(ids) => ids.clone(),
            Back::Array(array) => Python::attach(|py| array.bind(py).to_vec())?,
        };
        Ok(Receipt { units: self.repeat as u64, unit: Unit::Calls, answer: Answer::Ids(ids), logits: None })
    }
}
