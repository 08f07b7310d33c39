//! Sets BUILD_REVISION and BUILD_RUSTC, the revision and the compiler of the build, and BUILD_VERSION for `--version`.
//! `lb_build_info` shows the first two, the manifest of a `loadgen` run the revision. `loadgen` and `mock-server` are
//! built with this file too.
//!
//! The environment variable LB_REVISION names the revision of a source tree without `.git`, such as that of a package.
//! Invariant: without it and without git, or outside of a checkout, the build works, and the revision is "unknown".

use std::path::Path;
use std::process::Command;

fn main() {
    let named = std::env::var("LB_REVISION").ok().filter(|name| !name.is_empty());
    // A repository further up is another project's.
    let is_checkout = Path::new("../.git").exists();
    let revision = named.or_else(|| said("git", &["rev-parse", "--short=12", "HEAD"]).filter(|_| is_checkout));
    let package = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = revision.as_ref().map_or(package.clone(), |revision| format!("{package} ({revision})"));
    let rustc = std::env::var("RUSTC").ok().and_then(|rustc| said(&rustc, &["--version"]));
    // "rustc 1.89.0 (hash date)" → "1.89.0"
    let rustc = rustc.and_then(|line| line.split(' ').nth(1).map(str::to_owned));
    for (name, value) in [("BUILD_REVISION", revision), ("BUILD_RUSTC", rustc), ("BUILD_VERSION", Some(version))] {
        println!("cargo::rustc-env={name}={}", value.as_deref().unwrap_or("unknown"));
    }
    // When HEAD names another commit, one of these files has changed. git writes `logs/HEAD` at every commit.
    for path in ["HEAD", "logs/HEAD"] {
        if let Some(path) = said("git", &["rev-parse", "--git-path", path]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rerun-if-env-changed=LB_REVISION");
    // Without git, at least one file must be named. Otherwise cargo would run this again at every changed source.
    println!("cargo::rerun-if-changed=Cargo.toml");
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
