//! The folders with the libraries of strategies: those of the command line, of the plan, and of lb.
//!
//! Invariant: the first folder with a library wins, in this order. lb searches its folders in the same order.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::plan::Plan;
use super::super::run::ExperimentError;

/// The folders in the order of the search.
#[derive(Clone, Debug)]
pub(super) struct Libraries(Vec<PathBuf>);

/// The folder of an installed lb, beside the folder of its programs.
const INSTALLED: &str = "lib/lb/strategies";

// === impl Libraries ===

impl Libraries {
    /// `program` is loadgen, which lies beside lb.
    pub(super) fn new(given: &[PathBuf], plan: &Plan, program: &Path) -> Self {
        let mut folders = given.to_vec();
        let of_plan = plan.lb.get("plugin_dirs").and_then(toml::Value::as_array);
        folders.extend(of_plan.into_iter().flatten().filter_map(|folder| folder.as_str().map(PathBuf::from)));
        let beside = program.parent().unwrap_or(Path::new("."));
        folders.push(beside.to_owned());
        folders.extend(beside.parent().map(|prefix| prefix.join(INSTALLED)));
        Self(folders)
    }

    /// The library of a strategy. The simulator checks that the strategy is in it.
    pub(super) fn find(&self, strategy: &str) -> Result<PathBuf, ExperimentError> {
        let file = format!("lib{strategy}.so");
        let found = self.0.iter().map(|folder| folder.join(&file)).find(|file| file.is_file());
        let path = found.ok_or_else(|| self.absent(strategy))?;
        Ok(std::path::absolute(&path).unwrap_or(path))
    }

    fn absent(&self, strategy: &str) -> ExperimentError {
        let known = self.known();
        if known.is_empty() {
            let folders: Vec<String> = self.0.iter().map(|folder| folder.display().to_string()).collect();
            let reason = format!("no library is in {}; name a folder with --strategies DIR", folders.join(", "));
            return ExperimentError::BrokenStrategy { name: strategy.to_owned(), reason };
        }
        ExperimentError::Strategy { name: strategy.to_owned(), known }
    }

    /// The strategies by the names of their files.
    fn known(&self) -> Vec<String> {
        let files = self.0.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let name = |file: std::fs::DirEntry| {
            let name = file.file_name().into_string().ok()?;
            Some(name.strip_prefix("lib")?.strip_suffix(".so")?.to_owned())
        };
        files.filter_map(name).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_wins_and_an_absent_strategy_is_told_with_the_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        for file in [first.join("libx.so"), second.join("libx.so"), second.join("liby.so")] {
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            std::fs::write(file, "").expect("written");
        }
        let plan = Plan::parse("[load]\nloop = \"closed\"", Path::new("x.toml")).expect("a plan");
        let program = folder.path().join("bin/loadgen");
        let libraries = Libraries::new(&[first.clone(), second], &plan, &program);
        assert_eq!(libraries.find("x").expect("there"), first.join("libx.so"));
        let told = libraries.find("z").expect_err("absent").to_string();
        assert!(told.starts_with("there is no strategy z") && told.ends_with("there are: x, y"), "{told}");
        let told = Libraries::new(&[], &plan, &program).find("z").expect_err("absent").to_string();
        assert!(told.contains("name a folder with --strategies DIR"), "{told}");
    }
}
