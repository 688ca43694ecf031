//! Writing a vocabulary in the forms other programs read.
//!
//! `vocab.json` and `merges.txt` have the exact bytes OpenAI published (for GPT-2's vocabulary): JSON as
//! Python's `json.dumps` writes it, ids in order. `tokenizer.json` is what Hugging Face's tokenizers load, and
//! the only one that can say which tokens are special: whoever reads the other two takes `<|endoftext|>` for the
//! one that is.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::gpt2::END_OF_TEXT;
use super::{Tokenizer, alphabet};
use crate::Error;
use crate::init::write_file;

impl Tokenizer {
    /// Writes `vocab.json`, `merges.txt`, `tokenizer.json` and `tokenizer_config.json` into `dir`, which is
    /// created if absent. Files of these names are replaced. With other special tokens than `<|endoftext|>` the
    /// first two could not be read back: they are not written, and removed if they are there.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write_vocabulary(&self, dir: &Path) -> Result<(), Error> {
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, "create", e))?;
        let in_two_files = self.special_tokens().all(|(token, _)| token == END_OF_TEXT);
        for (name, text) in [("vocab.json", self.vocab_json()), ("merges.txt", self.merges_txt())] {
            let path = dir.join(name);
            if in_two_files {
                write_file(&path, text.as_bytes())?;
            } else if path.exists() {
                fs::remove_file(&path).map_err(|e| Error::io(path, "remove", e))?;
            }
        }
        write_file(&dir.join("tokenizer_config.json"), self.tokenizer_config_json().as_bytes())?;
        // Last: whoever looks for this file finds the others too.
        write_file(&dir.join("tokenizer.json"), self.tokenizer_json().as_bytes())
    }

    /// The spelling of a token: special tokens as they are, others in GPT-2's byte alphabet.
    fn spelling(&self, id: u32) -> String {
        match self.special_tokens().find(|&(_, special)| special == id) {
            Some((token, _)) => token.to_owned(),
            None => alphabet::spell(self.token_bytes(id).unwrap_or_default()),
        }
    }

    fn vocab_json(&self) -> String {
        let mut text = String::from("{");
        for id in 0..self.vocabulary_size() as u32 {
            let comma = if id == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{}: {id}", ascii_json(&self.spelling(id)));
        }
        text.push('}');
        text
    }

    fn merges_txt(&self) -> String {
        let mut text = String::from("#version: 0.2\n");
        for &(left, right) in &self.pairs {
            let _ = writeln!(text, "{} {}", self.spelling(left), self.spelling(right));
        }
        text
    }

    fn tokenizer_json(&self) -> String {
        let mut added = Vec::new();
        for (token, id) in self.special_tokens() {
            added.push(format!(
                "{{\"id\":{id},\"content\":{},\"single_word\":false,\"lstrip\":false,\
                 \"rstrip\":false,\"normalized\":false,\"special\":true}}",
                ascii_json(token)
            ));
        }
        let entries =
            (0..self.vocabulary_size() as u32).map(|id| format!("{}:{id}", ascii_json(&self.spelling(id))));
        let merges = self.pairs.iter().map(|&(left, right)| {
            format!("[{},{}]", ascii_json(&self.spelling(left)), ascii_json(&self.spelling(right)))
        });
        let part = "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true";
        format!(
            "{{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n\
             \"added_tokens\":[{}],\n\
             \"normalizer\":null,\n\
             \"pre_tokenizer\":{{\"type\":\"ByteLevel\",{part}}},\n\
             \"post_processor\":{{\"type\":\"ByteLevel\",{}}},\n\
             \"decoder\":{{\"type\":\"ByteLevel\",{part}}},\n\
             \"model\":{{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\
             \"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\",\"fuse_unk\":false,\
             \"byte_fallback\":false,\"ignore_merges\":false,\n\
             \"vocab\":{{{}}},\n\"merges\":[{}]}}}}\n",
            added.join(","),
            part.replace("\"trim_offsets\":true", "\"trim_offsets\":false"),
            entries.collect::<Vec<_>>().join(","),
            merges.collect::<Vec<_>>().join(","),
        )
    }

    fn tokenizer_config_json(&self) -> String {
        let last = self.special_tokens().next_back().map(|(token, _)| token);
        let special = if self.special_id(END_OF_TEXT).is_some() { Some(END_OF_TEXT) } else { last };
        let config = serde_json::json!({
            "add_prefix_space": false,
            "bos_token": special,
            "eos_token": special,
            "model_max_length": 1024,
            "tokenizer_class": "GPT2Tokenizer",
            "unk_token": special,
        });
        format!("{config:#}\n")
    }
}

/// A JSON string in ASCII, escaped as Python's `json.dumps` does.
fn ascii_json(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            ' '..='~' => json.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(json, "\\u{unit:04x}");
                }
            }
        }
    }
    json.push('"');
    json
}
