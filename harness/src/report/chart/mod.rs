//! The kinds of chart, drawn by plotters into SVG text: bars and dots, parts of a whole, lines, forests.
//!
//! Every mark carries its name and its figure in words, every interval is drawn, bars begin at zero,
//! and a logarithmic axis is named in the title. No clock and no randomness: same data, same bytes.

mod axis;
mod bars;
mod canvas;
mod forest;
mod lines;
mod stack;

pub use axis::Scale;
pub use bars::{Bar, Bars, Panel, draw as draw_bars};
pub use forest::{Forest, ForestRow, Mark, draw as draw_forest};
pub use lines::{Lines, Series, Shape, draw as draw_lines};
pub use stack::{Stack, StackRow, draw as draw_stack};

/// Width of every chart in pixels.
pub const WIDTH: i32 = 960;

/// A drawn chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// File name without folder and ending.
    pub name: String,
    /// What it shows: the title, read out where it cannot be seen.
    pub title: String,
    /// The SVG file's text.
    pub svg: String,
}

/// Words around a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Words {
    /// What is shown, with the unit's meaning and the axis where it is logarithmic.
    pub title: String,
    /// How to read it; may be empty.
    pub subtitle: String,
    /// What it rests on.
    pub source: String,
}
