//! A report as Markdown, with its pictures beside it in `plots/`: for repositories and hand-ins.

use std::fmt::Write as _;

use super::{Block, Document, Entry, Table, Tone};

pub(crate) fn write(document: &Document) -> String {
    let mut text = format!("# {}\n\n{}\n", escape(&document.title), escape(&document.subtitle));
    for block in &document.blocks {
        text.push('\n');
        write_block(&mut text, block);
    }
    text
}

/// Escapes the special characters of Markdown.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~') {
            safe.push('\\');
        }
        safe.push(if char.is_control() { ' ' } else { char });
    }
    safe
}

fn write_block(text: &mut String, block: &Block) {
    let _ = match block {
        Block::Heading(heading) => writeln!(text, "## {}", escape(heading)),
        Block::Paragraph(words) => writeln!(text, "{}", escape(words)),
        Block::Answer(sentences) => {
            let bold = |(at, sentence): (usize, &String)| match at {
                0 => format!("**{}**", escape(sentence)),
                _ => escape(sentence),
            };
            writeln!(text, "{}", sentences.iter().enumerate().map(bold).collect::<Vec<_>>().join("\n\n"))
        }
        Block::Notice(_, words) => writeln!(text, "> {}", escape(words)),
        Block::List(items) => {
            writeln!(text, "{}", items.iter().map(|item| format!("- {}", escape(item))).collect::<Vec<_>>().join("\n"))
        }
        Block::Table(table) => writeln!(text, "{}", write_table(table)),
        Block::Figure(plot) => {
            let title = escape(&plot.wide.title);
            writeln!(text, "![{title}](plots/{}.svg)\n\n{}", plot.name, escape(&plot.caption))
        }
        // a fence that the text does not contain
        Block::Code(code) => writeln!(text, "````\n{code}\n````"),
    };
}

fn write_table(table: &Table) -> String {
    let mut text = String::new();
    if !table.caption.is_empty() {
        let _ = writeln!(text, "{}\n", escape(&table.caption));
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    text += &line(table.columns.iter().map(|column| escape(&column.title)).collect());
    text += &line(table.columns.iter().map(|it| if it.is_number { "---:" } else { "---" }.to_owned()).collect());
    for row in &table.rows {
        text += &line(row.iter().map(write_entry).collect());
    }
    text
}

fn write_entry(entry: &Entry) -> String {
    let text = match entry.tone {
        Tone::Plain => escape(&entry.text),
        _ => format!("**{}**", escape(&entry.text)),
    };
    if entry.note.is_empty() { text } else { format!("{text} {}", escape(&entry.note)) }
}
