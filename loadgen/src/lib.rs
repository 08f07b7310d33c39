//! The laboratory around the balancer: load with known send times, experiments with intervals and verdicts, and reports
//! that include the checks of the run.
//!
//! Arrows: `cli` → `run` → `experiment` → `view` → {`load`, `report`}, and → {`load`, `lab`, `report` → `statistics`}.
//! `model` is the plain data that all of them share. Invariant: loadgen uses no code of `lb`, only its processes, its
//! HTTP ports and its files.

/// Prints a line to stderr. Unlike `eprintln!`, it ignores a closed pipe: `loadgen b 2>&1 | head` must not lose the
/// run.
macro_rules! tell {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($line)*);
    }};
}

pub mod cli;
pub mod experiment;
pub mod lab;
pub mod load;
pub mod model;
pub mod report;
pub mod run;
pub mod statistics;
pub mod view;
