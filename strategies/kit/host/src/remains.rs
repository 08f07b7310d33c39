//! Finds what a plugin leaves in the process: threads, open descriptors, children.
//!
//! Why: a plugin must start no thread and keep no descriptor. Images are never unloaded, so each reload would add more.
//! Invariant: the caller starts no thread and opens no file between two looks.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A joined thread may stay in the list for a moment.
const LOOKS_MAX: u32 = 50;
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Threads, descriptors and children at one moment.
#[derive(Debug)]
pub struct Remains {
    threads: usize,
    /// The target of each descriptor.
    descriptors: BTreeMap<String, PathBuf>,
    children: usize,
}

// === impl Remains ===

impl Remains {
    pub fn look() -> Self {
        let own = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
        let descriptors = entries("/proc/self/fd").filter_map(|entry| {
            let leads_to = fs::read_link(entry.path()).ok()?;
            // without the descriptor of this folder
            (leads_to != own).then(|| (entry.file_name().to_string_lossy().into_owned(), leads_to))
        });
        let descriptors = descriptors.collect();
        let of_thread = |path: PathBuf| fs::read_to_string(path.join("children")).unwrap_or_default();
        let children = entries("/proc/self/task").map(|entry| of_thread(entry.path()).split_whitespace().count());
        Self { threads: entries("/proc/self/task").count(), descriptors, children: children.sum() }
    }

    /// Describes the first addition since then; `None` if there is none.
    pub fn added_since(&self) -> Option<String> {
        let now = match self.started_since() {
            Ok(now) => now,
            Err(started) => return Some(started),
        };
        let opened = now.descriptors.iter().find(|(number, _)| !self.descriptors.contains_key(*number))?;
        Some(format!("leaves descriptor {} ({}) open", opened.0, opened.1.display()))
    }

    /// Describes threads or children that were started since then and still run. If there are none, what is there now.
    pub fn started_since(&self) -> Result<Self, String> {
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
            return Err(format!("leaves {count} thread{s} running: a strategy works in its hooks alone"));
        }
        if now.children > self.children {
            return Err("leaves a child process running".to_owned());
        }
        Ok(now)
    }
}

fn entries(directory: &str) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(directory).into_iter().flatten().flatten()
}
