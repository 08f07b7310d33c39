//! A report as one self-contained HTML file: without scripts, without network; light, dark, on paper and on a phone.

use std::fmt::Write as _;

use super::{Block, Document, Entry, Table, Tone};
use crate::report::picture::svg::{self, Style, escape};
use crate::report::picture::theme;

pub(crate) fn write(document: &Document) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{}</title>\n<style>\n{}{}{}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<h1>{}</h1>\n<p class=\"muted\">{}</p>\n</header>\n",
        escape(&document.title),
        theme::style(":root"),
        theme::font_faces(),
        include_str!("report.css"),
        escape(&document.title),
        escape(&document.subtitle)
    );
    for block in &document.blocks {
        write_block(&mut html, block);
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Doubt => "doubt",
    }
}

fn write_block(html: &mut String, block: &Block) {
    let _ = match block {
        Block::Heading(text) => writeln!(html, "<h2>{}</h2>", escape(text)),
        Block::Paragraph(text) => writeln!(html, "<p>{}</p>", escape(text)),
        Block::Answer(sentences) => {
            let body = sentences.iter().fold(String::new(), |mut body, sentence| {
                let _ = write!(body, "<p>{}</p>", escape(sentence));
                body
            });
            writeln!(html, "<div class=\"answer\">{body}</div>")
        }
        Block::Notice(tone, text) => writeln!(html, "<p class=\"notice {}\">{}</p>", class(*tone), escape(text)),
        Block::List(items) => {
            let body = items.iter().fold(String::new(), |mut body, item| {
                let _ = write!(body, "<li>{}</li>", escape(item));
                body
            });
            writeln!(html, "<ul>{body}</ul>")
        }
        Block::Table(table) => writeln!(html, "{}", write_table(table)),
        Block::Figure(plot) => writeln!(
            html,
            "<figure id=\"{}\">\n<div class=\"wide\">{}</div>\n<div class=\"narrow\">{}</div>\n<figcaption>{}</figcaption>\n</figure>",
            escape(&plot.name),
            svg::write(&plot.wide, Style::Inline),
            svg::write(&plot.narrow, Style::Inline),
            escape(&plot.caption)
        ),
        Block::Code(text) => writeln!(html, "<pre><code>{}</code></pre>", escape(text)),
    };
}

fn write_table(table: &Table) -> String {
    let mut html = String::new();
    if !table.caption.is_empty() {
        // not a <caption>, which would be as wide as the table and wider than a phone's screen
        let _ = writeln!(html, "<p class=\"caption\">{}</p>", escape(&table.caption));
    }
    html.push_str("<div class=\"table\"><table>\n");
    html.push_str("<thead><tr>");
    let side =
        |at: usize| if table.columns.get(at).is_some_and(|column| column.is_number) { " class=\"n\"" } else { "" };
    for (at, column) in table.columns.iter().enumerate() {
        let _ = write!(html, "<th scope=\"col\"{}>{}</th>", side(at), escape(&column.title));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for (at, entry) in row.iter().enumerate() {
            let _ = write!(html, "<td{}>{}</td>", side(at), write_entry(entry));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>");
    html
}

fn write_entry(entry: &Entry) -> String {
    let text = match entry.tone {
        Tone::Plain => escape(&entry.text),
        tone => format!("<strong class=\"{}\">{}</strong>", class(tone), escape(&entry.text)),
    };
    if entry.note.is_empty() { text } else { format!("{text} <span class=\"note\">{}</span>", escape(&entry.note)) }
}
