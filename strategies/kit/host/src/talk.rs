//! Log messages of plugins: each becomes one line, and their rate is limited.
//!
//! Why a limit: a strategy that panics at every tenth pick writes a line for every tenth pick. Invariant: dropped lines
//! are counted. The first line in a later second contains their number.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Lines per second of all plugins together.
const LINES_MAX: u64 = 20;

static STARTED: OnceLock<Instant> = OnceLock::new();
static SECOND: AtomicU64 = AtomicU64::new(0);
static SAID: AtomicU64 = AtomicU64::new(0);

/// The line to log; `None` if this second already has [`LINES_MAX`] lines.
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
        if left_out == 0 { String::new() } else { format!(" ({left_out} earlier lines of plugins were dropped)") };
    format!("{}{more}", lines.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_one_line_with_the_number_of_dropped_lines() {
        assert_eq!(with("panicked at src/lib.rs:1:2:\n  tenth\n", 0), "panicked at src/lib.rs:1:2: tenth");
        assert_eq!(with("so", 7), "so (7 earlier lines of plugins were dropped)");
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        // Far more lines than the limit allows in the seconds that this takes.
        let said = (0..100_000).filter(|_| line("flood").is_some()).count() as u64;
        let seconds = STARTED.get().unwrap().elapsed().as_secs() + 1;
        assert!(said >= LINES_MAX && said <= LINES_MAX * seconds, "{said} lines in {seconds} s");
    }
}
