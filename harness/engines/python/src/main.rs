//! `engine-python PEER`: a peer of python_ref inside a process of Rust.
//!
//! The timing loop is the one every Rust engine has; what is measured is what a Rust program pays
//! that calls Python: text crosses as `str`, ids cross as numpy arrays, both inside the run. The
//! same peers without Rust are python_ref/worker.py.

mod boundary;
mod engine;
mod interpreter;
mod job;

use anyhow::Result;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [peer] = arguments.as_slice() else {
        anyhow::bail!("usage: engine-python PEER, where PEER is a file of python_ref/peers");
    };
    interpreter::start();
    worker::serve(&mut engine::PythonEngine::new(peer)?)
}
