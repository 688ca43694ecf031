//! `gpt2 scaling`: what it prints, never how fast anything is.

use rust_native::{Config, init};

use crate::{fails, gpt2};

fn tiny() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    init::write_model(dir.path(), &Config::tiny(), 1).unwrap();
    dir
}

fn scaling(dir: &tempfile::TempDir, more: &[&str]) -> String {
    let base = ["scaling", "--model", dir.path().to_str().unwrap(), "--rounds", "3"];
    let output = gpt2(&[&base[..], more].concat(), b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_was_measured_stands_beside_the_model_and_many_cores_below() {
    let dir = tiny();
    let text = scaling(&dir, &["--threads", "1,2", "--cores", "48"]);
    for words in ["the model, ms", "48 cores", "stays as measured", "grows with them", "- a meeting grows"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = scaling(&dir, &["--threads", "1", "--bandwidth", "300", "--precision", "int8"]);
    for words in ["int8", "64 cores", "grows up to 300 GB/s", "measure 2 threads or more"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn the_line_of_json_holds_the_terms_and_they_add_up() {
    let dir = tiny();
    let line = scaling(&dir, &["--threads", "2,1", "--json"]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let of = |value: &serde_json::Value, name: &str| value[name].as_f64().unwrap();
    assert_eq!(of(&line, "jobs") as usize, 2 + 5 * Config::tiny().n_layer);
    assert_eq!(line["measured"].as_array().unwrap().len(), 2);
    let predicted = line["predicted"].as_array().unwrap();
    assert_eq!(predicted.len(), 2);
    for point in line["measured"].as_array().unwrap().iter().chain(predicted) {
        let model = &point["model"];
        let meetings = of(&line, "jobs") * of(point, "meeting_s");
        assert!((of(model, "meetings_s") / meetings - 1.0).abs() < 1e-9, "{point}");
        let [memory, arithmetic] = ["memory_s", "arithmetic_s"].map(|name| of(model, name));
        let [least, most] = ["least_s", "most_s"].map(|name| of(model, name));
        assert!((most / (memory + arithmetic + meetings) - 1.0).abs() < 1e-9, "{point}");
        assert!(least >= (memory.max(arithmetic) + meetings) * (1.0 - 1e-9) && least <= most, "{point}");
    }
    let [stays, grows] = [0, 1].map(|at| of(&predicted[at], "bandwidth_bytes_per_s"));
    let most = line["measured"][1]["bandwidth_bytes_per_s"].as_f64().unwrap();
    assert!((stays / most - 1.0).abs() < 1e-9);
    assert!((grows / most - 32.0).abs() < 1e-9, "64 cores, measured with 2 threads");
}

#[test]
fn requests_that_make_no_sense() {
    let dir = tiny();
    let with = |more: &[&str], words: &[&str]| {
        fails(&[&["scaling", "--model", dir.path().to_str().unwrap()], more].concat(), b"", words);
    };
    with(&["--threads", "1,0"], &["threads", "from 1 on"]);
    with(&["--rounds", "0", "--threads", "1"], &["rounds"]);
    with(&["--cores", "0"], &["--cores 0"]);
    with(&["--bandwidth", "0"], &["--bandwidth"]);
    with(&["--threads", "5000", "--pin"], &["5000 threads cannot be pinned"]);
}
