//! Parts of a whole: one stacked bar a row, each part with its share, from zero.

use super::axis::{Axis, Scale};
use super::canvas::{BOTTOM, Canvas, LABEL, Side, TOP, sheet, width_of};
use super::{Chart, WIDTH, Words};
use crate::report::format::Quantity;
use crate::report::palette::{INK, PAPER, step, text_on};
use anyhow::Result;

/// One stacked bar.
#[derive(Clone, Debug, PartialEq)]
pub struct StackRow {
    /// Whose.
    pub label: String,
    /// Length of each part, in the order of [`Stack::parts`]; `None` where it was not measured.
    pub parts: Vec<Option<f64>>,
}

/// A chart of stacked bars. Rows of one panel share an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// Words around it.
    pub words: Words,
    /// What is counted.
    pub quantity: Quantity,
    /// Names of the parts, in order.
    pub parts: Vec<String>,
    /// Panels: heading, which parts it shows, rows.
    pub panels: Vec<(String, std::ops::Range<usize>, Vec<StackRow>)>,
}

const ROW: i32 = 30;
const HEAD: i32 = 52;
const FOOT: i32 = 34;

/// Draws the chart; `None` where no row has a part.
pub fn draw(name: &str, stack: &Stack) -> Result<Option<Chart>> {
    let panels: Vec<_> = stack.panels.iter().filter(|(_, _, rows)| !rows.is_empty()).collect();
    if panels.is_empty() {
        return Ok(None);
    }
    let tall = |rows: &[StackRow]| HEAD + ROW * rows.len() as i32 + FOOT;
    let height = TOP + panels.iter().map(|(_, _, rows)| tall(rows)).sum::<i32>() + BOTTOM;
    let svg = sheet(height, &stack.words, |canvas| {
        let names = panels
            .iter()
            .flat_map(|(_, _, rows)| rows)
            .map(|row| width_of(&row.label, LABEL))
            .max()
            .unwrap_or(0);
        let mut top = TOP;
        for (heading, parts, rows) in &panels {
            draw_panel(canvas, stack, heading, parts.clone(), rows, 20 + names.min(380) + 8, top)?;
            top += tall(rows);
        }
        Ok(())
    })?;
    Ok(Some(Chart { name: name.into(), title: stack.words.title.clone(), svg }))
}

fn draw_panel(
    canvas: &Canvas,
    stack: &Stack,
    heading: &str,
    parts: std::ops::Range<usize>,
    rows: &[StackRow],
    from: i32,
    top: i32,
) -> Result<()> {
    let of = |row: &StackRow| -> Vec<(usize, f64)> {
        parts.clone().filter_map(|at| Some((at, row.parts.get(at).copied().flatten()?))).collect()
    };
    let total = |row: &StackRow| of(row).iter().map(|(_, length)| length).sum::<f64>();
    let to = WIDTH - 20 - 90;
    let Some(axis) = Axis::over(rows.iter().map(total), Scale::Linear, stack.quantity, from, to) else {
        return Ok(());
    };
    canvas.words(20, top + 8, 14, Side::Start, INK, true, heading)?;
    let mut x = 20;
    for at in parts.clone() {
        canvas.rect((x, top + 24), (x + 14, top + 36), step(at - parts.start, parts.len()))?;
        canvas.text(x + 20, top + 30, LABEL, Side::Start, INK, &stack.parts[at])?;
        x += 20 + width_of(&stack.parts[at], LABEL) + 18;
    }
    let first = top + HEAD;
    axis.draw_below(canvas, first - 4, first + ROW * rows.len() as i32)?;
    for (at, row) in rows.iter().enumerate() {
        let y = first + ROW * at as i32 + ROW / 2 - 2;
        canvas.text(from - 8, y, LABEL, Side::End, INK, &row.label)?;
        let whole = total(row);
        let mut sum = 0.0;
        for (part, length) in of(row) {
            let (begin, end) = (axis.at(sum), axis.at(sum + length));
            sum += length;
            let colour = step(part - parts.start, parts.len());
            canvas.rect((begin, y - 10), (end, y + 10), colour)?;
            canvas.path(&[(end, y - 10), (end, y + 10)], 1, PAPER)?;
            let share = Quantity::Share.show(length / whole);
            if width_of(&share, 11) + 4 < end - begin {
                canvas.text((begin + end) / 2, y, 11, Side::Middle, text_on(colour), &share)?;
            }
        }
        canvas.text(axis.at(whole) + 8, y, LABEL, Side::Start, INK, &stack.quantity.show(whole))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_and_shares_add_up() {
        let rows = vec![StackRow { label: "native/cpu-f32".into(), parts: vec![Some(1e6), None, Some(3e6)] }];
        let stack = Stack {
            words: Words { title: "t".into(), subtitle: String::new(), source: "s".into() },
            quantity: Quantity::Time,
            parts: vec!["load".into(), "prefill".into(), "decode".into()],
            panels: vec![("one request".into(), 0..3, rows), ("nobody".into(), 0..3, vec![])],
        };
        let svg = draw("stages", &stack).unwrap().unwrap().svg;
        for label in
            ["native/cpu-f32", "load", "prefill", "decode", "25.0 %", "75.0 %", "4.00 ms", "one request"]
        {
            assert!(svg.contains(label), "{label}");
        }
        assert!(!svg.contains("nobody") && !svg.contains("NaN"));
    }
}
