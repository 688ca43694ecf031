//! Our tokenizer on every instruction set, and the others it is compared with.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::HashMap;
use std::sync::LazyLock;

use kernels::Isa;
use rust_native::Tokenizer;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Ours, embedded.
pub static OURS: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::gpt2);

/// Ours on every instruction set this CPU has.
pub static EVERY: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let paths: Vec<_> = Isa::ALL.into_iter().filter_map(|isa| Tokenizer::gpt2().with_isa(isa)).collect();
    let missing = Isa::ALL.into_iter().filter(|&isa| paths.iter().all(|one| one.isa() != isa));
    missing.for_each(|isa| println!("skipped: this CPU does not scan with {isa}"));
    assert_eq!(paths.last().map(Tokenizer::isa), Some(OURS.isa()));
    paths
});

/// Hugging Face's, from the `tokenizer.json` that ours writes.
pub static THEIRS: LazyLock<tokenizers::Tokenizer> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    OURS.write_vocabulary(dir.path()).unwrap();
    tokenizers::Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap()
});

/// What Hugging Face's tokenizers give, special tokens recognised.
pub fn theirs(text: &str) -> Vec<u32> {
    THEIRS.encode_fast(text, false).unwrap().get_ids().to_vec()
}

/// What tiktoken gives, special tokens spelled out.
pub fn tiktoken(text: &str) -> Vec<u32> {
    tiktoken_rs::r50k_base_singleton().encode_ordinary(text)
}

/// The ends of the pieces by Hugging Face's pre-tokenizer.
pub fn their_ends(text: &str) -> Vec<usize> {
    let mut split = PreTokenizedString::from(text);
    THEIRS.get_pre_tokenizer().unwrap().pre_tokenize(&mut split).unwrap();
    let splits = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits.into_iter().map(|(_, (_, end), _)| end).collect()
}

type Merge = Box<dyn Fn(&[u8]) -> Vec<u32> + Send + Sync>;

/// tiktoken's merging of one piece, which may be any bytes.
pub static MERGE: LazyLock<Merge> = LazyLock::new(|| {
    let r50k = tiktoken_rs::r50k_base_singleton();
    let ranks: HashMap<Vec<u8>, u32, _> =
        (0..50256).map(|id| (r50k.decode_bytes(&[id]).unwrap(), id)).collect();
    Box::new(move |piece| {
        if piece.len() == 1 {
            return vec![ranks[piece]];
        }
        tiktoken_rs::byte_pair_split(piece, &ranks).iter().map(|&part| ranks[part]).collect()
    })
});

/// What bytes that need not be UTF-8 should give: pieces as if every byte that is not part of a character were
/// U+FFFD, merged by tiktoken.
pub fn expected_of_bytes(bytes: &[u8]) -> Vec<u32> {
    let (mut replaced, mut places) = (String::new(), HashMap::new());
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            replaced.push(c);
            at += c.len_utf8();
            places.insert(replaced.len(), at);
        }
        for _ in chunk.invalid() {
            replaced.push(char::REPLACEMENT_CHARACTER);
            at += 1;
            places.insert(replaced.len(), at);
        }
    }
    let (mut ids, mut start) = (Vec::new(), 0);
    for end in their_ends(&replaced) {
        let end = places[&end];
        ids.extend(MERGE(&bytes[start..end]));
        start = end;
    }
    ids
}
