//! Tables without lines: bold headings, two spaces between columns, easy to cut and grep.

use crate::output::Look;
use comfy_table::{
    Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets::NOTHING,
};

/// Narrower than this a column is not squeezed.
const LEAST: u16 = 8;
/// The first column is not squeezed until it is wider than this.
const MOST_OF_NAMES: u16 = 40;

/// A table of headings and rows. Cells are foreign text that has been cleaned already.
#[derive(Debug)]
pub struct Grid {
    header: Vec<String>,
    rows: Vec<Vec<Text>>,
}

/// Text of a cell, with the tone it is shown in.
#[derive(Debug, Clone)]
pub struct Text {
    pub text: String,
    pub tone: Tone,
}

/// What a cell says by its colour. The text says the same: colours may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
    Unsure,
    Faint,
    Strong,
}

impl<S: Into<String>> From<S> for Text {
    fn from(text: S) -> Self {
        Text { text: text.into(), tone: Tone::Plain }
    }
}

impl Tone {
    /// A text in this tone.
    pub fn text(self, text: impl Into<String>) -> Text {
        Text { text: text.into(), tone: self }
    }

    /// The text with escape sequences, where colours are on.
    pub fn paint(self, text: &str, look: &Look) -> String {
        let code = match self {
            Tone::Plain => "",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Unsure => "33",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        if look.color && !code.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn cell(self, text: &str) -> Cell {
        let cell = Cell::new(text);
        match self {
            Tone::Plain => cell,
            Tone::Good => cell.fg(Color::DarkGreen),
            Tone::Bad => cell.fg(Color::DarkRed),
            Tone::Unsure => cell.fg(Color::DarkYellow),
            Tone::Faint => cell.add_attribute(Attribute::Dim),
            Tone::Strong => cell.add_attribute(Attribute::Bold),
        }
    }
}

impl Grid {
    /// An empty table. Headings are shown in capitals.
    pub fn new<S: AsRef<str>>(header: impl IntoIterator<Item = S>) -> Self {
        Grid::named(header.into_iter().map(|name| name.as_ref().to_uppercase()))
    }

    /// An empty table with headings as they are, because they are names themselves.
    pub fn named<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Grid { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub fn row<T: Into<Text>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Columns of the terminal that it needs.
    pub fn width(&self) -> usize {
        self.width_folded(usize::MAX)
    }

    /// The same where cells are folded at so many columns, but for those of the first column.
    pub fn width_folded(&self, most: usize) -> usize {
        let widths = (0..self.header.len()).map(|column| {
            let cell =
                |row: &Vec<Text>| row.get(column).map_or(0, |cell| console::measure_text_width(&cell.text));
            self.rows
                .iter()
                .map(cell)
                .chain([console::measure_text_width(&self.header[column])])
                .max()
                .unwrap_or(0)
        });
        widths
            .enumerate()
            .map(|(column, width)| if column == 0 { width } else { width.min(most) })
            .sum::<usize>()
            + 2 * self.header.len().saturating_sub(1)
    }

    /// The text of the table, each line ended, cells folded where the terminal is too narrow.
    pub fn render(&self, look: &Look) -> String {
        let mut table = Table::new();
        table.load_preset(NOTHING).force_no_tty();
        if look.color {
            table.enforce_styling();
        }
        table.set_header(self.header.iter().map(|name| Tone::Strong.cell(name)).collect::<Vec<_>>());
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| cell.tone.cell(&cell.text)).collect::<Vec<_>>());
        }
        let last = self.header.len().saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if index == last { 0 } else { 2 }));
        }
        match look.width {
            Some(width) if self.width() > width => {
                table.set_content_arrangement(ContentArrangement::Dynamic);
                table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
                let widths = table.column_max_content_widths();
                for (index, (column, width)) in table.column_iter_mut().zip(widths).enumerate() {
                    // The first column holds names, which are hard to read in pieces.
                    let least = if index == 0 { width.min(MOST_OF_NAMES) } else { width.min(LEAST) };
                    column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least + 2)));
                }
            }
            _ => _ = table.set_content_arrangement(ContentArrangement::Disabled),
        }
        let mut out = String::new();
        for line in table.lines() {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Lines moved right by `by` columns.
pub fn indent(text: &str, by: usize) -> String {
    text.lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{:by$}{line}\n", "") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::look;

    fn grid() -> Grid {
        let mut grid = Grid::new(["name", "state", "note"]);
        grid.row([Text::from("n1"), Tone::Good.text("online"), Text::from("")]);
        grid.row([
            Text::from("größer"),
            Tone::Bad.text("gone"),
            Text::from("a long story of many words, told twice"),
        ]);
        grid
    }

    #[test]
    fn plain() {
        insta::assert_snapshot!(grid().render(&look(None)));
    }

    #[test]
    fn narrow() {
        let text = grid().render(&look(Some(40)));
        assert!(text.lines().all(|line| console::measure_text_width(line) <= 40), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn colours_are_only_added() {
        let mut look = look(None);
        let plain = grid().render(&look);
        look.color = true;
        let coloured = grid().render(&look);
        assert_ne!(coloured, plain);
        let stripped: String = console::strip_ansi_codes(&coloured)
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect();
        assert_eq!(stripped, plain);
    }
}
