//! A run on disk: its files, and how they are written and read.
//!
//! Invariants: a file of a run is complete or absent (written to a temporary name, then renamed). A file that is read
//! has the digest of [`SUMS_FILE`] and agrees with the other files (`sound`). Every error names the file, in one line.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::comparison::Comparison;
use super::histogram::{CellKey, HistogramError, Latencies, read_log, write_log};
use super::manifest::{Conclusion, Manifest, SCHEMA};
use super::recording::RECORDING_FILE;
use super::results::{Cell, Results};
use super::series::Series;
use super::sound;
use super::sums::{KEY, SUMS_FILE, Sums, sha256};

/// The stored data of a run, without plan and scrapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub manifest: Manifest,
    pub results: Results,
    pub series: Vec<Series>,
    /// One for each cell with a response.
    pub latencies: BTreeMap<CellKey, Latencies>,
}

/// The folder of a run.
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
    #[error("{path} is of another run than run.json: it has the arm {arm:?}, which run.json does not have")]
    Foreign { path: PathBuf, arm: String },
    #[error(
        "{path} was changed after loadgen stored it: {reason}; take the run from where it was copied, or measure again"
    )]
    Changed { path: PathBuf, reason: String },
    #[error("{path} is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
}

/// The stored form of `run.json`.
#[derive(Serialize)]
struct Stored<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    /// Stored under the name [`KEY`].
    digests: &'static str,
}

/// The files that were read: name and digest.
type Digests = Vec<(String, String)>;
/// A `.hdr` file: its name, its histograms, and the cells that it belongs to.
type HistogramFile<'a> = (String, BTreeMap<CellKey, Latencies>, Vec<&'a Cell>);

/// The plan as it was carried out, for a replay; in a run's folder.
pub const PLAN_FILE: &str = "plan.json";
const RESULTS_FILE: &str = "results.json";
const SERIES_FILE: &str = "series.json";
const MANIFEST_FILE: &str = "run.json";

/// Writes a file atomically: a reader sees the old file or the new one, never a part.
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
        // the first error is reported; a failed removal of the temporary file is not
        drop(fs::remove_file(&beside));
        FolderError::Write { path: path.to_owned(), source }
    })
}

/// The first count above 2^53. Without one, sums of counts and of times stay within their types.
fn too_large(value: &serde_json::Value) -> Option<u64> {
    match value {
        serde_json::Value::Number(number) => number.as_u64().filter(|number| *number > 1 << 53),
        serde_json::Value::Array(items) => items.iter().find_map(too_large),
        serde_json::Value::Object(map) => map.values().find_map(too_large),
        _ => None,
    }
}

/// The name of an arm as a part of a file name.
fn slug(label: &str) -> String {
    label.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '_' }).collect()
}

// === impl Run ===

impl Run {
    /// The conclusion that answers the question of the run. A comparison may be about counts, not about latency.
    pub fn main_conclusion(&self) -> Conclusion {
        let of_scenario = self.manifest.scenario.main_conclusion();
        let compared = self.results.comparison.as_ref().filter(|_| of_scenario == Conclusion::Latency);
        compared.map_or(of_scenario, Comparison::conclusion)
    }

    /// Whether that conclusion is valid.
    pub fn answers(&self) -> bool {
        self.manifest.supports(self.main_conclusion())
    }
}

// === impl Folder ===

impl Folder {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it, for example `plots/balance.svg`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Stores the run, `run.json` last: a folder with a `run.json` is complete. The plan and the recording are already
    /// there.
    pub fn write(&self, run: &Run) -> Result<(), FolderError> {
        let mut sums = Sums::default();
        for name in [PLAN_FILE, RECORDING_FILE].into_iter().filter(|name| self.file(name).exists()) {
            sums.add(name, &self.read_bytes(name)?);
        }
        self.put(RESULTS_FILE, &self.json(RESULTS_FILE, &run.results)?, &mut sums)?;
        self.put(SERIES_FILE, &self.json(SERIES_FILE, &run.series)?, &mut sums)?;
        for (name, bytes) in self.histograms(run)? {
            self.put(&name, &bytes, &mut sums)?;
        }
        let manifest = self.json(MANIFEST_FILE, &Stored { manifest: &run.manifest, digests: SUMS_FILE })?;
        sums.add(MANIFEST_FILE, &manifest);
        write_atomically(&self.file(SUMS_FILE), sums.to_text().as_bytes())?;
        write_atomically(&self.file(MANIFEST_FILE), &manifest)
    }

    /// Stores an unchanged scrape in `scrapes/`, for example `before-round_robin-n3-block1-lb.txt`.
    pub fn write_scrape(&self, name: &str, text: &str) -> Result<(), FolderError> {
        write_atomically(&self.file("scrapes").join(name), text.as_bytes())
    }

    pub fn read(&self) -> Result<Run, FolderError> {
        let (manifest, sums) = self.read_manifest_and_sums()?;
        let mut digests = Digests::new();
        let results: Results = self.read_json(RESULTS_FILE, &mut digests)?;
        if let Some(cell) = results.cells.iter().find(|cell| manifest.arm(&cell.arm).is_none()) {
            return Err(FolderError::Foreign { path: self.file(RESULTS_FILE), arm: cell.arm.clone() });
        }
        let series: Vec<Series> = self.read_json(SERIES_FILE, &mut digests)?;
        let found = self.read_histograms(&manifest, &results, &mut digests)?;
        if let Some(sums) = &sums {
            // a file that is not listed was added later
            if sums.has(PLAN_FILE) || self.file(PLAN_FILE).exists() {
                digests.push((PLAN_FILE.to_owned(), sha256(&self.read_bytes(PLAN_FILE)?)));
            }
            digests.iter().try_for_each(|(name, digest)| self.unchanged(sums, name, digest))?;
        }
        self.sound(RESULTS_FILE, sound::results(&results))?;
        self.sound(SERIES_FILE, sound::series(&series, &results))?;
        let mut latencies = BTreeMap::new();
        for (name, found, cells) in found {
            latencies.extend(found);
            self.sound(&name, sound::latencies(&cells, &latencies))?;
        }
        Ok(Run { manifest, series, latencies, results })
    }

    /// Reads `run.json` alone.
    pub fn read_manifest(&self) -> Result<Manifest, FolderError> {
        self.read_manifest_and_sums().map(|(manifest, _)| manifest)
    }

    /// The manifest, and the digests of the other files. Runs of older versions have no digests.
    fn read_manifest_and_sums(&self) -> Result<(Manifest, Option<Sums>), FolderError> {
        let mut digests = Digests::new();
        let json: serde_json::Value = self.read_json(MANIFEST_FILE, &mut digests).map_err(|error| match error {
            FolderError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                FolderError::NoRun { path: self.path.clone() }
            }
            other => other,
        })?;
        let path = self.file(MANIFEST_FILE);
        match json.get("schema").and_then(serde_json::Value::as_u64) {
            Some(found) if found == u64::from(SCHEMA) => {}
            Some(found) => return Err(FolderError::Schema { path, found }),
            None => return Err(FolderError::Format { path, reason: "the key `schema` is missing".into() }),
        }
        let is_summed = json.get(KEY).is_some();
        let manifest: Manifest =
            serde_json::from_value(json).map_err(|error| FolderError::Format { path, reason: error.to_string() })?;
        let sums = self.read_sums()?;
        match &sums {
            Some(sums) => digests.iter().try_for_each(|(name, digest)| self.unchanged(sums, name, digest))?,
            None if is_summed => {
                let reason = format!("it is not there, and {MANIFEST_FILE} says that it is");
                return Err(FolderError::Damaged { path: self.file(SUMS_FILE), reason });
            }
            None => {}
        }
        self.sound(MANIFEST_FILE, sound::manifest(&manifest))?;
        Ok((manifest, sums))
    }

    /// The digests of the run's files, if they were stored.
    pub(super) fn read_sums(&self) -> Result<Option<Sums>, FolderError> {
        match self.read_bytes(SUMS_FILE) {
            Err(FolderError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(bytes) => Sums::parse(&bytes)
                .map(Some)
                .map_err(|reason| FolderError::Format { path: self.file(SUMS_FILE), reason }),
        }
    }

    pub(super) fn unchanged(&self, sums: &Sums, name: &str, digest: &str) -> Result<(), FolderError> {
        sums.check(name, digest).map_err(|reason| FolderError::Changed { path: self.file(name), reason })
    }

    fn sound(&self, name: &str, found: Result<(), String>) -> Result<(), FolderError> {
        found.map_err(|reason| FolderError::Damaged { path: self.file(name), reason })
    }

    fn read_bytes(&self, name: &str) -> Result<Vec<u8>, FolderError> {
        let path = self.file(name);
        fs::read(&path).map_err(|source| FolderError::Read { path, source })
    }

    fn put(&self, name: &str, bytes: &[u8], sums: &mut Sums) -> Result<(), FolderError> {
        sums.add(name, bytes);
        write_atomically(&self.file(name), bytes)
    }

    fn json(&self, name: &str, value: &impl Serialize) -> Result<Vec<u8>, FolderError> {
        let mut bytes = serde_json::to_vec_pretty(value)
            .map_err(|error| FolderError::Format { path: self.file(name), reason: error.to_string() })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str, digests: &mut Digests) -> Result<T, FolderError> {
        let bytes = self.read_bytes(name)?;
        let wrong = |reason: String| FolderError::Format { path: self.file(name), reason };
        if bytes.is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        let value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let whole = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        digests.push((name.to_owned(), sha256(&bytes)));
        match too_large(&whole) {
            Some(number) if name != MANIFEST_FILE => Err(wrong(format!("{number} is too large for a count"))),
            _ => Ok(value),
        }
    }

    fn histograms(&self, run: &Run) -> Result<Vec<(String, Vec<u8>)>, FolderError> {
        let log = |(name, cells): (String, Vec<&Cell>)| {
            let of = |cell: &&Cell| {
                let (start, length) = (Duration::from_millis(cell.at_ms), Duration::from_nanos(cell.duration_ns));
                Some((cell.block, start, length, run.latencies.get(&cell.key())?))
            };
            let cells: Vec<_> = cells.iter().filter_map(of).collect();
            let bytes =
                write_log(&cells).map_err(|source| FolderError::Histogram { path: self.file(&name), source })?;
            Ok((name, bytes))
        };
        histogram_files(&run.manifest, &run.results).into_iter().map(log).collect()
    }

    fn read_histograms<'a>(
        &self,
        manifest: &Manifest,
        results: &'a Results,
        digests: &mut Digests,
    ) -> Result<Vec<HistogramFile<'a>>, FolderError> {
        let mut all = Vec::new();
        for (name, cells) in histogram_files(manifest, results) {
            let bytes = self.read_bytes(&name)?;
            let wrong = |source| FolderError::Histogram { path: self.file(&name), source };
            if bytes.is_empty() {
                let (arm, n) = cells.first().map_or(("", 0), |cell| (cell.arm.as_str(), cell.n));
                return Err(wrong(HistogramError::Empty(format!("{arm}, N = {n}"))));
            }
            let mut found = read_log(&bytes).map_err(wrong)?;
            digests.push((name.clone(), sha256(&bytes)));
            let latencies = cells.iter().filter_map(|cell| Some((cell.key(), found.remove(&cell.block)?))).collect();
            if let Some(block) = found.keys().next() {
                let reason = format!("it has histograms of block {block}, which results.json does not have");
                return Err(FolderError::Damaged { path: self.file(&name), reason });
            }
            all.push((name, latencies, cells));
        }
        Ok(all)
    }
}

/// One file for each arm and N, by its name. The arm's number distinguishes labels that differ only in special
/// characters.
fn histogram_files<'a>(manifest: &Manifest, results: &'a Results) -> BTreeMap<String, Vec<&'a Cell>> {
    let mut files: BTreeMap<String, Vec<&Cell>> = BTreeMap::new();
    for cell in &results.cells {
        let number = manifest.arms.iter().position(|arm| arm.label == cell.arm).map_or(0, |at| at + 1);
        files.entry(format!("hdr/{number}-{}-n{}.hdr", slug(&cell.arm), cell.n)).or_default().push(cell);
    }
    files
}
