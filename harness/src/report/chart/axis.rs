//! Value axes: from a figure to a pixel, and where the ticks stand.

use super::canvas::{Canvas, Side};
use crate::report::format::{MISSING, Quantity};
use crate::report::palette::{GRID, INK, PALE_INK};
use anyhow::Result;

/// How figures become lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Zero-based.
    Linear,
    /// Decades of equal length; the chart's title says so.
    Log,
}

/// A value axis along `from..to` pixels (downwards axes have `from > to`).
pub struct Axis {
    scale: Scale,
    quantity: Quantity,
    low: f64,
    high: f64,
    from: i32,
    to: i32,
}

impl Axis {
    /// An axis that shows all of `values` (non-finite and, on log axes, non-positive ones are left
    /// out); `None` where nothing is left.
    pub fn over(
        values: impl Iterator<Item = f64>,
        scale: Scale,
        quantity: Quantity,
        from: i32,
        to: i32,
    ) -> Option<Axis> {
        let fit = |value: &f64| value.is_finite() && (scale == Scale::Linear || *value > 0.0);
        let (low, high) = values
            .filter(fit)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if !low.is_finite() {
            return None;
        }
        let (low, high) = match scale {
            Scale::Linear => (0.0, if high > 0.0 { high } else { 1.0 }),
            // Room around the outermost marks, and never an axis without length.
            Scale::Log => (low / 1.3, high * 1.3),
        };
        Some(Axis { scale, quantity, low, high, from, to })
    }

    /// The pixel of a value; values outside are moved to the border.
    pub fn at(&self, value: f64) -> i32 {
        let share = match self.scale {
            Scale::Linear => value / self.high,
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self.from + (f64::from(self.to - self.from) * share).round() as i32
    }

    /// Tick values with their labels.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let (factor, symbol) = self.quantity.unit(self.high);
                let room = (self.to - self.from).abs();
                let step = nice(self.high / factor / f64::from((room / 110).max(2)));
                let count = (self.high / factor / step + 1e-9).floor() as usize;
                (0..=count).map(|at| (at as f64 * step * factor, label(at as f64 * step, symbol))).collect()
            }
            Scale::Log => {
                // Pixels a decade decide how many labels have room in it.
                let decade = f64::from((self.to - self.from).abs()) / (self.high / self.low).log10();
                let inner: &[f64] = if decade > 480.0 {
                    &[1.0, 2.0, 3.0, 5.0, 7.0]
                } else if decade > 170.0 {
                    &[1.0, 3.0]
                } else {
                    &[1.0]
                };
                let first = self.low.log10().floor() as i32;
                let last = self.high.log10().ceil() as i32;
                let skip = (75.0 / decade).ceil().max(1.0) as i32;
                (first..=last)
                    .filter(|power| power.rem_euclid(skip) == 0)
                    .flat_map(|power| inner.iter().map(move |digit| digit * 10f64.powi(power)))
                    .filter(|value| (self.low..=self.high).contains(value))
                    .map(|value| {
                        let (factor, symbol) = self.quantity.unit(value);
                        (value, label(value / factor, symbol))
                    })
                    .collect()
            }
        }
    }

    /// Grid lines between `top` and `bottom` with labels below.
    pub fn draw_below(&self, canvas: &Canvas, top: i32, bottom: i32) -> Result<()> {
        for (value, label) in self.ticks() {
            let x = self.at(value);
            let colour = if self.scale == Scale::Linear && value == 0.0 { INK } else { GRID };
            canvas.path(&[(x, top), (x, bottom)], 1, colour)?;
            canvas.text(x, bottom + 11, 11, Side::Middle, PALE_INK, &label)?;
        }
        Ok(())
    }

    /// Grid lines between `left` and `right` with labels to the left.
    pub fn draw_left(&self, canvas: &Canvas, left: i32, right: i32) -> Result<()> {
        for (value, label) in self.ticks() {
            let y = self.at(value);
            canvas.path(&[(left, y), (right, y)], 1, GRID)?;
            canvas.text(left - 6, y, 11, Side::End, PALE_INK, &label)?;
        }
        Ok(())
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `rough`.
fn nice(rough: f64) -> f64 {
    let power = 10f64.powi(rough.log10().floor() as i32);
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= rough).unwrap_or(10.0 * power)
}

/// A round number without needless zeros.
fn label(value: f64, symbol: &str) -> String {
    if !value.is_finite() {
        return MISSING.into();
    }
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "0" { "0".into() } else { format!("{text}{symbol}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(values: &[f64], scale: Scale) -> Option<Axis> {
        Axis::over(values.iter().copied(), scale, Quantity::Time, 100, 600)
    }

    #[test]
    fn linear_axes_begin_at_zero() {
        let found = axis(&[4.2e6, f64::NAN], Scale::Linear).unwrap();
        assert_eq!((found.at(0.0), found.at(2.1e6), found.at(4.2e6), found.at(9e9)), (100, 350, 600, 600));
        let labels: Vec<String> = found.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0", "2 ms", "4 ms"]);
    }

    #[test]
    fn log_axes_leave_room_and_never_divide_by_zero() {
        let found = axis(&[1e3, 1e6, 0.0, f64::INFINITY], Scale::Log).unwrap();
        assert!(found.at(1e3) > 100 && found.at(1e6) < 600);
        assert_eq!(
            found.ticks().iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>(),
            ["1 µs", "10 µs", "100 µs", "1 ms"]
        );
        let single = axis(&[5e3], Scale::Log).unwrap();
        assert!((100..=600).contains(&single.at(5e3)) && !single.ticks().is_empty());
        assert!(axis(&[0.0, f64::NAN], Scale::Log).is_none());
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([nice(0.3), nice(1.0), nice(2.1), nice(6.0)], [0.5, 1.0, 5.0, 10.0]);
    }
}
