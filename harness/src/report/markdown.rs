//! A page as Markdown (GitHub's flavour). Charts are links to `charts/*.svg`.

use super::page::{Block, Line, Page, Span, Table};
use std::fmt::Write;

/// Renders the page; ends with a newline.
pub fn render(page: &Page) -> String {
    let mut out = String::new();
    for block in &page.blocks {
        if !out.is_empty() {
            out.push('\n');
        }
        put(&mut out, block);
    }
    out
}

fn put(out: &mut String, block: &Block) {
    // Writing to a String cannot fail.
    let _ = match block {
        Block::Heading { level: 1, text, .. } => writeln!(out, "# {}", escape(text)),
        Block::Heading { level, id, text } => {
            writeln!(out, "<a id=\"{id}\"></a>\n\n{} {}", "#".repeat(usize::from(*level)), escape(text))
        }
        Block::Para(text) => writeln!(out, "{}", line(text)),
        Block::Quote(text) => writeln!(out, "> {}", line(text)),
        Block::Items(items) => items.iter().try_for_each(|item| writeln!(out, "- {}", line(item))),
        Block::Commands(text) => writeln!(out, "```\n{}\n```", text.trim_end()),
        Block::Chart { name, alt } => writeln!(out, "![{}](charts/{name}.svg)", escape(alt)),
        Block::Table(found) => {
            out.push_str(&table(found));
            Ok(())
        }
    };
}

/// A table by itself, as the README takes it.
pub fn table(table: &Table) -> String {
    let mut out = String::new();
    let caption = line(&table.caption);
    if !caption.is_empty() {
        let _ = writeln!(out, "{caption}\n");
    }
    let names: Vec<&str> = table.columns.iter().map(|name| name.trim_start_matches('>')).collect();
    let _ = writeln!(out, "| {} |", names.join(" | "));
    let rule: Vec<&str> =
        table.columns.iter().map(|name| if name.starts_with('>') { "---:" } else { "---" }).collect();
    let _ = writeln!(out, "| {} |", rule.join(" | "));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(line).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out
}

/// One line of spans.
pub fn line(line: &Line) -> String {
    line.0
        .iter()
        .map(|span| match span {
            Span::Text(text) => escape(text),
            Span::Code(text) => {
                format!("`{}`", text.replace('`', "'").replace('|', "\\|").replace('\n', " "))
            }
            Span::Strong(text) => {
                // Emphasis ends at a word, so a blank after it stands outside.
                let words = text.trim_end();
                format!("**{}**{}", escape(words), &text[words.len()..])
            }
            Span::Link { text, href } => format!("[{}]({href})", escape(text)),
        })
        .collect()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '|' | '#' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\r' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emphasis_ends_at_a_word() {
        assert_eq!(line(&Line::default().strong("Test. ").text("x")), "**Test.** x");
    }

    #[test]
    fn names_cannot_break_a_table() {
        let mut page = Page::default();
        page.table("", &["who", ">ms"], vec![vec!["a|b\nc*_<i>".into(), Line::default().code("x|`y`")]], "");
        assert_eq!(render(&page), "| who | ms |\n| --- | ---: |\n| a\\|b c\\*\\_&lt;i&gt; | `x\\|'y'` |\n");
    }
}
