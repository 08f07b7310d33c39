//! A strategy that the command line or the environment pins against the file.
//!
//! Both go before the file at every reload. Without a note, an edit of `strategy.name` would seem to be lost.

use crate::config::{self, DEFAULT_POOL, Loaded, Plugin, Source};

/// The note for the log and `lb status`; `None` if the file's strategy of the pool `default` is in force.
pub(super) fn pinned(loaded: &Loaded, bytes: &[u8]) -> Option<String> {
    let pool = loaded.config.pools.iter().find(|pool| pool.name == DEFAULT_POOL)?;
    let Plugin::Name(in_force) = &pool.strategy.plugin else { return None };
    let file: toml::Table = str::from_utf8(bytes).ok()?.parse().ok()?;
    let named = file.get("strategy")?.get("name")?.as_str().filter(|named| named != in_force)?;
    let by = loaded.place_of("strategy.name")?;
    Some(format!("pool {DEFAULT_POOL}: {by} pins the strategy {in_force}; the file names {named}, without effect"))
}

/// The same for the files of a start. A mistake in them is the start's to report.
pub(super) fn pinned_at_start(source: &Source) -> Option<String> {
    let bytes = config::read(&source.path).ok()?;
    pinned(&config::load_bytes(source, &bytes).ok()?, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(command_line: &[(&str, &str)], text: &str) -> Option<String> {
        let command_line = command_line.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let source = Source { path: "/lb.toml".into(), command_line, ..Source::default() };
        pinned(&config::load_text(&source, text).unwrap(), text.as_bytes())
    }

    #[test]
    fn only_a_flag_or_variable_that_differs_from_the_file_pins() {
        let file = "[strategy]\nname = \"round_robin\"\n";
        assert_eq!(note(&[], file), None);
        assert_eq!(note(&[("strategy.name", "round_robin")], file), None);
        assert_eq!(note(&[("strategy.name", "ring")], "[proxy]\nworkers = 1\n"), None, "the file names none");
        let said = note(&[("strategy.name", "ring")], file).unwrap();
        assert_eq!(said, "pool default: --strategy pins the strategy ring; the file names round_robin, without effect");
    }
}
