//! The command `gpt2`.

fn main() {}
