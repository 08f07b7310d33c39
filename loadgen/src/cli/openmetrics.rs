//! `loadgen openmetrics`: writes the recorded scrapes of runs to stdout, and one line for each scraped balancer to
//! stderr.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args as ClapArgs;
use jiff::Timestamp;
use thiserror::Error;

use crate::lab::{BadScrape, OpenMetrics, Span};
use crate::model::{RecordingError, Taken, read_recording};
use crate::run::EXIT_USAGE;

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
To show the output in Prometheus (the script grafana/replay does all of this):

  loadgen openmetrics runs/X >run.om
  promtool tsdb create-blocks-from openmetrics run.om data
  prometheus --config.file=/dev/null --storage.tsdb.path=data --storage.tsdb.retention.time=100y --query.lookback-delta=2s

lb was scraped once a second. The look-back is short because the format cannot mark the end of a series.")]
pub struct OpenMetricsArgs {
    /// Folders of runs
    #[arg(value_name = "DIR", required = true)]
    pub runs: Vec<PathBuf>,
}

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Recording(#[from] RecordingError),
    #[error("{run}: in the scrape of {at}, {source}")]
    Scrape { run: PathBuf, at: String, source: BadScrape },
    #[error("cannot write: {0}")]
    Write(io::Error),
}

pub(super) fn main(args: &OpenMetricsArgs) -> ExitCode {
    match convert(&args.runs) {
        Ok(metrics) => {
            for (instance, span) in metrics.instances() {
                tell!("loadgen: {}", told(instance, span));
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            tell!("loadgen: {failure}");
            ExitCode::from(if matches!(failure, Failure::Write(_)) { 1 } else { EXIT_USAGE })
        }
    }
}

fn convert(runs: &[PathBuf]) -> Result<OpenMetrics, Failure> {
    let mut metrics = OpenMetrics::default();
    for run in runs {
        take_in(&mut metrics, run)?;
    }
    let mut out = BufWriter::new(io::stdout().lock());
    match metrics.write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Write(error)),
        _ => Ok(metrics),
    }
}

fn take_in(metrics: &mut OpenMetrics, run: &Path) -> Result<(), Failure> {
    let mut wrong = None;
    read_recording(run, |taken: Taken, text| {
        if let (None, Err(source)) = (&wrong, metrics.add(&taken, &text)) {
            wrong = Some(Failure::Scrape { run: run.to_owned(), at: rfc3339(taken.at_unix_ms), source });
        }
    })?;
    wrong.map_or(Ok(()), Err)
}

fn told(instance: &str, span: &Span) -> String {
    let failed = if span.failed == 0 { String::new() } else { format!(" ({} without a response)", span.failed) };
    let (first, last) = (rfc3339(span.first_unix_ms), rfc3339(span.last_unix_ms));
    format!("{} scrapes{failed} of {instance} from {first} to {last}", span.scrapes)
}

fn rfc3339(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{unix_ms} ms"), |time| time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_number_of_scrapes_and_their_first_and_last_time() {
        let span = Span { first_unix_ms: 1_763_837_130_120, last_unix_ms: 1_763_837_131_000, scrapes: 2, failed: 0 };
        let expected = "2 scrapes of h:1 from 2025-11-22T18:45:30.120Z to 2025-11-22T18:45:31.000Z";
        assert_eq!(told("h:1", &span), expected);
        assert!(told("h:1", &Span { failed: 1, ..span }).starts_with("2 scrapes (1 without a response) of"));
    }
}
