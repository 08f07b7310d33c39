//! Whether what lies there now deserves an attempt: compared with what was last attempted, by whomever and however it ended.
//!
//! Invariants: what cannot be read equals everything, because an attempt on it could only be refused; a configuration that cannot be
//! read keeps everything else from being attempted; one answer to one content is enough, also if the attempt has read something else.

use std::path::PathBuf;

use super::{Attempt, Contents, Found, Taken, Watched};

#[derive(Debug)]
pub(super) struct Compare {
    attempted: Contents,
    /// As it last settled.
    seen: Option<Contents>,
    /// What the attempt that was made for `seen` has read.
    answer: Option<Contents>,
}

// === impl Compare ===

impl Compare {
    /// `loaded` is what lb has started with.
    pub(super) fn new(loaded: Contents) -> Self {
        Self { attempted: loaded, seen: None, answer: None }
    }

    /// This has settled.
    pub(super) fn settled(&mut self, seen: Contents) {
        self.seen = Some(seen);
        self.answer = None;
    }

    /// Somebody's attempt has read this; answers whether `watched` is another set of files from now on.
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

    /// The attempt that was asked for is over, and all that it has read was told.
    pub(super) fn answered(&mut self) {
        self.answer = Some(self.attempted.clone());
    }

    pub(super) fn is_due(&self) -> bool {
        let Some(seen) = &self.seen else { return false };
        seen.config.is_some() && self.differs(seen) && self.answer.as_ref() != Some(&self.attempted)
    }

    /// What was there at the last attempt and is not now.
    pub(super) fn lost<'a>(&'a self, watched: &'a Watched) -> impl Iterator<Item = &'a PathBuf> {
        let seen = self.seen.as_ref();
        let config = seen.filter(|seen| seen.config.is_none() && self.attempted.config.is_some());
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

    /// Contents by a letter for the configuration and one for each plugin; a dot is nothing.
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

    /// Loaded, then settled: is an attempt due?
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
    fn what_is_gone_is_not_due_and_what_comes_is() {
        assert!(!is_due("aA", "a.") && !is_due("aA", ".A") && !is_due("aA", ".."));
        assert!(!is_due("aA", ".B"), "without a configuration nothing can be attempted");
        assert!(is_due("aA", "b."), "the new text may not ask for the plugin that is gone");
        assert!(is_due("aAA", "a.B"));
        assert!(is_due("a.", "aA") && is_due(".A", "aA"));
        let mut compare = Compare::new(contents("aAB"));
        compare.settled(contents("..B"));
        let lost: Vec<_> = compare.lost(&watched(2)).cloned().collect();
        assert_eq!(lost, [PathBuf::from("/lb.toml"), place(0)]);
    }

    #[test]
    fn another_file_with_the_same_bytes_is_due() {
        let mut compare = Compare::new(contents("aA"));
        compare.settled(Contents { plugins: vec![Some(("/earlier.so".into(), [b'A'; 32]))], ..contents("a") });
        assert!(compare.is_due());
    }

    #[test]
    fn what_somebody_else_has_attempted_is_not_due_and_what_he_replaced_is() {
        let mut compare = Compare::new(contents("aA"));
        compare.settled(contents("bA"));
        assert!(!compare.attempted(attempt("bA"), &mut watched(1)), "the same files are watched");
        assert!(!compare.is_due());
        // He has read what is gone again.
        compare.attempted(attempt("cA"), &mut watched(1));
        assert!(compare.is_due());
    }

    #[test]
    fn one_answer_is_enough_whatever_the_attempt_has_read() {
        let mut compare = Compare::new(contents("aA"));
        compare.settled(contents("bA"));
        compare.attempted(attempt("cA"), &mut watched(1));
        compare.answered();
        assert!(!compare.is_due());
        compare.settled(contents("bA"));
        assert!(compare.is_due(), "it has changed since and is the same again");
    }

    #[test]
    fn a_text_that_names_other_plugins_makes_others_watched() {
        let (mut compare, mut set) = (Compare::new(contents("aA")), watched(1));
        compare.settled(contents("bA"));
        assert!(compare.attempted(attempt("bAB"), &mut set));
        assert_eq!(set, watched(2));
        assert!(!compare.is_due(), "they have yet to be looked at");
        compare.settled(contents("bAC"));
        assert!(compare.is_due());
    }

    #[test]
    fn a_text_that_is_not_understood_leaves_the_plugins_as_they_were() {
        let (mut compare, mut set) = (Compare::new(contents("aA")), watched(1));
        compare.settled(contents("bA"));
        compare.attempted(Attempt { config: contents("b").config, plugins: None }, &mut set);
        compare.answered();
        assert!(!compare.is_due() && set == watched(1));
        compare.settled(contents("bB"));
        assert!(compare.is_due());
    }
}
