//! Numbers as people read them: three significant digits, SI units, intervals in the value's unit.
//!
//! The integer part is never cut (1234 s stays 1234 s). What was not measured is [`MISSING`], never 0.

use crate::summary::{Clock, Estimate};

/// Stands where there is no figure; the reason stands elsewhere.
pub const MISSING: &str = "—";

/// What a figure counts, and so the ladder of units it is printed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Nanoseconds.
    Time,
    /// Bytes, printed in binary units.
    Bytes,
    /// Bytes a second, printed in decimal units.
    BytesPerS,
    /// Things a second.
    PerS,
    /// A factor.
    Factor,
    /// A share of one, printed in per cent.
    Share,
}

impl Quantity {
    /// Units from small to large: factor, symbol.
    fn units(self) -> &'static [(f64, &'static str)] {
        match self {
            Quantity::Time => &[(1.0, " ns"), (1e3, " µs"), (1e6, " ms"), (1e9, " s")],
            Quantity::Bytes => &[(1.0, " B"), (1024.0, " KiB"), (1048576.0, " MiB"), (1073741824.0, " GiB")],
            Quantity::BytesPerS => &[(1.0, " B/s"), (1e3, " kB/s"), (1e6, " MB/s"), (1e9, " GB/s")],
            Quantity::PerS => &[(1.0, " /s"), (1e3, " k/s"), (1e6, " M/s"), (1e9, " G/s")],
            Quantity::Factor => &[(1.0, "×")],
            Quantity::Share => &[(0.01, " %")],
        }
    }

    /// Factor and symbol in which `value` has an integer part of at most three digits, where there is
    /// such a unit.
    pub fn unit(self, value: f64) -> (f64, &'static str) {
        let units = self.units();
        let steps = if self == Quantity::Bytes { 1023.5 } else { 999.5 };
        *units.iter().find(|(factor, _)| value.abs() / factor < steps).unwrap_or(&units[units.len() - 1])
    }

    /// `1.23 ms`; [`MISSING`] for what is no number.
    pub fn show(self, value: f64) -> String {
        if !value.is_finite() {
            return MISSING.into();
        }
        let (factor, symbol) = self.unit(value);
        format!("{}{symbol}", digits(value / factor))
    }

    /// `1.23 ms [1.20..1.27]`: the ends in the value's unit and with at least its decimals.
    pub fn show_estimate(self, estimate: &Estimate) -> String {
        self.show_interval(estimate.value, estimate.lo, estimate.hi)
    }

    /// [`Quantity::show_estimate`] from loose numbers. An end that is not finite is [`MISSING`].
    pub fn show_interval(self, value: f64, lo: f64, hi: f64) -> String {
        if !value.is_finite() {
            return MISSING.into();
        }
        let (factor, _) = self.unit(value);
        let (lo, hi) = (lo / factor, hi / factor);
        // Ends that differ shall read differently, if two more decimals can do it.
        let least = decimals(value / factor);
        let alike = |places: &usize| format!("{lo:.places$}") == format!("{hi:.places$}");
        let places = (least..=least + 2).find(|places| lo == hi || !alike(places)).unwrap_or(least);
        let end = |x: f64| {
            if !x.is_finite() {
                MISSING.to_string()
            } else if x != 0.0 && x.abs() < 0.5 * 10f64.powi(-(places as i32)) {
                digits(x) // it would read as zero
            } else {
                format!("{x:.places$}")
            }
        };
        format!("{} [{}..{}]", self.show(value), end(lo), end(hi))
    }
}

/// Decimals that leave three significant digits.
fn decimals(value: f64) -> usize {
    if value == 0.0 || !value.is_finite() {
        return 0;
    }
    // Round first: 9.996 has the magnitude of 10.
    let magnitude = format!("{:.2e}", value.abs());
    let exponent: i32 = magnitude.split('e').nth(1).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    (2 - exponent).clamp(0, 12) as usize
}

/// Three significant digits, no exponent.
pub fn digits(value: f64) -> String {
    if !value.is_finite() {
        return MISSING.into();
    }
    format!("{value:.*}", decimals(value))
}

/// A small error, `1.2e-5`.
pub fn scientific(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else if value.is_finite() {
        format!("{value:.1e}")
    } else {
        MISSING.into()
    }
}

/// `1,234,567`.
pub fn grouped(count: u64) -> String {
    let plain = count.to_string();
    let mut out = String::new();
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The clock in prose.
pub fn clock_words(clock: Clock) -> &'static str {
    match clock {
        Clock::Wall => "wall",
        Clock::Cpu => "CPU",
        Clock::SinceSpawn => "since spawn",
        Clock::Device => "device",
        Clock::None => MISSING,
    }
}

/// Seconds since 1970 as `2026-11-21 08:12 UTC` (proleptic Gregorian, days from civil reversed;
/// algorithm: Howard Hinnant, "chrono-compatible low-level date algorithms").
pub fn date(unix: u64) -> String {
    let (days, rest) = ((unix / 86_400) as i64, unix % 86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_the_right_unit() {
        for (quantity, value, says) in [
            (Quantity::Time, 0.0, "0 ns"),
            (Quantity::Time, 1.0, "1.00 ns"),
            (Quantity::Time, 999.4, "999 ns"),
            (Quantity::Time, 999.6, "1.00 µs"),
            (Quantity::Time, 12_345_678.0, "12.3 ms"),
            (Quantity::Time, 1.2345e12, "1234 s"),
            (Quantity::Bytes, 1023.0, "1023 B"),
            (Quantity::Bytes, 1023.7, "1.00 KiB"),
            (Quantity::Bytes, 367_001_600.0, "350 MiB"),
            (Quantity::BytesPerS, 5_432_100.0, "5.43 MB/s"),
            (Quantity::PerS, 12_345.0, "12.3 k/s"),
            (Quantity::Factor, 0.01234, "0.0123×"),
            (Quantity::Factor, 9.996, "10.0×"),
            (Quantity::Factor, 1234.4, "1234×"),
            (Quantity::Share, 0.4567, "45.7 %"),
            (Quantity::Time, f64::NAN, MISSING),
            (Quantity::Time, f64::INFINITY, MISSING),
        ] {
            assert_eq!(quantity.show(value), says, "{value}");
        }
    }

    #[test]
    fn intervals_share_the_unit_of_the_value() {
        let estimate = Estimate { value: 1_234_000.0, lo: 998_000.0, hi: 1_300_000.0, n: 9 };
        assert_eq!(Quantity::Time.show_estimate(&estimate), "1.23 ms [1.00..1.30]");
        assert_eq!(Quantity::Time.show_interval(5.0, f64::NAN, 6.0), "5.00 ns [—..6.00]");
        assert_eq!(Quantity::Factor.show_interval(250.0, 0.25, 900.0), "250× [0.250..900]");
        assert_eq!(Quantity::Factor.show_interval(1.101, 1.0998, 1.1043), "1.10× [1.100..1.104]");
        assert_eq!(Quantity::Factor.show_interval(2.0, 2.0, 2.0), "2.00× [2.00..2.00]");
    }

    #[test]
    fn dates_and_groups() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_248_763), "2026-11-21 08:12 UTC");
        assert_eq!([grouped(0), grouped(999), grouped(1_000_000)], ["0", "999", "1,000,000"]);
        assert_eq!([scientific(0.0), scientific(1.234e-5), scientific(f64::NAN)], ["0", "1.2e-5", "—"]);
    }
}
