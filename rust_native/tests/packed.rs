//! Packed weights kept in a folder: the same model from there, and never another's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rust_native::{Checkpoint, Config, Gpt2, Options, Precision, init};

/// Untied, and with widths that 32 does not divide.
fn config() -> Config {
    Config {
        n_embd: 60,
        n_head: 3,
        n_inner: 70,
        tie_word_embeddings: false,
        n_positions: 64,
        ..Config::tiny_with_vocabulary(211)
    }
}

fn options(packed: &Path, precision: Precision) -> Options {
    Options { threads: 2, precision, packed: Some(packed.to_path_buf()), ..Options::default() }
}

fn load(dir: &Path, options: &Options) -> Gpt2 {
    Gpt2::load(&Checkpoint::open(dir).unwrap(), options).unwrap()
}

fn logits(model: &Gpt2) -> Vec<f32> {
    model.logits_all(&(0..40).map(|i| i * 5).collect::<Vec<u32>>()).unwrap()
}

fn mapped(model: &Gpt2) -> bool {
    model.identity().ends_with(" mapped")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_second_load_takes_the_first_ones_panels_in_every_precision() {
    let (dir, packed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = packed.path().join("made").join("when missing");
    for config in [config(), Config { tie_word_embeddings: true, ..config() }] {
        init::write_model(dir.path(), &config, 3).unwrap();
        for precision in Precision::ALL {
            let options = options(&folder, precision);
            let alone = load(dir.path(), &Options { packed: None, ..options.clone() });
            let (first, second) = (load(dir.path(), &options), load(dir.path(), &options));
            assert_eq!([&alone, &first, &second].map(mapped), [false, false, true], "{precision}");
            assert_eq!(logits(&first), logits(&alone), "{precision}");
            assert_eq!(logits(&second), logits(&alone), "{precision}");
            assert_eq!(second.bytes_per_token(), alone.bytes_per_token());
        }
        // One file a precision, the second model's in place of the first's.
        assert_eq!(files(&folder).len(), Precision::ALL.len());
    }
}

#[test]
fn a_file_of_other_weights_or_a_damaged_one_is_replaced() {
    let (dir, packed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = options(packed.path(), Precision::F32);
    init::write_model(dir.path(), &config(), 1).unwrap();
    let first = logits(&load(dir.path(), &options));
    let weights = dir.path().join("model.safetensors");
    let old = fs::metadata(&weights).unwrap().modified().unwrap();

    // Other values at the same length and time of change.
    init::write_model(dir.path(), &config(), 2).unwrap();
    fs::File::options().write(true).open(&weights).unwrap().set_modified(old).unwrap();
    let other = load(dir.path(), &options);
    assert!(!mapped(&other));
    assert_ne!(logits(&other), first);
    // The same values at another time: packed once more, for there is no telling.
    let late = SystemTime::now() + Duration::from_secs(9);
    fs::File::options().write(true).open(&weights).unwrap().set_modified(late).unwrap();
    let other = logits(&load(dir.path(), &options));
    let again = load(dir.path(), &options);
    assert!(mapped(&again));
    assert_eq!(logits(&again), other);

    let [file] = &files(packed.path())[..] else { panic!("one file expected") };
    let whole = fs::read(file).unwrap();
    let mut layout = whole.clone();
    let at = layout.windows(9).position(|bytes| bytes == b"\"layout\":").unwrap();
    layout[at + 10] = b'9';
    let longer = [&whole[..], b"x"].concat();
    for damaged in [&whole[..whole.len() - 1], &whole[..100], &[], &layout, &longer] {
        // As a copy that was cut short would leave it; models in use have the inode before.
        fs::remove_file(file).unwrap();
        fs::write(file, damaged).unwrap();
        let model = load(dir.path(), &options);
        assert!(!mapped(&model), "{} bytes", damaged.len());
        assert_eq!(logits(&model), other);
        assert_eq!(fs::read(file).unwrap(), whole);
    }
    assert_eq!(logits(&again), other);
}

#[test]
fn any_safetensors_reader_finds_the_panels() {
    let (dir, packed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    init::write_model(dir.path(), &config(), 1).unwrap();
    load(dir.path(), &options(packed.path(), Precision::Int8));
    let [file] = &files(packed.path())[..] else { panic!("one file expected") };
    let layout = rust_native::checkpoint::format::parse(&fs::read(file).unwrap(), file).unwrap();
    assert!(layout.data.is_multiple_of(65536));
    let names: Vec<&str> = layout.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names.first(), Some(&"wte.weight"));
    assert_eq!(names.last(), Some(&"lm_head.weight"));
    assert_eq!(names.len(), 2 + 4 * config().n_layer);
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    init::write_model(dir.path(), &config(), 1).unwrap();
    let file = dir.path().join("config.json");
    for folder in [file.clone(), file.join("below")] {
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let error = Gpt2::load(&checkpoint, &options(&folder, Precision::F32)).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("; "), "{error}");
    }
    // Nothing is left of what could not be written.
    assert_eq!(files(dir.path()).len(), 3);
}
