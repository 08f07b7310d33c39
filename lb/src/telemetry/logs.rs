//! The process log: one line per event on stderr, `time level message fields`, in UTC. LB_LOG selects events (`debug`,
//! or `lb::proxy=trace`) on top of the configured level.
//!
//! Lines go through a bounded queue to a separate thread, because the reader of stderr may be slow, stuck or gone.
//!
//! Invariants: logging never panics, never fails and never waits for a reader. Lines without room are counted, and the
//! count is logged as soon as there is room. A second [`init`] changes nothing. Colour only on a terminal.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that refines or overrides the configured level.
pub const FILTER_VARIABLE: &str = "LB_LOG";

/// The most bytes that may wait to be written.
const QUEUE_BYTES_MAX: usize = 1 << 20;

static QUEUE: OnceLock<&'static Queue> = OnceLock::new();
/// Replaces the filter of the log that is set up.
static REFILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Lines before they are written to stderr.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// A line was queued, or all are written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines without room since the last one that had room.
    dropped: u64,
    is_writing: bool,
}

/// Takes one event's line.
struct Entrance(&'static Queue);

/// Sets up the log of this process with `level` (off, error, warn, info, debug or trace) unless LB_LOG overrides it. An
/// invalid text is ignored with a warning, because a wrong word must not silence a balancer.
pub fn init(level: &str) {
    let (filter, complaint) = filter(std::env::var(FILTER_VARIABLE).ok().as_deref(), level);
    // an empty NO_COLOR counts as none (no-color.org)
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let Some(queue) = queue() else { return };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Entrance(queue))
        .log_internal_errors(false)
        .with_ansi(colour)
        .with_target(false)
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    let first = subscriber.finish().try_init().is_ok();
    if first {
        // Fails only if the subscriber is gone.
        let _ = REFILTER.set(Box::new(move |filter| drop(handle.reload(filter))));
    }
    if let Some(complaint) = complaint.filter(|_| first) {
        tracing::warn!("{complaint}");
    }
}

/// Changes the `level`; LB_LOG still overrides it. Without a log nothing happens.
pub fn set_level(level: &str) {
    let (filter, complaint) = filter(std::env::var(FILTER_VARIABLE).ok().as_deref(), level);
    if let Some(refilter) = REFILTER.get() {
        refilter(filter);
    }
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
}

/// Writes a line that is no event to stderr, in order.
pub fn say(line: &str) {
    let line = format!("{line}\n").into_bytes();
    match QUEUE.get() {
        Some(queue) => queue.push(line),
        None => drop(io::stderr().write_all(&line)),
    }
}

/// Waits until all is written, for at most `time_max`: at the end of the process.
pub fn flush(time_max: Duration) {
    if let Some(queue) = QUEUE.get() {
        queue.wait_until_written(time_max);
    }
}

/// The queue of this process; `None` if its thread cannot be started.
fn queue() -> Option<&'static Queue> {
    if let Some(queue) = QUEUE.get() {
        return Some(queue);
    }
    let queue: &'static Queue = Box::leak(Box::default());
    let thread = std::thread::Builder::new().name("lb-log".to_owned());
    thread.spawn(move || queue.write_to(&mut io::stderr())).ok()?;
    Some(QUEUE.get_or_init(|| queue))
}

/// The filter from `variable` (LB_LOG) and `level`, and the error in it, if any.
fn filter(variable: Option<&str>, level: &str) -> (EnvFilter, Option<String>) {
    let (level, mut complaint) = match level.parse::<LevelFilter>() {
        Ok(level) => (level, None),
        Err(_) => (LevelFilter::INFO, Some(format!("log level {level:?} is not known, info is used"))),
    };
    // the level comes first, because of two directives for the same target the later one counts; it also stays for
    // targets that the variable does not name, because the filter's own default (off) would let a misspelt level
    // silence everything
    let wanted = variable.map_or(String::new(), |text| format!(",{text}"));
    let filter = EnvFilter::try_new(format!("{level}{wanted}")).unwrap_or_else(|error| {
        complaint = Some(format!("{FILTER_VARIABLE} is not a filter ({error}), {level} is used"));
        EnvFilter::default().add_directive(level.into())
    });
    (filter, complaint)
}

// === impl Queue ===

impl Queue {
    fn push(&self, line: Vec<u8>) {
        self.state.lock().push(line);
        self.changed.notify_all();
    }

    /// Writes lines for ever; a line that cannot be written is lost.
    fn write_to(&self, out: &mut impl Write) {
        let mut state = self.state.lock();
        loop {
            let Some(line) = state.next() else {
                self.changed.wait(&mut state);
                continue;
            };
            state.is_writing = true;
            drop(state);
            let _ = out.write_all(&line);
            state = self.state.lock();
            state.is_writing = false;
            self.changed.notify_all();
        }
    }

    fn wait_until_written(&self, time_max: Duration) {
        let bound = Instant::now() + time_max;
        let mut state = self.state.lock();
        while !state.is_done() && !self.changed.wait_until(&mut state, bound).timed_out() {}
    }
}

// === impl State ===

impl State {
    fn push(&mut self, line: Vec<u8>) {
        if self.bytes + line.len() > QUEUE_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        self.tell_dropped();
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.lines.is_empty() {
            self.tell_dropped();
        }
        let line = self.lines.pop_front()?;
        self.bytes -= line.len();
        Some(line)
    }

    /// Queues the count of dropped lines at the place where they are missing.
    fn tell_dropped(&mut self) {
        if self.dropped > 0 {
            let line =
                format!("WARN {} lines of the log were dropped here: stderr was not read in time\n", self.dropped);
            self.dropped = 0;
            self.bytes += line.len();
            self.lines.push_back(line.into_bytes());
        }
    }

    fn is_done(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0 && !self.is_writing
    }
}

// === impl Entrance ===

impl Write for Entrance {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_lines_are_counted_and_logged_in_their_place() {
        let mut state = State::default();
        let long = vec![b'x'; QUEUE_BYTES_MAX / 2];
        for _ in 0..5 {
            state.push(long.clone());
        }
        assert_eq!(state.next(), Some(long.clone()));
        state.push(b"later".to_vec());
        assert_eq!(state.next(), Some(long.clone()));
        let told = String::from_utf8(state.next().unwrap()).unwrap();
        assert!(told.starts_with("WARN 3 lines"), "{told}");
        assert_eq!(state.next().as_deref(), Some(&b"later"[..]));
        assert!(state.next().is_none() && state.is_done() && state.bytes == 0);

        state.push(vec![0; QUEUE_BYTES_MAX + 1]);
        assert!(!state.is_done());
        assert!(state.next().is_some_and(|line| line.starts_with(b"WARN 1 lines")), "also when nothing follows");
    }

    #[test]
    fn the_variable_overrides_the_level() {
        assert_eq!(filter(Some("warn,lb::proxy=trace"), "info").0.to_string(), "lb::proxy=trace,warn");
        assert_eq!(filter(Some("debug"), "info").0.to_string(), "debug");
        assert_eq!(filter(None, "debug").0.to_string(), "debug");
        assert_eq!(filter(Some(" "), "error").0.to_string(), "error");
    }

    #[test]
    fn targets_that_the_variable_does_not_name_keep_the_level() {
        assert_eq!(filter(Some("lb::proxy=trace"), "info").0.to_string(), "lb::proxy=trace,info");
        assert_eq!(filter(Some("wran"), "info").0.max_level_hint(), Some(LevelFilter::TRACE));
        assert!(filter(Some("wran"), "info").0.to_string().ends_with("info"));
    }

    #[test]
    fn an_invalid_filter_is_reported_and_does_not_silence_the_log() {
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
