//! The rule table as properties, and whole claims over made-up records.

use super::*;
use crate::fixture::{Scene, story};
use crate::summary::Clock;
use proptest::prelude::*;

fn row(lo: f64, hi: f64, floor: f64) -> Ratio {
    Ratio {
        workload: "w/w".into(),
        metric: "time".into(),
        clock: Clock::Cpu,
        a: "a/a".into(),
        b: "b/b".into(),
        precisions: String::new(),
        ratio: (lo * hi).sqrt(),
        lo,
        hi,
        n: 20,
        floor,
    }
}

#[test]
fn the_rule_table() {
    let bounds = [3.0, 8.0];
    for (lo, hi, verdict) in [
        (3.5, 7.0, Verdict::Supported),
        (3.0, 8.0, Verdict::Supported),
        (8.1, 9.0, Verdict::Exceeded),
        (1.1, 2.9, Verdict::Refuted),
        (0.2, 0.5, Verdict::Refuted),
        (2.0, 4.0, Verdict::Inconclusive),
        (7.0, 9.0, Verdict::Inconclusive),
        (2.0, 9.0, Verdict::Inconclusive),
    ] {
        assert_eq!(verdict_of(&row(lo, hi, 1.0), &bounds), verdict, "[{lo}, {hi}]");
    }
    assert_eq!(verdict_of(&row(50.0, 60.0, 1.0), &[3.0]), Verdict::Supported); // at least
    assert_eq!(verdict_of_share(&row(0.02, 0.05, 1.0), 0.1, 0.25), Verdict::Supported);
    assert_eq!(verdict_of_share(&row(0.3, 0.4, 1.0), 0.1, 0.25), Verdict::Refuted);
    assert_eq!(verdict_of_share(&row(0.15, 0.2, 1.0), 0.1, 0.25), Verdict::Inconclusive);
}

#[test]
fn nothing_is_decided_more_finely_than_the_floor() {
    assert_eq!(verdict_of(&row(1.01, 1.02, 1.0), &[1.0]), Verdict::Supported);
    assert_eq!(verdict_of(&row(1.01, 1.02, 1.03), &[1.0]), Verdict::Inconclusive);
    assert_eq!(verdict_of(&row(0.97, 0.99, 1.05), &[1.0]), Verdict::Inconclusive);
}

proptest! {
    #[test]
    fn an_interval_has_exactly_the_verdict_of_where_it_lies(
        lo in 0.01f64..50.0, width in 1.0f64..3.0, least in 0.05f64..20.0, span in 1.0f64..5.0, floor in 1.0f64..1.3,
    ) {
        let (hi, most) = (lo * width, least * span);
        let seen = verdict_of(&row(lo, hi, floor), &[least, most]);
        let (low, high) = (lo / floor, hi * floor);
        prop_assert_eq!(seen == Verdict::Refuted, high < least);
        prop_assert_eq!(seen == Verdict::Exceeded, low > most);
        prop_assert_eq!(seen == Verdict::Supported, low >= least && high <= most);
    }

    #[test]
    fn a_larger_floor_only_ever_takes_certainty_away(
        lo in 0.01f64..50.0, width in 1.0f64..3.0, least in 0.05f64..20.0, span in 1.0f64..5.0, floor in 1.0f64..2.0,
    ) {
        let bounds = [least, least * span];
        let bare = verdict_of(&row(lo, lo * width, 1.0), &bounds);
        let seen = verdict_of(&row(lo, lo * width, floor), &bounds);
        prop_assert!(seen == bare || seen == Verdict::Inconclusive);
    }

    #[test]
    fn supported_at_least_one_way_is_never_supported_the_other_way(lo in 0.1f64..10.0, width in 1.0f64..2.0) {
        let (hi, bounds) = (lo * width, [1.05]);
        let there = verdict_of(&row(lo, hi, 1.0), &bounds);
        let back = verdict_of(&row(1.0 / hi, 1.0 / lo, 1.0), &bounds);
        prop_assert!(!(there == Verdict::Supported && back == Verdict::Supported));
    }

    #[test]
    fn a_claim_is_mixed_exactly_where_its_comparisons_differ(picks in prop::collection::vec(0usize..4, 0..6)) {
        let kinds = [Verdict::Supported, Verdict::Refuted, Verdict::Exceeded, Verdict::Inconclusive];
        let rows: Vec<_> = picks.iter().map(|&at| (row(1.0, 1.0, 1.0), kinds[at])).collect();
        let seen = overall(&rows);
        let distinct = kinds.iter().filter(|kind| rows.iter().any(|(_, verdict)| verdict == *kind)).count();
        prop_assert_eq!(seen == Verdict::OutOfReach, distinct == 0);
        prop_assert_eq!(seen == Verdict::Mixed, distinct > 1);
        prop_assert!(distinct != 1 || seen == rows[0].1);
    }

    #[test]
    fn a_glob_of_a_name_with_parts_left_out_matches_it(name in "[a-z/]{1,12}", cut in 0usize..12, len in 0usize..12) {
        let start = cut.min(name.len());
        let end = (start + len).min(name.len());
        let glob = format!("{}*{}", &name[..start], &name[end..]);
        prop_assert!(matches_glob(&glob, &name));
        let longer = format!("{name}!");
        prop_assert!(!matches_glob(&name, &longer));
    }
}

#[test]
fn globs_match_whole_names() {
    assert!(matches_glob("encode/*", "encode/prose-64k"));
    assert!(matches_glob("*/b1-*32", "decode/b1-ctx32"));
    assert!(!matches_glob("encode/*", "xencode/prose"));
    assert!(!matches_glob("encode/*-t2", "encode/batch-t1"));
    assert!(matches_glob("*", ""));
}

fn one(record: &Record, test: Reading) -> Judgement {
    judged(record, test, false)
}

fn judged(record: &Record, test: Reading, across_precisions: bool) -> Judgement {
    let [id, quote, reading] = ["S9-01", "q", "r"].map(String::from);
    let claim = Claim { id, quote, reading, across_precisions, test };
    let document = Document { document: "S9".into(), title: "An essay".into(), claim: vec![claim] };
    let judgements = judge(record, &[document]);
    assert_eq!(judgements.len(), 1);
    judgements.into_iter().next().unwrap()
}

fn engines(faster: &[&str], slower: &[&str], over: &[&str], metric: Metric, bounds: &[f64]) -> Reading {
    let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Reading::Engines {
        faster: own(faster),
        slower: own(slower),
        over: own(over),
        metric,
        bounds: bounds.into(),
    }
}

fn share(part: [&str; 2], whole: [&str; 2], minor: f64, major: f64) -> Reading {
    Reading::Share {
        part_engine: part[0].into(),
        part_on: part[1].into(),
        whole_engine: whole[0].into(),
        whole_on: whole[1].into(),
        metric: Metric::Time,
        minor,
        major,
    }
}

const NATIVE: &str = "native/cpu-f32";
const PYTHON: &str = "python/transformers";

#[test]
fn claims_about_engines_get_the_verdict_the_scene_was_made_for() {
    let record = story();
    for (bounds, verdict) in [
        (vec![2.0, 3.0], Verdict::Supported),
        (vec![1.5, 2.0], Verdict::Exceeded),
        (vec![3.0, 8.0], Verdict::Refuted),
        (vec![2.5], Verdict::Inconclusive),
    ] {
        let seen = one(&record, engines(&[NATIVE], &[PYTHON], &["prefill/*"], Metric::Time, &bounds));
        assert_eq!(seen.verdict, verdict, "{bounds:?}: {}", seen.finding);
        assert_eq!(seen.rows.len(), 1);
    }
    let mixed = engines(&[NATIVE], &[PYTHON, "libtorch/cpu-f32"], &["prefill/128"], Metric::Time, &[2.0]);
    let seen = one(&record, mixed);
    assert_eq!(seen.verdict, Verdict::Mixed);
    assert!(
        seen.finding.contains("1 supported") && seen.finding.contains("1 refuted (prefill/128"),
        "{}",
        seen.finding
    );
}

#[test]
fn what_has_no_rows_is_out_of_reach_and_says_why() {
    let record = story();
    let over = ["generate/no-cache-16", "quantum/*"];
    let seen = one(&record, engines(&[NATIVE], &[PYTHON, "mojo/x"], &over, Metric::Time, &[1.0]));
    assert_eq!((seen.verdict, seen.rows.len()), (Verdict::OutOfReach, 0));
    for says in ["quantum/* was not part", "mojo/x was not part", "timed_out: no answer within 10 s"] {
        assert!(seen.finding.contains(says), "{says}: {}", seen.finding);
    }
    let seen = one(&record, Reading::OutOfReach { because: "no such crate".into() });
    assert_eq!((seen.verdict, seen.finding.as_str()), (Verdict::OutOfReach, "no such crate"));
    let some = engines(&[NATIVE], &[PYTHON], &["generate/*"], Metric::Time, &[2.0]);
    let seen = one(&record, some);
    assert_eq!((seen.verdict, seen.rows.len(), seen.missing.len()), (Verdict::Supported, 2, 1));
    assert!(seen.finding.contains("1 without rows"), "{}", seen.finding);
}

#[test]
fn unequal_precision_is_refused_unless_claimed_and_unequal_threads_are_said() {
    let scene = Scene::default()
        .workload("decode/x", worker::Task::Decode { context: 8, tokens: 8, batch: 1 }, 1)
        .engine("a/f32", &[("decode/x", 1e6)])
        .engine("b/bf16", &[("decode/x", 2e6)])
        .precision("b/bf16", "bf16");
    let claim = || engines(&["a/f32"], &["b/bf16"], &["decode/x"], Metric::Time, &[1.0]);
    let seen = one(&scene.record(), claim());
    assert_eq!(seen.verdict, Verdict::OutOfReach);
    assert!(seen.finding.contains("different precisions, f32 against bf16"), "{}", seen.finding);
    let across = judged(&scene.record(), claim(), true);
    assert_eq!((across.verdict, across.rows.len()), (Verdict::Supported, 1));
    assert!(across.finding.contains("; precisions differ: f32 against bf16"), "{}", across.finding);
    assert_eq!(across.rows[0].0.precisions, "f32 against bf16");
    let mut record = scene.precision("b/bf16", "f32").record();
    for row in record.samples.iter_mut().filter(|row| row.engine == "b/bf16") {
        row.cpu_ns = row.wall_ns.map(|ns| ns * 2);
    }
    let seen = one(&record, claim());
    assert_eq!(seen.verdict, Verdict::Supported);
    assert!(seen.finding.contains("b/bf16 kept 2.0 processors busy"), "{}", seen.finding);
}

#[test]
fn one_engine_on_two_workloads_is_read_from_one_clock() {
    let reading = Reading::Workloads {
        engines: vec![NATIVE.into(), "python/pure-bpe".into()],
        faster_on: "encode/batch-t2".into(),
        slower_on: "encode/prose-64k".into(),
        metric: Metric::Time,
        bounds: vec![1.6, 2.5],
    };
    let seen = one(&story(), reading);
    assert_eq!((seen.verdict, seen.rows.len()), (Verdict::Supported, 1), "{}", seen.finding);
    assert_eq!(seen.rows[0].0.clock, Clock::Wall);
    assert!(seen.missing[0].contains("python/pure-bpe"), "{:?}", seen.missing);
}

#[test]
fn shares_are_scaled_to_the_work_of_the_whole() {
    let record = story();
    // encode: 2 ms for 64 KiB, the whole's prompt has as many bytes; the whole takes 8 x 15 ms.
    let seen = one(&record, share([NATIVE, "encode/prose-64k"], [NATIVE, "generate/text-64"], 0.1, 0.25));
    assert_eq!(seen.verdict, Verdict::Supported);
    assert!((seen.rows[0].0.ratio / (2.0 / 120.0) - 1.0).abs() < 0.05, "{}", seen.finding);
    assert!(seen.finding.starts_with("1.6") && seen.finding.contains('%'), "{}", seen.finding);
    // detokenize: 0.3 ms for 1000 tokens, the whole has 8.
    let seen = one(&record, share([NATIVE, "detokenize/prose-64k"], [NATIVE, "generate/text-64"], 0.1, 0.25));
    assert!((seen.rows[0].0.ratio / (0.3 * 8.0 / 1e3 / 120.0) - 1.0).abs() < 0.05, "{}", seen.finding);
    // boundary: 0.1 ms for 1000 crossings, one a token.
    let seen = one(&record, share([NATIVE, "boundary/empty"], [NATIVE, "decode/b1-ctx32"], 0.1, 0.25));
    assert!((seen.rows[0].0.ratio / (0.1 * 8.0 / 1e3 / 120.0) - 1.0).abs() < 0.05, "{}", seen.finding);
    // no cache over cache: not scaled.
    let whole = [NATIVE, "generate/no-cache-16"];
    let seen = one(&record, share([NATIVE, "generate/text-64"], whole, 0.1, 0.2));
    assert_eq!(seen.verdict, Verdict::Refuted, "{}", seen.finding);
}

#[test]
fn judging_twice_gives_the_same_judgements() {
    let reading = || engines(&[NATIVE], &[PYTHON], &["*"], Metric::Time, &[2.0, 3.0]);
    assert_eq!(one(&story(), reading()), one(&story(), reading()));
}

#[test]
fn crossings_are_compared_one_by_one_however_often_a_run_repeats_them() {
    use worker::{Crossing, Task};
    let task = |crossing, repeat| Task::Boundary { crossing, elements: 8, repeat };
    let record = Scene::default()
        .workload("boundary/shared", task(Crossing::Shared, 1_000), 1)
        .workload("boundary/copy", task(Crossing::Copy, 10), 1)
        .engine("p/b", &[("boundary/shared", 1e6), ("boundary/copy", 5e4)])
        .record();
    let reading = Reading::Workloads {
        engines: vec!["p/b".into()],
        faster_on: "boundary/shared".into(),
        slower_on: "boundary/copy".into(),
        metric: Metric::Time,
        bounds: vec![4.5, 5.5], // 1 us against 5 us a crossing
    };
    assert_eq!(one(&record, reading).verdict, Verdict::Supported);
}

#[test]
fn every_committed_claim_is_judged_over_any_record_and_only_what_ran_decides() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("claims");
    let documents = crate::spec::load_claims(&folder).unwrap();
    let judgements = judge(&story(), &documents);
    assert_eq!(judgements.len(), documents.iter().map(|document| document.claim.len()).sum::<usize>());
    for judgement in &judgements {
        assert!(!judgement.finding.is_empty(), "{}", judgement.claim.id);
        assert_eq!(
            judgement.rows.is_empty(),
            judgement.verdict == Verdict::OutOfReach,
            "{}",
            judgement.claim.id
        );
    }
    let verdict = |id: &str| judgements.iter().find(|judgement| judgement.claim.id == id).unwrap().verdict;
    assert_eq!(verdict("S1-17"), Verdict::Supported); // the scene loads 2.5 times faster
    assert_eq!(verdict("S1-02a"), Verdict::Refuted);
    assert_eq!(verdict("S1-04a"), Verdict::OutOfReach); // no toy in the scene
}
