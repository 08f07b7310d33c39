//! The program `lb`. All of its code is in the library, so that tests can reach it.

use std::process::ExitCode;

/// glibc keeps most memory after a burst of clients; jemalloc returns it within seconds (docs/performance.md).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    lb::cli::main(std::env::args_os())
}
