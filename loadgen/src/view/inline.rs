//! A backend of ratatui that draws at the cursor and does not change the lines above.
//!
//! Why not ratatui's own inline viewport: it asks the terminal for the cursor's position and waits for a reply on
//! stdin. Some terminals never send it. Here every move is relative to the picture's first row, so no query is needed.
//!
//! Invariants: after each flush the cursor is at the beginning of the last row, so later output is below the picture.
//! One flush is one write.

use std::io::{self, Write};

use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier, Style};

pub(super) struct Inline<W> {
    out: W,
    size: Size,
    is_coloured: bool,
    /// The number of rows of this picture that exist, and the position of the cursor in it.
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

    /// Begins a new picture below all output, because another program has moved the cursor or the lines.
    pub(super) fn begin_anew(&mut self) {
        self.pending.extend_from_slice(b"\r\n");
        (self.rows, self.cursor) = (1, Position::default());
    }

    /// Leaves the picture in place and moves the cursor below it.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        self.go_to(Position { x: 0, y: self.rows - 1 });
        self.pending.extend_from_slice(b"\r\n");
        self.write_out()
    }

    fn go_to(&mut self, to: Position) {
        while self.rows <= to.y {
            // only a line feed makes a new row
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

    /// The cursor stays visible, because a killed program could not show it again.
    fn hide_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The escape sequence of a style; only the few that the picture uses.
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

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::text::Text;

    use super::*;

    /// The part of a terminal that the picture needs.
    #[derive(Default)]
    struct Screen {
        rows: Vec<Vec<char>>,
        x: usize,
        y: usize,
    }

    impl Screen {
        fn put(&mut self, c: char) {
            self.rows.resize(self.rows.len().max(self.y + 1), Vec::new());
            let row = &mut self.rows[self.y];
            row.resize(row.len().max(self.x + 1), ' ');
            row[self.x] = c;
            self.x += 1;
        }

        fn feed(&mut self, bytes: &[u8]) {
            let text = std::str::from_utf8(bytes).expect("text");
            let mut chars = text.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\r' => self.x = 0,
                    '\n' => (self.x, self.y) = (0, self.y + 1),
                    '\x1b' => {
                        assert_eq!(chars.next(), Some('['));
                        let rest = chars.as_str();
                        let end = rest.find(|c: char| c.is_ascii_alphabetic()).expect("a command");
                        let number = rest[..end].parse().unwrap_or(1);
                        match &rest[end..=end] {
                            "A" => self.y = self.y.checked_sub(number).expect("not above the picture"),
                            "B" => self.y += number,
                            "C" => self.x += number,
                            "J" => {
                                self.rows.truncate(self.y + 1);
                                self.rows.iter_mut().skip(self.y).for_each(|row| row.truncate(self.x));
                            }
                            "m" => {}
                            other => panic!("{other:?} is not understood"),
                        }
                        chars = rest[end + 1..].chars();
                    }
                    c => self.put(c),
                }
            }
        }

        fn text(&self) -> Vec<String> {
            self.rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect()
        }
    }

    fn show(terminal: &mut Terminal<Inline<Vec<u8>>>, screen: &mut Screen, text: &str) {
        let height = text.lines().count() as u16;
        terminal.backend_mut().set_size(Size { width: 20, height });
        terminal.draw(|frame| frame.render_widget(Text::raw(text), frame.area())).expect("drawn");
        screen.feed(&std::mem::take(&mut terminal.backend_mut().out));
    }

    #[test]
    fn it_changes_in_place_grows_and_stays_between_other_output() {
        let mut screen = Screen::default();
        screen.feed(b"before\n");
        let mut terminal = Terminal::new(Inline::new(Vec::new(), true)).expect("no size is asked for");
        show(&mut terminal, &mut screen, "one\ntwo 1");
        assert_eq!((screen.text(), screen.x, screen.y), (vec!["before".into(), "one".into(), "two 1".into()], 0, 2));
        show(&mut terminal, &mut screen, "one\ntwo 22");
        assert_eq!(screen.text(), ["before", "one", "two 22"]);
        show(&mut terminal, &mut screen, "1\n\nthree\nfour");
        assert_eq!((screen.text(), screen.y), (["before", "1", "", "three", "four"].map(str::to_owned).to_vec(), 4));
        terminal.backend_mut().leave().expect("written");
        screen.feed(&std::mem::take(&mut terminal.backend_mut().out));
        screen.feed(b"after\n");
        assert_eq!(screen.text(), ["before", "1", "", "three", "four", "after"]);
    }

    #[test]
    fn after_other_output_the_picture_begins_below() {
        let mut screen = Screen::default();
        let mut terminal = Terminal::new(Inline::new(Vec::new(), true)).expect("no size is asked for");
        show(&mut terminal, &mut screen, "one\ntwo");
        screen.feed(b"\n[1]+ Stopped\n$ fg\n");
        terminal.backend_mut().begin_anew();
        terminal.clear().expect("cleared");
        show(&mut terminal, &mut screen, "one\ntwo");
        assert_eq!(screen.text(), ["one", "two", "[1]+ Stopped", "$ fg", "", "one", "two"]);
    }

    #[test]
    fn without_colour_there_is_weight_but_no_colour() {
        let style = Style::default().fg(Color::Red).add_modifier(Modifier::BOLD);
        assert_eq!((escapes(style, true), escapes(style, false)), ("\x1b[0;1;31m".into(), "\x1b[0;1m".into()));
        assert_eq!(escapes(Style::default(), true), "\x1b[0m");
    }
}
