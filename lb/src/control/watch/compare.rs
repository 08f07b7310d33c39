//! Decides whether the present files need a reload: compares them with those of the last attempt, whatever triggered it
//! and however it ended.
//!
//! Invariants: an unreadable plugin equals every content, because a reload with it could only be refused. While the
//! configuration is unreadable or empty, nothing is attempted. One attempt for one content is enough, also if the
//! attempt has read other bytes. Why an empty configuration does not count: it is valid and has no backends, but a full
//! disk leaves an empty file.

use std::path::PathBuf;

use super::{Attempt, Contents, Digest, Found, Taken, Watched};

/// SHA-256 of the empty text.
const EMPTY: Digest = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

#[derive(Debug)]
pub(super) struct Compare {
    attempted: Contents,
    /// The content that settled last.
    seen: Option<Contents>,
    /// The content that the attempt for `seen` has read.
    answer: Option<Contents>,
}

fn is_text(config: Option<Digest>) -> bool {
    config.is_some_and(|sha256| sha256 != EMPTY)
}

// === impl Compare ===

impl Compare {
    /// `loaded` is the content that lb started with.
    pub(super) fn new(loaded: Contents) -> Self {
        Self { attempted: loaded, seen: None, answer: None }
    }

    /// This content has settled.
    pub(super) fn settled(&mut self, seen: Contents) {
        self.seen = Some(seen);
        self.answer = None;
    }

    /// An attempt has read these files. Returns whether `watched` is another set of files now.
    pub(super) fn attempted(&mut self, attempt: Attempt, watched: &mut Watched) -> bool {
        let Attempt { config, plugins } = attempt;
        self.attempted.config = config;
        let Some(plugins) = plugins else { return false };
        let (candidates, found): (Vec<_>, Vec<_>) =
            plugins.into_iter().map(|Taken { candidates, found }| (candidates, found)).unzip();
        self.attempted.plugins = found;
        let is_other = watched.plugins != candidates;
        if is_other {
            watched.plugins = candidates;
            self.seen = None;
        }
        is_other
    }

    /// The requested attempt is over, and everything that it read was reported.
    pub(super) fn answered(&mut self) {
        self.answer = Some(self.attempted.clone());
    }

    pub(super) fn is_due(&self) -> bool {
        let Some(seen) = &self.seen else { return false };
        is_text(seen.config) && self.differs(seen) && self.answer.as_ref() != Some(&self.attempted)
    }

    /// The files of the last attempt that are missing now.
    pub(super) fn lost<'a>(&'a self, watched: &'a Watched) -> impl Iterator<Item = &'a PathBuf> {
        let seen = self.seen.as_ref();
        let config = seen.filter(|seen| !is_text(seen.config) && is_text(self.attempted.config));
        let pairs = seen.into_iter().flat_map(|seen| self.attempted.plugins.iter().zip(&seen.plugins));
        let plugins = pairs.filter(|(_, now)| now.is_none()).filter_map(|(before, _)| before.as_ref());
        config.map(|_| &watched.config).into_iter().chain(plugins.map(|(path, _)| path))
    }

    /// The plugins of the last attempt.
    pub(super) fn plugins(&self) -> impl Iterator<Item = &PathBuf> {
        self.attempted.plugins.iter().flatten().map(|(path, _)| path)
    }

    fn differs(&self, seen: &Contents) -> bool {
        let plugin = |(now, before): (&Option<Found>, &Option<Found>)| now.is_some() && now != before;
        seen.config != self.attempted.config || seen.plugins.iter().zip(&self.attempted.plugins).any(plugin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contents as letters: one for the configuration, one for each plugin. A dot is a missing file.
    fn contents(letters: &str) -> Contents {
        let digest = |letter: char| (letter != '.').then_some([letter as u8; 32]);
        let mut letters = letters.chars();
        let config = letters.next().and_then(digest);
        let plugins = letters.enumerate().map(|(pool, letter)| Some((place(pool), digest(letter)?)));
        Contents { config, plugins: plugins.collect() }
    }

    fn place(pool: usize) -> PathBuf {
        format!("/{pool}.so").into()
    }

    fn attempt(letters: &str) -> Attempt {
        let Contents { config, plugins } = contents(letters);
        let taken = |(pool, found)| Taken { candidates: vec![place(pool)], found };
        Attempt { config, plugins: Some(plugins.into_iter().enumerate().map(taken).collect()) }
    }

    fn watched(pools: usize) -> Watched {
        Watched { config: "/lb.toml".into(), plugins: (0..pools).map(|pool| vec![place(pool)]).collect() }
    }

    /// Whether an attempt is due after `loaded` and then `seen`.
    fn is_due(loaded: &str, seen: &str) -> bool {
        let mut compare = Compare::new(contents(loaded));
        compare.settled(contents(seen));
        compare.is_due()
    }

    #[test]
    fn other_bytes_are_due_and_the_same_are_not() {
        assert!(!is_due("aA", "aA"));
        assert!(is_due("aA", "bA") && is_due("aA", "aB") && is_due("aAA", "aAB"));
        assert!(!Compare::new(contents("aA")).is_due(), "nothing has settled yet");
    }

    #[test]
    fn a_removed_file_is_not_due_and_a_new_one_is() {
        assert!(!is_due("aA", "a.") && !is_due("aA", ".A") && !is_due("aA", ".."));
        assert!(!is_due("aA", ".B"), "without a configuration no attempt is possible");
        assert!(is_due("aA", "b."), "the new text may not ask for the plugin that is gone");
        assert!(is_due("aAA", "a.B"));
        assert!(is_due("a.", "aA") && is_due(".A", "aA"));
        let mut compare = Compare::new(contents("aAB"));
        compare.settled(contents("..B"));
        let lost: Vec<_> = compare.lost(&watched(2)).cloned().collect();
        assert_eq!(lost, [PathBuf::from("/lb.toml"), place(0)]);
    }

    #[test]
    fn an_empty_configuration_counts_as_missing() {
        assert_eq!(EMPTY, <[u8; 32]>::from(sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new())));
        let empty = |plugin: &str| Contents { config: Some(EMPTY), ..contents(&format!("a{plugin}")) };
        let mut compare = Compare::new(contents("aA"));
        compare.settled(empty("B"));
        assert!(!compare.is_due() && compare.lost(&watched(1)).count() == 1);
        let mut started_so = Compare::new(empty("A"));
        started_so.settled(empty("A"));
        assert_eq!(started_so.lost(&watched(1)).count(), 0);
        started_so.settled(contents("aA"));
        assert!(started_so.is_due());
    }

    #[test]
    fn another_file_with_the_same_bytes_is_due() {
        let mut compare = Compare::new(contents("aA"));
        compare.settled(Contents { plugins: vec![Some(("/earlier.so".into(), [b'A'; 32]))], ..contents("a") });
        assert!(compare.is_due());
    }

    #[test]
    fn content_of_another_attempt_is_not_due_and_replaced_content_is() {
        let mut compare = Compare::new(contents("aA"));
        compare.settled(contents("bA"));
        assert!(!compare.attempted(attempt("bA"), &mut watched(1)), "the same files are watched");
        assert!(!compare.is_due());
        // The attempt has read the earlier content again.
        compare.attempted(attempt("cA"), &mut watched(1));
        assert!(compare.is_due());
    }

    #[test]
    fn one_attempt_is_enough_even_if_it_read_other_bytes() {
        let mut compare = Compare::new(contents("aA"));
        compare.settled(contents("bA"));
        compare.attempted(attempt("cA"), &mut watched(1));
        compare.answered();
        assert!(!compare.is_due());
        compare.settled(contents("bA"));
        assert!(compare.is_due(), "it has changed since and is the same again");
    }

    #[test]
    fn a_text_that_names_other_plugins_changes_the_watched_files() {
        let (mut compare, mut set) = (Compare::new(contents("aA")), watched(1));
        compare.settled(contents("bA"));
        assert!(compare.attempted(attempt("bAB"), &mut set));
        assert_eq!(set, watched(2));
        assert!(!compare.is_due(), "they have yet to be looked at");
        compare.settled(contents("bAC"));
        assert!(compare.is_due());
    }

    #[test]
    fn an_invalid_text_leaves_the_watched_plugins() {
        let (mut compare, mut set) = (Compare::new(contents("aA")), watched(1));
        compare.settled(contents("bA"));
        compare.attempted(Attempt { config: contents("b").config, plugins: None }, &mut set);
        compare.answered();
        assert!(!compare.is_due() && set == watched(1));
        compare.settled(contents("bB"));
        assert!(compare.is_due());
    }
}
