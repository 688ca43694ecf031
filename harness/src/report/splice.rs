//! Keeps README.md true: replaces what stands between `<!-- assay:begin NAME -->` and
//! `<!-- assay:end NAME -->` with what the record says. Doing it twice changes nothing.

use super::format::{MISSING, Quantity};
use super::page::{Line, Table, code};
use super::palette::family;
use super::sections::front;
use super::view::{describe, shown};
use super::{Material, figures, markdown};
use crate::spec::{Role, Workload};
use crate::summary::Cell;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use worker::{Task, TaskKind};

/// What goes between the markers: `machine`, `verdicts`, `headline` (a table), `chart` (its image).
/// Charts are looked for in `results/charts` beside the file.
pub fn insertions(of: &Material) -> Result<Vec<(&'static str, String)>> {
    let run = &of.record.run;
    let machine = format!(
        "{}; record `{}`, profile {}, {} heats × {} rounds{}.",
        markdown::line(&Line::from(front::machine_words(of))),
        run.id,
        run.profile,
        run.settings.heats,
        run.settings.rounds,
        if run.complete { "" } else { ", interrupted" }
    );
    let charts = figures::all(of)?;
    let headline = ["decode", "tokenization", "first-token", "prefill", "verdicts"]
        .iter()
        .find_map(|name| charts.iter().find(|chart| chart.name == *name));
    let chart = headline.map_or("No chart could be drawn from this record.".into(), |chart| {
        format!("![{}](results/charts/{}.svg)", chart.title, chart.name)
    });
    let verdicts = format!("{}. [All of them](results/report.md#verdicts).", front::counts(of.judgements));
    Ok(vec![("machine", machine), ("verdicts", verdicts), ("headline", headline_table(of)), ("chart", chart)])
}

/// Puts `insertions` between their markers in `text`. Every name must have exactly one pair of markers.
pub fn splice(text: &str, insertions: &[(&str, String)]) -> Result<String> {
    let mut text = text.to_string();
    for (name, insertion) in insertions {
        let (begin, end) = (format!("<!-- assay:begin {name} -->"), format!("<!-- assay:end {name} -->"));
        for marker in [&begin, &end] {
            match text.matches(marker.as_str()).count() {
                1 => {}
                0 => bail!("marker `{marker}` is missing; put it where `{name}` belongs"),
                n => bail!("marker `{marker}` stands {n} times; keep one"),
            }
        }
        // Both were just counted, so both are found.
        let from = text.find(&begin).map_or(0, |at| at + begin.len());
        let to = text.find(&end).unwrap_or(0);
        ensure!(from <= to, "marker `{end}` stands before `{begin}`; swap them");
        text.replace_range(from..to, &format!("\n{}\n", insertion.trim_end()));
    }
    Ok(text)
}

/// [`splice`] on a file; it is written only where something changes. True if it was.
pub fn splice_file(path: &Path, insertions: &[(&str, String)]) -> Result<bool> {
    let old = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = splice(&old, insertions).with_context(|| path.display().to_string())?;
    if new != old {
        std::fs::write(path, &new)
            .with_context(|| format!("cannot write {} (is it read-only?)", path.display()))?;
    }
    Ok(new != old)
}

/// A line of the headline table: what it shows, the better end, the figure of a cell.
type Figure = fn(&Cell) -> Option<f64>;

/// The columns of the headline table, as far as they took part.
const FAMILIES: [&str; 7] =
    ["native", "rust", "libtorch", "llama-cpp", "onnxruntime", "python", "python-alone"];

/// A few workloads, each family by its best contestant.
fn headline_table(of: &Material) -> String {
    // The first that fits among those with the most threads.
    let first = |kind: TaskKind, fits: fn(&Workload) -> bool| {
        let found = of.workloads(kind).into_iter().filter(|workload| fits(workload));
        found.rev().max_by_key(|workload| workload.threads)
    };
    let single = |workload: &Workload| workload.threads == 1;
    let any = |_: &Workload| true;
    let lines: [(&str, Quantity, Option<&Workload>, Figure); 7] = [
        ("Tokenize", Quantity::BytesPerS, first(TaskKind::Encode, single), |cell| {
            shown(&cell.bytes_per_s).map(|f| f.value)
        }),
        (
            "Prefill",
            Quantity::Time,
            first(TaskKind::Prefill, |workload| {
                matches!(workload.task, Task::Prefill { tokens: 128.., batch: 1 })
            }),
            |cell| shown(&cell.time).map(|f| f.value),
        ),
        (
            "Decode, one step",
            Quantity::Time,
            first(TaskKind::Decode, |workload| {
                workload.model != "toy" && matches!(workload.task, Task::Decode { batch: 1, .. })
            }),
            |cell| shown(&cell.token_time).map(|f| f.value),
        ),
        ("First token, warm", Quantity::Time, of.request(), |cell| shown(&cell.first_token).map(|f| f.value)),
        ("Whole request, warm", Quantity::Time, of.request(), |cell| shown(&cell.time).map(|f| f.value)),
        ("Spawn to first token", Quantity::Time, first(TaskKind::Start, any), |cell| {
            shown(&cell.since_spawn).map(|f| f.value)
        }),
        ("Peak memory", Quantity::Bytes, first(TaskKind::Start, any), |cell| {
            cell.peak_bytes.map(|bytes| bytes as f64)
        }),
    ];
    let mut lines: Vec<_> = lines
        .into_iter()
        .filter_map(|(what, quantity, workload, figure)| {
            let workload = workload?;
            let figures = FAMILIES.map(|name| best(of, workload, name, quantity, figure));
            Some((Line::from(format!("{what} ({})", describe(workload))), figures))
        })
        .collect();
    // A family that took no part has no column.
    let took_part = |at: &usize| lines.iter().any(|(_, figures)| figures[*at] != Line::from(MISSING));
    let columns: Vec<usize> = (0..FAMILIES.len()).filter(took_part).collect();
    if columns.is_empty() {
        return "No figure in this record.".into();
    }
    let rows = lines
        .iter_mut()
        .map(|(what, figures)| {
            let figures = columns.iter().map(|&at| std::mem::take(&mut figures[at]));
            std::iter::once(std::mem::take(what)).chain(figures).collect()
        })
        .collect();
    let columns = std::iter::once("What").chain(columns.into_iter().map(|at| FAMILIES[at])).collect();
    markdown::table(&Table { caption: Line::default(), columns, rows })
}

fn best(of: &Material, workload: &Workload, name: &str, quantity: Quantity, figure: Figure) -> Line {
    let more_is_better = matches!(quantity, Quantity::BytesPerS | Quantity::PerS);
    let found = of
        .ranked(&workload.name, |cell| figure(cell).map(|value| if more_is_better { -value } else { value }))
        .into_iter()
        .find(|cell| {
            let theirs = family(&cell.engine) == name && of.role(&cell.engine) == Role::Contestant;
            // A lower precision is another work; its figures are in the report. So are those of our own
            // wheel, which is no answer to what Python has without us.
            theirs && of.in_full(&cell.engine) && !cell.engine.ends_with("/rust-native-bpe")
        });
    let told = found.and_then(|cell| Some((cell, figure(cell)?)));
    told.map_or(Line::from(MISSING), |(cell, value)| {
        let variant = cell.engine.split_once('/').map_or(cell.engine.as_str(), |(_, variant)| variant);
        let mut told = code(variant);
        told.0.insert(0, super::page::Span::Text(format!("{} ", quantity.show(value))));
        told
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "# T\n<!-- assay:begin a -->old\nlines<!-- assay:end a -->\nkept\n<!-- assay:begin b -->\n<!-- assay:end b -->\n";

    #[test]
    fn replaces_between_markers_and_again_changes_nothing() {
        let new = [("a", "one\ntwo\n".to_string()), ("b", "three".to_string())];
        let once = splice(README, &new).unwrap();
        assert_eq!(
            once,
            "# T\n<!-- assay:begin a -->\none\ntwo\n<!-- assay:end a -->\nkept\n<!-- assay:begin b -->\nthree\n<!-- assay:end b -->\n"
        );
        assert_eq!(splice(&once, &new).unwrap(), once);
    }

    #[test]
    fn markers_must_be_there_once_and_in_order() {
        let new = [("a", String::new())];
        for (text, says) in [
            (README.replace("<!-- assay:end a -->", ""), "assay:end a --> `"),
            (format!("{README}{README}"), "2 times"),
            ("<!-- assay:end a --><!-- assay:begin a -->".into(), "stands before"),
        ] {
            let error = splice(&text, &new).unwrap_err().to_string();
            assert!(error.contains(says.trim_end_matches(" `")), "{error}");
        }
        assert!(splice(README, &[("c", String::new())]).unwrap_err().to_string().contains("begin c"));
    }

    #[test]
    fn files_are_written_only_on_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("README.md");
        std::fs::write(&path, README).unwrap();
        let new = [("a", "new".to_string())];
        assert!(splice_file(&path, &new).unwrap());
        assert!(!splice_file(&path, &new).unwrap());
        let error = format!("{:#}", splice_file(&path, &[("x", String::new())]).unwrap_err());
        assert!(error.contains("README.md") && error.contains("assay:begin x"), "{error}");
    }
}
