//! The common parts of the measurements: a balancer and servers as processes, load, windows of time, and statistics.

#![allow(dead_code, reason = "each measurement uses a part")]

use std::process::ExitCode;

use serde_json::Value;

pub(crate) mod load;
pub(crate) mod stage;
pub(crate) mod statistics;
pub(crate) mod windows;

/// Prints the report as JSON or as `text` makes it, or the error.
pub(crate) fn tell(report: anyhow::Result<Value>, as_json: bool, text: impl Fn(&Value) -> String) -> ExitCode {
    match report {
        Ok(report) => {
            println!("{}", if as_json { format!("{report:#}") } else { text(&report) });
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error:#}", env!("CARGO_CRATE_NAME"));
            ExitCode::FAILURE
        }
    }
}
