//! The machine of a run, as far as the numbers depend on it. Values that cannot be read stay empty, because they must
//! not end an experiment.

use std::fs;

use crate::model::Host;

/// Created before a run and closed after it.
#[derive(Clone, Debug)]
pub(crate) struct HostWatch {
    host: Host,
    before: Option<CpuTimes>,
}

/// Counts of `/proc/stat`, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuTimes {
    all: u64,
    /// Idle time, including waits for a disk.
    idle: u64,
    steal: u64,
}

/// The current state of the machine.
pub fn host() -> Host {
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |key: &str| {
        cpu.lines().find(|line| line.starts_with(key)).and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    Host {
        name: line("/proc/sys/kernel/hostname"),
        cpu: named("model name").or_else(|| named("CPU part")).unwrap_or_default(),
        cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u32),
        kernel: line("/proc/sys/kernel/osrelease"),
        load_before: load_average().unwrap_or(0.0),
        load_after: None,
        steal: None,
    }
}

fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

// === impl HostWatch ===

impl HostWatch {
    pub(crate) fn begin() -> Self {
        Self { host: host(), before: CpuTimes::now() }
    }

    /// The state before the run.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// The reason why the machine was too busy before the run, if it was.
    pub(crate) fn busy(&self) -> Option<String> {
        let Host { load_before, cores, .. } = self.host;
        (load_before > f64::from(cores)).then(|| {
            format!(
                "before the run, {load_before:.1} processes on average waited for the machine's {cores} cores or used them (load average of \
                 the last minute): something else was running, and may have gone on"
            )
        })
    }

    pub(crate) fn end(mut self) -> Host {
        self.host.load_after = load_average();
        let grown =
            self.before.zip(CpuTimes::now()).map(|(before, now)| (now.all - before.all, now.steal - before.steal));
        self.host.steal = grown.filter(|grown| grown.0 > 0).map(|(all, steal)| steal as f64 / all as f64);
        self.host
    }
}

// === impl CpuTimes ===

impl CpuTimes {
    pub(super) fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The columns are user nice system idle iowait irq softirq steal; guests are already in user.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).filter_map(|tick| tick.parse().ok()).collect();
        Some(Self { all: ticks.iter().sum(), idle: ticks.get(3)? + ticks.get(4)?, steal: *ticks.get(7)? })
    }

    /// The idle share of the time of all cores since `before`; `None` if no tick has passed.
    pub(super) fn idle_share_since(&self, before: &Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        // the kernel may correct a tick that it counted as waiting
        Some(self.idle.saturating_sub(before.idle).min(all) as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_steal_are_read_from_their_columns() {
        let text = "cpu  10 0 20 50 10 0 0 10 5 0\ncpu0 1 2 3\n";
        let times = CpuTimes::parse(text).expect("times");
        assert_eq!(times, CpuTimes { all: 100, idle: 60, steal: 10 });
        assert_eq!(CpuTimes::parse("nothing"), None);
        let later = CpuTimes { all: 300, idle: 110, steal: 10 };
        assert_eq!((later.idle_share_since(&times), times.idle_share_since(&later)), (Some(0.25), None));
    }

    #[test]
    fn a_watch_reports_the_load_of_the_machine() {
        let host = HostWatch::begin().end();
        assert!(host.cores > 0 && host.load_after.is_some(), "{host:?}");
    }
}
