//! Runs the nested cargo: finds the strategies and builds their libraries.
//!
//! Invariant: names of files come from cargo's messages and are never guessed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How the running test was built, from the path of its executable. The libraries are built in the same way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The target directory of the libraries.
    target: PathBuf,
    profile: String,
}

/// The libraries that cargo has built.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) folder: PathBuf,
    /// Sorted by name.
    pub(crate) libraries: Vec<Library>,
}

#[derive(Debug)]
pub(crate) struct Library {
    /// The strategy's name, as in a configuration.
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    pub(crate) is_shipped: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error("the strategies cannot be built, because the path of this test's executable is unknown: {0}")]
    NoExecutable(std::io::Error),
    #[error(
        "the strategies cannot be built for {0}: run the test from `deps` or `examples` in a folder of cargo's target \
         directory"
    )]
    NotInTarget(PathBuf),
    #[error("the strategies cannot be built, because `{0}` does not start: {1}")]
    NoCargo(String, std::io::Error),
    #[error("the strategies cannot be built; `{0}` printed:\n{1}")]
    Failed(String, String),
    #[error("the output of `{0}` cannot be parsed: {1}")]
    NotUnderstood(String, serde_json::Error),
    #[error("no folder below {0} builds a library: a strategy needs crate-type = [\"cdylib\"]")]
    Nothing(PathBuf),
}

/// The parts of `cargo metadata` that are used here.
#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

/// A line of `cargo build`. Only lines about artifacts are used.
#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact {
        manifest_path: PathBuf,
        target: Target,
        filenames: Vec<PathBuf>,
    },
    #[serde(other)]
    Other,
}

/// Builds every library below `strategies/` of the workspace that contains `root`.
pub(crate) fn build(root: &Path, place: &Place) -> Result<Built, BuildError> {
    let mut metadata = ask(cargo(root, "metadata").args(["--no-deps", "--format-version=1"]))?;
    let Metadata { workspace_root, packages } = metadata.pop().ok_or_else(|| BuildError::Nothing(root.to_owned()))?;
    let strategies = workspace_root.join("strategies");
    let is_strategy = |package: &&Package| {
        package.manifest_path.starts_with(&strategies) && package.targets.iter().any(Target::is_plugin)
    };
    let packages: Vec<_> = packages.iter().filter(is_strategy).map(|package| &*package.name).collect();
    if packages.is_empty() {
        return Err(BuildError::Nothing(strategies));
    }
    let mut libraries: Vec<_> = ask(&mut build_command(root, place, &packages))?
        .into_iter()
        .filter_map(|line| Library::of(line, &strategies))
        .collect();
    libraries.sort_by(|a, b| a.name.cmp(&b.name));
    let folder = libraries.first().and_then(|library| library.file.parent()).map(Path::to_owned);
    Ok(Built { folder: folder.ok_or(BuildError::Nothing(strategies))?, libraries })
}

fn build_command(root: &Path, Place { target, profile }: &Place, packages: &[&str]) -> Command {
    let mut command = cargo(root, "build");
    command
        .args(["--lib", "--message-format=json-render-diagnostics", "--profile", profile, "--target-dir"])
        .arg(target);
    // Plugins are read and hashed at every load, and debug information of the standard library is nine tenths of a
    // file.
    command.args(["--config", &format!("profile.{profile}.strip=\"debuginfo\"")]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    command
}

/// The cargo that runs the tests. If a test was started by hand, the one in PATH.
fn cargo(root: &Path, subcommand: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    // `--locked`: the outer cargo has checked the lock file, and a test run must not write to the checkout.
    command.args([subcommand, "--locked"]).current_dir(root).stdin(Stdio::null());
    command
}

/// The JSON that a command prints, one value per line.
fn ask<T: DeserializeOwned>(command: &mut Command) -> Result<Vec<T>, BuildError> {
    let output = command.output().map_err(|error| BuildError::NoCargo(shown(command), error))?;
    if !output.status.success() {
        return Err(BuildError::Failed(shown(command), String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect::<Result<_, _>>();
    values.map_err(|error| BuildError::NotUnderstood(shown(command), error))
}

/// A command as a user types it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

// === impl Place ===

impl Place {
    /// From `…/target/debug/deps/x`, or from `examples` beside `deps`.
    pub(crate) fn of(executable: &Path) -> Result<Self, BuildError> {
        let mut ancestors = executable.ancestors().skip(1);
        let place = (|| {
            let kind = ancestors.next()?.file_name()?;
            let folder = ancestors.next()?.file_name()?.to_str()?;
            let target = ancestors.next()?.join("strategies");
            // Only this profile has a folder with another name.
            let profile = if folder == "debug" { "dev" } else { folder }.to_owned();
            (kind == "deps" || kind == "examples").then_some(Self { target, profile })
        })();
        place.ok_or_else(|| BuildError::NotInTarget(executable.to_owned()))
    }
}

// === impl Target ===

impl Target {
    fn is_plugin(&self) -> bool {
        self.crate_types.iter().any(|one| one == "cdylib")
    }
}

// === impl Library ===

impl Library {
    fn of(message: Message, strategies: &Path) -> Option<Self> {
        let Message::CompilerArtifact { manifest_path, target, filenames } = message else { return None };
        let is_library =
            |file: &PathBuf| file.extension().is_some_and(|found| found == std::env::consts::DLL_EXTENSION);
        let file = filenames.into_iter().find(is_library).filter(|_| target.is_plugin())?;
        let is_shipped = manifest_path.ancestors().nth(2) == Some(strategies);
        Some(Self { name: target.name, file, is_shipped })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A workspace with a strategy in each of these folders.
    fn workspace(strategies: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let members =
            "[workspace]\nresolver = \"3\"\nmembers = [\"strategies/*/src/..\", \"strategies/examples/*/src/..\"]\n";
        fs::write(root.path().join("Cargo.toml"), members).unwrap();
        let mut lock = "version = 4\n".to_owned();
        for (folder, code) in strategies {
            let place = root.path().join("strategies").join(folder);
            fs::create_dir_all(place.join("src")).unwrap();
            let name = place.file_name().unwrap().to_str().unwrap().to_owned();
            let package = format!("name = \"{name}\"\nversion = \"0.0.0\"\n");
            fs::write(place.join("Cargo.toml"), format!("[package]\n{package}[lib]\ncrate-type = [\"cdylib\"]\n"))
                .unwrap();
            fs::write(place.join("src/lib.rs"), code).unwrap();
            lock += &format!("[[package]]\n{package}");
        }
        fs::write(root.path().join("Cargo.lock"), lock).unwrap();
        root
    }

    fn place(root: &Path) -> Place {
        Place { target: root.join("target/strategies"), profile: "dev".to_owned() }
    }

    #[test]
    fn the_path_of_a_test_shows_target_directory_and_profile() {
        let of = |executable: &str| Place::of(Path::new(executable)).ok().map(|place| (place.target, place.profile));
        let found = |target: &str, profile: &str| Some((PathBuf::from(target), profile.to_owned()));
        assert_eq!(of("/t/debug/deps/x-1"), found("/t/strategies", "dev"));
        assert_eq!(of("/t/release/examples/x"), found("/t/strategies", "release"));
        assert_eq!(
            of("/t/x86_64-unknown-linux-gnu/mine/deps/x"),
            found("/t/x86_64-unknown-linux-gnu/strategies", "mine")
        );
        for elsewhere in ["/t/debug/x", "/deps/x", "x", "/"] {
            assert_eq!(of(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_new_folder_is_built_and_its_path_shows_whether_it_is_shipped() {
        let root = workspace(&[("a-one", ""), ("examples/two", "")]);
        let built = build(root.path(), &place(root.path())).unwrap_or_else(|error| panic!("{error}"));
        let found: Vec<_> = built.libraries.iter().map(|library| (&*library.name, library.is_shipped)).collect();
        assert_eq!(found, [("a_one", true), ("two", false)]);
        for library in &built.libraries {
            assert_eq!(library.file, built.folder.join(format!("lib{}.so", library.name)));
            assert!(library.file.is_file());
        }
    }

    #[test]
    fn the_error_of_a_failed_build_contains_the_message_of_the_compiler() {
        let root = workspace(&[("bad", "fn f() -> u8 { \"text\" }"), ("examples/fine", "")]);
        let error = build(root.path(), &place(root.path())).unwrap_err().to_string();
        assert!(
            error.contains("--package bad") && error.contains("E0308") && error.contains("src/lib.rs:1"),
            "{error}"
        );
    }
}
