//! Lines over a log-log plane, each named at its end.

use super::axis::{Axis, Scale};
use super::canvas::{BOTTOM, Canvas, LABEL, Side, TOP, fit, sheet, width_of};
use super::{Chart, WIDTH, Words};
use crate::report::format::Quantity;
use crate::report::palette::{GRID, INK, PALE_INK};
use anyhow::Result;
use plotters::style::RGBColor;

/// The mark of a series: colours say who, shapes say how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shape {
    Disc,
    Square,
    Triangle,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name, written at its end.
    pub label: String,
    /// Its family's colour.
    pub colour: RGBColor,
    /// Its mark.
    pub shape: Shape,
    /// x, y and the ends of y's interval; x and y positive.
    pub points: Vec<(f64, f64, f64, f64)>,
}

/// A chart of lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// Words around it.
    pub words: Words,
    /// What is counted upwards.
    pub quantity: Quantity,
    /// What is counted to the right.
    pub x_name: String,
    /// The lines.
    pub series: Vec<Series>,
    /// Levels without an x: name and height, drawn dashed and named at the right as well.
    pub levels: Vec<(String, f64)>,
}

const HEIGHT: i32 = 460;

/// Draws the chart; `None` where no series has a point.
pub fn draw(name: &str, lines: &Lines) -> Result<Option<Chart>> {
    let names =
        lines.series.iter().map(|series| &series.label).chain(lines.levels.iter().map(|level| &level.0));
    let labels = names.map(|name| width_of(name, LABEL)).max().unwrap_or(0);
    let (left, right) = (90, WIDTH - 20 - labels.min(360) - 16);
    let points = || lines.series.iter().flat_map(|series| &series.points);
    let heights =
        points().flat_map(|&(_, y, lo, hi)| [y, lo, hi]).chain(lines.levels.iter().map(|level| level.1));
    let height =
        TOP + HEIGHT + 44 + BOTTOM + 18 * ((lines.series.len() + lines.levels.len()) as i32 - 20).max(0);
    let bottom = height - BOTTOM - 44;
    let x = Axis::over(points().map(|point| point.0), Scale::Log, Quantity::Factor, left, right);
    let y = Axis::over(heights, Scale::Log, lines.quantity, bottom, TOP);
    let (Some(x), Some(y)) = (x, y) else { return Ok(None) };
    let svg = sheet(height, &lines.words, |canvas| {
        y.draw_left(canvas, left, right)?;
        draw_x(canvas, &x, bottom, &lines.x_name, (left, right))?;
        for (_, level) in &lines.levels {
            canvas.dashes((left, right), y.at(*level), PALE_INK)?;
        }
        for series in &lines.series {
            draw_series(canvas, series, &x, &y)?;
        }
        draw_names(canvas, lines, &x, &y, right, (TOP, bottom))
    })?;
    Ok(Some(Chart { name: name.into(), title: lines.words.title.clone(), svg }))
}

fn draw_x(canvas: &Canvas, x: &Axis, bottom: i32, name: &str, (left, right): (i32, i32)) -> Result<()> {
    for (value, _) in x.ticks() {
        let at = x.at(value);
        canvas.path(&[(at, TOP), (at, bottom)], 1, GRID)?;
        let label = crate::report::format::grouped(value.round() as u64);
        canvas.text(at, bottom + 12, 11, Side::Middle, PALE_INK, &label)?;
    }
    canvas.text((left + right) / 2, bottom + 32, LABEL, Side::Middle, INK, name)
}

fn draw_series(canvas: &Canvas, series: &Series, x: &Axis, y: &Axis) -> Result<()> {
    let path: Vec<(i32, i32)> = series.points.iter().map(|point| (x.at(point.0), y.at(point.1))).collect();
    if path.len() > 1 {
        canvas.path(&path, 2, series.colour)?;
    }
    for (&(px, py), &(_, _, lo, hi)) in path.iter().zip(&series.points) {
        if lo.is_finite() && hi.is_finite() {
            canvas.path(&[(px, y.at(lo)), (px, y.at(hi))], 1, INK)?;
        }
        match series.shape {
            Shape::Disc => canvas.disc((px, py), 5, series.colour)?,
            Shape::Square => canvas.rect((px - 5, py - 5), (px + 5, py + 5), series.colour)?,
            Shape::Triangle => {
                canvas.polygon(&[(px - 6, py + 5), (px + 6, py + 5), (px, py - 6)], series.colour)?
            }
        }
    }
    Ok(())
}

/// Names at the right border, moved apart where ends lie close, tied to their ends by a thin line.
fn draw_names(
    canvas: &Canvas,
    lines: &Lines,
    x: &Axis,
    y: &Axis,
    right: i32,
    (top, bottom): (i32, i32),
) -> Result<()> {
    let series = lines.series.iter().filter_map(|series| {
        let last = series.points.last()?;
        let at = (x.at(last.0) + 7, y.at(last.1));
        Some(End { place: at.1, at, label: &series.label, colour: series.colour })
    });
    let levels = lines.levels.iter().map(|(label, level)| {
        let at = (right, y.at(*level));
        End { place: at.1, at, label, colour: PALE_INK }
    });
    let mut ends: Vec<End> = series.chain(levels).collect();
    ends.sort_by_key(|end| (end.place, end.label));
    spread(&mut ends, top, bottom);
    for end in ends {
        canvas.path(&[end.at, (right + 12, end.place)], 1, end.colour)?;
        let label = fit(end.label, LABEL, WIDTH - 26 - right);
        canvas.text(right + 16, end.place, LABEL, Side::Start, INK, &label)?;
    }
    Ok(())
}

/// Where a line ends, and at which height its name is written.
struct End<'a> {
    place: i32,
    at: (i32, i32),
    label: &'a str,
    colour: RGBColor,
}

fn spread(ends: &mut [End], top: i32, bottom: i32) {
    const GAP: i32 = 17;
    let mut least = top;
    for end in ends.iter_mut() {
        end.place = end.place.max(least);
        least = end.place + GAP;
    }
    let mut most = bottom;
    for end in ends.iter_mut().rev() {
        end.place = end.place.min(most);
        most = end.place - GAP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_ends_never_overlap() {
        let end = |place| End { place, at: (0, place), label: "", colour: INK };
        let mut ends = [100, 101, 102, 299, 300].map(end);
        spread(&mut ends, 90, 300);
        let places = ends.map(|end| end.place);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 17), "{places:?}");
        assert!(places[0] >= 90 && places[4] <= 300);
    }

    #[test]
    fn every_series_is_named() {
        let series = |label: &str, shape| Series {
            label: label.into(),
            colour: RGBColor(1, 2, 3),
            shape,
            points: vec![(1.0, 40.0, 39.0, 41.0), (1e6, 9e6, f64::NAN, 9e6)],
        };
        let lines = Lines {
            words: Words { title: "t".into(), subtitle: String::new(), source: "s".into() },
            quantity: Quantity::Time,
            x_name: "elements".into(),
            series: vec![
                series("python list", Shape::Square),
                series("python copy", Shape::Triangle),
                series("python shared", Shape::Disc),
            ],
            levels: vec![("empty call".into(), 30.0)],
        };
        let svg = draw("boundary", &lines).unwrap().unwrap().svg;
        for label in ["python list", "python copy", "python shared", "empty call", "elements", "1,000,000"] {
            assert!(svg.contains(label), "{label}");
        }
        assert!(!svg.contains("NaN"));
    }
}
