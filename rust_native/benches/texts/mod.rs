//! Texts for the benches of the tokenizer: this repository's own notes and sources, and words drawn by a fixed
//! congruence, which repeat as words do.

use std::fs;
use std::path::Path;

/// The files below a folder that end so, one after the other.
fn sources(dir: &Path, ending: &str, text: &mut String) {
    let mut entries: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".venv") {
            sources(&path, ending, text);
        } else if path.extension().is_some_and(|ext| ext == ending) {
            text.push_str(&fs::read_to_string(path).unwrap_or_default());
        }
    }
}

/// Numbers of a linear congruence.
pub struct Drawn(pub u32);

impl Drawn {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % n
    }
}

/// `bytes` bytes or a few more of words over an alphabet, the first of a list of 3,000 the most frequent.
pub fn words(alphabet: &str, separator: &str, bytes: usize) -> String {
    let (letters, mut drawn): (Vec<char>, _) = (alphabet.chars().collect(), Drawn(1));
    let mut word = |_| (0..2 + drawn.below(8)).map(|_| letters[drawn.below(letters.len())]).collect();
    let list: Vec<String> = (0..3000).map(&mut word).collect();
    let mut drawn = Drawn(2);
    let mut text = String::new();
    while text.len() < bytes {
        let below = 1 + drawn.below(list.len());
        text += &list[drawn.below(below)];
        text += separator;
    }
    text
}

/// The first `bytes` bytes or so, at a character boundary.
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// All Markdown of this repository, and all Rust.
pub fn english_and_code() -> [String; 2] {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    ["md", "rs"].map(|ending| {
        let mut text = String::new();
        sources(root, ending, &mut text);
        text
    })
}

/// `bytes` letters without a space: one piece.
pub fn letters(bytes: usize) -> String {
    let mut drawn = Drawn(1);
    (0..bytes).map(|_| char::from(b'a' + drawn.below(26) as u8)).collect()
}
