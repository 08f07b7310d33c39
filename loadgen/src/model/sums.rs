//! `SHA256SUMS`: the digests of all files of a run that are read back, in the format of `sha256sum`. So `sha256sum -c
//! SHA256SUMS` in the folder makes the same check.
//!
//! Invariant: a listed file is unchanged, or it is refused. Runs of older versions have no such file, and their
//! `run.json` does not name one ([`KEY`]).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// The name of this file in a run's folder.
pub(super) const SUMS_FILE: &str = "SHA256SUMS";
/// The key in `run.json` with the name of the digest file.
pub(super) const KEY: &str = "digests";

/// File names and their digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums(BTreeMap<String, String>);

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl Sums ===

impl Sums {
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) {
        self.0.insert(name.to_owned(), sha256(bytes));
    }

    pub(super) fn to_text(&self) -> String {
        self.0.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
    }

    /// Accepts only the output of [`Self::to_text`].
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let entry = |(number, line): (usize, &str)| {
            let (digest, name) =
                line.split_once("  ").ok_or_else(|| format!("line {} is not DIGEST  NAME", number + 1))?;
            Ok((name.to_owned(), digest.to_owned()))
        };
        let sums = Self(text.lines().enumerate().map(entry).collect::<Result<_, String>>()?);
        if sums.to_text() == text && sums.0.contains_key("run.json") {
            return Ok(sums);
        }
        Err("it is not the list that loadgen wrote".to_owned())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether a file has the digest that it had when the run was stored.
    pub(super) fn check(&self, name: &str, digest: &str) -> Result<(), String> {
        match self.0.get(name) {
            Some(listed) if listed == digest => Ok(()),
            Some(_) => Err(format!("its SHA-256 is not the one in {SUMS_FILE}")),
            None => Err(format!("it is not listed in {SUMS_FILE}")),
        }
    }
}
