//! The same answer: what everybody's answer is held against.
//!
//! A pinned digest (`expect`) comes first. Otherwise the answer of the task's reference engine, or,
//! where that one is missing, of the first contestant that gave one; every check row says which.

use crate::spec::Workload;
use std::collections::BTreeMap;
use worker::{SampleReply, Task, TaskKind};

/// A reference answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reference {
    /// The engine that gave it.
    pub engine: String,
    /// Units of work of one run.
    pub units: u64,
    /// Digest of its answer.
    pub digest: String,
    /// The answer itself: ids as little-endian u32, or bytes.
    pub answer: Vec<u8>,
    /// Logits of the last position, if the task has them.
    pub logits: Vec<f32>,
}

/// The reference answers of one run.
#[derive(Debug, Default)]
pub struct References {
    given: BTreeMap<String, Reference>,
    /// (engine, workload) -> units and digest of its first answer: what an engine of lower precision
    /// must repeat.
    own: BTreeMap<(String, String), (u64, String)>,
    /// False when the user's own model or text stands in for the embedded one.
    pub pins_hold: bool,
}

impl References {
    /// No answers yet.
    pub fn new(pins_hold: bool) -> References {
        References { pins_hold, ..References::default() }
    }

    /// The reference given for this workload so far.
    pub fn get(&self, workload: &Workload) -> Option<&Reference> {
        self.given.get(&workload.name)
    }

    /// Takes this answer as the reference.
    pub fn set(&mut self, workload: &Workload, reference: Reference) {
        self.given.insert(workload.name.clone(), reference);
    }

    /// Says what is wrong with a sample's answer, if anything.
    pub fn wrong(&self, workload: &Workload, sample: &SampleReply) -> Option<String> {
        let pinned = workload.expect.as_ref().filter(|_| self.pins_hold);
        let (units, digest, from) = match (pinned, self.get(workload)) {
            (Some(expect), _) => (expect.units, expect.digest.as_str(), "the pinned answer"),
            (None, Some(reference)) => {
                (reference.units, reference.digest.as_str(), reference.engine.as_str())
            }
            (None, None) => return None,
        };
        if sample.units != units {
            return Some(format!("{} units of work, {from} has {units}", sample.units));
        }
        // Sampled tokens and memory streams have nothing to compare but their number.
        let comparable = !sample.digest.is_empty() && !digest.is_empty();
        (comparable && sample.digest != digest)
            .then(|| format!("digest {}, {from} has {digest}", sample.digest))
    }

    /// Says where an engine of lower precision left its own first answer, if it did; the first one
    /// becomes that. Its units are also the reference's, where there is one.
    pub fn strays(&mut self, engine: &str, workload: &Workload, sample: &SampleReply) -> Option<String> {
        if let Some(reference) = self.get(workload).filter(|reference| reference.units != sample.units) {
            let Reference { engine, units, .. } = reference;
            return Some(format!("{} units of work, {engine} has {units}", sample.units));
        }
        let key = (engine.to_string(), workload.name.clone());
        let (units, digest) = self.own.entry(key).or_insert_with(|| (sample.units, sample.digest.clone()));
        if sample.units != *units {
            return Some(format!("{} units of work, its first answer has {units}", sample.units));
        }
        (sample.digest != *digest).then(|| format!("digest {}, its own first has {digest}", sample.digest))
    }

    /// Where the reference comes from, for check rows.
    pub fn source(&self, workload: &Workload) -> String {
        match (workload.expect.as_ref().filter(|_| self.pins_hold), self.get(workload)) {
            (Some(_), _) => "pinned".into(),
            (None, Some(reference)) => reference.engine.clone(),
            (None, None) => String::new(),
        }
    }
}

/// Names the first place where two answers part.
pub fn first_difference(task: &Task, theirs: &[u8], reference: &[u8]) -> String {
    let word_size = match task.kind() {
        TaskKind::Detokenize => 1,
        _ => 4,
    };
    let (ours, wanted) = (theirs.chunks(word_size), reference.chunks(word_size));
    let kind = if word_size == 4 { "id" } else { "byte" };
    match ours.zip(wanted).position(|(a, b)| a != b) {
        Some(at) => format!(
            "first difference at {kind} {at}: {} against {}",
            show(&theirs[at * word_size..], word_size),
            show(&reference[at * word_size..], word_size)
        ),
        None if theirs.len() != reference.len() => format!(
            "equal up to the shorter end: {} against {} {kind}s",
            theirs.len() / word_size,
            reference.len() / word_size
        ),
        None => "no difference found on a second look: the answer changes from run to run".into(),
    }
}

fn show(bytes: &[u8], word_size: usize) -> String {
    match bytes.get(..4) {
        Some(four) if word_size == 4 => u32::from_le_bytes([four[0], four[1], four[2], four[3]]).to_string(),
        _ => bytes.first().map_or_else(|| "the end".into(), |byte| format!("0x{byte:02x}")),
    }
}

/// Largest difference over the largest magnitude of the reference; infinite where a value is not
/// finite or the shapes differ.
pub fn logit_error(theirs: &[f32], reference: &[f32]) -> f64 {
    if theirs.len() != reference.len() || theirs.is_empty() {
        return f64::INFINITY;
    }
    let mut largest = 0.0f64;
    let mut scale = 0.0f64;
    for (&a, &b) in theirs.iter().zip(reference) {
        if !a.is_finite() || !b.is_finite() {
            return f64::INFINITY;
        }
        largest = largest.max((f64::from(a) - f64::from(b)).abs());
        scale = scale.max(f64::from(b).abs());
    }
    if scale == 0.0 { if largest == 0.0 { 0.0 } else { f64::INFINITY } } else { largest / scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let encode = Task::Encode { batch: false, fresh: false };
        let a = [1u32, 2, 3].map(u32::to_le_bytes).concat();
        let b = [1u32, 9, 3].map(u32::to_le_bytes).concat();
        assert_eq!(first_difference(&encode, &a, &b), "first difference at id 1: 2 against 9");
        assert_eq!(first_difference(&encode, &a[..8], &a), "equal up to the shorter end: 2 against 3 ids");
        assert_eq!(
            first_difference(&Task::Detokenize {}, b"ab", b"aB"),
            "first difference at byte 1: 0x62 against 0x42"
        );
    }

    #[test]
    fn a_lower_precision_is_held_to_its_own_first_answer_and_to_everybodys_units() {
        let workload: Workload = toml::from_str(
            "name = 'decode/x'\ntask = { kind = 'decode', context = 4, tokens = 2, batch = 1 }",
        )
        .unwrap();
        let sample = |units, digest: &str| SampleReply { units, digest: digest.into(), ..Default::default() };
        let mut references = References::new(true);
        assert_eq!(references.strays("n/int8", &workload, &sample(2, "aa")), None);
        assert_eq!(references.strays("n/int8", &workload, &sample(2, "aa")), None);
        assert_eq!(references.strays("n/int4", &workload, &sample(2, "bb")), None, "each its own");
        let strays = references.strays("n/int8", &workload, &sample(2, "bb")).unwrap();
        assert!(strays.contains("digest bb, its own first has aa"), "{strays}");
        assert!(references.strays("n/int8", &workload, &sample(1, "aa")).unwrap().contains("1 units"));
        let reference = Reference { engine: "p/f32".into(), units: 3, ..Reference::default() };
        references.set(&workload, reference);
        let strays = references.strays("n/int8", &workload, &sample(2, "aa")).unwrap();
        assert_eq!(strays, "2 units of work, p/f32 has 3");
    }

    #[test]
    fn logits_are_compared_relative_to_the_reference() {
        assert_eq!(logit_error(&[1.0, -2.0], &[1.0, -2.0]), 0.0);
        assert!((logit_error(&[1.0, -1.0], &[1.0, -2.0]) - 0.5).abs() < 1e-12);
        assert!(logit_error(&[f32::NAN], &[1.0]).is_infinite());
        assert!(logit_error(&[1.0], &[1.0, 2.0]).is_infinite());
    }
}
