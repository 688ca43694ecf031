//! The tables of the tokenizer's page are those of the record that it names.

#[path = "../../kernels/benches/page/mod.rs"]
mod page;
#[path = "../benches/growth/table.rs"]
mod table;

#[test]
fn the_page_shows_its_record() {
    let (text, source, record) = page::shown("rust_native/src/bpe/README.md");
    let rows = table::read(&record).expect("a record");
    assert_eq!(table::splice(&text, &rows, &source).expect("places for all tables"), text);
}

#[test]
fn an_exponent_is_one_for_what_is_proportional_and_two_for_squares() {
    let points =
        |power: i32| [1usize, 4, 16, 64].map(|bytes| (bytes << 10, 3.0 * (bytes as f64).powi(power)));
    for power in 1..=3 {
        assert!((table::exponent(&points(power)) - f64::from(power)).abs() < 1e-9);
    }
}

#[test]
fn a_record_reads_back_and_a_torn_one_is_refused() {
    let row = |what: &str, bytes: usize, value: f64| table::Row {
        what: what.into(),
        text: "words".into(),
        bytes,
        path: "avx2".into(),
        value,
    };
    let rows = [
        row("seconds", 1 << 16, 6.5536e-5),
        row("seconds", 1 << 20, 1.048_576e-3),
        row("memory", 1 << 20, 3_145_728.0),
        row("instructions", 1 << 18, 4.5),
    ];
    let text = table::write(&rows);
    assert_eq!(table::read(&text), Ok(rows.to_vec()));
    assert!(table::read(&text[..text.len() - 8]).is_err());
    let page =
        ["record", "growth", "instructions"].map(|name| format!("<!-- {name} --><!-- end of {name} -->"));
    let shown = table::splice(&page.concat(), &rows, "results/bpe/x.csv").expect("places");
    assert!(shown.contains("| words | 1.0 ns | 1.0 ns | 1.00 | 3.0 MiB |"), "{shown}");
    assert!(shown.contains("| words, 256 KiB | avx2 | 4.50 |"), "{shown}");
}
