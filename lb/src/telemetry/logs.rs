//! The process log: one line per event on stderr, `time level message fields`, in UTC. What is logged is chosen by LB_LOG
//! (`debug`, or `lb::proxy=trace`) on top of the configured level.
//!
//! Invariants: never panics, also when called twice (the first call counts); colour only for a person at a terminal.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that refines or overrides the configured level.
pub const FILTER_VARIABLE: &str = "LB_LOG";

/// Sets up the log of this process with `level` (off, error, warn, info, debug or trace) unless LB_LOG says otherwise.
/// What cannot be understood is passed over with a warning: a wrong word must not make a balancer silent.
pub fn init(level: &str) {
    let (filter, complaint) = filter(std::env::var(FILTER_VARIABLE).ok().as_deref(), level);
    // an empty NO_COLOR counts as none (no-color.org)
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .finish();
    let first = subscriber.try_init().is_ok();
    if let Some(complaint) = complaint.filter(|_| first) {
        tracing::warn!("{complaint}");
    }
}

/// The filter that `variable` (LB_LOG) and `level` make, and what was wrong with them.
fn filter(variable: Option<&str>, level: &str) -> (EnvFilter, Option<String>) {
    let (level, mut complaint) = match level.parse::<LevelFilter>() {
        Ok(level) => (level, None),
        Err(_) => (LevelFilter::INFO, Some(format!("log level {level:?} is not known, info is used"))),
    };
    // the level comes first, as of two directives for the same the later one counts; and it stays for what the variable
    // does not name, as the filter's own rule (off for that) would make a misspelt level silence everything
    let wanted = variable.map_or(String::new(), |text| format!(",{text}"));
    let filter = EnvFilter::try_new(format!("{level}{wanted}")).unwrap_or_else(|error| {
        complaint = Some(format!("{FILTER_VARIABLE} is not a filter ({error}), {level} is used"));
        EnvFilter::default().add_directive(level.into())
    });
    (filter, complaint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_goes_before_the_level() {
        assert_eq!(filter(Some("warn,lb::proxy=trace"), "info").0.to_string(), "lb::proxy=trace,warn");
        assert_eq!(filter(Some("debug"), "info").0.to_string(), "debug");
        assert_eq!(filter(None, "debug").0.to_string(), "debug");
        assert_eq!(filter(Some(" "), "error").0.to_string(), "error");
    }

    #[test]
    fn what_the_variable_does_not_name_keeps_the_level() {
        assert_eq!(filter(Some("lb::proxy=trace"), "info").0.to_string(), "lb::proxy=trace,info");
        assert_eq!(filter(Some("wran"), "info").0.max_level_hint(), Some(LevelFilter::TRACE));
        assert!(filter(Some("wran"), "info").0.to_string().ends_with("info"));
    }

    #[test]
    fn what_is_not_understood_is_said_and_does_not_silence_the_log() {
        let (used, complaint) = filter(None, "inof");
        assert_eq!(used.to_string(), "info");
        assert!(complaint.unwrap().contains("\"inof\""));
        let (used, complaint) = filter(Some("lb=loud"), "warn");
        assert_eq!(used.to_string(), "warn");
        assert!(complaint.unwrap().starts_with("LB_LOG"));
    }

    #[test]
    fn a_second_call_changes_nothing_and_does_not_panic() {
        init("error");
        init("nonsense");
    }
}
