//! Where the library of a strategy comes from.

use std::path::{Path, PathBuf};

/// The source of a strategy's library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// `round_robin` is `libround_robin.so` in the plugin folders; the first file found counts.
    Name(String),
    /// The file at this absolute path. If `name` is set, the library must have that name.
    Path { path: PathBuf, name: Option<String> },
}

// === impl Plugin ===

impl Plugin {
    /// The name that the configuration gives, else that of the file: `libmine.so` is `mine`.
    #[must_use]
    pub fn expected_name(&self) -> String {
        match self {
            Self::Name(name) | Self::Path { name: Some(name), .. } => name.clone(),
            Self::Path { path, name: None } => name_from_file(path),
        }
    }
}

fn name_from_file(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.strip_prefix("lib").unwrap_or(&stem).to_owned()
}
