//! Our tokenizers on every instruction set, and the others they are compared with.

#![allow(dead_code, reason = "each test binary uses its own part")]

mod ranks;

use std::collections::HashMap;
use std::sync::LazyLock;

use kernels::Isa;
use rust_native::{Pattern, Tokenizer};
use tiktoken_rs::CoreBPE;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use ranks::ranks;
pub use ranks::write_ranks;

/// The pattern as Llama 3's tokenizer.json has it.
pub const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Ours, embedded.
pub static OURS: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::gpt2);

/// What gives ids.
type Ids<T> = Box<dyn Fn(&T) -> Vec<u32> + Send + Sync>;

/// A vocabulary with a pattern: ours and the others.
pub struct Vocabulary {
    /// Ours on every instruction set this CPU has.
    pub every: Vec<Tokenizer>,
    /// Hugging Face's, from the `tokenizer.json` that ours writes.
    pub tokenizers: tokenizers::Tokenizer,
    tiktoken: Ids<str>,
    merge: Ids<[u8]>,
}

pub static GPT2: LazyLock<Vocabulary> = LazyLock::new(|| {
    let tiktoken = tiktoken_rs::r50k_base_singleton();
    Vocabulary::new(Tokenizer::gpt2, tiktoken, |text| tiktoken.encode_ordinary(text), 50_256)
});

pub static CL100K: LazyLock<Vocabulary> = LazyLock::new(|| {
    let (dir, tiktoken) = (tempfile::tempdir().unwrap(), tiktoken_rs::cl100k_base_singleton());
    let path = write_ranks(dir.path(), "cl100k_base.tiktoken", tiktoken, 100_256);
    let load = || Tokenizer::from_tiktoken(&path).unwrap();
    Vocabulary::new(load, tiktoken, |text| tiktoken.encode_ordinary(text), 100_256)
});

/// cl100k's ranks, split by Llama 3's pattern: Llama 3's own are in no crate.
pub static LLAMA3: LazyLock<Vocabulary> = LazyLock::new(|| {
    let (dir, published) = (tempfile::tempdir().unwrap(), tiktoken_rs::cl100k_base_singleton());
    let path = write_ranks(dir.path(), "ranks", published, 100_256);
    let special = ("<|endoftext|>", 100_257);
    let load = || Tokenizer::from_ranks(&path, Pattern::Llama3, &[special]).unwrap();
    let ranks = ranks(published, 100_256).collect();
    let specials = [(special.0.to_owned(), special.1)].into_iter().collect();
    let tiktoken = CoreBPE::new(ranks, specials, LLAMA3_PATTERN).unwrap();
    Vocabulary::new(load, published, move |text| tiktoken.encode_ordinary(text), 100_256)
});

pub static O200K: LazyLock<Vocabulary> = LazyLock::new(|| {
    let (dir, tiktoken) = (tempfile::tempdir().unwrap(), tiktoken_rs::o200k_base_singleton());
    let path = write_ranks(dir.path(), "o200k_base.tiktoken", tiktoken, 199_998);
    let load = || Tokenizer::from_tiktoken(&path).unwrap();
    Vocabulary::new(load, tiktoken, |text| tiktoken.encode_ordinary(text), 199_998)
});

/// One for each pattern with a scanner of its own.
pub static VOCABULARIES: [(&str, &LazyLock<Vocabulary>); 4] =
    [("gpt2", &GPT2), ("cl100k", &CL100K), ("llama3", &LLAMA3), ("o200k", &O200K)];

impl Vocabulary {
    /// `load` gives ours; merging is that of `published`, whose tokens are below `count`.
    fn new(
        load: impl Fn() -> Tokenizer,
        published: &'static CoreBPE,
        tiktoken: impl Fn(&str) -> Vec<u32> + Send + Sync + 'static,
        count: u32,
    ) -> Self {
        let (ours, dir) = (load(), tempfile::tempdir().unwrap());
        let every: Vec<_> = Isa::ALL.into_iter().filter_map(|isa| load().with_isa(isa)).collect();
        let missing = Isa::ALL.into_iter().filter(|&isa| every.iter().all(|one| one.isa() != isa));
        missing.for_each(|isa| println!("skipped: this CPU does not scan with {isa}"));
        assert_eq!(every.last().map(Tokenizer::isa), Some(ours.isa()));
        ours.write_vocabulary(dir.path()).unwrap();
        let tokenizers = tokenizers::Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
        let ranks: HashMap<Vec<u8>, u32, _> = ranks(published, count).collect();
        let merge = move |piece: &[u8]| match ranks.get(piece) {
            Some(&id) => vec![id],
            None => tiktoken_rs::byte_pair_split(piece, &ranks).iter().map(|&part| ranks[part]).collect(),
        };
        Self { every, tokenizers, tiktoken: Box::new(tiktoken), merge: Box::new(merge) }
    }

    /// What Hugging Face's tokenizers give, special tokens recognised.
    pub fn hugging_face(&self, text: &str) -> Vec<u32> {
        self.tokenizers.encode_fast(text, false).unwrap().get_ids().to_vec()
    }

    /// What tiktoken gives, special tokens spelled out.
    pub fn tiktoken(&self, text: &str) -> Vec<u32> {
        (self.tiktoken)(text)
    }

    /// The ends of the pieces by Hugging Face's pre-tokenizer.
    pub fn ends(&self, text: &str) -> Vec<usize> {
        let mut split = PreTokenizedString::from(text);
        self.tokenizers.get_pre_tokenizer().unwrap().pre_tokenize(&mut split).unwrap();
        let splits = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (_, end), _)| end).collect()
    }

    /// What bytes that need not be UTF-8 should give: pieces as if every byte that is not part of a character
    /// were U+FFFD, merged by tiktoken.
    pub fn expected_of_bytes(&self, bytes: &[u8]) -> Vec<u32> {
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
        for end in self.ends(&replaced) {
            let end = places[&end];
            ids.extend((self.merge)(&bytes[start..end]));
            start = end;
        }
        ids
    }
}
