//! Metrics of the process `lb` itself, under the names that every exporter uses.
//!
//! The crate `procfs` reads them from the kernel. The collector of the crate `prometheus` has CPU time in whole
//! seconds, which is too coarse for an experiment of 30 s. Invariant: a value that cannot be read is left out, never
//! shown as 0.

use std::fs;

use procfs::process::Process;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::exposition::{Exposition, descriptions};
use super::names;

pub(super) struct ProcessCollector {
    descriptions: Vec<Desc>,
    start_time_seconds: Option<f64>,
}

// === impl ProcessCollector ===

impl ProcessCollector {
    pub(super) fn new() -> ProcessCollector {
        // Computed once: at each scrape it would move with the wall clock, and a moved start time means a restart.
        let start_time_seconds = start_time_seconds().ok();
        ProcessCollector { descriptions: descriptions(names::PROCESS), start_time_seconds }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let process = Process::myself().ok();
        let stat = process.as_ref().and_then(|process| process.stat().ok());
        // Not `status`: the crate rejects the whole file if one of twenty lines is missing, as in gVisor.
        let memory = process.and_then(|process| process.statm().ok());
        // Not `fd_count`: before Linux 6.2 it also counts `.`, `..` and the descriptors that it uses itself. One is
        // subtracted for the descriptor of this look.
        let open_fds = fs::read_dir("/proc/self/fd").map(|entries| entries.count().saturating_sub(1));
        let max_fds = rlimit::Resource::NOFILE.get_soft();
        let values = [
            (&names::PROCESS_CPU, stat.as_ref().map(|stat| seconds(stat.utime + stat.stime))),
            (&names::PROCESS_RESIDENT_MEMORY, memory.map(|memory| (memory.resident * procfs::page_size()) as f64)),
            (&names::PROCESS_OPEN_FDS, open_fds.ok().map(|count| count as f64)),
            (&names::PROCESS_MAX_FDS, max_fds.ok().map(|limit| limit as f64)),
            (&names::PROCESS_THREADS, stat.map(|stat| stat.num_threads as f64)),
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

/// Since the Unix epoch.
fn start_time_seconds() -> procfs::ProcResult<f64> {
    let since_boot = seconds(Process::myself()?.stat()?.starttime);
    Ok(procfs::boot_time_secs()? as f64 + since_boot)
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / procfs::ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    fn value(collector: &ProcessCollector, metric: &names::Metric) -> f64 {
        let families = collector.collect();
        let family = families.iter().find(|family| family.name() == metric.name).expect("it has a value");
        let series = &family.get_metric()[0];
        series.get_counter().get_value() + series.get_gauge().get_value()
    }

    #[test]
    fn every_metric_has_a_value() {
        let collector = ProcessCollector::new();
        for metric in names::PROCESS {
            assert!(value(&collector, metric) > 0.0 || metric.name == names::PROCESS_CPU.name, "{}", metric.name);
        }
        let resident = value(&collector, &names::PROCESS_RESIDENT_MEMORY);
        assert!(resident > 1e6, "{resident} is not in bytes");
    }

    #[test]
    fn cpu_time_keeps_its_fraction() {
        let used = || value(&ProcessCollector::new(), &names::PROCESS_CPU);
        let began = used();
        // This loop uses CPU time, so it ends.
        while used().fract() == 0.0 {
            assert!(used() < began + 2.0, "only whole seconds");
        }
    }

    #[test]
    fn the_start_time_is_after_the_boot_and_before_now_and_does_not_move() {
        let collector = ProcessCollector::new();
        let started = value(&collector, &names::PROCESS_START_TIME);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let boot = procfs::boot_time_secs().unwrap() as f64;
        assert!(boot < started && started <= now + 1.0, "{boot} {started} {now}");
        assert_eq!(value(&collector, &names::PROCESS_START_TIME), started);
    }
}
