//! Code that the measurements share: a balancer with servers as processes, load, windows of time, and statistics.

#![allow(dead_code, reason = "each measurement uses its part")]

use std::process::ExitCode;

use serde_json::Value;

pub(crate) mod load;
pub(crate) mod stage;
pub(crate) mod statistics;
pub(crate) mod windows;

/// Prints the report, as `text` has it or as JSON, or why there is none.
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
