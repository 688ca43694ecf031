//! Good folders of every form open; each way to break one is one clear error, and no bytes panic.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use rust_native::checkpoint::format;
use rust_native::{Checkpoint, Config, Gpt2, Options, Precision, init};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A safetensors file from its parts.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn entry(dtype: &str, shape: &[u64], offsets: [u64; 2]) -> Value {
    json!({"dtype": dtype, "shape": shape, "data_offsets": offsets})
}

/// The file is refused and the message holds all of `words`.
fn refused(bytes: &[u8], words: &[&str]) {
    let error = format::parse(bytes, Path::new("m.safetensors")).expect_err(words[0]).to_string();
    for word in words.iter().chain([&"m.safetensors"]) {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn broken_headers() {
    refused(b"", &["header length", "0 bytes"]);
    refused(&[1, 2, 3], &["header length", "3 bytes"]);
    refused(&u64::MAX.to_le_bytes(), &["header length", "above the format's bound"]);
    refused(&100_000_001_u64.to_le_bytes(), &["above the format's bound"]);
    refused(&file("{}", b"")[..9], &["header length", "only 1 follow"]);
    refused(&file("", b""), &["does not begin with `{`"]);
    refused(&file(" {}", b""), &["does not begin with `{`"]);
    refused(&file("{", b""), &["not a valid safetensors header"]);
    refused(&file("{}x", b""), &["not a valid safetensors header"]);
    refused(&file("[]", b""), &["does not begin"]);
    refused(&file(&format!("{{\"a\":{}", "[".repeat(200_000)), b""), &["not a valid"]);
    refused(&file("{\"a\u{0}", b""), &["not a valid"]);
    assert!(format::parse(&file("{}   ", b""), Path::new("x")).is_ok());
}

#[test]
fn broken_entries() {
    let one = |value: Value, data: &[u8], words: &[&str]| {
        refused(&file(&json!({"t.w": value}).to_string(), data), words);
    };
    let eight = [0; 8];
    one(entry("F99", &[2], [0, 8]), &eight, &["`t.w`", "unknown type \"F99\""]);
    one(entry("f32", &[2], [0, 8]), &eight, &["unknown type"]);
    one(entry("F32", &[3], [0, 8]), &eight, &["`t.w`", "8 bytes", "takes 12"]);
    one(entry("F16", &[2], [0, 8]), &eight, &["takes 4"]);
    one(entry("F32", &[2], [8, 0]), &eight, &["run backwards"]);
    one(entry("F32", &[3], [0, 12]), &eight, &["`t.w`", "truncated"]);
    one(entry("F32", &[1], [0, 4]), &eight, &["4 bytes after the last tensor"]);
    one(entry("F32", &[1], [4, 8]), &eight, &["leaving a hole from 0"]);
    one(entry("F32", &[u64::MAX, 2], [0, 8]), &eight, &["overflows"]);
    one(entry("F32", &[1 << 62], [0, 0]), &eight, &["overflows"]);
    one(entry("F32", &[1 << 32, 1 << 32], [0, 0]), b"", &["overflows"]);
    one(entry("F32", &[1], [u64::MAX - 4, u64::MAX]), &eight, &["`t.w`", "ends at", "truncated"]);
    one(json!({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}), &eight, &["not a valid"]);
    one(json!({"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}), &eight, &["not a valid"]);
    one(json!({"dtype": "F32", "shape": [2], "data_offsets": [0]}), &eight, &["not a valid"]);
    one(json!({"dtype": "F32", "shape": [2]}), &eight, &["data_offsets"]);
    one(json!({"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "x": 1}), &eight, &["`x`"]);
    one(json!(7), &eight, &["not a valid"]);
}

#[test]
fn overlaps_holes_and_duplicates() {
    let two = |a: [u64; 2], b: [u64; 2], words: &[&str]| {
        let shape = |[start, end]: [u64; 2]| [(end - start) / 4];
        let header = json!({"a": entry("F32", &shape(a), a), "b": entry("F32", &shape(b), b)});
        refused(&file(&header.to_string(), &[0; 16]), words);
    };
    two([0, 8], [4, 16], &["`b`", "inside another that ends at 8"]);
    two([0, 16], [4, 8], &["`b`", "inside another"]);
    two([0, 16], [0, 16], &["`b`", "inside another"]);
    two([0, 4], [8, 16], &["`b`", "leaving a hole from 4"]);
    let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    refused(&file(twice, &[0; 8]), &["\"a\" is given twice"]);
    refused(&file(r#"{"__metadata__":{"k":"1","k":"2"}}"#, b""), &["\"k\" is given twice"]);
    refused(&file(r#"{"__metadata__":{"k":1}}"#, b""), &["not a valid"]);
    refused(&file(r#"{"__metadata__":[]}"#, b""), &["not a valid"]);
}

#[test]
fn empty_tensors_and_scalars_are_legal() {
    let header = json!({
        "__metadata__": {"format": "pt"},
        "a": entry("F32", &[0, 5], [0, 0]),
        "b": entry("F64", &[], [0, 8]),
        "c": entry("BOOL", &[3], [8, 11]),
    });
    let layout = format::parse(&file(&header.to_string(), &[0; 11]), Path::new("x")).unwrap();
    assert_eq!(layout.tensors.len(), 3);
}

/// A small model folder.
fn model() -> (TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { n_positions: 8, n_embd: 8, n_inner: 32, ..Config::tiny_with_vocabulary(20) };
    init::write_model(dir.path(), &config, 3).unwrap();
    (dir, config)
}

/// The tensors of a folder as (name, dtype, shape, bytes), for rewriting.
type Raw = Vec<(String, String, Vec<usize>, Vec<u8>)>;

fn raw(dir: &Path) -> Raw {
    let bytes = fs::read(dir.join("model.safetensors")).unwrap();
    let layout = format::parse(&bytes, dir).unwrap();
    let data = &bytes[layout.data..];
    let tensors = layout.tensors.into_iter();
    tensors.map(|t| (t.name, t.dtype.to_string(), t.shape, data[t.start..t.end].to_vec())).collect()
}

fn save(path: &Path, tensors: &Raw, pad: usize) {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend_from_slice(bytes);
        let value = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name.clone(), value);
    }
    let mut text = Value::Object(header).to_string();
    while text.len() % 8 != pad {
        text.push(' ');
    }
    fs::write(path, file(&text, &data)).unwrap();
}

fn rewrite(dir: &Path, change: impl FnOnce(&mut Raw)) {
    let mut tensors = raw(dir);
    change(&mut tensors);
    save(&dir.join("model.safetensors"), &tensors, 0);
}

fn open_fails(dir: &Path, words: &[&str]) {
    let error = Checkpoint::open(dir).expect_err(words[0]).to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn prefix_is_optional_and_buffers_are_ignored() {
    let (dir, config) = model();
    let with = Checkpoint::open(dir.path()).unwrap();
    let plain = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join("config.json"), plain.path().join("config.json")).unwrap();
    let mut tensors = raw(dir.path());
    for (name, ..) in &mut tensors {
        *name = name.replacen("transformer.", "", 1);
    }
    tensors.push(("h.0.attn.bias".into(), "BOOL".into(), vec![1, 1, 8, 8], vec![1; 64]));
    tensors.push(("h.1.attn.masked_bias".into(), "F32".into(), vec![], vec![0; 4]));
    tensors.push(("lm_head.weight".into(), "F32".into(), vec![20, 8], vec![0; 640]));
    save(&plain.path().join("model.safetensors"), &tensors, 0);
    let without = Checkpoint::open(plain.path()).unwrap();
    assert!(without.has("h.0.attn.c_attn.weight") && with.has("h.0.attn.c_attn.weight"));
    for (name, shape) in config.tensors() {
        let (a, b) = (with.tensor(&name, &shape).unwrap(), without.tensor(&name, &shape).unwrap());
        assert_eq!(a, b, "{name}");
    }
    let error = with.tensor("wte.weight", &[8, 20]).unwrap_err().to_string();
    assert!(error.contains("`wte.weight`: shape [20, 8], expected [8, 20]"), "{error}");
    assert!(with.tensor("nothing", &[1]).unwrap_err().to_string().contains("missing"));
}

#[test]
fn every_element_type_and_alignment_reads_alike() {
    let (dir, config) = model();
    let original = Checkpoint::open(dir.path()).unwrap();
    let expected: Vec<_> =
        config.tensors().iter().map(|(n, s)| original.tensor(n, s).unwrap().into_owned()).collect();
    let tensors = raw(dir.path());
    let other = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join("config.json"), other.path().join("config.json")).unwrap();
    save(&other.path().join("model.safetensors"), &tensors, 3);
    let unaligned = Checkpoint::open(other.path()).unwrap();
    for ((name, shape), expected) in config.tensors().iter().zip(&expected) {
        assert_eq!(unaligned.tensor(name, shape).unwrap(), expected.as_slice(), "{name}");
    }
    drop(unaligned);
    rewrite(other.path(), |tensors| {
        for (_, dtype, _, bytes) in tensors {
            *dtype = "BF16".into();
            *bytes = bytes.chunks(4).flat_map(|four| [four[2], four[3]]).collect();
        }
    });
    let halved = Checkpoint::open(other.path()).unwrap();
    for ((name, shape), expected) in config.tensors().iter().zip(&expected) {
        let cut = |v: &f32| f32::from_bits(v.to_bits() & 0xFFFF_0000);
        let expected: Vec<f32> = expected.iter().map(cut).collect();
        assert_eq!(halved.tensor(name, shape).unwrap(), expected, "{name}");
    }
}

#[test]
fn elements_are_those_of_the_whole_tensor() {
    let [aligned, unaligned, halves, brains] = [(); 4].map(|()| model());
    let tensors = raw(unaligned.0.path());
    save(&unaligned.0.path().join("model.safetensors"), &tensors, 3);
    for ((dir, _), kind) in [(&halves, "F16"), (&brains, "BF16")] {
        rewrite(dir.path(), |tensors| {
            for (_, dtype, _, bytes) in tensors {
                *dtype = kind.into();
                *bytes = bytes.chunks(4).flat_map(|four| [four[2], four[3]]).collect();
            }
        });
    }
    for (dir, config) in [aligned, unaligned, halves, brains] {
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        for (name, shape) in config.tensors() {
            let whole = checkpoint.tensor(&name, &shape).unwrap();
            let elements = checkpoint.elements(&name, &shape).unwrap();
            assert_eq!(elements.len(), whole.len(), "{name}");
            for (start, end) in [(0, whole.len()), (1, whole.len() - 1), (whole.len(), whole.len())] {
                let mut read = vec![f32::INFINITY; end - start];
                elements.read(start, &mut read).unwrap();
                // Bits, because a NaN equals nothing.
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&read), bits(&whole[start..end]), "{name} {start}..{end}");
            }
        }
    }
}

#[test]
fn a_file_cut_short_after_it_was_opened_is_an_error_of_loading() {
    let (dir, _) = model();
    let path = dir.path().join("model.safetensors");
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(fs::metadata(&path).unwrap().len() / 2).unwrap();
    for precision in Precision::ALL {
        let options = Options { precision, threads: 2, ..Options::default() };
        let error = Gpt2::load(&checkpoint, &options).unwrap_err().to_string();
        assert!(error.contains("model.safetensors: cannot read"), "{error}");
    }
}

#[test]
fn weights_that_do_not_fit_the_configuration() {
    let (dir, _) = model();
    rewrite(dir.path(), |t| t.retain(|(name, ..)| name != "transformer.h.1.mlp.c_fc.bias"));
    open_fails(dir.path(), &["model.safetensors", "`h.1.mlp.c_fc.bias`", "missing"]);

    let (dir, _) = model();
    rewrite(dir.path(), |t| t.iter_mut().for_each(|(_, _, shape, _)| shape.reverse()));
    open_fails(dir.path(), &["expected", "config.json belongs to these weights"]);

    let (dir, _) = model();
    rewrite(dir.path(), |t| {
        t.push(("transformer.h.2.ln_1.bias".into(), "F32".into(), vec![8], vec![0; 32]));
    });
    open_fails(dir.path(), &["`h.2.ln_1.bias`", "n_layer = 2"]);

    let (dir, _) = model();
    rewrite(dir.path(), |t| {
        t.push(("ln_f.bias".into(), "F32".into(), vec![8], vec![0; 32]));
    });
    open_fails(dir.path(), &["`ln_f.bias`", "a second one"]);

    let (dir, _) = model();
    rewrite(dir.path(), |t| {
        let (_, dtype, _, bytes) = t.iter_mut().find(|t| t.0.ends_with("ln_f.bias")).unwrap();
        *dtype = "F64".into();
        *bytes = vec![0; 64];
    });
    open_fails(dir.path(), &["`ln_f.bias`", "type F64", "F32, F16 or BF16"]);
}

#[test]
fn folders_without_what_they_need() {
    let dir = tempfile::tempdir().unwrap();
    open_fails(dir.path(), &["config.json", "cannot read", "check the path"]);
    let (dir, _) = model();
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    open_fails(dir.path(), &["neither model.safetensors nor", "gpt2 init"]);
    fs::write(dir.path().join("pytorch_model.bin"), "x").unwrap();
    open_fails(dir.path(), &["safe_serialization=True"]);
    fs::write(dir.path().join("model.safetensors"), "").unwrap();
    open_fails(dir.path(), &["header length", "0 bytes"]);
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    open_fails(dir.path(), &["model.safetensors", "not a regular file"]);
    let (dir, _) = model();
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    open_fails(dir.path(), &["truncated: fetch it again"]);
}

/// Splits the model of `dir` into two shards and an index.
fn shard(dir: &Path) -> serde_json::Map<String, Value> {
    let tensors = raw(dir);
    let (first, second) = tensors.split_at(tensors.len() / 2);
    let mut map = serde_json::Map::new();
    for (i, part) in [first, second].into_iter().enumerate() {
        let name = format!("model-0000{}-of-00002.safetensors", i + 1);
        save(&dir.join(&name), &part.to_vec(), 0);
        map.extend(part.iter().map(|(tensor, ..)| (tensor.clone(), json!(name))));
    }
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    write_index(dir, &map);
    map
}

fn write_index(dir: &Path, map: &serde_json::Map<String, Value>) {
    let text = json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    fs::write(dir.join("model.safetensors.index.json"), text).unwrap();
}

#[test]
fn shards_read_like_one_file() {
    let (dir, config) = model();
    let (same, _) = model();
    shard(dir.path());
    let (sharded, single) = (Checkpoint::open(dir.path()).unwrap(), Checkpoint::open(same.path()).unwrap());
    assert_eq!(sharded.files().count(), 2);
    for (name, shape) in config.tensors() {
        assert_eq!(sharded.tensor(&name, &shape).unwrap(), single.tensor(&name, &shape).unwrap());
    }
}

#[test]
fn broken_shards() {
    let (dir, _) = model();
    let map = shard(dir.path());
    let index = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut map = map.clone();
        change(&mut map);
        write_index(dir.path(), &map);
    };
    let name = "transformer.wte.weight";
    for bad in ["../evil.safetensors", "/etc/passwd", "a/b.safetensors", ".hidden.safetensors"] {
        index(&|map| drop(map.insert(name.into(), json!(bad))));
        open_fails(dir.path(), &["index.json", name, bad, "beside the index"]);
    }
    index(&|map| drop(map.insert(name.into(), json!(5))));
    open_fails(dir.path(), &[name, "not a file name"]);
    index(&|map| drop(map.insert(name.into(), json!("model-00003-of-00003.safetensors"))));
    open_fails(dir.path(), &["shard model-00003-of-00003.safetensors is missing"]);
    index(&|map| drop(map.insert(name.into(), json!("model-00001-of-00002.safetensors"))));
    open_fails(dir.path(), &["model-00001-of-00002", name, "not in this shard"]);
    index(&|map| drop(map.remove(name)));
    open_fails(dir.path(), &[name, "not in the index"]);
    index(&|map| map.clear());
    open_fails(dir.path(), &["names no shard"]);
    let path = dir.path().join("model.safetensors.index.json");
    fs::write(&path, "{}").unwrap();
    open_fails(dir.path(), &["weight_map", "missing"]);
    fs::write(&path, r#"{"weight_map":{"a":"x","a":"y"}}"#).unwrap();
    open_fails(dir.path(), &["given twice"]);
    fs::write(&path, "{").unwrap();
    open_fails(dir.path(), &["not valid JSON"]);
}

/// What `parse` accepts tiles the data exactly.
fn sound(bytes: &[u8]) {
    if let Ok(layout) = format::parse(bytes, Path::new("x")) {
        let mut at = 0;
        for tensor in &layout.tensors {
            assert!(tensor.start == at && tensor.end >= at);
            at = tensor.end;
        }
        assert_eq!(layout.data + at, bytes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        sound(&bytes);
        let mut framed = (bytes.len() as u64).to_le_bytes().to_vec();
        framed.push(b'{');
        framed.extend(&bytes);
        sound(&framed);
    }

    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((0..400_usize, any::<u8>()), 1..6),
        cut in 0..420_usize,
    ) {
        let header = json!({
            "__metadata__": {"format": "pt"},
            "a": entry("F32", &[2, 3], [0, 24]),
            "b": entry("BF16", &[4], [24, 32]),
        });
        let mut bytes = file(&header.to_string(), &[7; 32]);
        for (at, byte) in edits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut.max(1));
        sound(&bytes);
    }

    #[test]
    fn random_headers_never_panic(
        entries in prop::collection::vec(
            (0..4_u8, 0..4_usize, prop::collection::vec(prop_oneof![0..5_u64, Just(u64::MAX), Just(1 << 33)], 0..4), any::<bool>(), 0..40_u64, 0..40_u64),
            0..5,
        ),
        data in 0..64_usize,
    ) {
        let mut header = serde_json::Map::new();
        for (name, dtype, shape, huge, start, end) in entries {
            let dtype = ["F32", "F16", "I64", "BOOL"][dtype];
            let end = if huge { u64::MAX - end } else { end };
            header.insert(format!("t{name}"), entry(dtype, &shape, [start, end]));
        }
        sound(&file(&Value::Object(header).to_string(), &vec![0; data]));
    }
}
