//! Claims as a forest: the range a claim names as a band, every measured ratio as a dot with its
//! interval, on one log axis with 1 marked.

use super::axis::{Axis, Scale};
use super::canvas::{BOTTOM, Canvas, LABEL, Side, TOP, sheet, width_of};
use super::{Chart, WIDTH, Words};
use crate::report::format::Quantity;
use crate::report::palette::{BAND, GRID, INK, PALE_INK};
use anyhow::Result;
use plotters::style::RGBColor;

/// One measured ratio: value, ends of the interval, colour of the engine said to win.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// The ratio.
    pub ratio: f64,
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
    /// Colour.
    pub colour: RGBColor,
}

/// One claim.
#[derive(Clone, Debug, PartialEq)]
pub struct ForestRow {
    /// Its id.
    pub label: String,
    /// Its verdict.
    pub words: String,
    /// The range it names; an end of `None` is open.
    pub band: (Option<f64>, Option<f64>),
    /// What was measured.
    pub marks: Vec<Mark>,
}

/// The chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    /// Words around it.
    pub words: Words,
    /// The claims, from top to bottom.
    pub rows: Vec<ForestRow>,
}

const LANE: i32 = 7;

fn tall(row: &ForestRow) -> i32 {
    (row.marks.len() as i32 * LANE + 10).max(24)
}

/// Draws the chart; `None` where nothing was measured.
pub fn draw(name: &str, forest: &Forest) -> Result<Option<Chart>> {
    let rows: Vec<&ForestRow> = forest.rows.iter().filter(|row| !row.marks.is_empty()).collect();
    let widest =
        |of: fn(&ForestRow) -> &str| rows.iter().map(|row| width_of(of(row), LABEL)).max().unwrap_or(0);
    let from = 20 + widest(|row| &row.label) + 12;
    let to = WIDTH - 20 - widest(|row| &row.words) - 16;
    let ends = rows
        .iter()
        .flat_map(|row| {
            let marks = row.marks.iter().flat_map(|mark| [mark.ratio, mark.lo, mark.hi]);
            marks.chain(row.band.0).chain(row.band.1)
        })
        .chain([1.0]);
    let Some(axis) = Axis::over(ends, Scale::Log, Quantity::Factor, from, to) else { return Ok(None) };
    if rows.is_empty() {
        return Ok(None);
    }
    let bottom = TOP + rows.iter().map(|row| tall(row)).sum::<i32>();
    let svg = sheet(bottom + 34 + BOTTOM, &forest.words, |canvas| {
        let mut top = TOP;
        for row in &rows {
            let band = (row.band.0.map_or(from, |lo| axis.at(lo)), row.band.1.map_or(to, |hi| axis.at(hi)));
            canvas.rect((band.0, top + 2), (band.1.max(band.0 + 2), top + tall(row) - 2), BAND)?;
            top += tall(row);
        }
        axis.draw_below(canvas, TOP, bottom)?;
        canvas.path(&[(axis.at(1.0), TOP), (axis.at(1.0), bottom)], 2, INK)?;
        let mut top = TOP;
        for row in &rows {
            draw_row(canvas, row, &axis, (from, to), top)?;
            top += tall(row);
        }
        Ok(())
    })?;
    Ok(Some(Chart { name: name.into(), title: forest.words.title.clone(), svg }))
}

fn draw_row(canvas: &Canvas, row: &ForestRow, axis: &Axis, (from, to): (i32, i32), top: i32) -> Result<()> {
    let middle = top + tall(row) / 2;
    canvas.path(&[(20, top), (WIDTH - 20, top)], 1, GRID)?;
    canvas.text(20, middle, LABEL, Side::Start, INK, &row.label)?;
    canvas.text(to + 16, middle, LABEL, Side::Start, PALE_INK, &row.words)?;
    let first = middle - (row.marks.len() as i32 - 1) * LANE / 2;
    for (at, mark) in row.marks.iter().enumerate() {
        let y = first + at as i32 * LANE;
        let lo = if mark.lo.is_finite() { axis.at(mark.lo) } else { from };
        let hi = if mark.hi.is_finite() { axis.at(mark.hi) } else { to };
        canvas.path(&[(lo, y), (hi, y)], 1, INK)?;
        canvas.disc((axis.at(mark.ratio), y), 3, mark.colour)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_and_verdicts_are_named_and_open_ends_drawn() {
        let mark = Mark { ratio: 2.0, lo: f64::NAN, hi: f64::INFINITY, colour: RGBColor(0, 0, 0) };
        let forest = Forest {
            words: Words { title: "t".into(), subtitle: String::new(), source: "s".into() },
            rows: vec![
                ForestRow {
                    label: "S0-01".into(),
                    words: "supported".into(),
                    band: (Some(1.5), None),
                    marks: vec![mark; 4],
                },
                ForestRow {
                    label: "S9".into(),
                    words: "out of reach".into(),
                    band: (None, None),
                    marks: vec![],
                },
            ],
        };
        let svg = draw("verdicts", &forest).unwrap().unwrap().svg;
        assert!(svg.contains("S0-01") && svg.contains("supported") && !svg.contains("S9"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(svg.matches("<circle").count(), 4);
        let nothing = Forest { rows: forest.rows[1..].to_vec(), ..forest };
        assert_eq!(draw("verdicts", &nothing).unwrap(), None);
    }
}
