//! `assay cmp A B`: the pure half. One record in, one ratio a workload out, as a table or as JSON.
//!
//! Every ratio is time(b) / time(a): above 1, a is faster. What makes two engines unlike is said
//! beside the ratios, another precision first: whoever asks for these two has asked for that.

use crate::glob::matches_glob;
use crate::record::Record;
use crate::spec::{Metric, Workload};
use crate::summary::{Clock, Ratio, Side, View, overspent};
use serde::Serialize;

/// Everything `assay cmp` has to say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The engine above 1 speaks for.
    pub a: String,
    /// The other.
    pub b: String,
    /// One or two ratios a workload that both did: time, then time between tokens where the task
    /// has them.
    pub ratios: Vec<Ratio>,
    /// What makes the two unlike.
    pub notes: Vec<String>,
    /// Workloads asked for without a ratio, and why.
    pub missing: Vec<String>,
}

/// The ratios of every workload that both did and `filter` admits.
/// A filter is a glob where it has a `*`, else a part of the name; empty admits all.
pub fn compare(record: &Record, a: &str, b: &str, filter: &str) -> Vec<Ratio> {
    compare_fully(record, a, b, filter).ratios
}

/// The same with notes and with what is missing.
pub fn compare_fully(record: &Record, a: &str, b: &str, filter: &str) -> Comparison {
    let view = View::new(record);
    let mut seen = Comparison { a: a.into(), b: b.into(), ratios: vec![], notes: vec![], missing: vec![] };
    for workload in record.run.workloads.iter().filter(|workload| admits(filter, &workload.name)) {
        let asked = |engine: &str| !view.rows(&workload.name, engine).is_empty();
        if !asked(a) && !asked(b) {
            continue;
        }
        match view.ratio(&workload.name, Metric::Time, a, b) {
            Ok(ratio) => {
                seen.ratios.push(ratio);
                let [a, b] = [a, b].map(|engine| Side { engine, workload });
                seen.notes.extend(overspent(&view, a, b));
                seen.ratios.extend(token_ratio(&view, workload, a.engine, b.engine));
            }
            Err(reason) => seen.missing.push(reason),
        }
    }
    seen
}

/// Is this workload meant by the filter?
pub fn admits(filter: &str, name: &str) -> bool {
    if filter.contains('*') { matches_glob(filter, name) } else { name.contains(filter) }
}

fn token_ratio(view: &View<'_>, workload: &Workload, a: &str, b: &str) -> Option<Ratio> {
    view.ratio(&workload.name, Metric::TokenTime, a, b).ok()
}

impl Comparison {
    /// For people: one line a ratio, then notes. Ends with a newline.
    pub fn table(&self) -> String {
        let (a, b) = (&self.a, &self.b);
        let mut text = format!("time({b}) / time({a}): above 1, {a} is faster\n");
        let mut lines =
            vec![["workload", "metric", "ratio", "95 % interval", "n", "clock", "floor"].map(String::from)];
        lines.extend(self.ratios.iter().map(|ratio| {
            [
                ratio.workload.clone(),
                ratio.metric.clone(),
                format!("{:.3}", ratio.ratio),
                format!("{:.3} to {:.3}", ratio.lo, ratio.hi),
                ratio.n.to_string(),
                clock_word(ratio.clock).into(),
                format!("{:.3}", ratio.floor),
            ]
        }));
        if self.ratios.is_empty() {
            text.push_str("no workload in this record has a ratio\n");
        } else {
            text.push_str(&aligned(&lines));
        }
        if let Some(ratio) = self.ratios.iter().find(|ratio| !ratio.precisions.is_empty()) {
            text.push_str(&format!("precisions differ: {}\n", ratio.precisions));
        }
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        for reason in &self.missing {
            text.push_str(&format!("no ratio: {reason}\n"));
        }
        text
    }

    /// For programs: the list of ratios, {workload, metric, clock, a, b, precisions, ratio, lo, hi, n, floor}.
    /// Ends with a newline.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(&self.ratios).map(|text| text + "\n")
    }
}

/// The clock in a word.
pub fn clock_word(clock: Clock) -> &'static str {
    match clock {
        Clock::Wall => "wall",
        Clock::Cpu => "cpu",
        Clock::SinceSpawn => "since spawn",
        Clock::Device => "device",
        Clock::None => "none",
    }
}

/// Columns side by side: the first two flush left, the figures flush right.
fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = (0..N)
            .map(|at| match at {
                0 | 1 => format!("{:<width$}", line[at], width = widths[at]),
                _ => format!("{:>width$}", line[at], width = widths[at]),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Scene, story};
    use worker::Task;

    #[test]
    fn every_workload_both_did_is_there_and_decode_twice() {
        let seen = compare_fully(&story(), "native/cpu-f32", "python/transformers", "");
        let decode: Vec<_> = seen.ratios.iter().filter(|ratio| ratio.workload == "decode/b1-ctx32").collect();
        assert_eq!(
            decode.iter().map(|ratio| ratio.metric.as_str()).collect::<Vec<_>>(),
            ["time", "token_time"]
        );
        assert!(seen.ratios.iter().all(|ratio| ratio.lo > 2.0 && ratio.hi < 3.0), "{seen:?}");
        assert_eq!(seen.missing.len(), 1);
        assert!(seen.missing[0].contains("generate/no-cache-16") && seen.missing[0].contains("timed_out"));
        assert_eq!(seen.ratios.len(), 10 + 3);
    }

    #[test]
    fn filters_are_globs_or_parts_of_a_name() {
        let names = |filter| {
            let ratios = compare(&story(), "native/cpu-f32", "python/transformers", filter);
            ratios.into_iter().map(|ratio| ratio.workload).collect::<Vec<_>>()
        };
        assert_eq!(names("encode/*"), ["encode/prose-64k", "encode/batch-t2"]);
        assert_eq!(names("prose"), ["encode/prose-64k", "detokenize/prose-64k"]);
        assert!(names("quantum").is_empty());
    }

    #[test]
    fn json_is_a_list_with_the_promised_keys() {
        let seen = compare_fully(&story(), "native/cpu-f32", "libtorch/cpu-f32", "prefill");
        let list: serde_json::Value = serde_json::from_str(&seen.json().unwrap()).unwrap();
        let keys: Vec<_> = list[0].as_object().unwrap().keys().cloned().collect();
        let mut promised =
            ["workload", "metric", "clock", "a", "b", "precisions", "ratio", "lo", "hi", "n", "floor"];
        promised.sort_unstable();
        assert_eq!(keys, promised);
        assert_eq!(list[0]["clock"], "wall");
        assert!(list[0]["ratio"].as_f64().unwrap() > 1.0);
    }

    #[test]
    fn the_table_lines_up_and_says_what_is_missing() {
        let text = compare_fully(&story(), "native/cpu-f32", "python/pure-bpe", "").table();
        assert!(text.starts_with("time(python/pure-bpe) / time(native/cpu-f32): above 1"), "{text}");
        assert!(text.contains("no ratio: python/pure-bpe on detokenize/prose-64k: wrong"), "{text}");
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("cpu") && line.contains(" to ")).collect();
        assert_eq!(lines.len(), 1, "{text}");
        let empty = compare_fully(&story(), "limit/stream", "python/pure-bpe", "encode").table();
        assert!(empty.contains("no workload in this record has a ratio"), "{empty}");
    }

    #[test]
    fn unequal_precision_is_said() {
        let scene = Scene::default()
            .workload("prefill/8", Task::Prefill { tokens: 8, batch: 1 }, 1)
            .engine("a/f32", &[("prefill/8", 1e6)])
            .engine("b/int8", &[("prefill/8", 1e6)])
            .precision("b/int8", "int8");
        let seen = compare_fully(&scene.record(), "b/int8", "a/f32", "");
        assert_eq!((seen.ratios.len(), seen.ratios[0].precisions.as_str()), (1, "int8 against f32"));
        assert!(seen.table().lines().any(|line| line == "precisions differ: int8 against f32"));
        let alike = compare_fully(&scene.precision("b/int8", "f32").record(), "b/int8", "a/f32", "");
        assert!(alike.ratios[0].precisions.is_empty() && !alike.table().contains("precisions"));
    }
}
