//! The paths of `lb` and `mock-server`: from the command line, else beside loadgen, else in PATH.

use std::path::{Path, PathBuf};

use thiserror::Error;

#[derive(Clone, Debug)]
pub struct Programs {
    pub lb: PathBuf,
    pub mock_server: PathBuf,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum Missing {
    #[error(
        "the program {name} is neither beside loadgen ({beside}) nor in PATH: build it (cargo build --release) or give its path (--{name} FILE)"
    )]
    Nowhere { name: &'static str, beside: PathBuf },
    #[error("--{name} {path}: there is no program of this name")]
    NotThere { name: &'static str, path: PathBuf },
}

// === impl Programs ===

impl Programs {
    /// `lb` and `mock_server` are the paths of the command line.
    pub fn find(lb: Option<&Path>, mock_server: Option<&Path>) -> Result<Self, Missing> {
        Ok(Self { lb: find("lb", lb)?, mock_server: find("mock-server", mock_server)? })
    }
}

fn find(name: &'static str, said: Option<&Path>) -> Result<PathBuf, Missing> {
    if let Some(path) = said {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        return if is_program(&path) { Ok(path) } else { Err(Missing::NotThere { name, path }) };
    }
    let executable = std::env::current_exe().unwrap_or_default();
    let beside = executable.parent().map(Path::to_owned).unwrap_or_default();
    // the executable of a test is one folder deeper
    let above = beside.ends_with("deps").then(|| beside.parent().map(Path::to_owned)).flatten();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(beside.clone()).chain(above).chain(std::env::split_paths(&path));
    let found = folders.map(|folder| folder.join(name)).find(|file| is_program(file));
    found.ok_or(Missing::Nowhere { name, beside })
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_path_is_not_searched_elsewhere() {
        let error = find("lb", Some(Path::new("/no/such/lb"))).expect_err("not there");
        assert_eq!(error, Missing::NotThere { name: "lb", path: "/no/such/lb".into() });
        assert_eq!(find("lb", Some(Path::new("/bin/sh"))), Ok("/bin/sh".into()));
    }

    #[test]
    fn a_bare_name_is_found_in_path() {
        assert!(find("sh", None).expect("in PATH").is_absolute());
        assert!(find("no-such-program", None).expect_err("nowhere").to_string().contains("--no-such-program FILE"));
    }
}
