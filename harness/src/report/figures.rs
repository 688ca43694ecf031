//! Which charts a record gives: from cells and judgements to the kinds of chart in `chart.rs`.

use super::Material;
use super::chart::{
    Bar, Bars, Chart, Forest, ForestRow, Lines, Mark, Panel, Scale, Series, Shape, Words, draw_bars,
    draw_forest, draw_lines, draw_stack,
};
use super::format::{MISSING, Quantity};
use super::palette::of_engine;
use super::sections::stages;
use super::view::{crossing_word, describe, is_plain_request, shown};
use crate::record::Status;
use crate::spec::{Contestant, Reading, Role, Workload};
use crate::summary::{Cell, Estimate, View};
use anyhow::Result;
use worker::{Crossing, Task, TaskKind};

/// Every chart the record has figures for, in the report's order.
pub fn all(of: &Material) -> Result<Vec<Chart>> {
    let drawn = [
        draw_forest("verdicts", &verdicts(of))?,
        draw_bars("prefill", &prefill(of))?,
        draw_bars("decode", &decode(of))?,
        draw_bars("first-token", &first_token(of))?,
        draw_bars("tokenization", &tokenization(of, true))?,
        draw_bars("tokenization-shapes", &tokenization(of, false))?,
        draw_bars("memory", &memory(of))?,
        draw_bars("cold-start", &cold_start(of))?,
        draw_bars("footprint", &footprint(of))?,
        draw_lines("boundary", &boundary(of))?,
        draw_stack("stages", &stages::stack(of, words(of, "Stages of one request", STAGES)))?,
    ];
    Ok(drawn.into_iter().flatten().collect())
}

const STAGES: &str = "Medians; figure at the right: the sum. Above once a process, below every request.";
const TO_COMPARE: &str = "Median; line: 95 % interval. Shorter is better.";

fn words(of: &Material, title: &str, subtitle: &str) -> Words {
    let run = &of.record.run;
    let dirty = if run.dirty { ", tree with uncommitted changes" } else { "" };
    Words {
        title: title.into(),
        subtitle: subtitle.into(),
        source: format!(
            "Record {} · {} · {} profile · revision {}{dirty}",
            run.id, of.record.machine.name, run.profile, run.revision
        ),
    }
}

fn bar(cell: &Cell, figure: &Option<Estimate>, quantity: Quantity) -> Bar {
    let found = shown(figure);
    Bar {
        label: cell.engine.clone(),
        colour: of_engine(&cell.engine),
        value: found.map(|estimate| (estimate.value, estimate.lo, estimate.hi)),
        words: match (found, cell.status) {
            (Some(estimate), _) => quantity.show(estimate.value),
            (None, Status::Ok) => MISSING.into(),
            (None, status) => format!("{MISSING} {}", status.word().replace('_', " ")),
        },
    }
}

fn panels(
    of: &Material,
    workloads: &[&Workload],
    quantity: Quantity,
    figure: impl Fn(&Cell) -> &Option<Estimate>,
) -> Vec<Panel> {
    let larger_is_better = matches!(quantity, Quantity::BytesPerS | Quantity::PerS);
    let rank = |cell: &Cell| {
        shown(figure(cell)).map(|estimate| if larger_is_better { -estimate.value } else { estimate.value })
    };
    workloads
        .iter()
        .map(|workload| Panel {
            heading: format!("{}: {}", workload.name, describe(workload)),
            bars: of
                .ranked(&workload.name, rank)
                .into_iter()
                .map(|cell| bar(cell, figure(cell), quantity))
                .collect(),
        })
        .collect()
}

fn times(
    of: &Material,
    title: &str,
    subtitle: &str,
    workloads: Vec<&Workload>,
    figure: impl Fn(&Cell) -> &Option<Estimate>,
) -> Bars {
    Bars {
        words: words(of, title, subtitle),
        scale: Scale::Linear,
        quantity: Quantity::Time,
        columns: 1,
        group: 1,
        panels: panels(of, &workloads, Quantity::Time, figure),
    }
}

fn prefill(of: &Material) -> Bars {
    let mut workloads = of.workloads(TaskKind::Prefill);
    workloads.sort_by_key(|workload| match workload.task {
        Task::Prefill { tokens, batch } => (batch, tokens, workload.threads),
        _ => (0, 0, 0),
    });
    // Records taken before there was a limit of arithmetic have nothing grey to explain.
    let limits =
        |engine: &Contestant| engine.role == Role::Limit && engine.tasks.contains(&TaskKind::Prefill);
    let how = match of.record.run.engines.iter().any(limits) {
        true => "Median; line: 95 % interval. Grey: as many multiply-adds in registers, by precision.",
        false => TO_COMPARE,
    };
    let title = "Prefill: time for the whole prompt";
    let mut chart = times(of, title, how, workloads.clone(), |cell| &cell.time);
    add_shares(of, &mut chart, &workloads);
    chart
}

fn decode(of: &Material) -> Bars {
    let mut workloads = of.workloads(TaskKind::Decode);
    workloads.sort_by_key(|workload| match workload.task {
        Task::Decode { batch, context, .. } => (batch, context, workload.threads),
        _ => (0, 0, 0),
    });
    let how = "Median; line: 95 % interval. A step makes one token a sequence. Grey: a plain read of as many bytes, by precision.";
    let mut chart = times(of, "Decode: time of one step", how, workloads.clone(), |cell| &cell.token_time);
    add_shares(of, &mut chart, &workloads);
    chart
}

/// How much of the machine's limit each bar reaches, in its words.
fn add_shares(of: &Material, chart: &mut Bars, workloads: &[&Workload]) {
    let view = View::new(of.record);
    for (panel, workload) in chart.panels.iter_mut().zip(workloads) {
        for bar in panel.bars.iter_mut().filter(|bar| of.role(&bar.label) != Role::Limit) {
            let share = view.percent_of_limit(&workload.name, &bar.label);
            if let Some(share) = share.filter(|share| share.value >= BINDING) {
                bar.words += &format!(", {:.0} % of the limit", share.value);
            }
        }
    }
}

/// Below this share of the limit, in percent, it does not bind, and naming the share says nothing: the toy
/// model's weights lie in a cache.
const BINDING: f64 = 5.0;

fn first_token(of: &Material) -> Bars {
    // Without a cache or with sampling, the first token is made by the same work.
    let workloads =
        of.workloads(TaskKind::Generate).into_iter().filter(|workload| is_plain_request(workload)).collect();
    times(of, "Time to first token in a warm process", TO_COMPARE, workloads, |cell| &cell.first_token)
}

fn cold_start(of: &Material) -> Bars {
    let start = of.workloads(TaskKind::Start);
    times(of, "Cold start: from spawn to the first token", TO_COMPARE, start, |cell| &cell.since_spawn)
}

/// One workload a kind of text, or (`kinds` false) all others: batches, threads, other sizes.
fn tokenization(of: &Material, kinds: bool) -> Bars {
    let plain = |workload: &Workload| {
        workload.threads == 1
            && workload.task == Task::Encode { batch: false, fresh: false }
            && workload.input.as_ref().is_some_and(|input| input.texts == 1)
    };
    let all = of.workloads(TaskKind::Encode);
    // The smallest plain workload of each kind of text stands for it.
    let stands = |workload: &Workload| {
        plain(workload)
            && !all.iter().any(|other| {
                let (Some(a), Some(b)) = (&other.input, &workload.input) else { return false };
                plain(other) && a.text == b.text && (a.bytes, &other.name) < (b.bytes, &workload.name)
            })
    };
    let mut chosen: Vec<&Workload> =
        all.iter().copied().filter(|workload| stands(workload) == kinds).collect();
    chosen
        .sort_by_key(|workload| workload.input.as_ref().map(|input| (input.text, input.bytes, input.texts)));
    let mut drawn = panels(of, &chosen, Quantity::BytesPerS, |cell| &cell.bytes_per_s);
    if kinds {
        // The workload's name says it all; the short heading lets panels stand side by side.
        for (panel, workload) in drawn.iter_mut().zip(&chosen) {
            panel.heading = workload.name.clone();
        }
    }
    let title = if kinds {
        "Tokenization by kind of text (logarithmic axis)"
    } else {
        "Tokenization by size, batch and threads (logarithmic axis)"
    };
    Bars {
        words: words(of, title, "Median input bytes a second; line: 95 % interval. Further right is better."),
        scale: Scale::Log,
        quantity: Quantity::BytesPerS,
        columns: 2,
        group: 1,
        panels: drawn,
    }
}

fn memory(of: &Material) -> Bars {
    let mut panels = Vec::new();
    for (heading, cells) in super::sections::resources::ladder(of) {
        let bars = cells
            .into_iter()
            .flat_map(|cell| {
                let rungs =
                    [("booted", cell.booted_bytes), ("loaded", cell.loaded_bytes), ("peak", cell.peak_bytes)];
                rungs.map(|(rung, bytes)| Bar {
                    label: if rung == "booted" { cell.engine.clone() } else { String::new() },
                    colour: of_engine(&cell.engine),
                    value: bytes.map(|bytes| (bytes as f64, f64::NAN, f64::NAN)),
                    words: match bytes {
                        Some(bytes) if rung == "peak" && of.shares_peak(cell) => {
                            format!("{} peak (shared)", Quantity::Bytes.show(bytes as f64))
                        }
                        Some(bytes) => format!("{} {rung}", Quantity::Bytes.show(bytes as f64)),
                        None => format!("{MISSING} {rung}"),
                    },
                })
            })
            .collect();
        panels.push(Panel { heading, bars });
    }
    Bars {
        words: words(
            of,
            "Memory: resident when booted, when loaded, at the peak",
            "Read by each process itself. Shared: the process had done other workloads before.",
        ),
        scale: Scale::Linear,
        quantity: Quantity::Bytes,
        columns: 1,
        group: 3,
        panels,
    }
}

fn footprint(of: &Material) -> Bars {
    let mut bars: Vec<(u64, Bar)> = of
        .engines()
        .into_iter()
        .filter_map(|engine| {
            let bytes = of.footprint(&engine.name)?;
            let bar = Bar {
                label: engine.name.clone(),
                colour: of_engine(&engine.name),
                value: Some((bytes as f64, f64::NAN, f64::NAN)),
                words: Quantity::Bytes.show(bytes as f64),
            };
            Some((bytes, bar))
        })
        .collect();
    bars.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.label.cmp(&b.1.label)));
    Bars {
        words: words(
            of,
            "Footprint: bytes an engine needs on disk",
            "Program, libraries and packages; model and vocabulary are the same for all and left out.",
        ),
        scale: Scale::Linear,
        quantity: Quantity::Bytes,
        columns: 1,
        group: 1,
        panels: vec![Panel { heading: String::new(), bars: bars.into_iter().map(|(_, bar)| bar).collect() }],
    }
}

fn boundary(of: &Material) -> Lines {
    let mut series: Vec<Series> = Vec::new();
    let mut levels = Vec::new();
    for workload in of.workloads(TaskKind::Boundary) {
        let Task::Boundary { crossing, elements, repeat } = workload.task else { continue };
        for cell in of.ranked(&workload.name, |_| None) {
            let Some(time) = shown(&cell.time) else { continue };
            let per_call = |ns: f64| ns / repeat as f64;
            let label = format!("{} {}", cell.engine, crossing_word(crossing));
            if elements == 0 {
                let figure = Quantity::Time.show(per_call(time.value));
                levels.push((format!("{label}, {figure}"), per_call(time.value)));
                continue;
            }
            let point = (elements as f64, per_call(time.value), per_call(time.lo), per_call(time.hi));
            match series.iter_mut().find(|found| found.label == label) {
                Some(found) => found.points.push(point),
                None => series.push(Series {
                    label,
                    colour: of_engine(&cell.engine),
                    shape: match crossing {
                        Crossing::List | Crossing::Empty => Shape::Square,
                        Crossing::Copy => Shape::Triangle,
                        Crossing::Shared => Shape::Disc,
                    },
                    points: vec![point],
                }),
            }
        }
    }
    for line in &mut series {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    Lines {
        words: words(
            of,
            "Boundary: time of one crossing by elements (both axes logarithmic)",
            "Square: list of integers; triangle: array copied; disc: array shared. Dashed: a call without data.",
        ),
        quantity: Quantity::Time,
        x_name: "elements (u32) in one crossing".into(),
        series,
        levels,
    }
}

/// Every claim that rows could decide, in the ledger's order.
fn verdicts(of: &Material) -> Forest {
    let rows = of
        .judgements
        .iter()
        .filter_map(|judgement| {
            let band = match &judgement.claim.test {
                Reading::Engines { bounds, .. } | Reading::Workloads { bounds, .. } => {
                    (bounds.first().copied(), bounds.get(1).copied())
                }
                Reading::Share { minor, .. } => (None, Some(*minor)),
                Reading::OutOfReach { .. } => return None,
            };
            let mut marks: Vec<Mark> = judgement
                .rows
                .iter()
                .filter(|(ratio, _)| ratio.ratio.is_finite() && ratio.ratio > 0.0)
                .map(|(ratio, _)| Mark {
                    ratio: ratio.ratio,
                    lo: ratio.lo,
                    hi: ratio.hi,
                    colour: of_engine(&ratio.a),
                })
                .collect();
            marks.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
            let words = match judgement.rows.len() {
                1 => format!("{}, 1 row", judgement.verdict.words()),
                n => format!("{}, {n} rows", judgement.verdict.words()),
            };
            Some(ForestRow { label: judgement.claim.id.clone(), words, band, marks })
        })
        .collect();
    Forest {
        words: words(
            of,
            "Claims: measured ratios against the claimed range (logarithmic axis)",
            "Band: the claimed range. Dot and line: a comparison with its 95 % interval, coloured by the engine said to win.",
        ),
        rows,
    }
}
