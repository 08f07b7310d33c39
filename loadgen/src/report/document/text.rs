//! A report for a terminal: words and tables, no pictures, no colours. Lines have at most 100 characters if words can
//! be wrapped.

use std::fmt::Write as _;

use super::{Block, Document, Entry, Table, Tone};

const WIDTH: usize = 100;
/// The longest name in a narrow table.
const NAME_MAX: usize = 28;

pub(crate) fn write(document: &Document) -> String {
    let mut text = format!("{}\n{}\n", document.title, document.subtitle);
    for block in &document.blocks {
        let _ = match block {
            Block::Heading(heading) => writeln!(text, "\n{heading}\n{}", "─".repeat(heading.chars().count())),
            Block::Paragraph(words) => writeln!(text, "{}", wrap(words, "", "")),
            Block::Answer(sentences) => {
                writeln!(text, "\n{}\n", sentences.iter().map(|it| wrap(it, "  ", "  ")).collect::<Vec<_>>().join("\n"))
            }
            Block::Notice(_, words) => writeln!(text, "{}\n", wrap(words, "! ", "  ")),
            Block::List(items) => {
                writeln!(text, "{}", items.iter().map(|it| wrap(it, "- ", "  ")).collect::<Vec<_>>().join("\n"))
            }
            Block::Table(table) => writeln!(text, "{}", write_table(table)),
            Block::Figure(plot) => writeln!(text, "{}: plots/{}.png", plot.wide.title, plot.name),
            Block::Code(code) => writeln!(text, "    {}", code.replace('\n', "\n    ")),
        };
    }
    text
}

/// The title, the answer, its tables and the warnings, in at most `lines_max` lines. The rest is in the whole report,
/// and the last line tells the reader.
pub(crate) fn brief(document: &Document, lines_max: usize) -> String {
    let lines_of = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (mut answer, mut tables, mut notices) = (Vec::new(), Vec::new(), Vec::new());
    for block in &document.blocks {
        match block {
            Block::Answer(sentences) => sentences.iter().for_each(|it| answer.extend(lines_of(wrap(it, "  ", "  ")))),
            Block::Table(table) => {
                tables.extend(lines_of(write_table(&slim(table))).into_iter().map(|line| format!("  {line}")));
            }
            Block::Notice(Tone::Plain, words) => notices.push(one_line(words, "  ")),
            Block::Notice(_, words) => notices.push(one_line(words, "! ")),
            _ => {}
        }
    }
    let mut lines = vec![document.title.clone()];
    // warnings are short and few; the remaining lines are for the answer, then for tables
    let notices = cut(notices, lines_max / 4);
    let room = lines_max - lines.len() - notices.len();
    let answer = cut(answer, if tables.is_empty() { room } else { (room / 2).max(room.saturating_sub(tables.len())) });
    let tables = cut(tables, room - answer.len());
    lines.extend(answer.into_iter().chain(tables).chain(notices));
    lines.join("\n")
}

/// A table without its caption. If it is wider than a line, also without intervals and the ends of long names.
fn slim(table: &Table) -> Table {
    let mut table = Table { caption: String::new(), ..table.clone() };
    if write_table(&table).lines().all(|line| line.chars().count() + 2 <= WIDTH) {
        return table;
    }
    for entry in table.rows.iter_mut().flatten() {
        entry.note = entry.note.split(" (").next().unwrap_or_default().to_owned();
        if entry.text.chars().count() > NAME_MAX {
            entry.text = entry.text.chars().take(NAME_MAX - 1).chain(['…']).collect();
        }
    }
    table
}

/// The first lines. If some are cut, the last one tells the reader.
fn cut(mut lines: Vec<String>, most: usize) -> Vec<String> {
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = "  … more of this is in the report".to_owned();
        }
    }
    lines
}

/// The part of the words that fits in a line.
fn one_line(words: &str, first: &str) -> String {
    let line = format!("{first}{words}");
    match line.chars().count() > WIDTH {
        true => line.chars().take(WIDTH - 1).chain(['…']).collect(),
        false => line,
    }
}

fn wrap(words: &str, first: &str, further: &str) -> String {
    let mut lines = vec![String::from(first)];
    for word in words.split(' ') {
        let last = lines.last_mut().expect("there is always a line");
        let is_start = last.chars().count() <= first.len().max(further.len());
        if !is_start && last.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("{further}{word}"));
            continue;
        }
        if !is_start {
            last.push(' ');
        }
        last.push_str(word);
    }
    lines.join("\n")
}

fn write_table(table: &Table) -> String {
    let rows: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(Entry::line).collect()).collect();
    let cells = |at: usize| rows.iter().map(move |row| row[at].as_str());
    let widths: Vec<usize> = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            cells(at).chain([column.title.as_str()]).map(|text| text.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let line = |texts: Vec<&str>| {
        let padded = texts.iter().zip(&widths).zip(&table.columns).map(|((text, &width), column)| {
            let space = " ".repeat(width - text.chars().count());
            if column.is_number { space + text } else { (*text).to_owned() + &space }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = Vec::new();
    if !table.caption.is_empty() {
        lines.push(wrap(&table.caption, "", ""));
    }
    lines.push(line(table.columns.iter().map(|column| column.title.as_str()).collect()));
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n") + "\n"
}
