//! The report's sections in reading order: verdicts first, then figures, then what could be doubted.

pub mod checks;
pub mod claims;
pub mod environment;
pub mod front;
pub mod resources;
pub mod speed;
pub mod stages;

use super::Material;
use super::chart::Chart;
use super::page::Page;

/// The whole page; `charts` are those that were drawn.
pub fn page(of: &Material, charts: &[Chart]) -> Page {
    let mut page = Page::default();
    let chart = |page: &mut Page, name: &str| {
        if let Some(found) = charts.iter().find(|chart| chart.name == name) {
            page.chart(name, &found.title);
        }
    };
    front::title(of, &mut page);
    front::verdicts(of, &mut page);
    chart(&mut page, "verdicts");
    front::losses(of, &mut page);

    page.heading(2, "Latency of generation");
    chart(&mut page, "prefill");
    speed::prefill(of, &mut page);
    chart(&mut page, "decode");
    speed::decode(of, &mut page);
    chart(&mut page, "first-token");
    speed::generate(of, &mut page);
    speed::serve(of, &mut page);

    page.heading(2, "Throughput of tokenization");
    chart(&mut page, "tokenization");
    chart(&mut page, "tokenization-shapes");
    speed::tokenization(of, &mut page);

    page.heading(2, "Memory");
    chart(&mut page, "memory");
    resources::memory(of, &mut page);
    page.heading(2, "Cold start and load");
    chart(&mut page, "cold-start");
    resources::cold_start(of, &mut page);
    page.heading(2, "Footprint on disk");
    chart(&mut page, "footprint");
    resources::footprint(of, &mut page);
    page.heading(2, "Crossing the boundary between languages");
    chart(&mut page, "boundary");
    resources::boundary(of, &mut page);
    page.heading(2, "Stages of one request");
    chart(&mut page, "stages");
    stages::table(of, &mut page);

    speed::ablations(of, &mut page);
    speed::limit(of, &mut page);
    checks::same_answer(of, &mut page);
    checks::sat_out(of, &mut page);
    claims::details(of, &mut page);
    environment::machine(of, &mut page);
    environment::engines(of, &mut page);
    environment::harness(of, &mut page);
    environment::closing(of, &mut page);
    page
}
