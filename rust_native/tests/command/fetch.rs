//! `gpt2 fetch`, against a hub of one thread on this machine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rust_native::{Checkpoint, Config, init};

/// Serves the files of `dir` as the repository `someone/model`, until the test process ends.
fn hub(dir: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            answer(connection, &dir);
        }
    });
    address
}

/// One request: the list of files, or a range of one.
fn answer(mut connection: TcpStream, dir: &Path) {
    let mut lines = BufReader::new(connection.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let (status, extra, body) = if path == "/api/models/someone/model/revision/main" {
        let files: Vec<_> = names.map(|name| serde_json::json!({"rfilename": name})).collect();
        let text = serde_json::json!({"siblings": files, "sha": "c0ffee"}).to_string();
        ("200 OK", String::new(), text.into_bytes())
    } else if let Some(name) = path.strip_prefix("/someone/model/resolve/main/") {
        let whole = fs::read(dir.join(name)).unwrap();
        let range = headers
            .iter()
            .find_map(|line| line.to_ascii_lowercase().split_once("bytes=").map(|r| r.1.to_owned()));
        let range = range.unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let first: usize = first.parse().unwrap();
        let end = last.parse().map_or(whole.len(), |last: usize| last + 1).min(whole.len());
        let extra = format!(
            "etag: \"{name}\"\r\nx-repo-commit: c0ffee\r\ncontent-range: bytes {first}-{}/{}\r\n",
            end - 1,
            whole.len()
        );
        ("206 Partial Content", extra, whole[first..end].to_vec())
    } else {
        ("404 Not Found", String::new(), Vec::new())
    };
    let head =
        format!("HTTP/1.1 {status}\r\n{extra}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&body));
}

fn fetch(endpoint: &str, repository: &str, dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpt2"))
        .args(["fetch", repository, "--dir", dir.to_str().unwrap()])
        .env("HF_ENDPOINT", endpoint)
        .output()
        .unwrap()
}

fn fails(output: &Output, words: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn a_repository_becomes_a_folder_that_opens() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = Config::tiny_with_vocabulary(50);
    init::write_model(source.path(), &config, 4).unwrap();
    fs::write(source.path().join("README"), "not fetched").unwrap();
    let endpoint = hub(source.path().to_owned());
    let dir = target.path().join("model");
    let output = fetch(&endpoint, "someone/model", &dir);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, format!("{}\n", dir.display()).as_bytes());
    assert_eq!(Checkpoint::open(&dir).unwrap().config(), &config);
    let read = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
    assert_eq!(read(&dir), read(source.path()));
    let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "generation_config.json", "model.safetensors"]);
    fails(&fetch(&endpoint, "someone/model", &dir), &["already holds a model"]);
}

#[test]
fn what_cannot_be_fetched_is_told() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let endpoint = hub(source.path().to_owned());
    fails(&fetch(&endpoint, "someone/model", target.path()), &["no config.json"]);
    fs::write(source.path().join("config.json"), "{}").unwrap();
    fails(&fetch(&endpoint, "someone/model", target.path()), &["no safetensors weights"]);
    fs::write(source.path().join("model.safetensors"), "rubbish").unwrap();
    fails(&fetch(&endpoint, "someone/model", target.path()), &["is not usable here", "config.json"]);
    let other = target.path().join("other");
    fails(&fetch(&endpoint, "someone/else", &other), &["cannot ask the hub about someone/else", "404"]);
    // Nobody listens on the discard port.
    fails(&fetch("http://127.0.0.1:9", "someone/model", &other), &["check the name and the network"]);
}
