//! The record of the bench `shares` and what kernels/README.md shows of it. The test of the same name holds
//! the page to the record, so that no figure there is typed.

use std::fmt::Write as _;

use super::page::between;

/// One kernel, at one number of rows, in one precision.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which kernel; the page has a table of each.
    pub kernel: String,
    /// Rows of activations, or sequences times new positions.
    pub rows: String,
    /// Of the weights, or of the cache.
    pub precision: String,
    /// Instructions in use.
    pub path: String,
    /// Median seconds of a call.
    pub seconds: f64,
    /// What a call must read from memory.
    pub bytes: u64,
    /// Multiplications and additions of a call.
    pub operations: u64,
    /// `memory` or `arithmetic`: whichever takes longer at its best.
    pub limit: String,
    /// The limit's time over the call's, formed inside a round: lower quartile, median, upper quartile.
    pub share: [f64; 3],
}

/// First line of a record.
const HEADER: &str = "kernel,rows,precision,path,seconds,bytes,operations,limit,share_low,share,share_high";

/// A record as CSV.
#[allow(dead_code, reason = "the bench writes, the test reads")]
pub fn write(rows: &[Row]) -> String {
    let mut text = format!("{HEADER}\n");
    for row in rows {
        let [low, share, high] = row.share;
        let Row { kernel, rows, precision, path, seconds, bytes, operations, limit, .. } = row;
        writeln!(
            text,
            "{kernel},{rows},{precision},{path},{seconds:.9},{bytes},{operations},{limit},{low:.4},{share:.4},{high:.4}"
        )
        .expect("text grows");
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
    lines.map(|line| row(line).ok_or_else(|| line.to_string())).collect()
}

fn row(line: &str) -> Option<Row> {
    let fields: Vec<&str> = line.split(',').collect();
    let [kernel, rows, precision, path, seconds, bytes, operations, limit, low, share, high] = fields[..]
    else {
        return None;
    };
    Some(Row {
        kernel: kernel.into(),
        rows: rows.into(),
        precision: precision.into(),
        path: path.into(),
        seconds: seconds.parse().ok()?,
        bytes: bytes.parse().ok()?,
        operations: operations.parse().ok()?,
        limit: limit.into(),
        share: [low.parse().ok()?, share.parse().ok()?, high.parse().ok()?],
    })
}

/// `page` with the tables of `rows` between its markers, one pair of them a kernel, and where they come from.
///
/// # Errors
/// If a kernel of the record has no marker in the page.
pub fn splice(page: &str, rows: &[Row], source: &str) -> Result<String, String> {
    let mut kernels: Vec<&str> = rows.iter().map(|row| row.kernel.as_str()).collect();
    kernels.dedup();
    let mut page = between(page, "record", &format!("Figures from [{source}](../{source})."))?;
    for kernel in kernels {
        page = between(
            &page,
            &format!("shares of {kernel}"),
            &table(rows.iter().filter(|row| row.kernel == kernel)),
        )?;
    }
    Ok(page)
}

fn table<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut text = String::from(
        "| rows | precision | path | a call | reads | computes | share of the limit |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let [low, share, high] = row.share.map(|share| 100.0 * share);
        let rate = |amount: u64| 1e-9 * amount as f64 / row.seconds;
        writeln!(
            text,
            "| {} | {} | {} | {:.1} µs | {:.2} MB, {:.1} GB/s | {:.1} GOP/s | {share:.0} % of {} ({low:.0}–{high:.0}) |",
            row.rows,
            row.precision,
            row.path,
            1e6 * row.seconds,
            1e-6 * row.bytes as f64,
            rate(row.bytes),
            rate(row.operations),
            row.limit
        )
        .expect("text grows");
    }
    text
}
