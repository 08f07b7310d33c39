//! The laboratory around the balancer: load that is honest about when it was sent, experiments whose difference is shown to be one,
//! and reports that can be defended.
//!
//! Arrows: `cli` → `run` → `experiment` → `view` → {`load`, `report`}, and → {`load`, `lab`, `report` → `statistics`}; `model` is the
//! plain data that all of them share, and knows nobody. Invariant: nothing here uses `lb`'s code; processes, HTTP and files are the only way to it.

/// Tells a line on stderr. Unlike `eprintln!` it does not mind that nobody reads any more: `loadgen b 2>&1 | head` must not lose the run.
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
