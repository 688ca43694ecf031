//! The tables of README.md are those of the record that it names.

#[path = "../benches/page/mod.rs"]
mod page;
#[path = "../benches/shares/table.rs"]
mod table;

#[test]
fn the_page_shows_its_record() {
    let (text, source, record) = page::shown("kernels/README.md");
    let rows = table::read(&record).expect("a record");
    assert_eq!(table::splice(&text, &rows, &source).expect("places for all tables"), text);
}

#[test]
fn a_record_reads_back_and_a_torn_one_is_refused() {
    let page = "<!-- record --><!-- end of record --><!-- shares of a --><!-- end of shares of a -->";
    let row = |kernel: &str| table::Row {
        kernel: kernel.into(),
        rows: "1 x 512".into(),
        precision: "f32".into(),
        path: "avx512".into(),
        seconds: 0.000_25,
        bytes: 5_000_000,
        operations: 2_000_000,
        limit: "memory".into(),
        share: [0.85, 0.9, 0.95],
    };
    let text = table::write(&[row("a")]);
    assert_eq!(table::read(&text), Ok(vec![row("a")]));
    assert!(table::read(&text[..text.len() - 20]).is_err());
    assert!(table::read("kernel\n").is_err());
    let shown = table::splice(page, &[row("a")], "results/kernels/x.csv").expect("a place");
    let line =
        "| 1 x 512 | f32 | avx512 | 250.0 µs | 5.00 MB, 20.0 GB/s | 8.0 GOP/s | 90 % of memory (85–95) |";
    assert!(shown.contains(line), "{shown}");
    assert_eq!(table::splice(&shown, &[row("a")], "results/kernels/x.csv"), Ok(shown.clone()));
    assert!(table::splice(page, &[row("b")], "x").unwrap_err().contains("<!-- shares of b -->"));
}
