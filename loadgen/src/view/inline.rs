//! A backend of ratatui that draws where the cursor is, and leaves what stands above alone.
//!
//! Why not ratatui's own inline viewport: it asks the terminal where the cursor is and waits for the answer among what is typed, which
//! some terminals never give. Here every move is relative to the picture's first row, so nothing need be asked.
//!
//! Invariants: after each flush the cursor stands at the beginning of the last row, so whatever else is printed, or whoever ends the
//! program, finds it below the picture; one flush is one write.

use std::io::{self, Write};

use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier, Style};

pub(super) struct Inline<W> {
    out: W,
    size: Size,
    is_coloured: bool,
    /// Of this picture: rows that exist, and where the cursor is.
    rows: u16,
    cursor: Position,
    pending: Vec<u8>,
}

const RESET: &[u8] = b"\x1b[m";
const CLEAR_BELOW: &[u8] = b"\x1b[J";

// === impl Inline ===

impl<W: Write> Inline<W> {
    pub(super) fn new(out: W, is_coloured: bool) -> Self {
        let (size, cursor) = (Size::default(), Position::default());
        Self { out, size, is_coloured, rows: 1, cursor, pending: Vec::new() }
    }

    pub(super) fn set_size(&mut self, size: Size) {
        self.size = Size { width: size.width, height: size.height.max(1) };
    }

    /// Begins below all that is there: somebody else has moved the cursor, or the lines.
    pub(super) fn begin_anew(&mut self) {
        self.pending.extend_from_slice(b"\r\n");
        (self.rows, self.cursor) = (1, Position::default());
    }

    /// Leaves the picture where it is.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        self.go_to(Position { x: 0, y: self.rows - 1 });
        self.pending.extend_from_slice(b"\r\n");
        self.write_out()
    }

    fn go_to(&mut self, to: Position) {
        while self.rows <= to.y {
            // only a line feed makes a row where there is none
            self.up_or_down(self.rows - 1);
            self.pending.push(b'\n');
            (self.cursor.y, self.rows) = (self.rows, self.rows + 1);
        }
        self.up_or_down(to.y);
        self.pending.push(b'\r');
        if to.x > 0 {
            self.pending.extend_from_slice(format!("\x1b[{}C", to.x).as_bytes());
        }
        self.cursor = to;
    }

    fn up_or_down(&mut self, row: u16) {
        match row.abs_diff(self.cursor.y) {
            0 => {}
            up if row < self.cursor.y => self.pending.extend_from_slice(format!("\x1b[{up}A").as_bytes()),
            down => self.pending.extend_from_slice(format!("\x1b[{down}B").as_bytes()),
        }
        self.cursor.y = row;
    }

    fn write_out(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.pending).and_then(|()| self.out.flush());
        self.pending.clear();
        written
    }
}

impl<W: Write> Backend for Inline<W> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut style = Style::default();
        let mut at: Option<Position> = None;
        for (x, y, cell) in content {
            let to = Position { x, y };
            if at != Some(to) {
                self.go_to(to);
            }
            let wanted = Style::default().fg(cell.fg).add_modifier(cell.modifier);
            if wanted != style {
                self.pending.extend_from_slice(escapes(wanted, self.is_coloured).as_bytes());
                style = wanted;
            }
            self.pending.extend_from_slice(cell.symbol().as_bytes());
            // all symbols here are one column wide
            at = Some(Position { x: x + 1, y });
            self.cursor.x = x + 1;
        }
        self.pending.extend_from_slice(RESET);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.go_to(Position::default());
        self.pending.extend_from_slice(CLEAR_BELOW);
        self.rows = self.rows.min(self.size.height.max(1));
        Ok(())
    }

    fn clear_region(&mut self, _: ClearType) -> io::Result<()> {
        self.clear()
    }

    fn size(&self) -> io::Result<Size> {
        Ok(self.size)
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size, pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.go_to(Position { x: 0, y: self.size.height.saturating_sub(1) });
        self.write_out()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.cursor)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.go_to(position.into());
        Ok(())
    }

    /// It stays visible: a program that is killed could not show it again.
    fn hide_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The few that the picture uses.
fn escapes(style: Style, is_coloured: bool) -> String {
    let mut codes = String::from("\x1b[0");
    let modifiers = [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2")];
    modifiers.iter().filter(|(modifier, _)| style.add_modifier.contains(*modifier)).for_each(|(_, code)| codes += code);
    if is_coloured {
        codes += match style.fg {
            Some(Color::Red) => ";31",
            Some(Color::Green) => ";32",
            Some(Color::Yellow) => ";33",
            Some(Color::Cyan) => ";36",
            _ => "",
        };
    }
    codes + "m"
}
