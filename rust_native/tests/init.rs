//! The initialiser: the same bytes everywhere, GPT-2's distribution, a folder that opens.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rust_native::{Checkpoint, Config, Error, init};

/// Pins the bytes: a change here changes every record made with the default model.
#[test]
fn tiny_model_has_these_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::tiny_with_vocabulary(500);
    let written = init::write_model(dir.path(), &config, 0).unwrap();
    assert_eq!(written.bytes, fs::metadata(&written.path).unwrap().len());
    assert_eq!(written.sha256, "0ae40a562feefc73d0573ef1d6a48d634e232b5ea31185d4e3042b42236b090a");
    let again = init::write_model(dir.path(), &config, 0).unwrap();
    assert_eq!(again, written);
    let other = init::write_model(dir.path(), &config, 1).unwrap();
    assert_ne!(other.sha256, written.sha256);
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn folder_opens_and_has_gpt2s_distribution() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { n_layer: 3, n_embd: 128, n_inner: 512, ..Config::tiny_with_vocabulary(5000) };
    init::write_model(dir.path(), &config, 7).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.config(), &config);
    assert!(!checkpoint.has("lm_head.weight"));
    for (name, shape) in config.tensors() {
        let values = checkpoint.tensor(&name, &shape).unwrap();
        assert!(matches!(values, std::borrow::Cow::Borrowed(_)), "{name} is copied");
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        if name.ends_with("bias") {
            assert!(values.iter().all(|&v| v == 0.0), "{name}");
        } else if name.contains("ln_") {
            assert!(values.iter().all(|&v| v == 1.0), "{name}");
        } else {
            let deviation = if name.ends_with("c_proj.weight") { 0.02 / 6f64.sqrt() } else { 0.02 };
            assert!(mean.abs() < 5.0 * deviation / n.sqrt(), "{name}: mean {mean}");
            let spread = square.sqrt() / deviation;
            assert!((spread - 1.0).abs() < 5.0 / (2.0 * n).sqrt(), "{name}: spread {spread}");
        }
    }
}

#[test]
fn untied_head_is_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { tie_word_embeddings: false, ..Config::tiny_with_vocabulary(40) };
    init::write_model(dir.path(), &config, 7).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let head = checkpoint.tensor("lm_head.weight", &[40, 64]).unwrap();
    assert_ne!(head, checkpoint.tensor("wte.weight", &[40, 64]).unwrap());
}

#[test]
fn read_only_folder_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::File::create(locked.join("probe")).is_ok() {
        eprintln!("skipped: this user may write anywhere");
        return;
    }
    let error = init::write_model(&locked, &Config::tiny(), 0).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.to_string().contains("choose another folder"), "{error}");
}

#[test]
fn a_file_in_place_of_the_folder_and_impossible_sizes_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(init::write_model(&file, &Config::tiny(), 0), Err(Error::Io { .. })));
    let config = Config { n_head: 7, ..Config::tiny() };
    assert!(matches!(init::write_model(dir.path(), &config, 0), Err(Error::Config { .. })));
}
