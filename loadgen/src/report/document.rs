//! A report as a list of blocks, before it has a format: one text, three writers.
//!
//! Invariant: a block has plain text only; each writer escapes the special characters of its format.

pub(super) mod html;
pub(super) mod markdown;
pub(super) mod text;

use super::plots::Plot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Doubt,
}

#[derive(Clone, Debug)]
pub(crate) enum Block {
    /// The heading of a section.
    Heading(String),
    Paragraph(String),
    /// The sentences of the answer.
    Answer(Vec<String>),
    /// A notice that a reader needs before the rest.
    Notice(Tone, String),
    List(Vec<String>),
    Table(Table),
    /// Boxed, because it is much larger than the others.
    Figure(Box<Plot>),
    /// A command or a file, to copy.
    Code(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Entry>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) title: String,
    /// Whether it is aligned to the right.
    pub(crate) is_number: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) text: String,
    pub(crate) tone: Tone,
    /// Smaller text, below the text or after it; "" for none.
    pub(crate) note: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) title: String,
    /// Below the title: time and machine.
    pub(crate) subtitle: String,
    pub(crate) blocks: Vec<Block>,
}

// === impl Table ===

impl Table {
    /// Takes the titles of the columns. A title that begins with `#` is of a column of numbers.
    pub(crate) fn new(caption: impl Into<String>, titles: &[&str]) -> Self {
        let column =
            |title: &&str| Column { title: title.trim_start_matches('#').into(), is_number: title.starts_with('#') };
        Self { caption: caption.into(), columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, entries: Vec<Entry>) {
        self.rows.push(entries);
    }

    /// Drops columns in which no row has a value.
    pub(crate) fn without_empty_columns(mut self) -> Self {
        let is_used = |at: usize| self.rows.iter().any(|row| !matches!(row[at].text.as_str(), "" | "–"));
        let used: Vec<bool> = (0..self.columns.len()).map(is_used).collect();
        let mut keep = used.iter();
        self.columns.retain(|_| *keep.next().unwrap_or(&true));
        for row in &mut self.rows {
            let mut keep = used.iter();
            row.retain(|_| *keep.next().unwrap_or(&true));
        }
        self
    }
}

// === impl Entry ===

impl Entry {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain, note: String::new() }
    }

    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Text and note in one line.
    pub(super) fn line(&self) -> String {
        if self.note.is_empty() { self.text.clone() } else { format!("{} {}", self.text, self.note) }
    }

    pub(crate) fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}
