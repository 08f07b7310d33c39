//! A report for a terminal: words and tables, no pictures, no colours, lines of at most 100 characters where words can be broken.

use std::fmt::Write as _;

use super::{Block, Document, Table};

const WIDTH: usize = 100;

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
    let cells = |at: usize| table.rows.iter().map(move |row| row[at].text.as_str());
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
    lines.extend(table.rows.iter().map(|row| line(row.iter().map(|entry| entry.text.as_str()).collect())));
    lines.join("\n") + "\n"
}
