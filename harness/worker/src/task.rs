//! The closed list of things an engine may be asked to do, as they travel over the wire.
//!
//! A task carries everything that decides the work; the bytes it works on come as files. A new
//! kind of work is a new variant here and nowhere else.

use serde::{Deserialize, Serialize};

/// What to do once. Tagged by `kind` in TOML and on the wire. What has no fields has braces, because serde
/// refuses unknown fields in no other variants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// Text to token ids. Input: a texts file; answer: the ids of all texts, one after another.
    Encode {
        /// True: hand all texts to the engine's batch call; false: one call a text.
        #[serde(default)]
        batch: bool,
        /// True: `reset` makes the tokenizer anew, so that every run meets one that remembers nothing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fresh: bool,
    },
    /// Token ids to text. Input: an ids file; answer: the bytes.
    Detokenize {},
    /// The plain `\w+` split of an article, kept beside BPE to show that it is another task.
    /// Input: a texts file; answer: the number of words as one id a text.
    WordSplit {},
    /// A prompt through the model; laps: one, when the logits of the last position exist.
    /// Input: an ids file of `batch` x `tokens` ids; answer: argmax of each sequence.
    Prefill {
        /// Prompt length T of every sequence.
        tokens: usize,
        /// Number of sequences B.
        batch: usize,
    },
    /// `tokens` greedy steps from a cache that holds `context` positions (filled off the clock).
    /// One lap a step. Input: an ids file of `batch` x `context` ids; answer: B x `tokens` ids,
    /// sequence after sequence.
    Decode {
        /// Positions in the cache before the first timed step.
        context: usize,
        /// Timed steps.
        tokens: usize,
        /// Number of sequences B.
        batch: usize,
    },
    /// Text in, text out: encode, prefill, `tokens` new tokens, detokenize. One lap a token; the
    /// first lap is the time to first token. Several texts are one batch, a lap when all of them have
    /// one token more. Answer: new ids, text after text, then the UTF-8 bytes of the new texts.
    Generate {
        /// New tokens.
        tokens: usize,
        /// False: recompute the whole sequence for every token.
        #[serde(default = "yes")]
        cache: bool,
        /// Absent: greedy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sampling: Option<Sampling>,
        /// Texts that a beam search keeps side by side, scored by the mean log-probability; absent: no
        /// search. One lap, when the text is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        beams: Option<usize>,
        /// Tokens that may be guessed from the text itself at a time and verified at once; absent: one
        /// token after another. The answer is the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lookup: Option<usize>,
    },
    /// Requests of unequal lengths that are all there when the run starts, at most `slots` of them
    /// worked on at a time. Request i is the i-th text and gets `tokens[i mod len]` greedy tokens. One
    /// lap a request, at its end, in the order of their ends. Answer: the new ids of all requests, in
    /// the order of the texts.
    Serve {
        /// Sequences worked on at a time at most.
        slots: usize,
        /// New tokens, over and over.
        tokens: Vec<usize>,
    },
    /// Weights from their file to a model ready for its first token.
    Load {},
    /// In a fresh process: one token for a prompt of `tokens` ids. Judged on time since spawn.
    Start {
        /// Prompt length.
        tokens: usize,
    },
    /// The crossing between languages itself; one run makes `repeat` crossings of `elements` ids.
    Boundary {
        /// What crosses and how.
        crossing: Crossing,
        /// Elements (u32) that cross in one call; 0 for an empty call.
        elements: usize,
        /// Calls in one timed run.
        repeat: usize,
    },
}

/// How token ids cross from the caller's language to the engine's and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crossing {
    /// A call with no argument and no result.
    Empty,
    /// A list of integer objects.
    List,
    /// A numpy array made by copying.
    Copy,
    /// A numpy array that borrows the caller's memory.
    Shared,
}

/// Sampled generation. The draws differ between engines (each has its own generator), so a
/// sampled receipt proves the number of tokens and not which.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits.
    pub temperature: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set whose probability reaches p; 1 keeps all.
    pub top_p: f32,
    /// Seed of the engine's generator.
    pub seed: u64,
}

/// The variant names of [`Task`], for filters, capability lists and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum TaskKind {
    Encode,
    Detokenize,
    WordSplit,
    Prefill,
    Decode,
    Generate,
    Serve,
    Load,
    Start,
    Boundary,
}

impl TaskKind {
    /// Every kind, in the order reports list them.
    pub const ALL: [TaskKind; 10] = [
        TaskKind::Encode,
        TaskKind::Detokenize,
        TaskKind::WordSplit,
        TaskKind::Prefill,
        TaskKind::Decode,
        TaskKind::Generate,
        TaskKind::Serve,
        TaskKind::Load,
        TaskKind::Start,
        TaskKind::Boundary,
    ];

    /// The word used in TOML, CSV and prose.
    pub fn word(self) -> &'static str {
        match self {
            TaskKind::Encode => "encode",
            TaskKind::Detokenize => "detokenize",
            TaskKind::WordSplit => "word_split",
            TaskKind::Prefill => "prefill",
            TaskKind::Decode => "decode",
            TaskKind::Generate => "generate",
            TaskKind::Serve => "serve",
            TaskKind::Load => "load",
            TaskKind::Start => "start",
            TaskKind::Boundary => "boundary",
        }
    }
}

impl std::str::FromStr for TaskKind {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        TaskKind::ALL
            .into_iter()
            .find(|kind| kind.word() == word)
            .ok_or_else(|| format!("`{word}` is no task"))
    }
}

impl std::fmt::Display for TaskKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

impl Task {
    /// The variant's name.
    pub fn kind(&self) -> TaskKind {
        match self {
            Task::Encode { .. } => TaskKind::Encode,
            Task::Detokenize {} => TaskKind::Detokenize,
            Task::WordSplit {} => TaskKind::WordSplit,
            Task::Prefill { .. } => TaskKind::Prefill,
            Task::Decode { .. } => TaskKind::Decode,
            Task::Generate { .. } => TaskKind::Generate,
            Task::Serve { .. } => TaskKind::Serve,
            Task::Load {} => TaskKind::Load,
            Task::Start { .. } => TaskKind::Start,
            Task::Boundary { .. } => TaskKind::Boundary,
        }
    }

    /// What a generation asks for beyond one token after another, in words for a refusal.
    pub fn beyond_steps(&self) -> Option<&'static str> {
        match self {
            Task::Generate { beams: Some(_), .. } => Some("beam search"),
            Task::Generate { lookup: Some(_), .. } => Some("guessing tokens from the text"),
            _ => None,
        }
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_a_task_does_not_have_is_refused_in_every_kind() {
        for (kind, fields) in [
            ("encode", ""),
            ("detokenize", ""),
            ("word_split", ""),
            ("load", ""),
            ("start", ", \"tokens\": 4"),
            ("prefill", ", \"tokens\": 4, \"batch\": 1"),
        ] {
            let read =
                |more: &str| serde_json::from_str::<Task>(&format!("{{\"kind\": \"{kind}\"{fields}{more}}}"));
            let task = read("").unwrap();
            assert_eq!(serde_json::from_str::<Task>(&serde_json::to_string(&task).unwrap()).unwrap(), task);
            let said = read(", \"contxt\": 3").unwrap_err().to_string();
            assert!(said.contains("contxt"), "{kind}: {said}");
        }
    }
}
