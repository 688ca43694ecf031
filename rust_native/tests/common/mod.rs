//! Shared by the tokenizer's tests: ours and Hugging Face's over the same vocabulary.

use std::sync::LazyLock;

use rust_native::Tokenizer;

/// Ours, embedded.
pub static OURS: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::gpt2);

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
