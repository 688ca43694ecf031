//! Published files of ranks, written anew from the crate that carries them.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tiktoken_rs::CoreBPE;

/// The tokens of a vocabulary of tiktoken's with ids below `count`.
pub fn ranks(tiktoken: &CoreBPE, count: u32) -> impl Iterator<Item = (Vec<u8>, u32)> {
    // p50k's special token has a place among the ranks.
    let special = (50_257..60_000).contains(&count).then_some(50_256);
    let ids = (0..count).filter(move |&id| Some(id) != special);
    ids.map(|id| (tiktoken.decode_bytes(&[id]).unwrap(), id))
}

/// Writes the file of ranks that a tokenizer of tiktoken's was made from.
pub fn write_ranks(dir: &Path, name: &str, tiktoken: &CoreBPE, count: u32) -> PathBuf {
    let path = dir.join(name);
    let line = |(token, rank): (Vec<u8>, u32)| format!("{} {rank}\n", STANDARD.encode(token));
    fs::write(&path, ranks(tiktoken, count).map(line).collect::<String>()).unwrap();
    path
}
