//! The places where lb looks by itself: the configuration file, the folders of plugins, the state folder.
//!
//! One rule fits a checkout, a package and an unpacked archive. An installed lb is in a folder `bin`; the folder above
//! is its prefix. Everything is relative to that prefix, so an archive may be unpacked anywhere.
//!
//! ```text
//! PREFIX/bin/lb    PREFIX/lib/lb/strategies/lib*.so    PREFIX/etc/lb/lb.toml, then /etc/lb/lb.toml    /var/lib/lb
//! ```
//!
//! Invariant: except [`find_file`] and [`system_state`], which ask the file system, the functions are pure.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Relative to the working folder: the file of a checkout.
const IN_WORKING_FOLDER: &str = "config/lb.toml";
/// Relative to the prefix, and to `/`.
const IN_PREFIX: &str = "etc/lb/lb.toml";
const SYSTEM_FILE: &str = "/etc/lb/lb.toml";
const SYSTEM_STATE: &str = "/var/lib/lb";
/// Relative to the executable's folder.
const STRATEGIES: &str = "lib/lb/strategies";

/// The first of [`files`] that exists, or all of them.
pub(super) fn find_file() -> Result<PathBuf, Vec<PathBuf>> {
    let executable = std::env::current_exe().ok();
    let mut places = files(executable.as_deref());
    // A file that exists but cannot be read is an error later. A folder that this user must not enter has none: the
    // working folder of `sudo -u lb lb check` may be that of root.
    match places.iter().position(|path| path.symlink_metadata().is_ok()) {
        Some(found) => Ok(places.swap_remove(found)),
        None => Err(places),
    }
}

/// The places of the configuration file, in this order.
fn files(executable: Option<&Path>) -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from(IN_WORKING_FOLDER)];
    files.extend(executable.and_then(prefix).map(|prefix| prefix.join(IN_PREFIX)));
    if !files.iter().any(|file| file == Path::new(SYSTEM_FILE)) {
        files.push(PathBuf::from(SYSTEM_FILE));
    }
    files
}

/// The folder above `bin`, if `executable` is in one.
fn prefix(executable: &Path) -> Option<&Path> {
    executable.parent().filter(|folder| folder.ends_with("bin"))?.parent()
}

/// The folders of plugins that follow the configured ones: that of `executable`, then the installed strategies.
/// `is_folder` tells whether the latter exist.
pub(super) fn plugin_folders(executable: &Path, is_folder: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let Some(folder) = executable.parent() else { return Vec::new() };
    let installed = folder.parent().map(|prefix| prefix.join(STRATEGIES)).filter(|folder| is_folder(folder));
    std::iter::once(folder.to_owned()).chain(installed).collect()
}

/// `/var/lib/lb`, if it exists and belongs to this user.
pub(super) fn system_state() -> Option<PathBuf> {
    let ours = rustix::process::geteuid().as_raw();
    let is_ours = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == ours);
    Some(PathBuf::from(SYSTEM_STATE)).filter(|path| is_ours(path))
}

/// The state folder of the configuration `file`, the first of these:
///
/// - the first folder in `$STATE_DIRECTORY`, which systemd sets for a service;
/// - `system`, for the file `/etc/lb/lb.toml`: so `lb check` names the folder of the service if its user asks;
/// - `$XDG_STATE_HOME/lb/<hash>`, else below the home folder, else below the temporary one.
///
/// The hash is made from the file's folder without links, and the file's name. So all ways to one file give one folder,
/// and a file that is replaced by a changed link keeps its folder.
pub(super) fn state_dir(file: &Path, environment: &BTreeMap<String, String>, system: Option<PathBuf>) -> PathBuf {
    let services = environment.get("STATE_DIRECTORY").and_then(|list| list.split(':').next()).map(PathBuf::from);
    let system = system.filter(|_| file == Path::new(SYSTEM_FILE));
    if let Some(folder) = services.filter(|folder| folder.is_absolute()).or(system) {
        return folder;
    }
    let folder = file.parent().and_then(|folder| folder.canonicalize().ok());
    let canonical = match (folder, file.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => file.to_owned(),
    };
    let digest = Sha256::digest(canonical.as_os_str().as_encoded_bytes());
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let folder = |name: &str| environment.get(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    match (folder("XDG_STATE_HOME"), folder("HOME")) {
        (Some(state), _) => state.join("lb").join(hash),
        (None, Some(home)) => home.join(".local/state/lb").join(hash),
        // Not below a common `lb`: the first user to create that would own it.
        (None, None) => folder("TMPDIR").unwrap_or_else(|| "/tmp".into()).join(format!("lb-state-{hash}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_lb_looks_in_its_prefix_and_any_other_only_in_etc() {
        let of = |executable: &str| files(Some(Path::new(executable)));
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(
            of("/opt/lb-0.1.0/bin/lb"),
            paths(&["config/lb.toml", "/opt/lb-0.1.0/etc/lb/lb.toml", "/etc/lb/lb.toml"])
        );
        assert_eq!(of("/src/target/release/lb"), paths(&["config/lb.toml", "/etc/lb/lb.toml"]));
        assert_eq!(of("/bin/lb"), paths(&["config/lb.toml", "/etc/lb/lb.toml"]), "the same file once");
        assert_eq!(files(None), paths(&["config/lb.toml", "/etc/lb/lb.toml"]));
    }

    #[test]
    fn the_executables_folder_is_before_the_installed_strategies() {
        let executable = Path::new("/usr/bin/lb");
        let both = [PathBuf::from("/usr/bin"), PathBuf::from("/usr/lib/lb/strategies")];
        assert_eq!(plugin_folders(executable, |_| true), both);
        assert_eq!(plugin_folders(executable, |_| false), both[..1], "a folder that is missing is not searched");
    }

    #[test]
    fn a_service_keeps_its_state_where_systemd_says() {
        let environment = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let system = Some(PathBuf::from("/var/lib/lb"));
        let file = Path::new("/etc/lb/lb.toml");
        let service = environment(&[("STATE_DIRECTORY", "/run/a:/run/b"), ("XDG_STATE_HOME", "/x")]);
        assert_eq!(state_dir(file, &service, system.clone()), Path::new("/run/a"));
        let user = environment(&[("STATE_DIRECTORY", "relative"), ("XDG_STATE_HOME", "/x")]);
        assert_eq!(state_dir(file, &user, system.clone()), Path::new("/var/lib/lb"));
        assert!(state_dir(file, &user, None).starts_with("/x/lb"));
        assert!(state_dir(Path::new("/home/a/lb.toml"), &user, system).starts_with("/x/lb"));
    }
}
