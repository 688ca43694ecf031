//! What a workload's work is done with: a kind of text, cut to size.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Text of one kind, cut at a character boundary to at most `bytes` bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Which text.
    pub text: TextKind,
    /// All texts together, in bytes.
    pub bytes: usize,
    /// Cut into this many texts of about equal length, each at a line or word border.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub texts: usize,
    /// Bytes at the head that stand before each of the texts: prompts that begin alike.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shared: usize,
    /// Cut into texts of unequal length: the shares 1 to `texts` in a mixed order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uneven: bool,
}

/// The kinds of text that every installation has. What each is made of: `inputs.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextKind {
    /// English prose: documentation of pinned packages, code blocks left out.
    #[default]
    Prose,
    /// Source code of pinned packages.
    Code,
    /// Generated: common words of many languages and scripts.
    Multilingual,
    /// Generated: emoji with modifiers and joiners, runs of whitespace.
    EmojiWhitespace,
    /// Generated: one word of letters without any border.
    OneWord,
    /// The letter a.
    OneLetter,
    /// Spaces, tabs and newlines in long runs.
    Whitespace,
}

impl TextKind {
    /// The word used in TOML.
    pub fn word(self) -> &'static str {
        match self {
            TextKind::Prose => "prose",
            TextKind::Code => "code",
            TextKind::Multilingual => "multilingual",
            TextKind::EmojiWhitespace => "emoji-whitespace",
            TextKind::OneWord => "one-word",
            TextKind::OneLetter => "one-letter",
            TextKind::Whitespace => "whitespace",
        }
    }
}

impl Input {
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.bytes <= 1 << 30, "`bytes` must be at most {} (1 GiB)", 1u32 << 30);
        ensure!(self.texts >= 1 && self.texts <= self.bytes.max(1), "`texts` must be 1 to `bytes`");
        ensure!(self.shared <= self.bytes, "`shared` is part of `bytes` and can be no more");
        Ok(())
    }

    /// Name of the input's file: the same words, always the same file.
    pub fn slug(&self) -> String {
        let mut slug = format!("{}-{}-{}", self.text.word(), self.bytes, self.texts);
        if self.shared > 0 {
            slug += &format!("-shared{}", self.shared);
        }
        if self.uneven {
            slug += "-uneven";
        }
        slug
    }
}

fn one() -> usize {
    1
}
fn is_one(n: &usize) -> bool {
    *n == 1
}
fn is_zero(n: &usize) -> bool {
    *n == 0
}
