//! Good verdicts, cached in memory and in the state directory.
//!
//! Invariants: a verdict holds for one content, set of options, number of workers and version of `lb`. The file is
//! either the old one or the new one, never a part. A file that cannot be read counts as empty, because a trial can
//! find every verdict again.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::request::{Verdict, VetRequest};

const FILE: &str = "verdicts.json";
/// With more verdicts the cache starts empty, because reading them would take too long.
const VERDICTS_MAX: usize = 1024;
/// A larger file was not written by lb.
const FILE_MAX_BYTES: u64 = 4 << 20;

pub(super) struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    path: Option<PathBuf>,
    verdicts: Mutex<HashMap<String, Verdict>>,
    /// Locked during a write, so that the newest is written last.
    writing: Mutex<()>,
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Verdicts of another version are ignored.
    lb: String,
    verdicts: HashMap<String, Verdict>,
}

/// Raised when the trial refuses more, so that older verdicts do not count.
const RULES: u32 = 3;

/// The key of a verdict, 64 hexadecimal digits.
pub(super) fn key(request: &VetRequest) -> String {
    let VetRequest { sha256, name, options, workers, .. } = request;
    let subject = serde_json::json!([sha256, name, options, workers, RULES, env!("CARGO_PKG_VERSION")]);
    Sha256::digest(subject.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl Cache ===

impl Cache {
    pub(super) fn read(directory: Option<&Path>) -> Self {
        let path = directory.map(|directory| directory.join(FILE));
        let verdicts = path.as_deref().map(read).unwrap_or_default();
        Self { shared: Arc::new(Shared { path, verdicts: Mutex::new(verdicts), writing: Mutex::new(()) }) }
    }

    pub(super) fn get(&self, key: &str) -> Option<Verdict> {
        self.shared.verdicts.lock().get(key).cloned()
    }

    /// Adds a verdict. Returns when another thread has written the file.
    pub(super) async fn put(&self, key: String, verdict: Verdict) {
        {
            let mut verdicts = self.shared.verdicts.lock();
            if verdicts.len() >= VERDICTS_MAX {
                verdicts.clear();
            }
            verdicts.insert(key, verdict);
        }
        let shared = self.shared.clone();
        let _ = tokio::task::spawn_blocking(move || shared.write()).await;
    }
}

// === impl Shared ===

impl Shared {
    fn write(&self) {
        let Some(path) = &self.path else { return };
        let _writing = self.writing.lock();
        let kept = Kept { lb: env!("CARGO_PKG_VERSION").to_owned(), verdicts: self.verdicts.lock().clone() };
        let written = serde_json::to_vec(&kept).map_err(io::Error::other).and_then(|bytes| replace(path, &bytes));
        if let Err(error) = written {
            let file = path.display();
            tracing::debug!(%file, %error, "verdicts are not saved: the next start tries plugins again");
        }
    }
}

/// Writes a temporary file, then renames it. Not synced: a verdict lost in a crash is found again.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("json.tmp");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    fs::rename(&temporary, path)
}

fn read(path: &Path) -> HashMap<String, Verdict> {
    let is_ours = fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= FILE_MAX_BYTES);
    let kept = is_ours.then(|| fs::read(path).ok()).flatten().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match kept {
        Some(Kept { lb, verdicts }) if lb == env!("CARGO_PKG_VERSION") => verdicts,
        _ => HashMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Answer, VetStage};
    use super::*;

    fn verdict() -> Verdict {
        Verdict {
            verdict: Answer::Ok,
            stage: VetStage::End,
            reason: String::new(),
            panics: 0,
            bad_answers: 0,
            pick_ns_p50: 7,
            about: None,
            left: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_verdict_outlives_the_process_and_an_unreadable_file_counts_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::read(Some(dir.path()));
        assert_eq!(cache.get("k"), None);
        cache.put("k".to_owned(), verdict()).await;
        assert_eq!(Cache::read(Some(dir.path())).get("k"), Some(verdict()));
        let file = dir.path().join(FILE);
        let good = fs::read_to_string(&file).unwrap();
        for bad in ["", "{", "[]", &good.replace(env!("CARGO_PKG_VERSION"), "0.0.0"), &good.replace("\"ok\"", "1")] {
            fs::write(&file, bad).unwrap();
            assert_eq!(Cache::read(Some(dir.path())).get("k"), None, "{bad}");
        }
    }

    #[test]
    fn a_verdict_is_about_content_name_options_and_workers() {
        let request = VetRequest {
            plugin: "a.so".into(),
            origin: "b.so".into(),
            sha256: "00".into(),
            name: None,
            options: serde_json::json!({ "a": 1 }),
            workers: 1,
            backends: Vec::new(),
            opens_only: false,
        };
        let first = key(&request);
        assert_eq!(first, key(&VetRequest { plugin: "c.so".into(), ..request.clone() }));
        for other in [
            VetRequest { sha256: "01".into(), ..request.clone() },
            VetRequest { name: Some("x".into()), ..request.clone() },
            VetRequest { options: serde_json::json!({ "a": 2 }), ..request.clone() },
            VetRequest { workers: 2, ..request.clone() },
        ] {
            assert_ne!(first, key(&other));
        }
    }
}
