//! What plugins say, on its way to the log: in one line each, and not more of it than a log can take.
//!
//! Why a bound: a strategy that panics at every tenth pick says so at every tenth pick. Invariant: what was left out is counted, and told
//! with the next line that is not.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Lines per second of all plugins together.
const LINES_MAX: u64 = 20;

static STARTED: OnceLock<Instant> = OnceLock::new();
static SECOND: AtomicU64 = AtomicU64::new(0);
static SAID: AtomicU64 = AtomicU64::new(0);

/// The line to log, if there is room for it in this second.
pub(crate) fn line(text: &str) -> Option<String> {
    let second = STARTED.get_or_init(Instant::now).elapsed().as_secs();
    let left_out = match SECOND.swap(second, Relaxed) {
        same if same == second => 0,
        _ => SAID.swap(0, Relaxed).saturating_sub(LINES_MAX),
    };
    if SAID.fetch_add(1, Relaxed) >= LINES_MAX {
        return None;
    }
    Some(with(text, left_out))
}

fn with(text: &str, left_out: u64) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let more =
        if left_out == 0 { String::new() } else { format!(" (and {left_out} lines of plugins before, left out)") };
    format!("{}{more}", lines.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_tells_what_was_left_out() {
        assert_eq!(with("panicked at src/lib.rs:1:2:\n  tenth\n", 0), "panicked at src/lib.rs:1:2: tenth");
        assert_eq!(with("so", 7), "so (and 7 lines of plugins before, left out)");
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        // More than two seconds' worth, in less than many seconds.
        let said = (0..100_000).filter(|_| line("flood").is_some()).count() as u64;
        let seconds = STARTED.get().unwrap().elapsed().as_secs() + 1;
        assert!(said >= LINES_MAX && said <= LINES_MAX * seconds, "{said} lines in {seconds} s");
    }
}
