//! A page: headings, paragraphs, tables and charts, said once and printed as Markdown and as HTML.
//!
//! Sections build blocks; they never write markup, so no renderer can forget to escape a name.

/// A run of text inside a line.
#[derive(Clone, Debug, PartialEq)]
pub enum Span {
    /// Plain words.
    Text(String),
    /// A name as it is typed.
    Code(String),
    /// Words that must not be missed.
    Strong(String),
    /// A reference.
    Link {
        /// What is read.
        text: String,
        /// Where it leads: `#anchor` or a relative path.
        href: String,
    },
}

/// Spans that belong on one line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line(pub Vec<Span>);

impl Line {
    /// Adds plain words.
    pub fn text(mut self, text: impl Into<String>) -> Line {
        self.0.push(Span::Text(text.into()));
        self
    }
    /// Adds a name.
    pub fn code(mut self, text: impl Into<String>) -> Line {
        self.0.push(Span::Code(text.into()));
        self
    }
    /// Adds strong words.
    pub fn strong(mut self, text: impl Into<String>) -> Line {
        self.0.push(Span::Strong(text.into()));
        self
    }
    /// Adds a reference.
    pub fn link(mut self, text: impl Into<String>, href: impl Into<String>) -> Line {
        self.0.push(Span::Link { text: text.into(), href: href.into() });
        self
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Line {
        Line::default().text(text)
    }
}
impl From<String> for Line {
    fn from(text: String) -> Line {
        Line::default().text(text)
    }
}

/// An empty line to build on.
pub fn line() -> Line {
    Line::default()
}

/// A line that is one name.
pub fn code(text: &str) -> Line {
    Line::default().code(text)
}

/// A table. Every row has as many cells as there are columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What it shows, with units and the meaning of brackets.
    pub caption: Line,
    /// Column names; a name that begins with `>` is set flush right (without the sign).
    pub columns: Vec<&'static str>,
    /// Rows of cells; the first cell of a row names it.
    pub rows: Vec<Vec<Line>>,
}

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A heading; `id` is its anchor.
    Heading {
        /// 1 is the title.
        level: u8,
        /// Anchor, unique on the page.
        id: String,
        /// Words.
        text: String,
    },
    /// A paragraph.
    Para(Line),
    /// A list.
    Items(Vec<Line>),
    /// A quotation.
    Quote(Line),
    /// A table.
    Table(Table),
    /// Commands to copy.
    Commands(String),
    /// A chart of `charts/<name>.svg`.
    Chart {
        /// File name without folder and ending.
        name: String,
        /// Words for those who do not see it.
        alt: String,
    },
}

/// Blocks in reading order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The blocks.
    pub blocks: Vec<Block>,
}

impl Page {
    /// A heading whose anchor is made from its words.
    pub fn heading(&mut self, level: u8, text: &str) {
        self.heading_at(level, &anchor(text), text);
    }
    /// A heading with a given anchor.
    pub fn heading_at(&mut self, level: u8, id: &str, text: &str) {
        self.blocks.push(Block::Heading { level, id: id.into(), text: text.into() });
    }
    /// A paragraph.
    pub fn para(&mut self, line: impl Into<Line>) {
        self.blocks.push(Block::Para(line.into()));
    }
    /// A list; nothing where it is empty.
    pub fn items(&mut self, lines: Vec<Line>) {
        if !lines.is_empty() {
            self.blocks.push(Block::Items(lines));
        }
    }
    /// A quotation.
    pub fn quote(&mut self, line: impl Into<Line>) {
        self.blocks.push(Block::Quote(line.into()));
    }
    /// A table; `otherwise` is said instead where it has no rows.
    pub fn table(
        &mut self,
        caption: impl Into<Line>,
        columns: &[&'static str],
        rows: Vec<Vec<Line>>,
        otherwise: &str,
    ) {
        if rows.is_empty() {
            return self.para(otherwise);
        }
        assert!(rows.iter().all(|row| row.len() == columns.len()), "a row does not fit {columns:?}");
        self.blocks.push(Block::Table(Table { caption: caption.into(), columns: columns.to_vec(), rows }));
    }
    /// Commands to copy.
    pub fn commands(&mut self, text: &str) {
        self.blocks.push(Block::Commands(text.into()));
    }
    /// A chart.
    pub fn chart(&mut self, name: &str, alt: &str) {
        self.blocks.push(Block::Chart { name: name.into(), alt: alt.into() });
    }
}

/// `Where native loses` -> `where-native-loses`.
pub fn anchor(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
    }
    out.trim_end_matches('-').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_plain() {
        assert_eq!(anchor("Where native loses"), "where-native-loses");
        assert_eq!(anchor("S3-02b: 3–8×"), "s3-02b-3-8");
    }

    #[test]
    fn an_empty_table_says_why() {
        let mut page = Page::default();
        page.table("caption", &["a"], vec![], "nobody was asked");
        assert_eq!(page.blocks, [Block::Para("nobody was asked".into())]);
    }
}
