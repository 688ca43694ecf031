//! A sheet in pixels with the few marks charts are made of. Wraps plotters' SVG backend.

use super::{WIDTH, Words};
use crate::report::html::escape;
use crate::report::palette::{INK, PALE_INK, PAPER};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Size of ordinary labels in pixels.
pub const LABEL: i32 = 13;
/// Where the first row below the title begins.
pub const TOP: i32 = 72;
/// Room below the last row for the source line.
pub const BOTTOM: i32 = 30;

/// Where a text's x lies in it.
#[derive(Clone, Copy, PartialEq)]
pub enum Side {
    /// The text begins there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

/// The sheet.
pub struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

/// Draws a sheet of `height` pixels with title and source, and `body` on it.
pub fn sheet(height: i32, words: &Words, body: impl FnOnce(&Canvas) -> Result<()>) -> Result<String> {
    let room = WIDTH - 40;
    // Both are ours, so too long a line is a bug; what it rests on is the record's.
    debug_assert!(
        width_of(&words.title, 19) <= room && width_of(&words.subtitle, LABEL) <= room,
        "{words:?}"
    );
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH as u32, height as u32)).into_drawing_area();
        let canvas = Canvas { area };
        canvas.area.fill(&PAPER).map_err(wrap)?;
        canvas.words(20, 26, 18, Side::Start, INK, true, &words.title)?;
        canvas.text(20, 48, LABEL, Side::Start, PALE_INK, &words.subtitle)?;
        body(&canvas)?;
        canvas.text(20, height - 12, 11, Side::Start, PALE_INK, &fit(&words.source, 11, room))?;
        canvas.area.present().map_err(wrap)?;
    }
    let named = format!(
        "<svg role=\"img\" aria-label=\"{}\" font-family=\"sans-serif\" ",
        escape(&words.title).replace('\n', " ")
    );
    Ok(text.replacen("<svg ", &named, 1))
}

fn wrap<E: std::error::Error + Send + Sync>(error: E) -> anyhow::Error {
    anyhow!("cannot draw a chart: {error}")
}

/// Pixels that `text` needs at most in `size`: wide sans-serif faces average 0.6 em a character.
pub fn width_of(text: &str, size: i32) -> i32 {
    (text.chars().count() as f64 * f64::from(size) * 0.6).ceil() as i32
}

/// `text`, cut with an ellipsis where it needs more than `width` pixels.
pub fn fit(text: &str, size: i32, width: i32) -> String {
    if width_of(text, size) <= width {
        return text.into();
    }
    let keep = (f64::from(width) / (f64::from(size) * 0.6)).floor() as usize;
    text.chars().take(keep.saturating_sub(1)).chain(['…']).collect()
}

impl Canvas<'_> {
    /// Plain text, vertically centred on `y`.
    pub fn text(&self, x: i32, y: i32, size: i32, side: Side, colour: RGBColor, text: &str) -> Result<()> {
        self.words(x, y, size, side, colour, false, text)
    }

    /// Text, plain or bold.
    #[allow(clippy::too_many_arguments)] // a mark is its place and its looks
    pub fn words(
        &self,
        x: i32,
        y: i32,
        size: i32,
        side: Side,
        colour: RGBColor,
        bold: bool,
        text: &str,
    ) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let face = if bold { FontStyle::Bold } else { FontStyle::Normal };
        // The backend divides sizes by 1.24 on their way into the file.
        let font = FontDesc::new(FontFamily::SansSerif, f64::from(size) * 1.24, face);
        let at = match side {
            Side::Start => HPos::Left,
            Side::Middle => HPos::Center,
            Side::End => HPos::Right,
        };
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(at, VPos::Center));
        self.area.draw_text(text, &style, (x, y)).map_err(wrap)
    }

    /// A filled rectangle.
    pub fn rect(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
        self.area.draw(&Rectangle::new([from, to], colour.filled())).map_err(wrap)
    }

    /// A line through points.
    pub fn path(&self, points: &[(i32, i32)], width: u32, colour: RGBColor) -> Result<()> {
        self.area.draw(&PathElement::new(points.to_vec(), colour.stroke_width(width))).map_err(wrap)
    }

    /// A dashed horizontal line.
    pub fn dashes(&self, x: (i32, i32), y: i32, colour: RGBColor) -> Result<()> {
        let mut from = x.0;
        while from < x.1 {
            self.path(&[(from, y), ((from + 5).min(x.1), y)], 1, colour)?;
            from += 9;
        }
        Ok(())
    }

    /// A filled disc.
    pub fn disc(&self, at: (i32, i32), radius: i32, colour: RGBColor) -> Result<()> {
        self.area.draw(&Circle::new(at, radius, colour.filled())).map_err(wrap)
    }

    /// A filled polygon.
    pub fn polygon(&self, points: &[(i32, i32)], colour: RGBColor) -> Result<()> {
        self.area.draw(&Polygon::new(points.to_vec(), colour)).map_err(wrap)
    }

    /// A horizontal interval with end caps.
    pub fn whisker(&self, x: (i32, i32), y: i32, cap: i32, colour: RGBColor) -> Result<()> {
        self.path(&[(x.0, y), (x.1, y)], 1, colour)?;
        self.path(&[(x.0, y - cap), (x.0, y + cap)], 1, colour)?;
        self.path(&[(x.1, y - cap), (x.1, y + cap)], 1, colour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_short_ones_kept() {
        assert_eq!(fit("native/cpu-f32", 13, 200), "native/cpu-f32");
        let cut = fit("python/transformers-with-everything", 13, 100);
        assert!(cut.ends_with('…') && width_of(&cut, 13) <= 100, "{cut}");
    }
}
