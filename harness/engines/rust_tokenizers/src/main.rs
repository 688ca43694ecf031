//! The binary `engine-rust-tokenizers`: text to ids and back with crates from the registry.
//!
//! The variants are in one process image because they share everything but the call. Input is read
//! off the clock; ids are copied out of the library's own results on the clock, because a caller
//! who wants ids has to do the same.

#![forbid(unsafe_code)]

mod huggingface;
mod huggingface_rc;
mod rust_gems;
mod tiktoken;
mod versions;
mod words;

use worker::{Engine, serve};

fn main() -> anyhow::Result<()> {
    let variant = std::env::args().nth(1).unwrap_or_default();
    let mut engine: Box<dyn Engine> = match variant.as_str() {
        "tokenizers" => Box::<huggingface::HuggingFace>::default(),
        "tokenizers-rc" => Box::<huggingface_rc::HuggingFaceRc>::default(),
        "bpe" => Box::<rust_gems::RustGems>::default(),
        "tiktoken" => Box::new(tiktoken::Tiktoken),
        "regex-words" => Box::new(words::Words),
        unknown => {
            eprintln!(
                "engine-rust-tokenizers: no variant `{unknown}`; there are: tokenizers, tokenizers-rc, tiktoken, \
                 bpe, regex-words"
            );
            std::process::exit(2);
        }
    };
    serve(engine.as_mut())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tokenizers::decoders::byte_level::ByteLevel as Decoder;
    use tokenizers::models::bpe::BPE;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::{AddedToken, Tokenizer};
    use worker::{Reply, SampleReply, monotonic_ns, serve_on};

    /// Prepares `task` over `files`, measures twice, and gives back all replies after `hello`.
    pub(crate) fn measure(engine: &mut dyn Engine, task: &str, files: &str, threads: u32) -> Vec<Reply> {
        let orders = format!(
            "{{\"order\":\"prepare\",\"workload\":\"w\",\"task\":{task},\"files\":{files},\"threads\":{threads}}}\n\
             {{\"order\":\"measure\",\"samples\":2,\"limit_ns\":10000000000}}\n"
        );
        let mut out = Vec::new();
        serve_on(engine, orders.as_bytes(), &mut out, monotonic_ns()).unwrap();
        let lines = String::from_utf8(out).unwrap();
        lines.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The two samples of [`measure`], which must be alike.
    pub(crate) fn sample(engine: &mut dyn Engine, task: &str, files: &str, threads: u32) -> SampleReply {
        let replies = measure(engine, task, files, threads);
        let (Reply::Sample(first), Reply::Sample(second)) = (&replies[1], &replies[2]) else {
            panic!("{replies:?}")
        };
        assert_eq!((first.units, &first.digest), (second.units, &second.digest));
        first.clone()
    }

    /// Writes one JSON string a line.
    pub(crate) fn write_texts(path: &Path, texts: &[&str]) {
        let lines: String = texts.iter().map(|text| format!("{}\n", serde_json::json!(text))).collect();
        std::fs::write(path, lines).unwrap();
    }

    /// The special token of [`vocabulary`].
    pub(crate) const SPECIAL: &str = "<|endoftext|>";

    /// A tokenizer.json of the 256 bytes, in code-point order of their printable forms, two merges and a
    /// special token.
    pub(crate) fn vocabulary(folder: &Path) {
        let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        letters.sort_unstable();
        let mut names: Vec<String> = letters.iter().map(char::to_string).collect();
        names.extend(["th".to_string(), "the".to_string(), SPECIAL.to_string()]);
        let merges = vec![("t".to_string(), "h".to_string()), ("th".to_string(), "e".to_string())];
        let vocab: Vec<(String, u32)> = names.into_iter().zip(0..).collect();
        let vocab: [(String, u32); 259] = vocab.try_into().unwrap();
        let model = BPE::builder().vocab_and_merges(vocab, merges);
        let mut tokenizer = Tokenizer::new(model.build().unwrap());
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        tokenizer.with_decoder(Some(Decoder::default()));
        tokenizer.add_special_tokens([AddedToken::from(SPECIAL, true)]).unwrap();
        tokenizer.save(folder.join("tokenizer.json"), false).unwrap();
    }
}
