//! A status as a picture: a pure function of the status, the width and the height.
//!
//! Rows that do not fit are left out completely, the least important first, so that no number is cut. Only names and
//! sentences are shortened, with `…`.

mod parts;
mod rows;

use ratatui::Frame;
use ratatui::layout::Rect;

use super::status::Status;
use rows::{Row, rows};

/// Draws the status over the whole frame.
pub fn draw(frame: &mut Frame<'_>, status: &Status) {
    let area = frame.area();
    let mut rows = rows(status, area.width);
    fit(&mut rows, usize::from(area.height));
    for (y, row) in (area.y..area.bottom()).zip(rows) {
        frame.render_widget(row.line, Rect { y, height: 1, ..area });
    }
}

/// The number of rows of the complete picture.
pub fn height(status: &Status, width: u16) -> u16 {
    u16::try_from(rows(status, width).len()).unwrap_or(u16::MAX)
}

/// Leaves out the least important rows until the rest fits. Among equal rows, the last goes first.
fn fit(rows: &mut Vec<Row>, height: usize) {
    while rows.len() > height {
        let least = rows.iter().enumerate().rev().min_by_key(|(_, row)| row.weight);
        let Some((at, _)) = least else { return };
        rows.remove(at);
    }
}

#[cfg(test)]
mod tests;
