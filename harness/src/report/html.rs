//! A page as one HTML file: style and charts inside, no script, nothing fetched, fit for print.

use super::page::{Block, Line, Page, Span, Table};
use std::collections::BTreeMap;
use std::fmt::Write;

const STYLE: &str = "\
body{font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;color:#222;\
background:#fff;max-width:66rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.9rem;line-height:1.2}\
h2{font-size:1.4rem;margin-top:2.6rem;border-bottom:2px solid #ddd;padding-bottom:.2rem}\
h3{font-size:1.1rem;margin-top:1.8rem}\
a{color:#005a8c}\
code{font:.88em ui-monospace,'DejaVu Sans Mono',monospace;background:#f3f3f3;padding:.05em .25em;\
border-radius:3px;overflow-wrap:anywhere}\
pre{background:#f3f3f3;padding:.8rem 1rem;overflow-x:auto}pre code{padding:0}\
blockquote{margin:.6rem 0;padding:.2rem 1rem;border-left:4px solid #ccc;color:#444}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;margin:1rem 0;font-size:.88rem;font-variant-numeric:tabular-nums}\
caption{text-align:left;color:#555;padding-bottom:.4rem}\
th,td{text-align:left;vertical-align:top;padding:.25rem .7rem .25rem 0;border-bottom:1px solid #e4e4e4;\
font-weight:normal}\
thead th{font-weight:600;border-bottom:2px solid #999}\
td code,tbody th code{white-space:nowrap}\
.r{text-align:right}\
figure{margin:1.2rem 0}figure svg{max-width:100%;height:auto}\
@media print{body{max-width:none;margin:0;font-size:10pt}h2,h3{break-after:avoid}\
figure,tr{break-inside:avoid}.wide{overflow:visible}a{color:inherit}table{font-size:7.5pt}\
figure svg{max-height:24cm;width:auto}}@page{margin:14mm}";

/// Renders the page; `charts` holds the SVG text of every chart it names.
pub fn render(page: &Page, charts: &BTreeMap<String, String>) -> String {
    let title = page
        .blocks
        .iter()
        .find_map(|block| match block {
            Block::Heading { level: 1, text, .. } => Some(text.as_str()),
            _ => None,
        })
        .unwrap_or("Assay");
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape(title)
    );
    for block in &page.blocks {
        put(&mut out, block, charts);
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn put(out: &mut String, block: &Block, charts: &BTreeMap<String, String>) {
    // Writing to a String cannot fail.
    let _ = match block {
        Block::Heading { level, id, text } => {
            writeln!(out, "<h{level} id=\"{}\">{}</h{level}>", escape(id), escape(text))
        }
        Block::Para(text) => writeln!(out, "<p>{}</p>", line(text)),
        Block::Quote(text) => writeln!(out, "<blockquote><p>{}</p></blockquote>", line(text)),
        Block::Items(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", line(item))).collect();
            writeln!(out, "<ul>\n{items}</ul>")
        }
        Block::Commands(text) => writeln!(out, "<pre><code>{}</code></pre>", escape(text.trim_end())),
        Block::Chart { name, alt } => match charts.get(name) {
            Some(svg) => writeln!(out, "<figure>\n{}</figure>", inline(svg)),
            None => writeln!(out, "<p>{}</p>", escape(alt)),
        },
        Block::Table(found) => {
            table(out, found);
            Ok(())
        }
    };
}

/// The chart without its XML declaration, which has no place inside a page.
fn inline(svg: &str) -> &str {
    svg.find("<svg").map_or(svg, |at| &svg[at..])
}

fn table(out: &mut String, table: &Table) {
    let right: Vec<bool> = table.columns.iter().map(|name| name.starts_with('>')).collect();
    let class = |at: usize| if right[at] { " class=\"r\"" } else { "" };
    out.push_str("<div class=\"wide\"><table>\n");
    let caption = line(&table.caption);
    if !caption.is_empty() {
        let _ = writeln!(out, "<caption>{caption}</caption>");
    }
    out.push_str("<thead><tr>");
    for (at, name) in table.columns.iter().enumerate() {
        let _ = write!(out, "<th scope=\"col\"{}>{}</th>", class(at), escape(name.trim_start_matches('>')));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for (nth, row) in table.rows.iter().enumerate() {
        out.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let _ = match at {
                0 if cell.0.is_empty() => Ok(()),
                0 => {
                    // A row without a name belongs to the named one above it.
                    let rest = table.rows[nth + 1..].iter();
                    match 1 + rest.take_while(|row| row.first().is_some_and(|cell| cell.0.is_empty())).count()
                    {
                        1 => write!(out, "<th scope=\"row\"{}>{}</th>", class(at), line(cell)),
                        span => write!(out, "<th scope=\"rowgroup\" rowspan=\"{span}\">{}</th>", line(cell)),
                    }
                }
                _ => write!(out, "<td{}>{}</td>", class(at), line(cell)),
            };
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
}

fn line(line: &Line) -> String {
    line.0
        .iter()
        .map(|span| match span {
            Span::Text(text) => escape(text),
            Span::Code(text) => format!("<code>{}</code>", escape(text)),
            Span::Strong(text) => format!("<strong>{}</strong>", escape(text)),
            Span::Link { text, href } => format!("<a href=\"{}\">{}</a>", escape(href), escape(text)),
        })
        .collect()
}

/// Text fit for element content and quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_and_charts_come_inside() {
        let mut page = Page::default();
        page.heading(1, "A <b>");
        page.chart("c", "no chart");
        page.chart("d", "no \"d\"");
        let charts = BTreeMap::from([("c".into(), "<?xml version=\"1.0\"?>\n<svg></svg>\n".into())]);
        let text = render(&page, &charts);
        assert!(
            text.contains("<title>A &lt;b&gt;</title>") && text.contains("<h1 id=\"a-b\">A &lt;b&gt;</h1>")
        );
        assert!(text.contains("<figure>\n<svg></svg>\n</figure>") && !text.contains("<?xml"));
        assert!(text.contains("<p>no &quot;d&quot;</p>"));
    }
}
