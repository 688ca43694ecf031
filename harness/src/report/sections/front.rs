//! What the reader sees first: what the report rests on, the verdicts, and where our own engine loses.

use crate::report::Material;
use crate::report::format::{Quantity, clock_words, date};
use crate::report::page::{Line, Page, code, line};
use crate::report::view::is_native;
use crate::spec::Role;
use crate::summary::Ratio;
use crate::verdict::{Judgement, Verdict};

/// Title and foundations.
pub fn title(of: &Material, page: &mut Page) {
    let run = &of.record.run;
    page.heading(1, "Assay: what was measured and what follows");
    let mut items = vec![
        line().text("Record ").code(&run.id).text(format!(", begun {}", date(run.started_unix))),
        Line::from(machine_words(of)),
        line().text("Revision ").code(&run.revision).text(if run.dirty {
            ", with uncommitted changes"
        } else {
            ", no uncommitted changes"
        }),
        Line::from(run_words(of)),
        Line::from(floor_words(of)),
    ];
    if !run.filters.is_empty() {
        items.push(line().text("Filters: ").code(run.filters.join(" ")));
    }
    if !run.complete {
        items.push(line().strong("Interrupted").text(
            ": not every planned turn was taken; what is missing is listed under “Who sat out, and why”",
        ));
    }
    page.items(items);
    page.para(
        "Figures are medians of warm runs with their 95 % interval in brackets and the number n they rest on. \
         A ratio above 1 means that the engine named first is faster (or smaller). “—” is no figure, never zero.",
    );
}

/// The machine in one sentence.
pub fn machine_words(of: &Material) -> String {
    let facts = &of.record.machine.facts;
    let fact = |name: &str| facts.get(name).filter(|value| *value != "not known");
    let memory = |value: &String| {
        let kib = value.strip_suffix(" kB").and_then(|kib| kib.trim().parse::<f64>().ok());
        kib.map_or(value.clone(), |kib| format!("{} of memory", Quantity::Bytes.show(kib * 1024.0)))
    };
    let told: Vec<String> = [
        fact("processor").cloned(),
        fact("processors usable").map(|count| format!("{count} processors")),
        fact("memory").map(memory),
        fact("kernel").cloned(),
    ]
    .into_iter()
    .flatten()
    .collect();
    match told.is_empty() {
        true => format!("Machine {}", of.record.machine.name),
        false => format!("Machine {}: {}", of.record.machine.name, told.join(", ")),
    }
}

fn run_words(of: &Material) -> String {
    let (run, asked) = (&of.record.run, &of.record.run.settings);
    format!(
        "Profile {}: {} heats of fresh processes × {} rounds × up to {} samples a turn, {} engines, {} workloads; {}",
        run.profile,
        asked.heats,
        asked.rounds,
        asked.samples,
        run.engines.len(),
        run.workloads.len(),
        if run.complete { "complete" } else { "interrupted" }
    )
}

fn floor_words(of: &Material) -> String {
    let mut floors: Vec<(f64, &str)> = of
        .record
        .run
        .workloads
        .iter()
        .filter_map(|workload| Some((of.floor(&workload.name)?, workload.name.as_str())))
        .collect();
    floors.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
    match (floors.first(), floors.last()) {
        (Some(least), Some(most)) => format!(
            "A/A floor: an engine differs from itself by {} (on {}) to {} (on {}); no verdict is finer",
            floor_figure(least.0),
            least.1,
            floor_figure(most.0),
            most.1
        ),
        _ => "No A/A floor: no engine ran against itself in this record".into(),
    }
}

/// A floor as what it adds to 1.
pub fn floor_figure(floor: f64) -> String {
    Quantity::Share.show(floor - 1.0)
}

/// How often each verdict was given, in words.
pub fn counts(judgements: &[Judgement]) -> String {
    let all = [
        Verdict::Supported,
        Verdict::Exceeded,
        Verdict::Refuted,
        Verdict::Mixed,
        Verdict::Inconclusive,
        Verdict::OutOfReach,
    ];
    let told: Vec<String> = all
        .into_iter()
        .filter_map(|verdict| {
            let count = judgements.iter().filter(|judgement| judgement.verdict == verdict).count();
            (count > 0).then(|| format!("{count} {}", verdict.words()))
        })
        .collect();
    match told.is_empty() {
        true => "no claim was judged".into(),
        false => format!("{} claims: {}", judgements.len(), told.join(", ")),
    }
}

/// The verdict table.
pub fn verdicts(of: &Material, page: &mut Page) {
    page.heading(2, "Verdicts");
    if !of.judgements.is_empty() {
        page.para(format!("{}.", counts(of.judgements)));
    }
    let rows = of
        .judgements
        .iter()
        .map(|judgement| {
            vec![
                line().link(&judgement.claim.id, format!("#{}", claim_anchor(&judgement.claim.id))),
                Line::from(format!("“{}”", judgement.claim.quote)),
                line().strong(judgement.verdict.words()),
                Line::from(judgement.finding.as_str()),
                Line::from(judgement.document.as_str()),
            ]
        })
        .collect();
    page.table("", &["Claim", "Quote", "Verdict", "Finding", "Document"], rows, "No claim was judged.");
    let mut titles: Vec<Line> = Vec::new();
    for judgement in of.judgements {
        let told = Line::from(format!("{}: {}", judgement.document, judgement.title));
        if !titles.contains(&told) {
            titles.push(told);
        }
    }
    page.items(titles);
}

/// Where a claim's details stand.
pub fn claim_anchor(id: &str) -> String {
    crate::report::page::anchor(&format!("claim {id}"))
}

/// A comparison seen from our side: `a` is native, whoever the claim favoured.
fn ours(ratio: &Ratio) -> Option<Ratio> {
    match (is_native(&ratio.a), is_native(&ratio.b)) {
        (true, false) => Some(ratio.clone()),
        (false, true) => Some(Ratio {
            a: ratio.b.clone(),
            b: ratio.a.clone(),
            ratio: 1.0 / ratio.ratio,
            lo: 1.0 / ratio.hi,
            hi: 1.0 / ratio.lo,
            ..ratio.clone()
        }),
        _ => None,
    }
}

/// Every comparison of a native engine with a contestant of its precision, once, seen from our side.
pub fn our_ratios(of: &Material) -> Vec<Ratio> {
    let of_claims = of.judgements.iter().flat_map(|judgement| judgement.rows.iter().map(|row| &row.0));
    let mut found: Vec<Ratio> = Vec::new();
    let alike = of.ratios.iter().chain(of_claims).filter(|ratio| ratio.precisions.is_empty());
    for ratio in alike.filter_map(ours) {
        let same = |other: &Ratio| {
            (&other.workload, &other.metric, &other.a, &other.b)
                == (&ratio.workload, &ratio.metric, &ratio.a, &ratio.b)
        };
        if of.role(&ratio.b) == Role::Contestant && ratio.ratio.is_finite() && !found.iter().any(same) {
            found.push(ratio);
        }
    }
    found
}

/// Comparisons that a native engine loses beyond doubt, worst first.
pub fn losses(of: &Material, page: &mut Page) {
    page.heading(2, "Where native loses");
    let all = our_ratios(of);
    let mut lost: Vec<&Ratio> = all.iter().filter(|ratio| ratio.hi < 1.0).collect();
    lost.sort_by(|a, b| {
        a.ratio.total_cmp(&b.ratio).then_with(|| (&a.workload, &a.b).cmp(&(&b.workload, &b.b)))
    });
    if all.is_empty() {
        return page.para("No native engine was compared with another in this record.");
    }
    let won = all.iter().filter(|ratio| ratio.lo > 1.0).count();
    page.para(format!(
        "{} comparisons of a native engine with another: {} lost (interval wholly below 1), {won} won \
         (wholly above 1), {} undecided.",
        all.len(),
        lost.len(),
        all.len() - lost.len() - won
    ));
    let rows = lost
        .into_iter()
        .map(|ratio| {
            vec![
                code(&ratio.workload),
                code(&ratio.a),
                code(&ratio.b),
                Line::from(ratio.metric.as_str()),
                Line::from(Quantity::Factor.show_interval(ratio.ratio, ratio.lo, ratio.hi)),
                Line::from(ratio.n.to_string()),
                Line::from(clock_words(ratio.clock)),
            ]
        })
        .collect();
    page.table(
        "Worst first; the ratio is the other engine's figure over native's.",
        &["Workload", "Native", "Other", "Metric", ">Ratio", ">n", "Clock"],
        rows,
        "No comparison has its interval wholly below 1.",
    );
}
