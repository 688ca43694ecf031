//! The report as a whole: golden Markdown, equal bytes twice, well-formed HTML, legible charts.
//!
//! `ASSAY_BLESS=1 cargo test -p harness report` writes the golden file anew, and the whole report to
//! `target/report-sample` to look at.

use super::fixture::{Fixture, fixture};
use super::{Material, Sheet, against_native, insertions, render, splice, write};
use crate::record::CheckRow;
use crate::spec::{Contestant, Metric};
use crate::summary::Ratio;
use std::path::Path;

fn sheets(of: &Fixture) -> Vec<Sheet> {
    render(&of.material()).unwrap()
}

fn sheet<'a>(sheets: &'a [Sheet], path: &str) -> &'a str {
    &sheets.iter().find(|sheet| sheet.path == path).unwrap_or_else(|| panic!("no {path}")).text
}

#[test]
fn report_md_is_the_golden_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("src/report/golden/report.md");
    let fixture = fixture();
    let text = sheet(&sheets(&fixture), "report.md").to_string();
    if std::env::var_os("ASSAY_BLESS").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &text).unwrap();
        write(&fixture.material(), &root.join("../target/report-sample")).unwrap();
    }
    let old = std::fs::read_to_string(&golden).expect("run with ASSAY_BLESS=1 to make the golden file");
    for (at, (old, new)) in old.lines().zip(text.lines()).enumerate() {
        assert_eq!(new, old, "report.md line {}; ASSAY_BLESS=1 if the change is meant", at + 1);
    }
    assert_eq!(old.lines().count(), text.lines().count());
}

#[test]
fn the_same_record_gives_the_same_bytes() {
    assert_eq!(sheets(&fixture()), sheets(&fixture()));
}

#[test]
fn verdicts_come_first_and_losses_are_said() {
    let sheets = sheets(&fixture());
    let text = sheet(&sheets, "report.md");
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what}"));
    assert!(at("## Verdicts") < at("## Where native loses"));
    assert!(at("## Where native loses") < at("## Latency of generation"));
    assert!(text.contains(
        "| `prefill/b1-t512` | `native/cpu-f32` | `libtorch/cpu-f32` | time | 0.820× [0.795..0.845] |"
    ));
    assert!(text.contains("4 comparisons of a native engine with another: 1 lost"));
    assert!(text.contains("**Interrupted**") && text.contains("with uncommitted changes"));
}

#[test]
fn what_was_not_measured_is_never_zero() {
    let sheets = sheets(&fixture());
    let text = sheet(&sheets, "report.md");
    let row = text
        .lines()
        .find(|line| line.contains("`python-alone/transformers`") && line.contains("[crashed]"))
        .expect("the crashed cell has a row");
    assert!(!row.contains("| 0 |") && !row.contains("0 ns"), "{row}");
    assert!(text.contains("ended by signal 9") && text.contains("always keeps a cache \\| by design"));
    let cells = sheet(&sheets, "tables/cells.csv");
    let row = cells.lines().find(|line| line.contains(",crashed,")).unwrap();
    assert!(row.contains("ended by signal 9") && row.contains(",,,,,,,,"), "{row}");
}

#[test]
fn tables_parse_and_have_every_row() {
    let fixture = fixture();
    let sheets = sheets(&fixture);
    for (path, rows) in [
        ("tables/cells.csv", fixture.cells.len()),
        ("tables/ratios.csv", fixture.ratios.len() + 4),
        ("tables/verdicts.csv", fixture.judgements.len()),
    ] {
        let mut reader = csv::Reader::from_reader(sheet(&sheets, path).as_bytes());
        let parsed: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(parsed.len(), rows, "{path}");
    }
}

/// Tags of `text` in order: name and whether it closes; void and self-closing ones left out.
fn tags(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').expect("a tag ends");
        let (tag, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        let name: String =
            tag.trim_start_matches('/').chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        let void = ["meta", "br", "hr", "img"].contains(&name.as_str());
        if !tag.starts_with('!') && !tag.starts_with('?') && !tag.ends_with('/') && !void {
            found.push((name, tag.starts_with('/')));
        }
    }
    found
}

#[test]
fn html_is_balanced_self_contained_and_its_links_lead_somewhere() {
    let sheets = sheets(&fixture());
    let text = sheet(&sheets, "report.html");
    let mut open: Vec<String> = Vec::new();
    for (name, closes) in tags(text) {
        if closes {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "wrong closing tag");
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    for outside in ["<script", "<link", "<img", "@import", "url(", "src="] {
        assert!(!text.contains(outside), "{outside}");
    }
    let links: Vec<&str> =
        text.split("href=\"#").skip(1).map(|rest| &rest[..rest.find('"').unwrap()]).collect();
    assert!(!links.is_empty());
    for link in links {
        assert_eq!(text.matches(&format!(" id=\"{link}\"")).count(), 1, "{link}");
    }
    let ids: Vec<&str> = text.split(" id=\"").skip(1).map(|rest| &rest[..rest.find('"').unwrap()]).collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(ids.len(), unique.len(), "an anchor stands twice");
}

#[test]
fn every_chart_is_drawn_named_and_linked() {
    let sheets = sheets(&fixture());
    let report = sheet(&sheets, "report.md");
    for (name, labels) in [
        ("verdicts", vec!["S0-01", "supported", "refuted"]),
        ("prefill", vec!["native/cpu-f32", "959 ms", "— crashed", "prefill/b1-t512"]),
        (
            "decode",
            vec!["limit/stream", "libtorch/cpu-f32-cat", "decode/b8-ctx32", "18.5 ms, 71 % of the limit"],
        ),
        ("first-token", vec!["python/transformers", "generate/chat"]),
        ("tokenization", vec!["logarithmic", "python/pure-bpe", "— timed out", "— wrong"]),
        ("tokenization-shapes", vec!["10,000 texts", "2 threads"]),
        ("memory", vec!["native/cpu-f32", "7.00 MiB booted", "542 MiB peak", "67.0 MiB peak (shared)"]),
        ("cold-start", vec!["python-alone/transformers", "211 ms"]),
        ("footprint", vec!["libtorch/cpu-f32", "454 MiB"]),
        ("boundary", vec!["logarithmic", "python/transformers list", "1,000,000", "empty call, 47.3 ns"]),
        ("stages", vec!["process start and imports", "decode, further tokens", "native/cpu-f32"]),
    ] {
        let svg = sheet(&sheets, &format!("charts/{name}.svg"));
        for label in labels {
            assert!(svg.contains(label), "{name}: {label}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{name}");
        assert!(svg.contains("2026-11-21-0123abc"), "{name} says what it rests on");
        assert!(!svg.contains("echo/noop"), "{name}: null engines are no contestants");
        assert!(report.contains(&format!("(charts/{name}.svg)")), "{name} is in the report");
        let depth: i32 = tags(svg).iter().map(|(_, closes)| if *closes { -1 } else { 1 }).sum();
        assert_eq!(depth, 0, "{name}");
    }
}

#[test]
fn an_empty_record_still_gives_a_report() {
    let mut fixture = fixture();
    fixture.cells.clear();
    fixture.ratios.clear();
    fixture.judgements.clear();
    fixture.record.samples.clear();
    fixture.record.processes.clear();
    fixture.record.checks.clear();
    fixture.record.identities.clear();
    fixture.record.run.engines.clear();
    fixture.record.run.workloads.clear();
    let sheets = sheets(&fixture);
    assert!(sheet(&sheets, "report.md").contains("No claim was judged."));
    assert!(sheets.iter().all(|sheet| !sheet.path.starts_with("charts/")));
    assert!(!insertions(&fixture.material()).unwrap().is_empty());
}

#[test]
fn native_meets_every_contestant_of_its_precision_once_a_metric() {
    let mut fixture = fixture();
    for engine in &mut fixture.record.run.engines {
        engine.tasks =
            fixture.cells.iter().filter(|cell| cell.engine == engine.name).map(|cell| cell.task).collect();
        if engine.name == "libtorch/cpu-f32-cat" {
            engine.precision = "bf16".into();
        }
    }
    let mut asked = Vec::new();
    let found = against_native(&fixture.record, |workload, metric, a, b| {
        asked.push((workload.to_string(), metric, a.to_string(), b.to_string()));
        None
    });
    assert!(found.is_empty());
    let decode: Vec<&str> =
        asked.iter().filter(|ask| ask.0 == "decode/b1-ctx32").map(|ask| ask.3.as_str()).collect();
    assert_eq!(decode, ["libtorch/cpu-f32", "python/transformers", "python-alone/transformers"]);
    assert!(asked.iter().all(|ask| ask.2.starts_with("native/") && !ask.3.starts_with("native/")));
    let starts: Vec<Metric> = asked.iter().filter(|ask| ask.0 == "start/t8").map(|ask| ask.1).collect();
    assert_eq!(starts[..2], [Metric::SinceSpawn, Metric::PeakMemory]);
}

#[test]
fn charts_of_an_earlier_report_do_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("charts")).unwrap();
    let (old, foreign) = (folder.path().join("charts/old.svg"), folder.path().join("charts/note.txt"));
    std::fs::write(&old, "").unwrap();
    std::fs::write(&foreign, "").unwrap();
    write(&fixture().material(), folder.path()).unwrap();
    assert!(!old.exists() && foreign.exists());
    assert!(folder.path().join("charts/decode.svg").exists() && folder.path().join("report.html").exists());
}

#[test]
fn the_readme_takes_what_the_record_says() {
    let fixture = fixture();
    let insertions = insertions(&fixture.material()).unwrap();
    let readme: String = insertions
        .iter()
        .map(|(name, _)| format!("<!-- assay:begin {name} --><!-- assay:end {name} -->\n"))
        .collect();
    let once = splice(&readme, &insertions).unwrap();
    assert_eq!(splice(&once, &insertions).unwrap(), once);
    for says in [
        "4 claims: 1 supported, 1 exceeded, 1 refuted, 1 out of reach",
        "Machine example-2c: Example CPU, 2 processors, 23.5 GiB of memory; record `2026-11-21-0123abc`",
        "results/charts/decode.svg",
        "| Decode, one step (batch B = 1, context 32, 32 steps, 2 threads) | 18.5 ms `cpu-f32` | — | 15.2 ms `cpu-f32` |",
    ] {
        assert!(once.contains(says), "{says}\n{once}");
    }
}

#[test]
fn a_lower_precision_is_weighed_in_a_table_of_its_own_and_leads_no_headline() {
    let mut fixture = fixture();
    let f32 = fixture.record.engine("native/cpu-f32").unwrap().clone();
    let engine = Contestant { name: "native/cpu-int8".into(), precision: "int8".into(), ..f32 };
    fixture.record.run.engines.push(engine);
    let of_f32: Vec<_> =
        fixture.cells.iter().filter(|cell| cell.engine == "native/cpu-f32").cloned().collect();
    for mut cell in of_f32 {
        cell.engine = "native/cpu-int8".into();
        let figures = [&mut cell.time, &mut cell.token_time, &mut cell.first_token, &mut cell.since_spawn];
        figures.into_iter().flatten().for_each(|figure| figure.value /= 10.0);
        fixture.cells.push(cell);
    }
    let ratio = Ratio {
        a: "native/cpu-int8".into(),
        b: "python/transformers".into(),
        precisions: "int8 against f32".into(),
        ratio: 0.1,
        lo: 0.09,
        hi: 0.11,
        ..fixture.ratios[0].clone()
    };
    fixture.ratios.push(ratio);
    for (workload, check, error, budget, detail) in [
        ("prefill/b1-t32", "answer", 0.0, 0.5, "equal to python/transformers's; 1 of 1 steps weighed"),
        ("prefill/b1-t32", "logits", 0.031, 0.25, ""),
        ("prefill/b1-t32", "divergence", 4e-5, 0.01, ""),
        (
            "decode/b1-ctx32",
            "answer",
            0.012,
            0.5,
            "first difference at id 7: 3 against 5; 6 of 33 steps weighed",
        ),
    ] {
        fixture.record.checks.push(CheckRow {
            workload: workload.into(),
            engine: "native/cpu-int8".into(),
            reference: "python/transformers".into(),
            check: check.into(),
            rule: "int8".into(),
            passed: true,
            error: Some(error),
            budget: Some(budget),
            detail: detail.into(),
            ..fixture.record.checks[0].clone()
        });
    }
    let sheets = sheets(&fixture);
    let text = sheet(&sheets, "report.md");
    let row = "| `native/cpu-int8` | int8 | 2 | 1 | 1.2e-2 of 5.0e-1 | 3.1e-2 of 2.5e-1 | 4.0e-5 of 1.0e-2 |";
    assert!(text.contains(row), "{text}");
    assert!(text.contains("4 comparisons of a native engine with another: 1 lost"), "none across precisions");
    assert!(text.contains("| `native/cpu-int8` | 1.85 ms"), "its figures are shown");
    let headline = &insertions(&fixture.material()).unwrap()[2].1;
    assert!(headline.contains("18.5 ms `cpu-f32`") && !headline.contains("cpu-int8"), "{headline}");
}

#[test]
fn ours_and_pytorchs_divergence_stand_side_by_side_in_one_precision() {
    let mut fixture = fixture();
    for (workload, engine, rule, error) in [
        ("prefill/a", "native/cuda-bf16", "bf16", 2e-5),
        ("prefill/a", "native/cuda-bf16", "bf16", 3e-5),
        ("prefill/a", "libtorch/cuda-bf16", "bf16", 5e-5),
        ("prefill/a", "python-alone/transformers-cuda", "bf16", 3e-5),
        ("prefill/a", "native/cpu-int8", "int8", 1e-9),
        ("prefill/b", "native/cuda-bf16", "bf16", 7e-5),
        ("prefill/b", "python/transformers-bf16", "bf16", 6e-5),
        ("prefill/b", "llama-cpp/bf16", "bf16", 1e-9),
        ("prefill/c", "native/cuda-bf16", "bf16", 1e-9),
    ] {
        fixture.record.checks.push(CheckRow {
            workload: workload.into(),
            engine: engine.into(),
            check: "divergence".into(),
            rule: rule.into(),
            passed: true,
            error: Some(error),
            budget: Some(1e-3),
            detail: String::new(),
            ..fixture.record.checks[0].clone()
        });
    }
    let sheets = sheets(&fixture);
    let text = sheet(&sheets, "report.md");
    let rows: Vec<&str> =
        text.lines().filter(|line| line.ends_with("further |") || line.ends_with("further** |")).collect();
    let a = "| `prefill/a` | bf16 | `native/cuda-bf16` | 3.0e-5 | `python-alone/transformers-cuda` | 3.0e-5 | no further |";
    let b = "| `prefill/b` | bf16 | `native/cuda-bf16` | 7.0e-5 | `python/transformers-bf16` | 6.0e-5 | **further** |";
    assert_eq!(rows, [a, b], "nobody else's precision, and nothing where PyTorch is not");
}

/// The whole way from rows to pages, on rows that nobody made with a report in mind.
#[test]
fn a_played_record_gives_a_whole_report() {
    let record = crate::fixture::story();
    let summary = crate::summary::summarize(&record);
    let view = crate::summary::View::new(&record);
    let ratios = against_native(&record, |workload, metric, a, b| view.ratio(workload, metric, a, b).ok());
    let material = Material::new(&record, &summary, &ratios, &[]);
    let sheets = render(&material).unwrap();
    let report = sheet(&sheets, "report.md");
    assert!(report.contains("comparisons of a native engine with another"), "native was compared");
    assert!(report.contains("A/A floor: an engine differs from itself by"));
    assert!(report.contains("no answer within 10 s") && report.contains("no tokenizer of its own"));
    for name in
        ["prefill", "decode", "first-token", "tokenization", "memory", "cold-start", "footprint", "stages"]
    {
        let svg = sheet(&sheets, &format!("charts/{name}.svg"));
        assert!(svg.contains("native/cpu-f32") && !svg.contains("NaN"), "{name}");
    }
    if std::env::var_os("ASSAY_BLESS").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/report-sample-played");
        write(&material, &folder).unwrap();
    }
}
