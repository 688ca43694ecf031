//! Times and rates: prefill, decode, whole requests, tokenization, what switches cost, the limit.

use crate::record::Status;
use crate::report::Material;
use crate::report::format::{MISSING, Quantity, clock_words};
use crate::report::page::{Line, Page, code, line};
use crate::report::view::{describe, median, shown};
use crate::spec::{Metric, Role, Workload};
use crate::summary::{Cell, Estimate, Side, View, between};
use worker::{Task, TaskKind};

/// A figure with its interval.
pub fn figure(of: &Option<Estimate>, quantity: Quantity) -> Line {
    Line::from(shown(of).map_or(MISSING.into(), |found| quantity.show_estimate(found)))
}

/// The figure a row is about: where there is none, what happened.
pub fn main_figure(cell: &Cell, of: &Option<Estimate>, quantity: Quantity) -> Line {
    match (shown(of), cell.status) {
        (None, status) if status != Status::Ok => {
            line().text(format!("{MISSING} ")).link(status.word().replace('_', " "), "#who-sat-out-and-why")
        }
        _ => figure(of, quantity),
    }
}

/// How many samples a figure rests on.
pub fn count(of: &Option<Estimate>) -> Line {
    Line::from(shown(of).map_or(MISSING.into(), |found| found.n.to_string()))
}

fn tail(cell: &Cell) -> Line {
    let told = cell.token_tail.as_ref().filter(|tail| tail.value.is_finite());
    Line::from(told.map_or(MISSING.into(), |tail| {
        format!("{} {} (n = {})", Quantity::Time.show(tail.value), tail.name, tail.n)
    }))
}

/// One row a cell, workloads as planned, best first; the workload is named on its first row only.
fn rows(
    of: &Material,
    kind: TaskKind,
    rank: impl Fn(&Cell) -> Option<f64>,
    cells: impl Fn(&Workload, &Cell) -> Vec<Line>,
) -> Vec<Vec<Line>> {
    let mut out = Vec::new();
    for workload in of.workloads(kind) {
        for (at, cell) in of.ranked(&workload.name, &rank).into_iter().enumerate() {
            let name = match at {
                0 => line().code(&workload.name).text(format!(" {}", describe(workload))),
                _ => line(),
            };
            let mut row = vec![name, code(&cell.engine)];
            row.extend(cells(workload, cell));
            out.push(row);
        }
    }
    out
}

fn time_of(cell: &Cell) -> Option<f64> {
    shown(&cell.time).map(|found| found.value)
}

/// Prefill.
pub fn prefill(of: &Material, page: &mut Page) {
    page.heading(3, "Prefill");
    let rows = rows(of, TaskKind::Prefill, time_of, |_, cell| {
        vec![
            main_figure(cell, &cell.time, Quantity::Time),
            count(&cell.time),
            figure(&cell.first_time, Quantity::Time),
            figure(&cell.units_per_s, Quantity::PerS),
            Line::from(clock_words(cell.clock)),
        ]
    });
    let columns = ["Workload", "Engine", ">Whole prompt", ">n", ">First run", ">Tokens", "Clock"];
    page.table("Time of one forward pass over the prompt.", &columns, rows, "No prefill in this record.");
}

/// Decode.
pub fn decode(of: &Material, page: &mut Page) {
    page.heading(3, "Decode");
    let rank = |cell: &Cell| shown(&cell.token_time).map(|found| found.value);
    let rows = rows(of, TaskKind::Decode, rank, |_, cell| {
        vec![
            main_figure(cell, &cell.token_time, Quantity::Time),
            count(&cell.token_time),
            tail(cell),
            figure(&cell.units_per_s, Quantity::PerS),
            Line::from(clock_words(cell.clock)),
        ]
    });
    let columns = ["Workload", "Engine", ">One step", ">n", ">Tail", ">Tokens", "Clock"];
    page.table(
        "Time between tokens from a filled cache; the tail is the largest percentile the samples support, else the maximum.",
        &columns,
        rows,
        "No decode in this record.",
    );
}

/// Text to text.
pub fn generate(of: &Material, page: &mut Page) {
    page.heading(3, "Whole requests, text to text");
    let rows = rows(of, TaskKind::Generate, time_of, |_, cell| {
        vec![
            main_figure(cell, &cell.time, Quantity::Time),
            count(&cell.time),
            figure(&cell.first_token, Quantity::Time),
            figure(&cell.token_time, Quantity::Time),
            tail(cell),
            figure(&cell.units_per_s, Quantity::PerS),
            Line::from(clock_words(cell.clock)),
        ]
    });
    let columns = [
        "Workload",
        "Engine",
        ">Whole request",
        ">n",
        ">First token",
        ">Between tokens",
        ">Tail",
        ">Tokens",
        "Clock",
    ];
    page.table(
        "Encode, prefill, every new token and detokenize, in a warm process.",
        &columns,
        rows,
        "No generation in this record.",
    );
}

/// Requests that queue for a few places; nothing where there were none.
pub fn serve(of: &Material, page: &mut Page) {
    let rows = rows(of, TaskKind::Serve, time_of, |workload, cell| {
        let latency = latencies(of, workload, cell);
        let shown = |ns: Option<f64>| Line::from(ns.map_or(MISSING.into(), |ns| Quantity::Time.show(ns)));
        vec![
            main_figure(cell, &cell.time, Quantity::Time),
            count(&cell.time),
            shown(latency.first().copied()),
            shown(median(latency)),
            figure(&cell.units_per_s, Quantity::PerS),
            Line::from(clock_words(cell.clock)),
        ]
    });
    if rows.is_empty() {
        return;
    }
    page.heading(3, "Requests that queue");
    let columns =
        ["Workload", "Engine", ">All requests", ">n", ">First done", ">Median request", ">Tokens", "Clock"];
    page.table(
        "All are there from the start; a request is done with its last token. Medians over warm samples.",
        &columns,
        rows,
        "",
    );
}

/// When the first, the second, … request was done, counted from the start of the run.
fn latencies(of: &Material, workload: &Workload, cell: &Cell) -> Vec<f64> {
    let mut ends: Vec<Vec<f64>> = Vec::new();
    for row in of.warm(&workload.name, &cell.engine) {
        let mut end = 0.0;
        for (at, &lap) in row.laps_ns.iter().enumerate() {
            end += lap as f64;
            ends.resize(ends.len().max(at + 1), Vec::new());
            ends[at].push(end);
        }
    }
    ends.into_iter().filter_map(median).collect()
}

/// Encode, detokenize, word split.
pub fn tokenization(of: &Material, page: &mut Page) {
    for (kind, heading) in [
        (TaskKind::Encode, "Text to ids"),
        (TaskKind::Detokenize, "Ids to text"),
        (TaskKind::WordSplit, "Word split, which is another task"),
    ] {
        page.heading(3, heading);
        let rows = rows(of, kind, time_of, |_, cell| {
            vec![
                main_figure(cell, &cell.bytes_per_s, Quantity::BytesPerS),
                figure(&cell.time, Quantity::Time),
                count(&cell.time),
                figure(&cell.first_time, Quantity::Time),
                figure(&cell.units_per_s, Quantity::PerS),
                Line::from(clock_words(cell.clock)),
            ]
        });
        let units = match kind {
            TaskKind::WordSplit => ">Words",
            _ => ">Tokens",
        };
        let columns = ["Workload", "Engine", ">Text", ">One run", ">n", ">First run", units, "Clock"];
        let caption = match kind {
            TaskKind::WordSplit => line()
                .text("Counting matches of ")
                .code("\\w+")
                .text(" makes no token ids, so it is kept apart from BPE."),
            _ => Line::from("1 MB = 1,000,000 bytes of text."),
        };
        page.table(caption, &columns, rows, &format!("No {} in this record.", kind.word().replace('_', " ")));
    }
}

/// Two workloads that differ in one switch only: what it is, the one without, the one with.
fn pairs<'a>(of: &Material<'a>) -> Vec<(&'static str, &'a Workload, &'a Workload)> {
    let record = of.record;
    let mut found = Vec::new();
    for with in &record.run.workloads {
        for without in &record.run.workloads {
            if let Some(what) = switch(without, with) {
                found.push((what, without, with));
            }
        }
    }
    found
}

fn switch(without: &Workload, with: &Workload) -> Option<&'static str> {
    if without.input != with.input || without.model != with.model {
        return None;
    }
    if without.task == with.task {
        return (without.threads == 1 && with.threads == 2).then_some("2 threads instead of 1");
    }
    if without.threads != with.threads {
        return None;
    }
    match (&without.task, &with.task) {
        (
            Task::Generate { tokens: a, cache: true, sampling: None, beams: None, lookup: None },
            Task::Generate { tokens: b, cache, sampling, beams, lookup },
        ) if a == b => match (*cache, sampling, beams, lookup) {
            (false, None, None, None) => Some("no KV cache"),
            (true, Some(_), None, None) => Some("sampling instead of greedy"),
            (true, None, Some(_), None) => Some("beam search instead of greedy"),
            (true, None, None, Some(_)) => Some("guesses from the text"),
            _ => None,
        },
        (Task::Encode { batch: false, fresh: a }, Task::Encode { batch: true, fresh: b }) if a == b => {
            Some("batch call")
        }
        (Task::Encode { batch: a, fresh: false }, Task::Encode { batch: b, fresh: true }) if a == b => {
            Some("fresh tokenizer every run")
        }
        _ => None,
    }
}

/// What one switch costs or saves, engine by engine.
pub fn ablations(of: &Material, page: &mut Page) {
    page.heading(2, "What one switch changes");
    let view = View::new(of.record);
    let mut rows = Vec::new();
    for (what, without, with) in pairs(of) {
        for cell in of.ranked(&with.name, time_of) {
            let side = |workload| Side { engine: &cell.engine, workload };
            let Ok(change) = between(&view, side(without), side(with), Metric::Time, 1.0) else { continue };
            rows.push(vec![
                Line::from(what),
                code(&cell.engine),
                code(&without.name),
                code(&with.name),
                Line::from(Quantity::Factor.show_interval(change.ratio, change.lo, change.hi)),
                Line::from(change.n.to_string()),
                Line::from(clock_words(change.clock)),
            ]);
        }
    }
    page.table(
        "Time with the switch over time without it, from rounds in which the engine did both; below 1 it saves time.",
        &["Switch", "Engine", "Without", "With", ">Ratio", ">n", "Clock"],
        rows,
        "No two workloads of this record differ in one switch only.",
    );
}

/// Decode against a plain read of the weights.
pub fn limit(of: &Material, page: &mut Page) {
    page.heading(2, "Decode against the memory limit");
    let view = View::new(of.record);
    let mut rows = Vec::new();
    for workload in of.workloads(TaskKind::Decode) {
        for cell in of.ranked(&workload.name, |cell| shown(&cell.token_time).map(|found| found.value)) {
            if of.role(&cell.engine) == Role::Limit {
                continue;
            }
            let limit = view.limit_of(&workload.name, &cell.engine);
            let limit = limit.and_then(|limit| of.cell(&workload.name, limit));
            let share = view.percent_of_limit(&workload.name, &cell.engine);
            let (Some(limit), Some(share)) = (limit, share) else { continue };
            let [value, lo, hi] = [share.value, share.lo, share.hi].map(|percent| percent / 100.0);
            rows.push(vec![
                code(&workload.name),
                code(&cell.engine),
                Line::from(cell.threads.to_string()),
                figure(&limit.token_time, Quantity::Time),
                figure(&cell.token_time, Quantity::Time),
                Line::from(Quantity::Share.show_interval(value, lo, hi)),
                Line::from(share.n.to_string()),
            ]);
        }
    }
    page.table(
        "A step at batch 1 must read every weight once. 100 % is an engine that takes exactly as long as a plain read \
         of as many bytes, those of its own precision; more than that means that weights stayed in cache.",
        &["Workload", "Engine", ">Threads", ">Limit", ">One step", ">Of the limit", ">n"],
        rows,
        "No memory limit was measured in this record.",
    );
}
