//! What a plugin leaves behind in the process: threads, open descriptors, children.
//!
//! Why it is looked for: a plugin may start no thread and keep no descriptor (images are never unloaded, so each reload would add some).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A thread that was joined may stand in the list for a moment longer.
const LOOKS_MAX: u32 = 50;
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// What there is of these at one moment.
#[derive(Debug)]
pub(super) struct Remains {
    threads: usize,
    /// Where each descriptor leads to.
    descriptors: BTreeMap<String, PathBuf>,
    children: usize,
}

// === impl Remains ===

impl Remains {
    pub(super) fn look() -> Self {
        let own = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
        let descriptors = entries("/proc/self/fd").filter_map(|entry| {
            let leads_to = fs::read_link(entry.path()).ok()?;
            // the one by which we look
            (leads_to != own).then(|| (entry.file_name().to_string_lossy().into_owned(), leads_to))
        });
        let descriptors = descriptors.collect();
        let of_thread = |path: PathBuf| fs::read_to_string(path.join("children")).unwrap_or_default();
        let children = entries("/proc/self/task").map(|entry| of_thread(entry.path()).split_whitespace().count());
        Self { threads: entries("/proc/self/task").count(), descriptors, children: children.sum() }
    }

    /// What has been added since, in words; `None` when it is as it was.
    pub(super) fn added_since(&self) -> Option<String> {
        let mut now = Self::look();
        for _ in 0..LOOKS_MAX {
            if now.threads <= self.threads {
                break;
            }
            std::thread::sleep(LOOK_INTERVAL);
            now = Self::look();
        }
        if now.threads > self.threads {
            let count = now.threads - self.threads;
            let s = if count == 1 { "" } else { "s" };
            return Some(format!("leaves {count} thread{s} running: a strategy works in its hooks alone"));
        }
        if now.children > self.children {
            return Some("leaves a child process running".to_owned());
        }
        let opened = now.descriptors.iter().find(|(number, _)| !self.descriptors.contains_key(*number))?;
        Some(format!("leaves descriptor {} ({}) open", opened.0, opened.1.display()))
    }
}

fn entries(directory: &str) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(directory).into_iter().flatten().flatten()
}
