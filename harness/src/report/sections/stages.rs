//! One request taken apart, by boundaries that are the same for every engine.
//!
//! Boundaries are those an outsider can see: hello, ready, the first token id, the last token id, the
//! end of the run. Encoding and prefill both lie before the first id, so they are one stage; where the
//! same text is an encode workload too, the table says what encoding alone costs.

use crate::report::Material;
use crate::report::chart::{Stack, StackRow, Words};
use crate::report::format::{MISSING, Quantity};
use crate::report::page::{Line, Page, code};
use crate::report::palette::family;
use crate::report::view::{describe, median, shown};
use crate::spec::{Role, Workload};
use worker::TaskKind;

/// Stage names in order: two that are paid once a process, three that every request pays.
pub const PARTS: [&str; 5] = [
    "process start and imports",
    "load",
    "encode and prefill, to the first token",
    "decode, further tokens",
    "detokenize and the rest",
];
const ONCE: usize = 2;

/// The stages of every engine that did the request, in ns, quickest request first.
pub fn measured(of: &Material) -> Vec<(String, [Option<f64>; 5])> {
    let Some(request) = of.request() else { return Vec::new() };
    of.ranked(&request.name, |cell| shown(&cell.time).map(|found| found.value))
        .into_iter()
        .filter(|cell| of.role(&cell.engine) == Role::Contestant)
        .filter_map(|cell| {
            let samples = of.warm(&request.name, &cell.engine);
            let stage = |part: fn(&[u64], u64) -> Option<u64>| {
                median(
                    samples
                        .iter()
                        .filter_map(|row| part(&row.laps_ns, row.wall_ns?).map(|ns| ns as f64))
                        .collect(),
                )
            };
            let first = stage(|laps, _| laps.first().copied())?;
            let decode = stage(|laps, _| (laps.len() > 1).then(|| laps[1..].iter().sum()));
            let rest = stage(|laps, wall| wall.checked_sub(laps.iter().sum()));
            let boot = of.boot_ns(&cell.engine);
            let load = of.prepare_ns(&cell.engine, &request.name);
            Some((cell.engine.clone(), [boot, load, Some(first), decode, rest]))
        })
        .collect()
}

/// The chart's data.
pub fn stack(of: &Material, words: Words) -> Stack {
    let rows: Vec<StackRow> =
        measured(of).into_iter().map(|(label, parts)| StackRow { label, parts: parts.to_vec() }).collect();
    Stack {
        words,
        quantity: Quantity::Time,
        parts: PARTS.iter().map(|part| part.to_string()).collect(),
        panels: vec![
            ("Once a process".into(), 0..ONCE, rows.clone()),
            ("Every request".into(), ONCE..PARTS.len(), rows),
        ],
    }
}

/// The encode workload over the request's own text.
fn encoding<'a>(of: &Material<'a>, request: &Workload) -> Option<&'a Workload> {
    of.workloads(TaskKind::Encode)
        .into_iter()
        .find(|workload| workload.input == request.input && workload.threads == request.threads)
}

/// The ledger.
pub fn table(of: &Material, page: &mut Page) {
    let Some(request) = of.request() else { return page.para("No request was generated in this record.") };
    page.para(Line::default().text("The request is ").code(&request.name).text(format!(
        ": {}. Shares are of the request alone; process start and load are paid once.",
        describe(request)
    )));
    let apart = encoding(of, request);
    let rows = measured(of)
        .into_iter()
        .map(|(engine, parts)| {
            let request_ns: f64 = parts[ONCE..].iter().flatten().sum();
            let cell = |at: usize| match parts[at] {
                None => Line::from(MISSING),
                Some(ns) if at < ONCE => Line::from(Quantity::Time.show(ns)),
                Some(ns) => Line::from(format!(
                    "{} ({})",
                    Quantity::Time.show(ns),
                    Quantity::Share.show(ns / request_ns)
                )),
            };
            let encode = apart.and_then(|workload| {
                let same = |name: &str| family(name) == family(&engine);
                let cells = of.ranked(&workload.name, |cell| shown(&cell.time).map(|found| found.value));
                let found = cells.into_iter().find(|cell| same(&cell.engine))?;
                let time = shown(&found.time)?;
                Some(format!("{} ({})", Quantity::Time.show(time.value), found.engine))
            });
            let mut row = vec![code(&engine)];
            row.extend((0..PARTS.len()).map(cell));
            if apart.is_some() {
                row.push(Line::from(encode.unwrap_or_else(|| MISSING.into())));
            }
            row
        })
        .collect();
    let mut columns = vec![
        "Engine",
        ">Process start, imports",
        ">Load",
        ">Encode and prefill",
        ">Decode",
        ">Detokenize and the rest",
    ];
    let mut caption = "Medians.".to_string();
    if apart.is_some() {
        columns.push(">Encode alone");
        caption += " The last column is the same text encoded by itself, by the family's quickest tokenizer.";
    }
    page.table(caption, &columns, rows, "No engine finished the request.");
}
