//! Where it ran, what took part, what is unfair, and how to do it again.

use crate::report::Material;
use crate::report::format::Quantity;
use crate::report::page::{Line, Page, code, line};
use crate::report::view::shown;
use crate::spec::Role;
use std::collections::{BTreeMap, BTreeSet};
use worker::TaskKind;

fn pairs(map: &BTreeMap<String, String>) -> Vec<Vec<Line>> {
    map.iter().map(|(name, value)| vec![Line::from(name.as_str()), Line::from(value.as_str())]).collect()
}

/// Machine, steal and pressure, inputs and locks.
pub fn machine(of: &Material, page: &mut Page) {
    page.heading(2, "Environment");
    let (machine, run) = (&of.record.machine, &of.record.run);
    page.table(
        "The machine.",
        &["Fact", "Value"],
        pairs(&machine.facts),
        "No fact about the machine was recorded.",
    );
    let names: BTreeSet<&String> = machine.before.keys().chain(machine.after.keys()).collect();
    let value = |map: &BTreeMap<String, String>, name: &String| {
        Line::from(map.get(name).map_or(crate::report::format::MISSING, String::as_str))
    };
    let rows = names
        .into_iter()
        .map(|name| {
            vec![Line::from(name.as_str()), value(&machine.before, name), value(&machine.after, name)]
        })
        .collect();
    page.table(
        "Its load before and after the run.",
        &["Fact", ">Before", ">After"],
        rows,
        "No load of the machine was recorded.",
    );
    let digests = |map: &BTreeMap<String, String>| -> Vec<Vec<Line>> {
        map.iter().map(|(name, digest)| vec![code(name), code(digest)]).collect()
    };
    let all: Vec<Vec<Line>> = digests(&run.inputs).into_iter().chain(digests(&run.locks)).collect();
    page.table(
        "What everybody was given, and the lock files in force.",
        &["Input or lock", "SHA-256"],
        all,
        "No digest of inputs or locks was recorded.",
    );
}

/// Versions and settings as each process introduced itself.
pub fn engines(of: &Material, page: &mut Page) {
    let join = |map: &BTreeMap<String, String>| {
        let told: Vec<String> = map.iter().map(|(name, value)| format!("{name} {value}")).collect();
        if told.is_empty() { crate::report::format::MISSING.into() } else { told.join(", ") }
    };
    let rows = of
        .record
        .run
        .engines
        .iter()
        .map(|engine| {
            let known = of.record.identities.get(&engine.name);
            let identity = known.map(|known| &known.identity);
            vec![
                code(&engine.name),
                Line::from(identity.map_or(engine.language.as_str(), |identity| identity.language.as_str())),
                Line::from(match engine.precision.as_str() {
                    "" => crate::report::format::MISSING,
                    precision => precision,
                }),
                Line::from(identity.map_or("never introduced itself".into(), |found| join(&found.versions))),
                Line::from(identity.map_or_else(String::new, |found| join(&found.settings))),
                Line::from(engine.note.as_str()),
            ]
        })
        .collect();
    page.table(
        "The engines, as each process introduced itself.",
        &["Engine", "Language", "Precision", "Versions", "Settings", "Note"],
        rows,
        "No engine took part.",
    );
}

/// What null engines need: the price of the order, the clocks and the call.
pub fn harness(of: &Material, page: &mut Page) {
    let mut rows: Vec<Vec<Line>> = Vec::new();
    for kind in TaskKind::ALL {
        let null = of.cells.iter().filter(|cell| cell.task == kind && of.role(&cell.engine) == Role::Null);
        let most = null
            .filter_map(|cell| Some((shown(&cell.time)?, cell)))
            .max_by(|a, b| a.0.value.total_cmp(&b.0.value).then_with(|| b.1.workload.cmp(&a.1.workload)));
        if let Some((time, cell)) = most {
            rows.push(vec![
                Line::from(kind.word().replace('_', " ")),
                code(&cell.engine),
                code(&cell.workload),
                Line::from(Quantity::Time.show_estimate(time)),
                Line::from(time.n.to_string()),
            ]);
        }
    }
    page.table(
        "What the harness itself costs: one run of an engine that does nothing. Of each task the workload on which it \
         took longest; nothing of it is subtracted anywhere.",
        &["Task", "Engine", "Workload", ">One run", ">n"],
        rows,
        "No engine that does nothing took part.",
    );
}

/// Bias and reproduction.
pub fn closing(of: &Material, page: &mut Page) {
    let run = &of.record.run;
    page.heading(2, "What is unfair");
    page.para(
        line()
            .text("Every unfairness that is known and left stands in ")
            .link("harness/BIAS.md", "../harness/BIAS.md")
            .text(", one line each."),
    );
    page.heading(2, "Do it again");
    page.commands(&format!("git checkout {}\nscripts/assay {}", run.revision, run.profile));
    page.para(
        line()
            .text("The first line is this record's revision, the second measures and reports. ")
            .code("just compare")
            .text(" draws this report from the record again, byte by byte. Machine readable: ")
            .code("tables/cells.csv")
            .text(", ")
            .code("tables/ratios.csv")
            .text(", and the raw rows in the record's folder."),
    );
}
