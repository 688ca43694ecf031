//! A peer as an engine: its identity, its refusals, its footprint.
//!
//! The peer is imported when the worker asks who is here, after stdout was put out of the reach of
//! what libraries print. An environment that is not there makes every workload a refusal.

use crate::boundary::Boundary;
use crate::interpreter::{failure, find_packages, find_peers, stop};
use crate::job::PeerJob;
use anyhow::{Result, anyhow};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use worker::{Engine, Footprint, Identity, Job, Prepare, Stop, Task};

/// The engine of one process.
pub struct PythonEngine {
    name: String,
    /// Reason and remedy where Python is not set up.
    path: Result<(), (String, String)>,
    peer: OnceCell<Result<Py<PyAny>, (String, String)>>,
}

impl PythonEngine {
    /// The peer of that name.
    ///
    /// # Errors
    /// A name that is none, with the list of those there are.
    pub fn new(name: &str) -> Result<PythonEngine> {
        let path = Python::attach(|py| {
            let known = find_peers(py).and_then(|()| names(py).map_err(|error| stop(py, error)));
            let found = known.and_then(|names| match names.iter().any(|known| known == name) {
                true => find_packages(py),
                false => Err(anyhow!("`{name}` is no peer; there are: {}", names.join(", ")).into()),
            });
            match found {
                Ok(()) => Ok(Ok(())),
                Err(Stop::Refused { reason, remedy }) => Ok(Err((reason, remedy))),
                Err(Stop::Failed(error)) => Err(error),
            }
        })?;
        Ok(PythonEngine { name: name.to_owned(), path, peer: OnceCell::new() })
    }

    /// The peer, imported on first use; a reason and a remedy where it cannot be.
    fn peer<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>, (String, String)> {
        self.path.clone()?;
        let imported = self.peer.get_or_init(|| {
            let peer = py
                .import("numpy")
                .and_then(|_| py.import("peers"))
                .and_then(|peers| peers.call_method1("load", (&self.name,)));
            peer.map(Bound::unbind).map_err(|error| match stop(py, error) {
                Stop::Refused { reason, remedy } => (reason, remedy),
                Stop::Failed(error) => (format!("{error:#}"), String::new()),
            })
        });
        match imported {
            Ok(peer) => Ok(peer.bind(py).clone()),
            Err(why) => Err(why.clone()),
        }
    }
}

fn names(py: Python<'_>) -> PyResult<Vec<String>> {
    py.import("peers")?.call_method0("names")?.extract()
}

impl Engine for PythonEngine {
    fn identity(&self) -> Identity {
        let unknown = |settings| Identity {
            engine: format!("python/{}", self.name),
            language: "rust+python".into(),
            settings,
            ..Identity::default()
        };
        Python::attach(|py| match self.peer(py) {
            Err(_) => unknown(BTreeMap::new()),
            Ok(peer) => identity_of(py, &peer).unwrap_or_else(|error| {
                unknown(BTreeMap::from([("identity".into(), format!("{:#}", failure(py, error)))]))
            }),
        })
    }

    fn prepare(&mut self, order: &Prepare) -> Result<Box<dyn Job + '_>, Stop> {
        let texts = order.files.texts.is_some().then(|| order.files.read_texts()).transpose()?;
        let ids = order.files.ids.is_some().then(|| order.files.read_ids()).transpose()?;
        Python::attach(|py| {
            let peer = self.peer(py).map_err(|(reason, remedy)| Stop::refused(reason, remedy))?;
            if let (Task::Boundary { crossing, elements, repeat }, "boundary") = (&order.task, &*self.name) {
                let ids = ids.unwrap_or_else(|| (0..*elements as u32).collect());
                return Ok(Box::new(Boundary::new(py, *crossing, *elements, *repeat, ids)?) as Box<dyn Job>);
            }
            let job = ask(py, &peer, order, texts.as_deref(), ids.as_deref()).map_err(|e| stop(py, e))?;
            let job = PeerJob::new(py, job, texts, ids);
            Ok(Box::new(job.map_err(|error| stop(py, error))?) as Box<dyn Job>)
        })
    }

    fn footprint(&self) -> Result<Vec<Footprint>> {
        Python::attach(|py| {
            let peer = self.peer(py).map_err(|(reason, remedy)| anyhow!("{reason}; {remedy}"))?;
            parts(py, &peer).map_err(|error| failure(py, error))
        })
    }
}

fn identity_of(py: Python<'_>, peer: &Bound<'_, PyAny>) -> PyResult<Identity> {
    let identity = peer.call_method0("identity")?;
    let mut versions: BTreeMap<String, String> = identity.getattr("versions")?.extract()?;
    let python = py.version_info();
    let python = format!("{}.{}.{}", python.major, python.minor, python.patch);
    versions.insert("python".into(), python);
    versions.insert("numpy".into(), py.import("numpy")?.getattr("__version__")?.extract()?);
    let name: String = identity.getattr("name")?.extract()?;
    Ok(Identity {
        // A peer whose family is not Python's says its whole name.
        engine: if name.contains('/') { name } else { format!("python/{name}") },
        language: "rust+python".into(),
        precision: identity.getattr("precision")?.extract()?,
        versions,
        settings: identity.getattr("settings")?.extract()?,
    })
}

/// Hands the order to the peer, as the worker in Python does.
fn ask(
    py: Python<'_>,
    peer: &Bound<'_, PyAny>,
    order: &Prepare,
    texts: Option<&[String]>,
    ids: Option<&[u32]>,
) -> PyResult<Py<PyAny>> {
    let task = serde_json::to_string(&order.task).expect("a task that came as JSON goes as JSON");
    let fields = PyDict::new(py);
    fields.set_item("task", py.import("json")?.call_method1("loads", (task,))?)?;
    fields.set_item("threads", order.threads)?;
    let folder = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned());
    fields.set_item("model", folder(&order.files.model))?;
    fields.set_item("vocabulary", folder(&order.files.vocabulary))?;
    fields.set_item("texts", texts.map(|texts| PyList::new(py, texts)).transpose()?)?;
    fields.set_item("ids", ids.map(|ids| numpy::PyArray1::from_slice(py, ids)))?;
    let order = py.import("peers.base")?.getattr("Order")?.call((), Some(&fields))?;
    Ok(peer.call_method1("prepare", (order,))?.unbind())
}

/// Packages the peer needs, numpy for the crossing, the interpreter, this executable.
fn parts(py: Python<'_>, peer: &Bound<'_, PyAny>) -> PyResult<Vec<Footprint>> {
    let mut roots: Vec<String> = peer.getattr("distributions")?.extract()?;
    roots.push("numpy".into());
    let executable = std::env::current_exe().map(|path| path.to_string_lossy().into_owned())?;
    let found = py.import("footprint")?.call_method1("parts", (roots, executable))?;
    found
        .try_iter()?
        .map(|part| {
            let part = part?;
            Ok(Footprint {
                name: part.get_item("name")?.extract()?,
                bytes: part.get_item("bytes")?.extract()?,
            })
        })
        .collect()
}
