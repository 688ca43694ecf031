//! The bytes everybody works on, the same on every installation.
//!
//! Real text comes from the packages that Cargo.lock pins: their documentation comments are the
//! prose, their sources the code; a package's checksum in the lock pins every byte. Generated text
//! comes from seeded word lists. Nothing is downloaded that a build does not already need.

mod generated;
mod packages;

use crate::spec::{Input, TextKind, Workload};
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use worker::{Task, write_ids};

pub use packages::Packages;

/// The folder of input files and how to fill it.
pub struct Inputs {
    folder: PathBuf,
    packages: Packages,
    /// The user's own text, which stands in for every real text.
    corpus: Option<PathBuf>,
}

impl Inputs {
    /// Inputs kept in `folder`, real text read by way of `packages` or from the user's `corpus`.
    pub fn new(folder: PathBuf, packages: Packages, corpus: Option<PathBuf>) -> Inputs {
        Inputs { folder, packages, corpus }
    }

    /// The texts file of an input, made if it is not there yet: one JSON string a line.
    pub fn texts(&self, input: &Input) -> Result<PathBuf> {
        let path = self.folder.join(format!("{}{}.jsonl", self.prefix(), input.slug()));
        if !path.exists() {
            let text = self.text(input.text, input.bytes)?;
            let mut lines = String::new();
            for piece in cut(&text, input) {
                lines.push_str(&serde_json::to_string(&piece).context("cannot write a text as JSON")?);
                lines.push('\n');
            }
            self.put(&path, lines.as_bytes())?;
        }
        Ok(path)
    }

    /// The ids file of a prompt: `count` ids below `vocabulary`, drawn by seed. Speed does not depend
    /// on which ids they are.
    pub fn prompt(&self, count: usize, vocabulary: u32) -> Result<PathBuf> {
        let path = self.folder.join(format!("prompt-{count}-{vocabulary}.ids"));
        if !path.exists() {
            let mut state = 0x5eed;
            let ids: Vec<u32> = (0..count)
                .map(|_| {
                    state = crate::stats::splitmix(state);
                    ((state >> 32) % u64::from(vocabulary)) as u32
                })
                .collect();
            std::fs::create_dir_all(&self.folder)
                .with_context(|| format!("cannot make {}", self.folder.display()))?;
            let fresh = path.with_extension("new");
            write_ids(&fresh, &ids)?;
            std::fs::rename(&fresh, &path).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(path)
    }

    /// Where the ids of a text are kept for `detokenize`; the caller fills it.
    pub fn ids_of(&self, input: &Input) -> PathBuf {
        self.folder.join(format!("{}{}.ids", self.prefix(), input.slug()))
    }

    /// `bytes` bytes of one kind of text, cut at a character border.
    pub fn text(&self, kind: TextKind, bytes: usize) -> Result<String> {
        let mut text = match (kind, &self.corpus) {
            (TextKind::Prose | TextKind::Code, Some(corpus)) => {
                let raw = std::fs::read(corpus)
                    .with_context(|| format!("cannot read the corpus {}", corpus.display()))?;
                String::from_utf8(raw).map_err(|error| {
                    anyhow::anyhow!(
                        "{}: not UTF-8 at byte {}; convert it first",
                        corpus.display(),
                        error.utf8_error().valid_up_to()
                    )
                })?
            }
            (TextKind::Prose, None) => self.packages.prose(bytes)?,
            (TextKind::Code, None) => self.packages.code(bytes)?,
            (generated, _) => generated::text(generated, bytes),
        };
        ensure!(
            text.len() >= bytes,
            "{} has {} bytes of text, the workload asks for {bytes}; give a longer one",
            kind.word(),
            text.len()
        );
        let mut end = bytes;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        Ok(text)
    }

    /// sha256 of every input file these workloads use, by file name.
    pub fn digests(&self, workloads: &[Workload]) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        for input in workloads.iter().filter_map(|workload| workload.input.as_ref()) {
            let path = self.texts(input)?;
            all.insert(file_name(&path), sha256_of(&path)?);
        }
        Ok(all)
    }

    fn prefix(&self) -> String {
        match &self.corpus {
            None => String::new(),
            Some(path) => {
                let hash = Sha256::digest(path.to_string_lossy().as_bytes());
                format!("corpus-{:02x}{:02x}{:02x}-", hash[0], hash[1], hash[2])
            }
        }
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, bytes)
            .and_then(|()| std::fs::rename(&fresh, path))
            .with_context(|| format!("cannot write {} (disk full or read-only?)", path.display()))
    }
}

/// How many prompt ids a task wants, if it wants drawn ids.
pub fn prompt_ids(task: &Task) -> Option<usize> {
    match task {
        Task::Prefill { tokens, batch } => Some(tokens * batch),
        Task::Decode { context, batch, .. } => Some(context * batch),
        Task::Start { tokens } => Some(*tokens),
        _ => None,
    }
}

/// Cuts `text` into texts whose lengths are about as `shares`, each cut at a word border.
pub fn pieces<'t>(text: &'t str, shares: &[usize]) -> Vec<&'t str> {
    let total: usize = shares.iter().sum();
    let mut cut = Vec::with_capacity(shares.len());
    let (mut start, mut sum) = (0, 0);
    for share in shares {
        sum += share;
        let aim = (text.len() * sum / total).max(start);
        let end = if sum < total { border(text, aim) } else { text.len() };
        cut.push(&text[start..end]);
        start = end;
    }
    cut
}

/// The texts of an input: what they share, then a piece each.
fn cut(text: &str, input: &Input) -> Vec<String> {
    let head = if input.shared > 0 { border(text, input.shared) } else { 0 };
    let (shared, rest) = text.split_at(head);
    let share = |at: usize| if input.uneven { 1 + at * 7 % input.texts } else { 1 };
    let shares: Vec<usize> = (0..input.texts).map(share).collect();
    pieces(rest, &shares).into_iter().map(|piece| format!("{shared}{piece}")).collect()
}

/// Where to cut near `aim`: at the next line end or space so that no word is split, or at the next
/// character border where there is neither in reach.
fn border(text: &str, aim: usize) -> usize {
    let window = &text.as_bytes()[aim..text.len().min(aim + 64)];
    let mut end = aim + window.iter().position(|&byte| byte == b'\n' || byte == b' ').unwrap_or(0);
    while !text.is_char_boundary(end) {
        end += 1;
    }
    end
}

/// sha256 of a file, in hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut HashSink(&mut hash))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

struct HashSink<'a>(&'a mut Sha256);
impl std::io::Write for HashSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_text_and_split_no_word() {
        let text = "one two three four five six seven eight nine ten";
        let cut = pieces(text, &[1; 4]);
        assert_eq!(cut.concat(), text);
        assert_eq!(cut.len(), 4);
        assert!(cut.iter().all(|piece| !piece.ends_with(char::is_alphabetic)
            || text.ends_with(piece)
            || text.contains(&format!("{piece} "))));
        assert_eq!(pieces("世界世界", &[1; 3]).concat(), "世界世界");
        assert_eq!(pieces("", &[1]), [""]);
    }

    #[test]
    fn texts_begin_alike_and_differ_in_length_where_asked() {
        let text = "one two three four five six seven eight nine ten eleven twelve";
        let input = Input { bytes: text.len(), texts: 3, shared: 5, ..Input::default() };
        let texts = super::cut(text, &input);
        assert!(texts.iter().all(|text| text.starts_with("one two")), "{texts:?}");
        let own: String = texts.iter().map(|text| &text["one two".len()..]).collect();
        assert_eq!(format!("one two{own}"), text);
        let input = Input { shared: 0, texts: 4, uneven: true, ..input };
        let texts = super::cut(text, &input);
        assert_eq!(texts.concat(), text);
        let lengths: Vec<usize> = texts.iter().map(String::len).collect();
        assert!(lengths[0] < lengths[2] && lengths[2] < lengths[1], "shares 1, 4, 3, 2: {lengths:?}");
    }

    #[test]
    fn a_corpus_that_is_no_utf8_or_too_short_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = folder.path().join("c.txt");
        std::fs::write(&corpus, b"ab\xffcd").unwrap();
        let inputs = Inputs::new(folder.path().join("in"), Packages::none(), Some(corpus.clone()));
        let error = inputs.text(TextKind::Prose, 3).unwrap_err().to_string();
        assert!(error.contains("c.txt") && error.contains("byte 2"), "{error}");
        std::fs::write(&corpus, "ab").unwrap();
        let error = inputs.text(TextKind::Prose, 3).unwrap_err().to_string();
        assert!(error.contains("2 bytes") && error.contains('3'), "{error}");
    }

    #[test]
    fn files_are_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = Inputs::new(folder.path().join("in"), Packages::none(), None);
        let input = Input { text: TextKind::EmojiWhitespace, bytes: 999, texts: 3, ..Input::default() };
        let path = inputs.texts(&input).unwrap();
        let texts = worker::read_texts(&path).unwrap();
        assert_eq!(texts.len(), 3);
        let total: usize = texts.iter().map(String::len).sum();
        assert!((990..=999).contains(&total), "{total}");
        let ids = worker::read_ids(&inputs.prompt(5, 100).unwrap()).unwrap();
        assert!(ids.len() == 5 && ids.iter().all(|&id| id < 100));
    }
}
