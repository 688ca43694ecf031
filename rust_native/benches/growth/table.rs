//! The record of the bench `growth` and what the tokenizer's page shows of it.

use std::fmt::Write as _;

use super::page::between;

/// One text at one length, or one text's instructions.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `seconds`, `memory` (bytes beyond text and ids) or `instructions`.
    pub what: String,
    /// Which text.
    pub text: String,
    /// Its length.
    pub bytes: usize,
    /// Instruction set of the loops over text.
    pub path: String,
    /// Median, peak or count.
    pub value: f64,
}

const HEADER: &str = "what,text,bytes,path,value";

/// A record as CSV.
#[allow(dead_code, reason = "the bench writes, the test reads")]
pub fn write(rows: &[Row]) -> String {
    let mut text = format!("{HEADER}\n");
    for Row { what, text: name, bytes, path, value } in rows {
        writeln!(text, "{what},{name},{bytes},{path},{value:e}").expect("text grows");
    }
    text
}

/// A record from CSV, or the line that is none.
#[allow(dead_code, reason = "the bench writes, the test reads")]
pub fn read(text: &str) -> Result<Vec<Row>, String> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(format!("the first line is not `{HEADER}`"));
    }
    let row = |line: &str| {
        let [what, text, bytes, path, value] = line.split(',').collect::<Vec<_>>()[..] else { return None };
        let (bytes, value) = (bytes.parse().ok()?, value.parse().ok()?);
        Some(Row { what: what.into(), text: text.into(), bytes, path: path.into(), value })
    };
    lines.map(|line| row(line).ok_or_else(|| line.to_string())).collect()
}

/// `page` with the tables of `rows` between its markers, and where they come from.
///
/// # Errors
/// If the page has no place for one.
pub fn splice(page: &str, rows: &[Row], source: &str) -> Result<String, String> {
    let page = between(page, "record", &format!("Figures from [{source}](../../../{source})."))?;
    let page = between(&page, "growth", &growth(rows))?;
    between(&page, "instructions", &instructions(rows))
}

/// The slope of ln(value) over ln(bytes) by least squares: 1 where time is proportional to length.
pub fn exponent(points: &[(usize, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> =
        points.iter().map(|&(bytes, value)| ((bytes as f64).ln(), value.ln())).collect();
    let n = logs.len() as f64;
    let (x, y) = (logs.iter().map(|p| p.0).sum::<f64>() / n, logs.iter().map(|p| p.1).sum::<f64>() / n);
    let over: f64 = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    over / logs.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

fn growth(rows: &[Row]) -> String {
    let of = |what: &str, text: &str| -> Vec<(usize, f64)> {
        let found = rows.iter().filter(|row| row.what == what && row.text == text);
        found.map(|row| (row.bytes, row.value)).collect()
    };
    let mut texts: Vec<&Row> = rows.iter().filter(|row| row.what == "seconds").collect();
    texts.dedup_by_key(|row| &row.text);
    let mut table = String::from("| text |");
    let lengths: Vec<usize> = texts
        .first()
        .map(|row| of("seconds", &row.text))
        .unwrap_or_default()
        .into_iter()
        .map(|p| p.0)
        .collect();
    for bytes in &lengths {
        write!(table, " {} KiB |", bytes >> 10).expect("text grows");
    }
    table += " exponent | memory at the longest |\n| --- |";
    table += &" --- |".repeat(lengths.len() + 2);
    for row in texts {
        write!(table, "\n| {} |", row.text).expect("text grows");
        let points = of("seconds", &row.text);
        for &(bytes, seconds) in &points {
            write!(table, " {:.1} ns |", 1e9 * seconds / bytes as f64).expect("text grows");
        }
        let memory = of("memory", &row.text);
        let memory =
            memory.last().map_or("–".into(), |(_, bytes)| format!("{:.1} MiB", bytes / f64::from(1 << 20)));
        write!(table, " {:.2} | {memory} |", exponent(&points)).expect("text grows");
    }
    table
}

fn instructions(rows: &[Row]) -> String {
    let mut table = String::from("| text | instruction set | instructions a byte |\n| --- | --- | --- |");
    for row in rows.iter().filter(|row| row.what == "instructions") {
        write!(table, "\n| {}, {} KiB | {} | {:.2} |", row.text, row.bytes >> 10, row.path, row.value)
            .expect("text grows");
    }
    table
}
