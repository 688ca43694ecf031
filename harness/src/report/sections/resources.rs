//! What engines need besides time: memory, start-up, disk, and the crossing between languages.

use super::speed::{count, figure, main_figure};
use crate::report::Material;
use crate::report::format::{MISSING, Quantity, clock_words, grouped};
use crate::report::page::{Line, Page, code};
use crate::report::view::{crossing_word, describe, shown};
use crate::spec::{Role, Workload};
use crate::summary::{Cell, Estimate};
use worker::{Task, TaskKind};

fn bytes(of: Option<u64>) -> Line {
    Line::from(of.map_or(MISSING.into(), |bytes| Quantity::Bytes.show(bytes as f64)))
}

/// The workloads whose ladder is shown (a fresh process to its first token, else the one request; and
/// one encode on one thread), with a heading and the contestants' cells, smallest peak first.
pub fn ladder<'a>(of: &Material<'a>) -> Vec<(String, Vec<&'a Cell>)> {
    let alone = of.workloads(TaskKind::Start).into_iter().next().or_else(|| of.request());
    // Among encodes the one whose peaks are most processes' own, then the largest.
    let own = |workload: &Workload| {
        let peaks =
            of.cells.iter().filter(|cell| cell.workload == workload.name && cell.peak_bytes.is_some());
        peaks.filter(|cell| !of.shares_peak(cell)).count()
    };
    let encode =
        of.workloads(TaskKind::Encode).into_iter().filter(|workload| workload.threads == 1).max_by_key(
            |workload| (own(workload), workload.input_bytes(), std::cmp::Reverse(&workload.name)),
        );
    let shown: Vec<&Workload> = alone.into_iter().chain(encode).collect();
    shown
        .into_iter()
        .map(|workload| {
            let cells = of
                .ranked(&workload.name, |cell| cell.peak_bytes.map(|bytes| bytes as f64))
                .into_iter()
                .filter(|cell| cell.peak_bytes.is_some() && of.role(&cell.engine) == Role::Contestant)
                .collect();
            (format!("{}: {}", workload.name, describe(workload)), cells)
        })
        .collect()
}

/// The memory ladder of every engine.
pub fn memory(of: &Material, page: &mut Page) {
    let mut rows = Vec::new();
    for engine in of.engines() {
        // The tallest ladder of each task: the workload on which the engine needed most.
        for kind in TaskKind::ALL {
            let tallest = of
                .cells
                .iter()
                .filter(|cell| cell.engine == engine.name && cell.task == kind && cell.peak_bytes.is_some())
                .max_by_key(|cell| (cell.peak_bytes, std::cmp::Reverse(&cell.workload)));
            if let Some(cell) = tallest {
                rows.push(vec![
                    code(&cell.engine),
                    Line::from(kind.word().replace('_', " ")),
                    code(&cell.workload),
                    bytes(cell.booted_bytes),
                    bytes(cell.loaded_bytes),
                    bytes(cell.peak_bytes),
                    Line::from(if of.shares_peak(cell) { "after other workloads" } else { "for this alone" }),
                ]);
            }
        }
    }
    page.table(
        "Resident bytes of the engine's process, read by itself: after imports, when ready, at its highest. Of each task \
         the workload with the highest peak. A process that did other workloads before may still hold what they left; \
         memory is judged only where the process lived for one workload.",
        &["Engine", "Task", "Workload", ">Booted", ">Loaded", ">Peak", "The process lived"],
        rows,
        "No memory was read in this record.",
    );
}

/// Spawn to first token, and loading by itself.
pub fn cold_start(of: &Material, page: &mut Page) {
    let mut rows = Vec::new();
    for workload in of.workloads(TaskKind::Start) {
        let rank = |cell: &Cell| shown(&cell.since_spawn).map(|found| found.value);
        for cell in of.ranked(&workload.name, rank) {
            let boot = of.boot_ns(&cell.engine).map_or(MISSING.into(), |ns| Quantity::Time.show(ns));
            rows.push(vec![
                code(&workload.name),
                code(&cell.engine),
                main_figure(cell, &cell.since_spawn, Quantity::Time),
                count(&cell.since_spawn),
                Line::from(boot),
            ]);
        }
    }
    page.table(
        "From the spawn of a fresh process to its first token; files are in the page cache. Of which until the process \
         says hello: program start and imports.",
        &["Workload", "Engine", ">To the first token", ">n", ">Of which to hello"],
        rows,
        "No cold start in this record.",
    );
    let mut rows = Vec::new();
    for workload in of.workloads(TaskKind::Load) {
        for cell in of.ranked(&workload.name, |cell| shown(&cell.time).map(|found| found.value)) {
            rows.push(vec![
                code(&workload.name),
                code(&cell.engine),
                main_figure(cell, &cell.time, Quantity::Time),
                count(&cell.time),
                figure(&cell.first_time, Quantity::Time),
                Line::from(clock_words(cell.clock)),
            ]);
        }
    }
    page.table(
        "Weights from their file to a model ready for its first token, again and again in one process.",
        &["Workload", "Engine", ">Load", ">n", ">First load", "Clock"],
        rows,
        "No load in this record.",
    );
}

/// Bytes on disk, largest parts named.
pub fn footprint(of: &Material, page: &mut Page) {
    let mut found: Vec<(u64, &str)> = of
        .engines()
        .into_iter()
        .filter_map(|engine| Some((of.footprint(&engine.name)?, engine.name.as_str())))
        .collect();
    found.sort_unstable();
    let rows = found
        .into_iter()
        .map(|(total, engine)| {
            let mut parts: Vec<_> = of.record.identities[engine].footprint.iter().collect();
            parts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
            let told: Vec<String> = parts
                .iter()
                .take(3)
                .map(|part| format!("{} {}", part.name, Quantity::Bytes.show(part.bytes as f64)))
                .collect();
            vec![
                code(engine),
                bytes(Some(total)),
                Line::from(grouped(parts.len() as u64)),
                Line::from(told.join(", ")),
            ]
        })
        .collect();
    page.table(
        "Program, libraries and packages that the engine's process used. Model and vocabulary are the same for all and \
         left out.",
        &["Engine", ">On disk", ">Parts", "Largest parts"],
        rows,
        "No engine said what it needs on disk.",
    );
}

fn divided(of: &Option<Estimate>, by: f64) -> Option<Estimate> {
    shown(of).map(|found| Estimate {
        value: found.value / by,
        lo: found.lo / by,
        hi: found.hi / by,
        n: found.n,
    })
}

/// Time a call and an element.
pub fn boundary(of: &Material, page: &mut Page) {
    let mut rows = Vec::new();
    for workload in of.workloads(TaskKind::Boundary) {
        let Task::Boundary { crossing, elements, repeat } = workload.task else { continue };
        for cell in of.ranked(&workload.name, |cell| shown(&cell.time).map(|found| found.value)) {
            let call = divided(&cell.time, repeat as f64);
            let element = match elements {
                0 => None,
                n => divided(&call, n as f64),
            };
            rows.push(vec![
                Line::from(crossing_word(crossing)),
                Line::from(grouped(elements as u64)),
                code(&cell.engine),
                figure(&call, Quantity::Time),
                Line::from(match element {
                    Some(found) if found.value < 0.01 => "< 0.01 ns".into(),
                    Some(found) => Quantity::Time.show(found.value),
                    None => MISSING.into(),
                }),
                count(&call),
            ]);
        }
    }
    page.table(
        "Token ids (u32) handed to the engine's language and back.",
        &["Crossing", ">Elements", "Engine", ">One call", ">An element", ">n"],
        rows,
        "No crossing in this record.",
    );
}
