//! Ratios between two engines (or one engine on two workloads), formed block by block.
//!
//! Invariant: both values of a block come from the same heat and the same round, and both sides
//! gave right answers everywhere.

use super::{Clock, Estimate, Ratio, Runs, View, clock_of, memory};
use crate::record::{Arm, Record, Status};
use crate::spec::{Metric, Role, Workload};
use crate::stats::{Block, RatioInterval, Rng, floor_of, median, quantile, ratio_interval, sorted};
use std::collections::BTreeMap;

/// Laps that a 99th percentile needs for a finite 95 % interval.
const P99_NEEDS: usize = 368;
/// Stands for the round where a block is a whole heat; meets no real round.
const WHOLE_HEAT: u32 = u32::MAX;

/// One engine on one workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side<'a> {
    pub engine: &'a str,
    pub workload: &'a Workload,
}

/// metric(b) / metric(a) on a workload, or nothing where either has no figure: [`View::ratio`] says
/// why, and is cheaper where many are asked for.
pub fn ratio(record: &Record, workload: &str, metric: Metric, a: &str, b: &str) -> Option<Ratio> {
    View::new(record).ratio(workload, metric, a, b).ok()
}

/// What an engine differs from itself by: [`View::floor`].
pub fn floor(record: &Record, workload: &str, metric: Metric) -> Option<f64> {
    View::new(record).floor(workload, metric)
}

/// How much of what physics allows the engine reaches: [`View::percent_of_limit`].
pub fn percent_of_limit(record: &Record, workload: &str, engine: &str) -> Option<Estimate> {
    View::new(record).percent_of_limit(workload, engine)
}

impl View<'_> {
    /// metric(b) / metric(a) on a workload; the error is a reason for readers.
    pub fn ratio(&self, workload: &str, metric: Metric, a: &str, b: &str) -> Result<Ratio, String> {
        let workload =
            self.record.workload(workload).ok_or_else(|| format!("{workload} was not part of this run"))?;
        between(self, Side { engine: a, workload }, Side { engine: b, workload }, metric, 1.0)
    }

    /// What an engine differs from itself by on this workload and metric: the largest over the
    /// engines that have an A/A arm here, as a factor of at least 1.
    pub fn floor(&self, workload: &str, metric: Metric) -> Option<f64> {
        let workload = self.record.workload(workload)?;
        floor_by(self, workload, metric, clock_for(metric, workload, workload))
    }

    /// The precision an engine computes in, as it said itself, else as it was declared.
    pub fn precision(&self, engine: &str) -> &str {
        let declared = self.record.engine(engine).map(|engine| engine.precision.as_str()).unwrap_or_default();
        let introduced = self.record.identities.get(engine).map(|seen| seen.identity.precision.as_str());
        introduced.filter(|seen| !seen.is_empty()).unwrap_or(declared)
    }

    /// The limit engine that measured what physics asks of `engine` on a workload: one of its precision,
    /// since fewer bytes are read sooner. Nothing where there is none.
    pub fn limit_of(&self, workload: &str, engine: &str) -> Option<&str> {
        let ok = |name: &str| self.rows(workload, name).iter().any(|row| row.status == Status::Ok);
        let limits = self.record.run.engines.iter().filter(|limit| limit.role == Role::Limit);
        let mut names = limits.map(|limit| limit.name.as_str()).filter(|&name| name != engine);
        names.find(|name| ok(name) && self.precision(name) == self.precision(engine))
    }

    /// 100 x time(limit) / time(engine), by [`View::limit_of`]. Nothing where there is none.
    pub fn percent_of_limit(&self, workload: &str, engine: &str) -> Option<Estimate> {
        let limit = self.limit_of(workload, engine)?;
        let of = self.ratio(workload, Metric::Time, engine, limit).ok()?;
        Some(Estimate { value: 100.0 * of.ratio, lo: 100.0 * of.lo, hi: 100.0 * of.hi, n: of.n })
    }
}

/// metric(b) x `scale` / metric(a). Where the two workloads have different clocks, both are read
/// from the wall clock.
pub(crate) fn between(
    view: &View<'_>,
    a: Side<'_>,
    b: Side<'_>,
    metric: Metric,
    scale: f64,
) -> Result<Ratio, String> {
    let same_workload = a.workload.name == b.workload.name;
    let label = match same_workload {
        true => a.workload.name.clone(),
        false => format!("{} against {}", b.workload.name, a.workload.name),
    };
    let clock = clock_for(metric, a.workload, b.workload);
    let seen = if metric == Metric::Footprint {
        let ratio = on_disk(view.record, b.engine)? / on_disk(view.record, a.engine)? * scale;
        RatioInterval { ratio, lo: ratio, hi: ratio, n: 1 }
    } else {
        let blocks_a = values(view, a, Arm::First, metric, clock)?;
        let blocks_b = values(view, b, Arm::First, metric, clock)?;
        let seed = Rng::seeded_by(&[&label, metric.word(), a.engine, b.engine]);
        interval(&blocks_a, &blocks_b, scale, seed).ok_or_else(|| {
            format!(
                "{label}: {} and {} share fewer than two rounds, so there is no interval",
                a.engine, b.engine
            )
        })?
    };
    let floors = [a.workload, b.workload].map(|workload| floor_by(view, workload, metric, clock));
    Ok(Ratio {
        workload: label,
        metric: metric.word().into(),
        clock,
        a: a.engine.into(),
        b: b.engine.into(),
        precisions: precisions(view, a.engine, b.engine),
        ratio: seen.ratio,
        lo: seen.lo,
        hi: seen.hi,
        n: seen.n,
        floor: floors.into_iter().flatten().fold(1.0, f64::max),
    })
}

fn floor_by(view: &View<'_>, workload: &Workload, metric: Metric, clock: Clock) -> Option<f64> {
    let key = View::key(&workload.name, metric, clock);
    if let Some(known) = view.floors.borrow().get(&key) {
        return *known;
    }
    let of = |engine: &str| {
        let side = Side { engine, workload };
        let first = values(view, side, Arm::First, metric, clock).ok()?;
        let again = values(view, side, Arm::Again, metric, clock).ok()?;
        let seed = Rng::seeded_by(&[&workload.name, metric.word(), engine, "again"]);
        Some(floor_of(&interval(&first, &again, 1.0, seed)?))
    };
    let floor = view.twice(&workload.name).filter_map(of).reduce(f64::max);
    view.floors.borrow_mut().insert(key, floor);
    floor
}

/// The precisions of two sides where they differ, such as `int8 against f32`; else empty.
pub(crate) fn precisions(view: &View<'_>, a: &str, b: &str) -> String {
    match [a, b].map(|engine| view.precision(engine)) {
        ["", _] | [_, ""] => String::new(),
        [of_a, of_b] if of_a == of_b => String::new(),
        [of_a, of_b] => format!("{of_a} against {of_b}"),
    }
}

/// Who kept more processors busy than the workload allows: a reason to say so.
pub(crate) fn overspent(view: &View<'_>, a: Side<'_>, b: Side<'_>) -> Vec<String> {
    let threads = [a, b].into_iter().filter_map(|side| {
        let runs = Runs::of(view, side.workload, side.engine, Arm::First, Clock::Wall);
        let (cpu, wall) = runs.rows().iter().fold((0, 0), |(cpu, wall), row| {
            (cpu + row.cpu_ns.unwrap_or(0), wall + row.wall_ns.unwrap_or(0))
        });
        let used = cpu as f64 / wall.max(1) as f64;
        let allowed = side.workload.threads;
        (used > allowed as f64 + 0.25).then(|| {
            format!(
                "{} kept {used:.1} processors busy on {} where {allowed} were allowed",
                side.engine, side.workload.name
            )
        })
    });
    threads.collect()
}

fn clock_for(metric: Metric, a: &Workload, b: &Workload) -> Clock {
    match metric {
        Metric::PeakMemory | Metric::Footprint => Clock::None,
        Metric::SinceSpawn => Clock::SinceSpawn,
        Metric::FirstToken | Metric::TokenTime | Metric::Jitter => Clock::Wall,
        Metric::Time | Metric::FirstTime if clock_of(a) == clock_of(b) => clock_of(a),
        Metric::Time | Metric::FirstTime => Clock::Wall,
    }
}

fn on_disk(record: &Record, engine: &str) -> Result<f64, String> {
    memory::footprint(record, engine)
        .map(|bytes| bytes as f64)
        .ok_or_else(|| format!("{engine} did not say what it needs on disk"))
}

/// One value a block; never empty.
fn values(
    view: &View<'_>,
    side: Side<'_>,
    arm: Arm,
    metric: Metric,
    clock: Clock,
) -> Result<BTreeMap<(u32, u32), f64>, String> {
    let (engine, workload) = (side.engine, side.workload);
    if view.record.engine(engine).is_none() {
        return Err(format!("{engine} was not part of this run"));
    }
    let runs = Runs::of(view, workload, engine, arm, clock);
    if runs.status != Status::Ok {
        return Err(format!("{engine} on {}: {}: {}", workload.name, runs.status.word(), runs.reason()));
    }
    let blocks = match metric {
        Metric::PeakMemory => memory::peak_blocks(view.record, &workload.name, engine, arm),
        Metric::Jitter => jitter(runs.values_by_round(metric)),
        _ => {
            runs.values_by_round(metric).into_iter().map(|(block, values)| (block, median(&values))).collect()
        }
    };
    match blocks.is_empty() {
        true => Err(format!("{engine} on {}: too few rows for {}", workload.name, metric.word())),
        false => Ok(blocks),
    }
}

/// p99 over the median of the laps, by round where every round has laps enough for a p99, else by
/// heat, else not at all.
fn jitter(rounds: BTreeMap<(u32, u32), Vec<f64>>) -> BTreeMap<(u32, u32), f64> {
    let enough = |laps: &BTreeMap<(u32, u32), Vec<f64>>| laps.values().all(|laps| laps.len() >= P99_NEEDS);
    let mut blocks = rounds;
    if !enough(&blocks) {
        let mut heats: BTreeMap<(u32, u32), Vec<f64>> = BTreeMap::new();
        for ((heat, _), laps) in blocks {
            heats.entry((heat, WHOLE_HEAT)).or_default().extend(laps);
        }
        blocks = heats;
    }
    if !enough(&blocks) {
        return BTreeMap::new();
    }
    let spread = |laps: &[f64]| {
        let laps = sorted(laps);
        quantile(&laps, 0.99) / quantile(&laps, 0.5)
    };
    blocks.iter().map(|(block, laps)| (*block, spread(laps))).collect()
}

fn interval(
    a: &BTreeMap<(u32, u32), f64>,
    b: &BTreeMap<(u32, u32), f64>,
    scale: f64,
    seed: Rng,
) -> Option<RatioInterval> {
    let blocks: Vec<Block> = a
        .iter()
        .filter_map(|(block, of_a)| {
            let of_b = b.get(block)?;
            Some(Block { heat: block.0, log_ratio: (of_b * scale / of_a).ln() })
        })
        .collect();
    ratio_interval(&blocks, seed)
}
