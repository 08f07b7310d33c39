//! The terminal behind stderr: whether it may be drawn on, its size and its settings.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};

use ratatui::layout::Size;
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Nothing,
    Lines,
    Picture { is_coloured: bool },
}

/// The properties of stderr.
#[derive(Clone, Copy, Debug, Default)]
struct Surroundings<'a> {
    /// Whether it is a terminal with this program in its foreground. Only then may it be drawn on.
    is_ours: bool,
    term: Option<&'a OsStr>,
    no_color: Option<&'a OsStr>,
}

// === impl Form ===

impl Form {
    /// The form for these flags and the stderr of this process.
    pub fn choose(is_quiet: bool, is_plain: bool) -> Self {
        let (term, no_color) = (std::env::var_os("TERM"), std::env::var_os("NO_COLOR"));
        let is_ours = io::stderr().is_terminal() && is_foreground();
        Self::of(is_quiet, is_plain, Surroundings { is_ours, term: term.as_deref(), no_color: no_color.as_deref() })
    }

    fn of(is_quiet: bool, is_plain: bool, around: Surroundings<'_>) -> Self {
        let is_able = around.term.is_some_and(|term| !term.is_empty() && term != "dumb");
        match (is_quiet, is_plain) {
            (true, _) => Self::Nothing,
            (false, false) if around.is_ours && is_able => {
                // https://no-color.org: set and not empty
                Self::Picture { is_coloured: around.no_color.is_none_or(OsStr::is_empty) }
            }
            (false, _) => Self::Lines,
        }
    }
}

/// Columns and rows; `None` if the terminal does not report them.
pub(super) fn size() -> Option<Size> {
    let size = tcgetwinsize(io::stderr()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(Size { width: size.ws_col, height: size.ws_row })
}

/// Turns off echo, because typed characters would move the lines of the picture. Ctrl-C and Ctrl-Z work as before.
/// Returns the former settings.
pub(super) fn silence() -> Option<Termios> {
    let found = tcgetattr(io::stderr()).ok()?;
    let mut silent = found.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    set(&silent);
    Some(found)
}

pub(super) fn set(modes: &Termios) {
    // the kernel stops a background process that changes a terminal
    if is_foreground() {
        // an error here only makes the picture less tidy
        let _ = tcsetattr(io::stderr(), OptionalActions::Now, modes);
    }
}

fn is_foreground() -> bool {
    tcgetpgrp(io::stderr()).is_ok_and(|group| group == getpgrp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_only_for_a_capable_terminal() {
        let able = Surroundings { is_ours: true, term: Some(OsStr::new("xterm")), no_color: None };
        let picture = |is_coloured| Form::Picture { is_coloured };
        assert_eq!(Form::of(false, false, able), picture(true));
        assert_eq!(Form::of(false, false, Surroundings { no_color: Some(OsStr::new("1")), ..able }), picture(false));
        assert_eq!(Form::of(false, false, Surroundings { no_color: Some(OsStr::new("")), ..able }), picture(true));
        assert_eq!(Form::of(false, true, able), Form::Lines, "--plain");
        for term in [None, Some(OsStr::new("")), Some(OsStr::new("dumb"))] {
            assert_eq!(Form::of(false, false, Surroundings { term, ..able }), Form::Lines, "{term:?}");
        }
        assert_eq!(Form::of(false, false, Surroundings { is_ours: false, ..able }), Form::Lines);
        assert_eq!(Form::of(true, false, able), Form::Nothing, "--quiet");
    }
}
