//! The README's command lines do what the README says.

use std::path::Path;
use std::process::Command;

use crate::ranks::write_ranks;

/// Runs every `$ gpt2 …` line of the README, in order, in one folder with o200k's ranks in it; the lines that
/// follow a command are its output.
#[test]
fn every_command_of_the_readme() {
    let readme = include_str!("../../README.md");
    let dir = tempfile::tempdir().unwrap();
    write_ranks(dir.path(), "o200k_base.tiktoken", tiktoken_rs::o200k_base_singleton(), 199_998);
    let mut commands: Vec<(&str, String)> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            commands.push((command, String::new()));
        } else if inside {
            let (_, expected) = commands.last_mut().unwrap();
            *expected += line;
            expected.push('\n');
        }
    }
    assert!(commands.len() >= 8);
    let bin = Path::new(env!("CARGO_BIN_EXE_gpt2")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for (command, expected) in commands {
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", command]).current_dir(dir.path()).env("PATH", &path).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {error}");
        let printed = String::from_utf8(output.stdout).unwrap();
        if !expected.is_empty() {
            assert_eq!(printed.trim_end(), expected.trim_end(), "{command}");
        }
    }
}
