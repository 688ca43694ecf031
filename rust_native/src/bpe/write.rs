//! Writing a vocabulary in the forms other programs read.
//!
//! `vocab.json` and `merges.txt` have the exact bytes OpenAI published (for GPT-2's vocabulary): JSON as
//! Python's `json.dumps` writes it, ids in order. `tokenizer.json` is what Hugging Face's tokenizers load.
//! It alone says how text is split, whether a piece is looked up before it is merged and which tokens are
//! special (whoever reads the other two takes `<|endoftext|>` for the one that is): what is not as GPT-2 has
//! it gets no other file.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::gpt2::END_OF_TEXT;
use super::{Pattern, Tokenizer, alphabet};
use crate::Error;
use crate::init::write_file;

impl Tokenizer {
    /// Writes `vocab.json`, `merges.txt`, `tokenizer.json` and `tokenizer_config.json` into `dir`, which is
    /// created if absent. Files of these names are replaced. With another pattern than GPT-2's, made from ranks,
    /// or with other special tokens than `<|endoftext|>`, the first two could not be read back: they are not
    /// written, and removed if they are there. The last is for GPT-2's pattern alone.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write_vocabulary(&self, dir: &Path) -> Result<(), Error> {
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, "create", e))?;
        let like_gpt2 = !self.whole_first && matches!(self.pattern, Pattern::Gpt2);
        if like_gpt2 && self.special_tokens().all(|(token, _)| token == END_OF_TEXT) {
            write_file(&dir.join("vocab.json"), self.vocab_json().as_bytes())?;
            write_file(&dir.join("merges.txt"), self.merges_txt().as_bytes())?;
        } else {
            for path in
                ["vocab.json", "merges.txt"].map(|name| dir.join(name)).into_iter().filter(|p| p.exists())
            {
                fs::remove_file(&path).map_err(|e| Error::io(path, "remove", e))?;
            }
        }
        if like_gpt2 {
            write_file(&dir.join("tokenizer_config.json"), self.tokenizer_config_json().as_bytes())?;
        }
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

    /// The ids that have a token.
    fn used(&self) -> impl Iterator<Item = u32> {
        (0..self.vocabulary_size() as u32).filter(|&id| self.token_bytes(id).is_some())
    }

    fn vocab_json(&self) -> String {
        let mut text = String::from("{");
        for id in self.used() {
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
        let entries = self.used().map(|id| format!("{}:{id}", ascii_json(&self.spelling(id))));
        let merges = self.pairs.iter().map(|&(left, right)| {
            format!("[{},{}]", ascii_json(&self.spelling(left)), ascii_json(&self.spelling(right)))
        });
        let part = "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true";
        format!(
            "{{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n\
             \"added_tokens\":[{}],\n\
             \"normalizer\":null,\n\
             \"pre_tokenizer\":{},\n\
             \"post_processor\":{{\"type\":\"ByteLevel\",{}}},\n\
             \"decoder\":{{\"type\":\"ByteLevel\",{part}}},\n\
             \"model\":{{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\
             \"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\",\"fuse_unk\":false,\
             \"byte_fallback\":false,\"ignore_merges\":{},\n\
             \"vocab\":{{{}}},\n\"merges\":[{}]}}}}\n",
            added.join(","),
            self.pre_tokenizer(part),
            part.replace("\"trim_offsets\":true", "\"trim_offsets\":false"),
            self.whole_first,
            entries.collect::<Vec<_>>().join(","),
            merges.collect::<Vec<_>>().join(","),
        )
    }

    /// `part` is the fields of GPT-2's.
    fn pre_tokenizer(&self, part: &str) -> String {
        if matches!(self.pattern, Pattern::Gpt2) {
            return format!("{{\"type\":\"ByteLevel\",{part}}}");
        }
        let mut steps = String::new();
        for regex in self.pattern.regexes() {
            let _ = write!(
                steps,
                "{{\"type\":\"Split\",\"pattern\":{{\"Regex\":{}}},\"behavior\":\"Isolated\",\"invert\":false}},",
                ascii_json(regex)
            );
        }
        let part = part.replace("\"use_regex\":true", "\"use_regex\":false");
        format!("{{\"type\":\"Sequence\",\"pretokenizers\":[{steps}{{\"type\":\"ByteLevel\",{part}}}]}}")
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
