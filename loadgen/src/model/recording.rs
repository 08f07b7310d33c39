//! The unchanged scrapes of the balancer over a whole run: `scrapes/recording.txt.gz`.
//!
//! The file is compressed text, so `zless` shows it. Before each scrape is a line `# scrape {…}` (see [`Taken`]). Then
//! follows Prometheus' text format as the balancer sent it. It is parsed only when it is read.
//!
//! Invariant: a recording is complete or absent (written to a temporary name, then renamed).

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::folder::{Folder, FolderError};
use super::sums::sha256;

/// The data of a scrape beside its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The time of the request: milliseconds since the Unix epoch, by loadgen's clock.
    pub at_unix_ms: u64,
    /// The time until the response.
    pub took_us: u64,
    /// The scraped address, for example `127.0.0.1:8081`, in Prometheus' label `instance`.
    pub instance: String,
    /// Why the scrape has no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An unfinished recording.
#[derive(Debug)]
pub struct RecordingWriter {
    path: PathBuf,
    beside: PathBuf,
    out: Option<GzEncoder<BufWriter<File>>>,
}

#[derive(Debug, Error)]
pub enum RecordingError {
    #[error("{0} has no recorded scrapes (scrapes/recording.txt.gz): runs made by an older loadgen have none")]
    None(PathBuf),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}, line {line}: {reason}")]
    Format { path: PathBuf, line: usize, reason: String },
    #[error(transparent)]
    Folder(#[from] FolderError),
}

const MARK: &str = "# scrape ";
/// The path of the recording in the folder of a run.
pub(super) const RECORDING_FILE: &str = "scrapes/recording.txt.gz";

/// The path of the recording of a run.
pub fn recording_path(run: &Path) -> PathBuf {
    run.join(RECORDING_FILE)
}

/// Calls `each` for every scrape of a run's recording, in its order.
pub fn read_recording(run: &Path, mut each: impl FnMut(Taken, String)) -> Result<(), RecordingError> {
    let path = recording_path(run);
    let folder = Folder::new(run);
    let sums = folder.read_sums()?;
    let bytes = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if !sums.as_ref().is_some_and(|sums| sums.has(RECORDING_FILE)) => {
            RecordingError::None(run.to_owned())
        }
        _ => RecordingError::Read { path: path.clone(), source },
    })?;
    if bytes.is_empty() {
        return Err(RecordingError::Format { path, line: 1, reason: "it is empty".to_owned() });
    }
    if let Some(sums) = sums {
        folder.unchanged(&sums, RECORDING_FILE, &sha256(&bytes))?;
    }
    let mut current: Option<(Taken, String)> = None;
    for (number, line) in BufReader::new(MultiGzDecoder::new(bytes.as_slice())).lines().enumerate() {
        let line = line.map_err(|source| RecordingError::Read { path: path.clone(), source })?;
        let wrong = |reason: String| RecordingError::Format { path: path.clone(), line: number + 1, reason };
        if let Some(json) = line.strip_prefix(MARK) {
            let taken = serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
            if let Some((taken, text)) = current.replace((taken, String::new())) {
                each(taken, text);
            }
        } else {
            let (_, text) = current.as_mut().ok_or_else(|| wrong("text before the first scrape".to_owned()))?;
            text.push_str(&line);
            text.push('\n');
        }
    }
    if let Some((taken, text)) = current {
        each(taken, text);
    }
    Ok(())
}

// === impl RecordingWriter ===

impl RecordingWriter {
    /// Begins the recording of a run.
    pub fn create(run: &Path) -> io::Result<Self> {
        let path = recording_path(run);
        let beside = path.with_extension("gz.part");
        fs::create_dir_all(path.parent().unwrap_or(run))?;
        let out = GzEncoder::new(BufWriter::new(File::create(&beside)?), Compression::fast());
        Ok(Self { path, beside, out: Some(out) })
    }

    pub fn push(&mut self, taken: &Taken, text: &str) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        writeln!(out, "{MARK}{}", serde_json::to_string(taken)?)?;
        out.write_all(text.as_bytes())?;
        if text.ends_with('\n') || text.is_empty() { Ok(()) } else { out.write_all(b"\n") }
    }

    /// Completes the file and renames it to its final name.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(out) = self.out.take() {
            out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        }
        fs::rename(&self.beside, &self.path)
    }
}

impl Drop for RecordingWriter {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.beside)); // already renamed after `finish`
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(at_unix_ms: u64, error: Option<&str>) -> Taken {
        Taken { at_unix_ms, took_us: 900, instance: "127.0.0.1:1".to_owned(), error: error.map(str::to_owned) }
    }

    #[test]
    fn a_recording_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = RecordingWriter::create(folder.path()).expect("begun");
        let scrapes = [
            (taken(1_000, None), "# TYPE a counter\na 1\n"),
            (taken(2_000, Some("lb\ndoes not answer")), ""),
            (taken(3_000, None), "a{b=\"# scrape {\"} 2"),
        ];
        for (taken, text) in &scrapes {
            writer.push(taken, text).expect("written");
        }
        assert!(!recording_path(folder.path()).exists(), "it is not complete yet");
        writer.finish().expect("finished");
        let mut found = Vec::new();
        read_recording(folder.path(), |taken, text| found.push((taken, text))).expect("readable");
        let expected = scrapes.map(|(taken, text)| {
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            (taken, format!("{text}{end}"))
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn an_abandoned_recording_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(RecordingWriter::create(folder.path()).expect("begun"));
        assert_eq!(fs::read_dir(folder.path().join("scrapes")).expect("there").count(), 0);
    }

    #[test]
    fn errors_name_the_run_or_the_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = || read_recording(folder.path(), |_, _| {}).expect_err("nothing to read").to_string();
        assert!(read().contains("has no recorded scrapes"), "{}", read());
        fs::create_dir(folder.path().join("scrapes")).expect("made");
        let write = |text: &[u8]| {
            let mut out = GzEncoder::new(Vec::new(), Compression::fast());
            out.write_all(text).expect("to memory");
            fs::write(recording_path(folder.path()), out.finish().expect("to memory")).expect("written");
        };
        write(b"a 1\n");
        assert!(read().ends_with("line 1: text before the first scrape"), "{}", read());
        write(b"# scrape {\"at_unix_ms\":1,\"took_us\":1,\"instance\":\"i\"}\n# scrape {}\n");
        assert!(read().contains("line 2: missing field"), "{}", read());
        fs::write(recording_path(folder.path()), "a 1\n").expect("written");
        assert!(read().starts_with("cannot read"), "{}", read());
    }
}
