//! Tests of the summary over made-up records.

use super::*;
use crate::fixture::{Scene, story};
use crate::record::Status;
use worker::Task;

fn decode() -> Task {
    Task::Decode { context: 32, tokens: 16, batch: 1 }
}

fn two(fast: f64, slow: f64) -> Scene {
    Scene::default()
        .workload("encode/x", Task::Encode { batch: false, fresh: false }, 1)
        .workload("decode/x", decode(), 2)
        .engine("a/a", &[("encode/x", fast), ("decode/x", fast)])
        .engine("b/b", &[("encode/x", slow), ("decode/x", slow)])
        .again("a/a")
}

#[test]
fn ratios_find_what_was_put_in_and_turning_them_round_mirrors_them() {
    let record = two(1e6, 3e6).record();
    for metric in [Metric::Time, Metric::FirstTime] {
        let seen = ratio(&record, "encode/x", metric, "a/a", "b/b").unwrap();
        assert!(seen.lo < 3.0 && 3.0 < seen.hi && seen.hi / seen.lo < 1.1, "{seen:?}");
        assert_eq!((seen.n, seen.clock), (20, Clock::Cpu));
    }
    let seen = ratio(&record, "decode/x", Metric::TokenTime, "a/a", "b/b").unwrap();
    let turned = ratio(&record, "decode/x", Metric::TokenTime, "b/b", "a/a").unwrap();
    assert!((seen.ratio * turned.ratio - 1.0).abs() < 1e-9);
    assert_eq!(seen.clock, Clock::Wall);
    assert!(seen.floor > 1.0 && seen.floor < 1.1, "{seen:?}");
    assert_eq!(turned.floor, seen.floor);
    assert_eq!(ratio(&record, "encode/x", Metric::TokenTime, "a/a", "b/b"), None);
    assert_eq!(ratio(&record, "encode/y", Metric::Time, "a/a", "b/b"), None);
}

#[test]
fn the_same_record_gives_the_same_summary_and_ratios() {
    assert_eq!(summarize(&story()), summarize(&story()));
    let once =
        |record: &Record| ratio(record, "prefill/128", Metric::Time, "native/cpu-f32", "libtorch/cpu-f32");
    assert_eq!(once(&story()), once(&story()));
    assert!(once(&story()).is_some());
}

#[test]
fn one_wrong_answer_takes_every_figure_from_the_cell_and_from_its_ratios() {
    let mut record = two(1e6, 3e6).record();
    let row =
        record.samples.iter_mut().rfind(|row| row.engine == "b/b" && row.workload == "encode/x").unwrap();
    (row.status, row.reason) = (Status::Wrong, "id 7 differs".into());
    let summary = summarize(&record);
    let cell = summary.cell("encode/x", "b/b").unwrap();
    assert_eq!((cell.status, cell.reason.as_str()), (Status::Wrong, "id 7 differs"));
    assert!(cell.time.is_none() && cell.units_per_s.is_none() && cell.bytes_per_s.is_none());
    assert_eq!(ratio(&record, "encode/x", Metric::Time, "a/a", "b/b"), None);
    let view = View::new(&record);
    let reason = view.ratio("encode/x", Metric::Time, "a/a", "b/b").unwrap_err();
    assert!(
        reason.contains("b/b") && reason.contains("wrong") && reason.contains("id 7 differs"),
        "{reason}"
    );
    assert!(ratio(&record, "decode/x", Metric::Time, "a/a", "b/b").is_some());
}

#[test]
fn a_failed_check_is_a_wrong_answer() {
    let mut record = two(1e6, 3e6).record();
    let check = record.checks.iter_mut().find(|check| check.engine == "a/a").unwrap();
    (check.passed, check.detail) = (false, "3e-2 over 1e-4".into());
    assert_eq!(summarize(&record).cell("encode/x", "a/a").unwrap().status, Status::Wrong);
}

#[test]
fn cells_without_good_rows_say_why_and_show_no_number() {
    let summary = summarize(&story());
    for (workload, engine, status, says) in [
        ("generate/no-cache-16", "python/transformers", Status::TimedOut, "within 10 s"),
        ("encode/batch-t2", "libtorch/cpu-f32", Status::Refused, "no tokenizer"),
        ("detokenize/prose-64k", "python/pure-bpe", Status::Wrong, "offset 3"),
    ] {
        let cell = summary.cell(workload, engine).unwrap();
        assert_eq!(cell.status, status);
        assert!(cell.reason.contains(says), "{}", cell.reason);
        let figures = [cell.time, cell.first_time, cell.token_time, cell.units_per_s, cell.bytes_per_s];
        assert!(figures.iter().all(Option::is_none) && cell.token_tail.is_none() && cell.samples == 0);
    }
    assert!(summary.cell("boundary/empty", "python/pure-bpe").is_none());
}

#[test]
fn clocks_follow_task_and_threads() {
    let summary = summarize(&story());
    for (workload, clock) in [
        ("encode/prose-64k", Clock::Cpu),
        ("encode/batch-t2", Clock::Wall),
        ("detokenize/prose-64k", Clock::Cpu),
        ("prefill/128", Clock::Wall),
        ("load/gpt2", Clock::Cpu),
        ("boundary/empty", Clock::Cpu),
        ("start/first-token", Clock::SinceSpawn),
    ] {
        let cell = summary.cell(workload, "native/cpu-f32").unwrap();
        assert_eq!((cell.clock, cell.time.is_some()), (clock, true), "{workload}");
    }
    let start = summary.cell("start/first-token", "native/cpu-f32").unwrap();
    assert_eq!(start.since_spawn, start.time);
    assert!(start.first_time.is_none());
}

#[test]
fn tokens_have_times_of_their_own() {
    let summary = summarize(&story());
    let generate = summary.cell("generate/text-64", "native/cpu-f32").unwrap();
    let warm = 5 * 4 * 2 * 3;
    assert_eq!(generate.first_token.unwrap().n, warm);
    assert_eq!(generate.token_time.unwrap().n, warm * 7);
    assert_eq!(generate.token_tail.as_ref().unwrap().name, "p99");
    let decode = summary.cell("decode/b1-ctx32", "native/cpu-f32").unwrap();
    assert_eq!(decode.token_time.unwrap().n, warm * 8);
    assert!(decode.first_token.is_none());
    let prefill = summary.cell("prefill/128", "native/cpu-f32").unwrap();
    assert!((prefill.first_token.unwrap().value / prefill.time.unwrap().value - 1.0).abs() < 1e-6);
    let encode = summary.cell("encode/prose-64k", "native/cpu-f32").unwrap();
    let rate = encode.bytes_per_s.unwrap().value * encode.time.unwrap().value / 1e9;
    assert!((rate / 65_536.0 - 1.0).abs() < 1e-6);
}

#[test]
fn delayed_runs_are_set_aside_but_never_most_of_them() {
    let mut record = two(1e6, 3e6).record();
    let mut seen = 0;
    for row in record.samples.iter_mut().filter(|row| row.workload == "decode/x" && row.engine == "b/b") {
        if !row.first && seen < 10 {
            row.run_delay_ns = row.wall_ns; // one of two threads waited all the time
            row.wall_ns = row.wall_ns.map(|ns| ns * 5);
            seen += 1;
        }
    }
    let cell = summarize(&record).cell("decode/x", "b/b").unwrap().clone();
    assert_eq!((cell.rejected, cell.samples), (10, 110));
    assert!(cell.reason.contains("10 runs set aside"), "{}", cell.reason);
    let ratio = ratio(&record, "decode/x", Metric::Time, "a/a", "b/b").unwrap();
    assert!(ratio.hi < 3.2, "{ratio:?}");

    let mut busy = two(1e6, 3e6);
    busy.delay = 0.2;
    let cell = summarize(&busy.record()).cell("decode/x", "b/b").unwrap().clone();
    assert_eq!((cell.rejected, cell.samples), (0, 120));
    assert!(cell.reason.contains("all kept"), "{}", cell.reason);
}

#[test]
fn first_runs_stand_in_where_there_are_no_warm_ones() {
    let mut scene = two(1e6, 3e6);
    scene.samples = 1;
    let cell = summarize(&scene.record()).cell("encode/x", "a/a").unwrap().clone();
    assert!(cell.time.is_some() && cell.reason.contains("no warm runs"));
}

#[test]
fn peaks_come_from_fresh_processes_and_disk_from_the_identity() {
    let scene = Scene::default()
        .workload("start/x", Task::Start { tokens: 8 }, 2)
        .engine("a/a", &[("start/x", 1e8)])
        .engine("b/b", &[("start/x", 2e8)])
        .weighs("a/a", 100 << 20, 10 << 20)
        .weighs("b/b", 900 << 20, 50 << 20);
    let record = scene.record();
    let peak = ratio(&record, "start/x", Metric::PeakMemory, "a/a", "b/b").unwrap();
    assert!((peak.ratio - 9.0).abs() < 0.01 && peak.clock == Clock::None && peak.n == 5);
    let disk = ratio(&record, "start/x", Metric::Footprint, "a/a", "b/b").unwrap();
    assert_eq!((disk.ratio, disk.lo, disk.hi), (5.0, 5.0, 5.0));
    let summary = summarize(&record);
    let cell = summary.cell("start/x", "a/a").unwrap();
    assert_eq!(cell.peak_bytes, Some((100 << 20) + 2 * 4096));
    assert!(cell.booted_bytes < cell.loaded_bytes && cell.loaded_bytes < cell.peak_bytes);
    assert!(summary.shared_peaks.is_empty());
    assert!(summarize(&story()).shared_peaks.iter().any(|(workload, _)| workload == "prefill/128"));
}

#[test]
fn jitter_needs_laps_enough_for_a_99th_percentile() {
    let mut scene = two(1e6, 1e6);
    scene.rounds = 3; // 16 laps x 3 warm runs x 2 turns x 3 rounds = 288 a heat
    let few = scene.record();
    let reason = View::new(&few).ratio("decode/x", Metric::Jitter, "a/a", "b/b").unwrap_err();
    assert!(reason.contains("too few rows for jitter"), "{reason}");
    scene.rounds = 4; // 384 a heat
    let mut record = scene.record();
    for row in record.samples.iter_mut().filter(|row| row.engine == "b/b") {
        if let Some(lap) = row.laps_ns.get_mut(5).filter(|_| row.index == 2) {
            *lap *= 4;
        }
    }
    let seen = ratio(&record, "decode/x", Metric::Jitter, "a/a", "b/b").unwrap();
    assert!(seen.n == 5 && seen.lo > 2.0, "{seen:?}");
}

#[test]
fn the_share_of_the_limit_is_a_percentage() {
    let record = story();
    let seen = percent_of_limit(&record, "decode/b1-ctx32", "native/cpu-f32").unwrap();
    assert!(seen.lo < 66.7 && 66.6 < seen.hi && seen.value > 60.0, "{seen:?}");
    assert!(percent_of_limit(&record, "decode/b1-ctx32", "limit/stream").is_none());
    assert!(percent_of_limit(&record, "prefill/128", "native/cpu-f32").is_none());
}

#[test]
fn the_limit_of_an_engine_is_that_of_its_precision() {
    let scene = Scene::default()
        .workload("decode/x", Task::Decode { context: 8, tokens: 8, batch: 1 }, 1)
        .engine("n/f32", &[("decode/x", 2e6)])
        .engine("n/int8", &[("decode/x", 1e6)])
        .engine("n/int4", &[("decode/x", 1e6)])
        .engine("limit/stream", &[("decode/x", 1e6)])
        .engine("limit/stream-int8", &[("decode/x", 0.25e6)])
        .role("limit/stream", crate::spec::Role::Limit)
        .role("limit/stream-int8", crate::spec::Role::Limit)
        .precision("n/int8", "int8")
        .precision("n/int4", "int4")
        .precision("limit/stream-int8", "int8");
    let record = scene.record();
    let share = |engine: &str| percent_of_limit(&record, "decode/x", engine).map(|share| share.value.round());
    assert_eq!((share("n/f32"), share("n/int8"), share("n/int4")), (Some(50.0), Some(25.0), None));
    assert_eq!(View::new(&record).limit_of("decode/x", "n/int8"), Some("limit/stream-int8"));
}

#[test]
fn an_engine_against_itself_is_one_within_its_floor() {
    for seed in 0..10 {
        let record = two(1e6, 1e6).seed(seed).record();
        let seen = ratio(&record, "decode/x", Metric::Time, "a/a", "b/b").unwrap();
        assert!(seen.lo / seen.floor < 1.0 && 1.0 < seen.hi * seen.floor, "{seen:?}");
    }
}
