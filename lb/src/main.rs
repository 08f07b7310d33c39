//! `lb`, the program: parse, load, run, exit code. All of it lives in the library, so that tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb::cli::main(std::env::args_os())
}
