//! Runs cases over threads, counts what differs, and makes the first that does short enough to read.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rust_native::{Encoder, Special, Tokenizer};

use crate::cases::{GENERATORS, counts};
use crate::peers::Vocabulary;

/// Cases that a thread takes at a time.
const PART: u64 = 1024;

/// What came of one generator's cases.
#[derive(Default)]
pub struct Outcome {
    pub cases: u64,
    pub mismatches: u64,
    /// A mismatch, shortened, and what it consists of.
    pub example: Option<(Vec<u8>, String)>,
}

/// Says how a case differs from what it should give, if it does.
pub trait Check {
    fn differs(&mut self, case: &[u8]) -> Option<String>;
}

impl<F: FnMut(&[u8]) -> Option<String>> Check for F {
    fn differs(&mut self, case: &[u8]) -> Option<String> {
        self(case)
    }
}

/// Ours on every instruction set against the others.
pub struct Peers {
    vocabulary: &'static Vocabulary,
    encoders: Vec<(String, Encoder<'static>)>,
    ids: Vec<u32>,
}

impl Peers {
    pub fn new(vocabulary: &'static Vocabulary) -> Self {
        let encoder = |tokenizer: &'static Tokenizer| (tokenizer.isa().to_string(), tokenizer.encoder());
        Self { vocabulary, encoders: vocabulary.every.iter().map(encoder).collect(), ids: Vec::new() }
    }

    fn against(&mut self, case: &[u8], special: Special, who: &str, expected: &[u32]) -> Option<String> {
        let ids = &mut self.ids;
        self.encoders.iter_mut().find_map(|(isa, encoder)| {
            ids.clear();
            encoder.encode_bytes_into(case, special, ids).expect("nothing is refused");
            (ids != expected).then(|| format!("{isa} gives {ids:?}, {who} {expected:?}"))
        })
    }
}

impl Check for Peers {
    fn differs(&mut self, case: &[u8]) -> Option<String> {
        let vocabulary = self.vocabulary;
        let Ok(text) = str::from_utf8(case) else {
            let expected = vocabulary.expected_of_bytes(case);
            return self.against(case, Special::Ignore, "pieces and merges of the others", &expected);
        };
        self.against(case, Special::Ignore, "tiktoken", &vocabulary.tiktoken(text))
            .or_else(|| self.against(case, Special::Allow, "Hugging Face", &vocabulary.hugging_face(text)))
    }
}

/// Names the case when the check panics.
struct Named<'a>(&'a [u8]);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("panicked at {:?}", String::from_utf8_lossy(self.0));
        }
    }
}

/// Checks `total` cases on some threads, each with a check of its own; what came of them, by generator.
pub fn run<C: Check>(total: u64, threads: usize, check: impl Fn() -> C + Sync) -> Vec<Outcome> {
    let counts = counts(total);
    let parts: Vec<(usize, Range<u64>)> = (0..GENERATORS.len())
        .flat_map(|which| {
            let count = counts[which];
            // A piece of 64 KB costs thousands of others.
            let part = if which == 0 { 1 } else { PART };
            (0..count).step_by(part as usize).map(move |from| (which, from..count.min(from + part)))
        })
        .collect();
    let outcomes: Vec<_> = GENERATORS.iter().map(|_| Mutex::new(Outcome::default())).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut check, mut case) = (check(), Vec::new());
        while let Some((which, part)) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (generator, outcome) = (&GENERATORS[*which], &outcomes[*which]);
            let (mut mismatches, mut first) = (0, None);
            for i in part.clone() {
                case.clear();
                (generator.make)(generator.number(i, counts[*which]), &mut case);
                let named = Named(&case);
                if check.differs(named.0).is_some() {
                    mismatches += 1;
                    first.get_or_insert_with(|| case.clone());
                }
            }
            let mut outcome = outcome.lock().expect("a check panicked");
            outcome.cases += part.end - part.start;
            outcome.mismatches += mismatches;
            if let (Some(first), None) = (first, &outcome.example) {
                let short = shorten(&first, |case| check.differs(case).is_some());
                let why = check.differs(&short).unwrap_or_else(|| "it does no more".to_owned());
                outcome.example = Some((short, why));
            }
        }
    };
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    outcomes.into_iter().map(|outcome| outcome.into_inner().expect("a check panicked")).collect()
}

/// A part of the case that still fails and of which no character can be left out; bytes that belong to no
/// character are one each.
pub fn shorten(case: &[u8], mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    for chunk in case.utf8_chunks() {
        units.extend(chunk.valid().chars().map(|c| c.to_string().into_bytes()));
        units.extend(chunk.invalid().iter().map(|&byte| vec![byte]));
    }
    let mut size = units.len().div_ceil(2);
    while size > 0 {
        let (mut at, before) = (0, units.len());
        while at < units.len() {
            let end = units.len().min(at + size);
            let shorter = [&units[..at], &units[end..]].concat();
            if fails(&shorter.concat()) {
                units = shorter;
            } else {
                at = end;
            }
        }
        // Leaving one out may make room for another.
        size = if size == 1 { usize::from(units.len() < before) } else { size / 2 };
    }
    units.concat()
}
