//! The command `gpt2`, run as a user runs it.

mod evaluate;
#[cfg(feature = "fetch")]
mod fetch;
mod generate;
#[path = "../peers/ranks.rs"]
mod ranks;
mod readme;
mod scaling;
#[cfg(feature = "cuda")]
mod shares;
mod tokens;
mod train;

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs the command with this on standard input.
fn gpt2(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpt2"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

/// Succeeds and prints exactly this.
fn prints(arguments: &[&str], input: &[u8], expected: &[u8]) {
    let output = gpt2(arguments, input);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    assert_eq!(output.stdout, expected, "{arguments:?}");
}

/// Fails with status 1 and one line that holds all of `words`; returns what was printed before.
fn fails(arguments: &[&str], input: &[u8], words: &[&str]) -> Vec<u8> {
    let output = gpt2(arguments, input);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("gpt2: "), "{error}");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
    output.stdout
}
