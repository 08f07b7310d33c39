//! Reports: tables, pictures and sentences from a stored experiment alone.
//!
//! [`write()`] reads a run's folder and writes into it `results.csv`, `report.html` (one self-contained file),
//! `report.md`, `plots/*.svg` and `plots/*.png`. [`text`] is the same report for a terminal, and [`diff`] compares two
//! runs.
//!
//! Arrows: words → {rows, document}; plots → picture. `statistics` computes; no module here knows a strategy.
//! Invariant: a report depends on the folder alone, so the same folder gives the same bytes.

mod again;
mod clock;
mod diff;
mod document;
pub(crate) mod format;
mod picture;
mod plots;
mod rows;
mod words;

use std::path::PathBuf;

use thiserror::Error;

pub use again::replayed;
pub use diff::{DiffError, diff, same_setting};
pub use rows::{Kind, Row, from_csv, rows, to_csv};
pub(crate) use words::measure_name;

use crate::model::{Folder, FolderError, Run, write_atomically};
use document::{html, markdown};
use picture::{png, svg};

#[derive(Debug, Error)]
pub enum ReportError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("results.csv cannot be written: {0}")]
    Csv(#[from] csv::Error),
    #[error("{path} cannot be drawn: {reason}")]
    Picture { path: PathBuf, reason: String },
}

/// Makes every report of the run in this folder. Returns the files written, `report.html` first.
pub fn write(folder: &Folder) -> Result<Vec<PathBuf>, ReportError> {
    let run = folder.read()?;
    write_for(folder, &run)
}

/// Makes every report of a run that is already read or was just stored in this folder.
pub fn write_for(folder: &Folder, run: &Run) -> Result<Vec<PathBuf>, ReportError> {
    let rows = rows(run);
    let plots = plots::plots(run);
    let mut written = Vec::new();
    let mut put = |name: &str, bytes: &[u8]| {
        let path = folder.file(name);
        written.push(path.clone());
        write_atomically(&path, bytes)
    };
    let document = words::document(run, &rows, plots.clone());
    put("report.html", html::write(&document).as_bytes())?;
    put("report.md", markdown::write(&document).as_bytes())?;
    put("results.csv", &to_csv(&rows)?)?;
    for plot in &plots {
        put(&format!("plots/{}.svg", plot.name), svg::write(&plot.wide, svg::Style::Alone).as_bytes())?;
        let name = format!("plots/{}.png", plot.name);
        let path = folder.file(&name);
        let picture = png::write(&plot.wide).map_err(|reason| ReportError::Picture { path, reason })?;
        put(&name, &picture)?;
    }
    Ok(written)
}

/// The most lines of [`summary`].
pub const SUMMARY_LINES: usize = 20;

/// The summary for a terminal: the answer, the verdicts, the warnings, and the path of the whole report.
pub fn summary(run: &Run, path: &str) -> String {
    let brief = document::text::brief(&words::brief(run, &rows(run)), SUMMARY_LINES - 2);
    format!("{brief}\nreport: {path}")
}

/// The whole report for a terminal.
pub fn text(run: &Run) -> String {
    let rows = rows(run);
    document::text::write(&words::document(run, &rows, plots::plots(run)))
}
