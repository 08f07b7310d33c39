//! Builds the libraries of the workspace's strategies, for the tests and benches that open them.
//!
//! Why a nested cargo at first use: cargo does not build a library for a test that does not link it. A build script
//! cannot do it, because the nested cargo would wait for the lock of the outer one. While tests run, cargo holds no
//! lock.
//!
//! Why no list of strategies: cargo's metadata names them, so a new folder needs no other change. Why not `escargot`:
//! it would only start cargo and read its messages, which needs little code here.
//!
//! Invariants: a process builds once, at first use. The libraries have a target directory of their own, apart from
//! those beside `lb`. So the settings of this build do not make cargo rebuild the tests. A test run changes no
//! `Cargo.lock`.

mod cargo;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cargo::{BuildError, Built};

/// The library of the strategy with this name, as in a configuration. The strategy is shipped, an example or a fixture.
///
/// # Panics
/// If there is no such strategy, or if the libraries cannot be built.
#[track_caller]
pub fn library(name: &str) -> PathBuf {
    let built = built();
    let Some(found) = built.libraries.iter().find(|library| library.name == name) else {
        let names: Vec<_> = built.libraries.iter().map(|library| &*library.name).collect();
        panic!("no folder below strategies/ builds a library {name}; there are {}", names.join(", "));
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

/// The names of the shipped strategies in alphabetical order. Their folders are directly below `strategies/`.
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

/// The root of the checkout in which this crate was compiled.
fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3);
    root.expect("this crate lies in strategies/kit/").to_owned()
}
