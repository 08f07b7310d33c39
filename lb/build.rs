//! Tells a program of which revision and by which compiler it was built: `lb_build_info` shows both, a run's manifest the revision.
//! `loadgen` is built with this file too.
//!
//! Invariant: without git, or outside of a checkout, the build is the same but for the word "unknown".

use std::process::Command;

fn main() {
    let revision = said("git", &["rev-parse", "--short=12", "HEAD"]);
    let rustc = std::env::var("RUSTC").ok().and_then(|rustc| said(&rustc, &["--version"]));
    // "rustc 1.89.0 (hash date)" → "1.89.0"
    let rustc = rustc.and_then(|line| line.split(' ').nth(1).map(str::to_owned));
    for (name, value) in [("BUILD_REVISION", revision), ("BUILD_RUSTC", rustc)] {
        println!("cargo::rustc-env={name}={}", value.as_deref().unwrap_or("unknown"));
    }
    // Where HEAD leads to another commit, one of these has changed; other commands than ours keep the log.
    for path in ["HEAD", "logs/HEAD"] {
        if let Some(path) = said("git", &["rev-parse", "--git-path", path]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    // Where there is no git either, something has to be named, or every change of a source would be one.
    println!("cargo::rerun-if-changed=Cargo.toml");
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
