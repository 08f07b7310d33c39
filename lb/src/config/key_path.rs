//! The path of a setting: `proxy.workers`, `pools.api.backends[2].weight`.
//!
//! The document, the layers, the checks and the printed page share this type. So a mistake that is found late still
//! leads back to its line or variable.
//!
//! Invariant: prints as TOML would write it, with quotes if a bare key is not allowed.

use std::fmt;

/// One step down into the document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    /// Into an array, from 0.
    Index(usize),
}

/// The path from the top of the document to a setting; empty = the document itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(Vec<Step>);

// === impl KeyPath ===

impl KeyPath {
    /// The path of plain keys, from the top.
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// The path one step up; the document's is its own.
    pub(super) fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    pub(super) fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    pub(super) fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl From<&[Step]> for KeyPath {
    fn from(steps: &[Step]) -> Self {
        Self(steps.to_vec())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        for (depth, step) in self.0.iter().enumerate() {
            let dot = if depth == 0 { "" } else { "." };
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if !key.is_empty() && key.chars().all(bare) => {
                    write!(f, "{dot}{key}")?;
                }
                Step::Key(key) => write!(f, "{dot}{key:?}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_toml_writes_them() {
        let path = KeyPath::of(&["pools", "a.b"]).key("backends").index(2).key("weight");
        assert_eq!(path.to_string(), "pools.\"a.b\".backends[2].weight");
        assert_eq!(KeyPath::default().to_string(), "");
        assert_eq!(path.parent().to_string(), "pools.\"a.b\".backends[2]");
        assert!(path.starts_with(&KeyPath::of(&["pools"])));
        assert!(!path.starts_with(&KeyPath::of(&["pool"])));
    }
}
