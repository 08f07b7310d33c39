//! What the kernel says about this process, under the names that every exporter uses. Our own collector, because the
//! `prometheus` crate's gives CPU time in whole seconds: over an experiment of 30 s that is no measure at all.
//!
//! Invariants: what cannot be read is left out, never shown as 0; no `unsafe`, so the constants of the kernel's interface
//! that `sysconf` would tell are either written here or not needed.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::exposition::{Exposition, descriptions};
use super::names;

/// This process.
pub(super) struct ProcessCollector {
    descriptions: Vec<Desc>,
    start_time_seconds: Option<f64>,
}

/// Ticks per second in `/proc`: 100 on every architecture that Linux shows it on (USER_HZ), whatever the kernel's own.
const TICKS_PER_SECOND: f64 = 100.0;

/// The numbers of `/proc/self/stat` that we tell.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    /// From the machine's start to the process's.
    started_seconds: f64,
}

// === impl ProcessCollector ===

impl ProcessCollector {
    pub(super) fn new() -> ProcessCollector {
        // once: computed anew it would move with the wall clock, and a moved start time means a restart to its readers
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| field(&text, "btime").map(|s| s as f64));
        let start_time_seconds = boot.zip(stat()).map(|(boot, stat)| boot + stat.started_seconds);
        ProcessCollector { descriptions: descriptions(names::PROCESS), start_time_seconds }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let open_fds = fs::read_dir("/proc/self/fd").map(|entries| entries.count().saturating_sub(1)); // less the listing's own
        let max_fds = rlimit::Resource::NOFILE.get_soft();
        let values = [
            (&names::PROCESS_CPU, stat().map(|stat| stat.cpu_seconds)),
            (&names::PROCESS_RESIDENT_MEMORY, field(&status, "VmRSS:").map(|kib| kib as f64 * 1024.0)),
            (&names::PROCESS_OPEN_FDS, open_fds.ok().map(|count| count as f64)),
            (&names::PROCESS_MAX_FDS, max_fds.ok().map(|limit| limit as f64)),
            (&names::PROCESS_THREADS, field(&status, "Threads:").map(|count| count as f64)),
            (&names::PROCESS_START_TIME, self.start_time_seconds),
        ];
        let mut exposition = Exposition::default();
        for (metric, value) in values {
            if let Some(value) = value {
                exposition.number(metric, &[], value);
            }
        }
        exposition.into_families()
    }
}

fn stat() -> Option<Stat> {
    parse_stat(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn parse_stat(line: &str) -> Option<Stat> {
    // the second field is the program's name in brackets, which may itself hold spaces and brackets
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // proc(5) counts from 1 and `fields` begins with the third
    let seconds = |number: usize| Some(fields.get(number - 3)?.parse::<u64>().ok()? as f64 / TICKS_PER_SECOND);
    Some(Stat { cpu_seconds: seconds(14)? + seconds(15)?, started_seconds: seconds(22)? })
}

/// The number after `name` in a text of lines "name number …".
fn field(text: &str, name: &str) -> Option<u64> {
    let mut words = text
        .lines()
        .map(str::split_ascii_whitespace)
        .find_map(|mut words| (words.next() == Some(name)).then_some(words))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_keeps_its_fraction_whatever_the_program_is_called() {
        let line =
            "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 123 7 0 0 20 0 3 0 5000 1000000 250 18446744073709551615";
        assert_eq!(parse_stat(line), Some(Stat { cpu_seconds: 1.3, started_seconds: 50.0 }));
    }

    #[test]
    fn a_line_cut_short_tells_nothing() {
        assert_eq!(parse_stat("42 (lb) S 1 42"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "Name:\tlb\nVmRSSx:\t1 kB\nVmRSS:\t  2048 kB\nThreads:\t3\n";
        assert_eq!(field(status, "VmRSS:"), Some(2048));
        assert_eq!(field(status, "Threads:"), Some(3));
        assert_eq!(field(status, "VmHWM:"), None);
    }
}
