//! A run on disk: what is in its folder, and how it gets there and back.
//!
//! Invariants: a file of a run is whole or not there (written beside, then renamed); every error names the file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::histogram::{CellKey, HistogramError, Latencies, read_log, write_log};
use super::manifest::{Manifest, SCHEMA};
use super::results::Results;
use super::series::Series;

/// All that is stored of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub manifest: Manifest,
    pub results: Results,
    pub series: Vec<Series>,
    /// Of each cell that had an answer.
    pub latencies: BTreeMap<CellKey, Latencies>,
}

/// Where a run is stored.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

#[derive(Debug, Error)]
pub enum FolderError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is not what loadgen writes: {reason}")]
    Format { path: PathBuf, reason: String },
    #[error("{path} has schema {found}; this loadgen reads schema {SCHEMA}: use the loadgen that made it")]
    Schema { path: PathBuf, found: u64 },
    #[error("{path}: {source}")]
    Histogram { path: PathBuf, source: HistogramError },
    #[error("{path} is no run: it has no run.json (give the folder that loadgen wrote with --out)")]
    NoRun { path: PathBuf },
    #[error("{path} is of another run than run.json: it has the arm {arm:?}, which that has not")]
    Foreign { path: PathBuf, arm: String },
}

/// Writes a file so that whoever looks sees the old one or the new one, never a part.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&beside);
        FolderError::Write { path: path.to_owned(), source }
    })
}

/// The first count above 2^53, if there is one: up to there sums of counts and of times stay within their types.
fn too_large(value: &serde_json::Value) -> Option<u64> {
    match value {
        serde_json::Value::Number(number) => number.as_u64().filter(|number| *number > 1 << 53),
        serde_json::Value::Array(items) => items.iter().find_map(too_large),
        serde_json::Value::Object(map) => map.values().find_map(too_large),
        _ => None,
    }
}

/// The name of an arm as a part of a file's name.
fn slug(label: &str) -> String {
    label.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '_' }).collect()
}

// === impl Folder ===

impl Folder {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it: `plots/balance.svg`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Stores the run, `run.json` last: a folder that has one is whole.
    pub fn write(&self, run: &Run) -> Result<(), FolderError> {
        self.write_json("results.json", &run.results)?;
        self.write_json("series.json", &run.series)?;
        self.write_histograms(run)?;
        self.write_json("run.json", &run.manifest)
    }

    /// A scrape as it came, in `scrapes/`: `before-round_robin-n3-block1-lb.txt`.
    pub fn write_scrape(&self, name: &str, text: &str) -> Result<(), FolderError> {
        write_atomically(&self.file("scrapes").join(name), text.as_bytes())
    }

    pub fn read(&self) -> Result<Run, FolderError> {
        let manifest = self.read_manifest()?;
        let results: Results = self.read_json("results.json")?;
        if let Some(cell) = results.cells.iter().find(|cell| manifest.arm(&cell.arm).is_none()) {
            return Err(FolderError::Foreign { path: self.file("results.json"), arm: cell.arm.clone() });
        }
        let series: Vec<Series> = self.read_json("series.json")?;
        if series.iter().any(|series| series.window_ms == 0) {
            let (path, reason) = (self.file("series.json"), "a window_ms is 0".to_owned());
            return Err(FolderError::Format { path, reason });
        }
        let latencies = self.read_histograms(&manifest, &results)?;
        Ok(Run { manifest, results, series, latencies })
    }

    /// `run.json` alone.
    pub fn read_manifest(&self) -> Result<Manifest, FolderError> {
        let json: serde_json::Value = self.read_json("run.json").map_err(|error| match error {
            FolderError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                FolderError::NoRun { path: self.path.clone() }
            }
            other => other,
        })?;
        let path = self.file("run.json");
        match json.get("schema").and_then(serde_json::Value::as_u64) {
            Some(found) if found == u64::from(SCHEMA) => {}
            Some(found) => return Err(FolderError::Schema { path, found }),
            None => return Err(FolderError::Format { path, reason: "the key `schema` is missing".into() }),
        }
        serde_json::from_value(json).map_err(|error| FolderError::Format { path, reason: error.to_string() })
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), FolderError> {
        let path = self.file(name);
        let mut bytes = serde_json::to_vec_pretty(value)
            .map_err(|error| FolderError::Format { path: path.clone(), reason: error.to_string() })?;
        bytes.push(b'\n');
        write_atomically(&path, &bytes)
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T, FolderError> {
        let path = self.file(name);
        let bytes = fs::read(&path).map_err(|source| FolderError::Read { path: path.clone(), source })?;
        let wrong = |reason: String| FolderError::Format { path: path.clone(), reason };
        let value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let whole = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        match too_large(&whole) {
            Some(number) if name != "run.json" => Err(wrong(format!("{number} is more than anything it counts"))),
            _ => Ok(value),
        }
    }

    fn write_histograms(&self, run: &Run) -> Result<(), FolderError> {
        for (path, keys) in self.histogram_files(&run.manifest, &run.results) {
            let mut cells = Vec::new();
            for cell in run.results.cells.iter().filter(|cell| keys.contains(&cell.key())) {
                if let Some(latencies) = run.latencies.get(&cell.key()) {
                    let (start, length) = (Duration::from_millis(cell.at_ms), Duration::from_nanos(cell.duration_ns));
                    cells.push((cell.block, start, length, latencies));
                }
            }
            let bytes = write_log(&cells).map_err(|source| FolderError::Histogram { path: path.clone(), source })?;
            write_atomically(&path, &bytes)?;
        }
        Ok(())
    }

    fn read_histograms(
        &self,
        manifest: &Manifest,
        results: &Results,
    ) -> Result<BTreeMap<CellKey, Latencies>, FolderError> {
        let mut latencies = BTreeMap::new();
        for (path, keys) in self.histogram_files(manifest, results) {
            let bytes = fs::read(&path).map_err(|source| FolderError::Read { path: path.clone(), source })?;
            let mut found = read_log(&bytes).map_err(|source| FolderError::Histogram { path, source })?;
            latencies.extend(keys.into_iter().filter_map(|key| Some((key.clone(), found.remove(&key.block)?))));
        }
        Ok(latencies)
    }

    /// One file for each arm and N. The arm's number keeps labels apart that only differ in signs.
    fn histogram_files(&self, manifest: &Manifest, results: &Results) -> BTreeMap<PathBuf, Vec<CellKey>> {
        let mut files: BTreeMap<PathBuf, Vec<CellKey>> = BTreeMap::new();
        for cell in &results.cells {
            let number = manifest.arms.iter().position(|arm| arm.label == cell.arm).map_or(0, |at| at + 1);
            let name = format!("hdr/{number}-{}-n{}.hdr", slug(&cell.arm), cell.n);
            files.entry(self.file(&name)).or_default().push(cell.key());
        }
        files
    }
}
