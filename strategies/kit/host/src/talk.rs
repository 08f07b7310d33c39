//! Log messages of plugins: each becomes one line with the names of plugin, pool and hook, and their rate is limited.
//!
//! Why a limit for each plugin: a strategy that panics at every tenth pick writes a line for every tenth pick. It must
//! not hide the lines of another plugin. Invariant: dropped lines are counted. The first line in a later second
//! contains their number.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::inside::{Hook, Tag};

/// Lines per second of one plugin, in all its pools.
const LINES_MAX: u64 = 20;

static STARTED: OnceLock<Instant> = OnceLock::new();

/// The lines of one plugin in one second.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    second: AtomicU64,
    said: AtomicU64,
}

/// Logs a line of the plugin and the hook in which this thread is; `None`: a thread that a plugin started.
pub(crate) fn tell(level: u32, line: &str, place: Option<(&Tag, Hook)>) {
    let plugin = place.map_or("unknown, in a thread of its own", |(tag, _)| &*tag.plugin);
    let (pool, hook) = (place.and_then(|(tag, _)| tag.pool.as_deref()), place.map(|(_, hook)| hook.as_str()));
    match level {
        1 => tracing::error!(target: "strategy", plugin, pool, hook, "{line}"),
        2 => tracing::warn!(target: "strategy", plugin, pool, hook, "{line}"),
        3 => tracing::info!(target: "strategy", plugin, pool, hook, "{line}"),
        4 => tracing::debug!(target: "strategy", plugin, pool, hook, "{line}"),
        _ => tracing::trace!(target: "strategy", plugin, pool, hook, "{line}"),
    }
}

fn with(text: &str, left_out: u64) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let more =
        if left_out == 0 { String::new() } else { format!(" ({left_out} earlier lines of this plugin were dropped)") };
    format!("{}{more}", lines.join(" "))
}

// === impl Limit ===

impl Limit {
    pub(crate) const fn new() -> Self {
        Self { second: AtomicU64::new(0), said: AtomicU64::new(0) }
    }

    /// The line to log; `None` if this second already has [`LINES_MAX`] lines.
    pub(crate) fn line(&self, text: &str) -> Option<String> {
        let second = STARTED.get_or_init(Instant::now).elapsed().as_secs();
        let left_out = match self.second.swap(second, Relaxed) {
            same if same == second => 0,
            _ => self.said.swap(0, Relaxed).saturating_sub(LINES_MAX),
        };
        if self.said.fetch_add(1, Relaxed) >= LINES_MAX {
            return None;
        }
        Some(with(text, left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_one_line_with_the_number_of_dropped_lines() {
        assert_eq!(with("panicked at src/lib.rs:1:2:\n  tenth\n", 0), "panicked at src/lib.rs:1:2: tenth");
        assert_eq!(with("so", 7), "so (7 earlier lines of this plugin were dropped)");
    }

    #[test]
    fn a_flood_of_one_plugin_is_bounded_and_hides_no_line_of_another() {
        let (loud, quiet) = (Limit::new(), Limit::new());
        // Far more lines than the limit allows in the seconds that this takes.
        let said = (0..100_000).filter(|_| loud.line("flood").is_some()).count() as u64;
        let seconds = STARTED.get().unwrap().elapsed().as_secs() + 1;
        assert!(said >= LINES_MAX && said <= LINES_MAX * seconds, "{said} lines in {seconds} s");
        assert_eq!(quiet.line("a word").as_deref(), Some("a word"));
    }
}
