//! Plugins that a test compiles from one file below `strategies/`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the library `output` of a file in C with the header of the plugin contract. `flags` follow the usual ones.
///
/// # Panics
/// If the compiler is absent or refuses the file.
#[track_caller]
pub fn compile(source: &str, flags: &[&str], output: &Path) {
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden", "-O1", "-pthread", "-I"]);
    cc.arg(strategies().join("kit/api/include")).args(flags);
    make(cc, source, output);
}

/// The same for a file in Rust that needs no crate.
///
/// # Panics
/// If the compiler is absent or refuses the file.
#[track_caller]
pub fn compile_rust(source: &str, flags: &[&str], output: &Path) {
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "fixture"]).args(flags);
    make(rustc, source, output);
}

#[track_caller]
fn make(mut compiler: Command, source: &str, output: &Path) {
    compiler.arg("-o").arg(output).arg(strategies().join(source));
    let status = compiler.status().unwrap_or_else(|error| panic!("{compiler:?} does not start: {error}"));
    assert!(status.success(), "{source} does not compile: {compiler:?}");
}

fn strategies() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("this crate lies in lb/").join("strategies")
}
