//! Horizontal bars from zero, or dots on a log axis, in panels: one row an engine, figure in words.

use super::axis::{Axis, Scale};
use super::canvas::{BOTTOM, Canvas, LABEL, Side, TOP, fit, sheet, width_of};
use super::{Chart, WIDTH, Words};
use crate::report::format::Quantity;
use crate::report::palette::{INK, PALE_INK, tint};
use anyhow::Result;
use plotters::style::RGBColor;

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Whose; empty where the row belongs to the one above.
    pub label: String,
    /// Its family's colour.
    pub colour: RGBColor,
    /// Figure and interval; `None` where there is none. Ends that are not finite are not drawn.
    pub value: Option<(f64, f64, f64)>,
    /// The figure in words, or why there is none.
    pub words: String,
}

/// Rows that share one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What the panel is about; may be empty.
    pub heading: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// A chart of bars.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// Words around it.
    pub words: Words,
    /// Linear: bars, an axis a panel. Log: dots, one axis for all.
    pub scale: Scale,
    /// What is counted.
    pub quantity: Quantity,
    /// Panels side by side, where there is room for their words; else one below the other.
    pub columns: usize,
    /// Rows that belong together (set close, from light to dark); 1 where each stands alone.
    pub group: usize,
    /// The panels, row by row.
    pub panels: Vec<Panel>,
}

const ROW: i32 = 22;
const CLOSE_ROW: i32 = 17;
const GAP: i32 = 9;
const HEAD: i32 = 26;
const FOOT: i32 = 34;

/// Draws the chart; `None` where no panel has a figure.
pub fn draw(name: &str, bars: &Bars) -> Result<Option<Chart>> {
    let panels: Vec<&Panel> =
        bars.panels.iter().filter(|panel| panel.bars.iter().any(|bar| bar.value.is_some())).collect();
    if panels.is_empty() {
        return Ok(None);
    }
    let columns = match bars.columns.clamp(1, panels.len()) {
        wanted if roomy(&panels, (WIDTH - 20) / wanted as i32 - 20) => wanted,
        _ => 1,
    };
    let rows: Vec<&[&Panel]> = panels.chunks(columns).collect();
    let tall = |row: &[&Panel]| {
        HEAD + FOOT + row.iter().map(|panel| offset(bars.group, panel.bars.len())).max().unwrap_or(0)
    };
    let height = TOP + rows.iter().map(|row| tall(row)).sum::<i32>() + BOTTOM;
    let svg = sheet(height, &bars.words, |canvas| {
        let span = (WIDTH - 20) / columns as i32;
        let mut top = TOP;
        for row in &rows {
            for (at, panel) in row.iter().enumerate() {
                let left = 20 + span * at as i32;
                draw_panel(canvas, bars, &panels, panel, left, left + span - 20, top)?;
            }
            top += tall(row);
        }
        Ok(())
    })?;
    Ok(Some(Chart { name: name.into(), title: bars.words.title.clone(), svg }))
}

/// Where row `at` begins, in pixels below the first.
fn offset(group: usize, at: usize) -> i32 {
    match group {
        0 | 1 => ROW * at as i32,
        _ => CLOSE_ROW * at as i32 + GAP * (at / group) as i32,
    }
}

/// True where names, figures and headings leave a panel of this width two fifths for its bars.
fn roomy(panels: &[&Panel], width: i32) -> bool {
    panels.iter().all(|panel| width_of(&panel.heading, 15) <= width)
        && panels
            .iter()
            .flat_map(|panel| &panel.bars)
            .all(|bar| width_of(&bar.label, LABEL) + width_of(&bar.words, LABEL) <= width * 3 / 5)
}

fn draw_panel(
    canvas: &Canvas,
    bars: &Bars,
    all: &[&Panel],
    panel: &Panel,
    left: i32,
    right: i32,
    top: i32,
) -> Result<()> {
    let everyone = || all.iter().flat_map(|panel| &panel.bars);
    let names = everyone().map(|bar| width_of(&bar.label, LABEL)).max().unwrap_or(0);
    let figures = everyone().map(|bar| width_of(&bar.words, LABEL)).max().unwrap_or(0);
    // Names and figures in full; the bars get what is left, and never less than a fifth.
    let from = left + names.min((right - left) * 2 / 5) + 8;
    let to = (right - figures - 12).max(from + (right - left) / 5);
    let shown: Vec<&Bar> = match bars.scale {
        Scale::Linear => panel.bars.iter().collect(),
        Scale::Log => everyone().collect(),
    };
    let ends = shown.iter().filter_map(|bar| bar.value).flat_map(|(value, lo, hi)| [value, lo, hi]);
    let Some(axis) = Axis::over(ends, bars.scale, bars.quantity, from, to) else { return Ok(()) };
    canvas.words(left, top + 8, 14, Side::Start, INK, true, &panel.heading)?;
    let first = top + HEAD;
    let bottom = first + offset(bars.group, panel.bars.len());
    axis.draw_below(canvas, first - 4, bottom)?;
    for (at, bar) in panel.bars.iter().enumerate() {
        let row = if bars.group > 1 { CLOSE_ROW } else { ROW };
        let y = first + offset(bars.group, at) + row / 2 - 2;
        canvas.text(from - 8, y, LABEL, Side::End, INK, &fit(&bar.label, LABEL, from - 8 - left))?;
        let Some((value, lo, hi)) = bar.value else {
            canvas.text(from + 6, y, LABEL, Side::Start, PALE_INK, &bar.words)?;
            continue;
        };
        let end = axis.at(value);
        if bars.scale == Scale::Linear {
            let strength = match bars.group {
                0 | 1 => 0.85,
                group => 0.35 + 0.65 * (at % group) as f64 / (group - 1) as f64,
            };
            canvas.rect((from, y - 7), (end.max(from + 1), y + 7), tint(bar.colour, strength))?;
        }
        if lo.is_finite() && hi.is_finite() {
            canvas.whisker((axis.at(lo), axis.at(hi)), y, 4, INK)?;
        }
        if bars.scale == Scale::Log {
            canvas.disc((end, y), 4, bar.colour)?;
        }
        let past = if hi.is_finite() { axis.at(hi).max(end) } else { end };
        canvas.text(past + 9, y, LABEL, Side::Start, INK, &bar.words)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::palette::of_engine;

    fn bars(scale: Scale) -> Bars {
        let bar = |label: &str, value| Bar {
            label: label.into(),
            colour: of_engine(label),
            value,
            words: value.map_or("— refused".into(), |(value, ..)| Quantity::Time.show(value)),
        };
        Bars {
            words: Words { title: "A <b>".into(), subtitle: "how".into(), source: "record".into() },
            scale,
            quantity: Quantity::Time,
            columns: 1,
            group: 1,
            panels: vec![
                Panel {
                    heading: "T = 32".into(),
                    bars: vec![
                        bar("native/cpu-f32", Some((1e6, 0.9e6, 1.2e6))),
                        bar("python/a-very-long-engine-name-indeed", Some((3e6, f64::NAN, f64::INFINITY))),
                        bar("libtorch/cpu-f32", None),
                    ],
                },
                Panel { heading: "empty".into(), bars: vec![bar("native/cpu-f32", None)] },
            ],
        }
    }

    #[test]
    fn every_label_is_there_and_nothing_is_nan() {
        for scale in [Scale::Linear, Scale::Log] {
            let chart = draw("bars", &bars(scale)).unwrap().unwrap();
            for label in
                ["native/cpu-f32", "python/a-very-long-engine-name-indeed", "1.00 ms", "— refused", "T = 32"]
            {
                assert!(chart.svg.contains(label), "{label}");
            }
            assert!(!chart.svg.contains("NaN") && !chart.svg.contains("inf"));
            assert!(!chart.svg.contains("A <b>") && chart.svg.contains("A &lt;b&gt;"));
            assert!(!chart.svg.contains("empty"), "a panel without figures is left out");
        }
    }

    #[test]
    fn panels_stand_side_by_side_only_where_words_have_room() {
        let mut wide = bars(Scale::Linear);
        wide.panels[1] = wide.panels[0].clone();
        wide.columns = 2;
        let height = |bars: &Bars| {
            let svg = draw("bars", bars).unwrap().unwrap().svg;
            let height = svg.split("height=\"").nth(1).unwrap().split('"').next().unwrap();
            height.parse::<i32>().unwrap()
        };
        let one_below_the_other = height(&wide);
        for panel in &mut wide.panels {
            panel.bars[1].label = "python/short".into();
        }
        assert!(height(&wide) < one_below_the_other);
    }

    #[test]
    fn rows_of_a_group_stand_close() {
        assert_eq!([offset(1, 3), offset(3, 3), offset(3, 2)], [3 * ROW, 3 * CLOSE_ROW + GAP, 2 * CLOSE_ROW]);
    }

    #[test]
    fn a_chart_without_figures_is_no_chart() {
        let mut none = bars(Scale::Linear);
        none.panels.remove(0);
        assert_eq!(draw("bars", &none).unwrap(), None);
    }
}
