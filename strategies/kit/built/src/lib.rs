//! Has the libraries of the workspace's strategies built, for the tests and benches that open them.
//!
//! Why a nested cargo at first use: cargo builds no library for a test that does not link it. A build script cannot start cargo, because
//! the nested one waits for the lock that the outer one holds; while tests run, cargo holds none. Which strategies there are, cargo says:
//! a new folder edits no list. Why no crate for it: to start cargo and to read its messages is most of this file, and is all that
//! `escargot` would do.
//!
//! Invariants: a process builds once, at first use; a target directory of its own keeps the libraries apart from those that lie beside
//! `lb`, and settings of the build below from rebuilding what tests are made of; a test run changes no `Cargo.lock`.

mod cargo;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cargo::{BuildError, Built};

/// The library of the strategy with this name, as configurations write it: shipped, an example or a fixture.
///
/// # Panics
/// If there is no such strategy, or if the libraries cannot be built.
#[track_caller]
pub fn library(name: &str) -> PathBuf {
    let built = built();
    let Some(found) = built.libraries.iter().find(|library| library.name == name) else {
        let names: Vec<_> = built.libraries.iter().map(|library| &*library.name).collect();
        panic!("no folder below strategies/ makes a library {name}; there are {}", names.join(", "));
    };
    found.file.clone()
}

/// The folder with the libraries of all strategies, for `plugin_dirs`.
///
/// # Panics
/// If the libraries cannot be built.
#[track_caller]
pub fn folder() -> &'static Path {
    &built().folder
}

/// The names of the strategies that are shipped, in alphabetical order: those directly below `strategies/`.
///
/// # Panics
/// If the libraries cannot be built.
#[track_caller]
pub fn shipped() -> impl Iterator<Item = &'static str> {
    built().libraries.iter().filter(|library| library.is_shipped).map(|library| &*library.name)
}

#[track_caller]
fn built() -> &'static Built {
    static BUILT: OnceLock<Result<Built, BuildError>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let executable = std::env::current_exe().map_err(BuildError::NoExecutable)?;
        cargo::build(&workspace(), &cargo::Place::of(&executable)?)
    });
    built.as_ref().unwrap_or_else(|error| panic!("{error}"))
}

/// The root of the checkout that this crate was compiled in.
fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3);
    root.expect("this crate lies in strategies/kit/").to_owned()
}
