//! The errors of a configuration, each in one line: where, what, and what to do about it.
//!
//! Messages of serde and of the TOML parser are reworded here, in one place. So an operator reads "a whole number" and
//! not "i64", and gets a suggestion for a mistyped key.
//!
//! Invariant: `Display` is one line without control characters, for any content of the file.

use std::fmt;
use std::path::PathBuf;

use super::key_path::{KeyPath, Step};
use super::numbers::{is_too_large, too_large};

/// Why there is no configuration. The operator must correct it; another try changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("config file {} cannot be read: {reason}; give another with --config FILE", .path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// No path was given, and none of these files exists.
    #[error("no config file: there is neither {}; name one with --config FILE", either(.searched))]
    Missing { searched: Vec<PathBuf> },
    /// The text is not TOML.
    #[error("{place}: {what}")]
    Syntax { place: Place, what: String },
    /// One setting is wrong, or unknown, or missing.
    #[error("{place}: {key}: {what}")]
    Setting { place: Place, key: KeyPath, what: String },
    /// Two or more mistakes, in the order of the file. As text: the first one and the number of the others.
    #[error("{} (and {} more; `lb check` lists all)", .0[0], .0.len() - 1)]
    Several(Vec<Self>),
}

/// The place of the mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// With line and column from 1, if they are known.
    File {
        path: PathBuf,
        line_column: Option<(usize, usize)>,
    },
    Environment(String),
    CommandLine(String),
}

/// A wrong setting whose place is not known yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) key: KeyPath,
    pub(super) what: String,
}

/// Rewords a message of serde or of the TOML parser.
pub(super) fn in_our_words(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return unknown("key", rest);
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return unknown("value", rest);
    }
    // Only the expected part is reworded; the part before it may quote the file.
    let (found, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    // A value of a variable or flag that is no number of 64 bits is read as a text.
    let text = found.strip_prefix("invalid type: string \"").and_then(|rest| rest.strip_suffix('"'));
    if let Some(number) = text.filter(|text| expected == "i64" && is_too_large(text)) {
        return too_large(number);
    }
    let expected = match expected {
        "" => return one_line(found),
        "i64" => "a whole number",
        "a map" => "a table",
        "a sequence" => "an array",
        other => other,
    };
    one_line(&format!("{found}, expected {expected}"))
}

/// What to write instead of a key that lb had in an earlier version.
pub(super) fn replaced(key: &KeyPath) -> Option<String> {
    let [owner @ .., Step::Key(limits), Step::Key(retries)] = key.steps() else { return None };
    let section = match owner {
        [] => "retry".to_owned(),
        [Step::Key(pools), Step::Key(_)] if pools == "pools" => KeyPath::from(owner).key("retry").to_string(),
        [Step::Key(routes), Step::Index(_)] if routes == "routes" => "routes.retry".to_owned(),
        _ => return None,
    };
    let what = format!("unknown key `retries`; write [{section}] attempts, which counts the first attempt too");
    (limits == "limits" && retries == "retries").then_some(what)
}

/// The most probable meaning of `typed`, and all possible values.
pub(super) fn choices(typed: &str, label: &str, known: &[&str]) -> String {
    // No known name is longer, and the comparison takes time and memory with the length.
    let typed: String = typed.to_lowercase().chars().take(64).collect();
    let slips_max = (typed.chars().count() / 3).max(1);
    let nearest = known.iter().map(|name| (strsim::osa_distance(&typed, name), name)).min_by_key(|(slips, _)| *slips);
    let list = known.join(", ");
    match nearest {
        Some((slips, name)) if slips <= slips_max => {
            format!("; did you mean `{name}`? {label}: {list}")
        }
        Some(_) => format!(". {label}: {list}"),
        None => String::new(),
    }
}

/// `text` without line ends and other control characters, and not too long for a line.
pub(super) fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 1000;
    let words = text.trim().replace("\r\n", " ").replace('\n', " ");
    let mut line: String = words.chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect();
    if words.chars().nth(CHARS_MAX).is_some() {
        line.push('…');
    }
    line
}

/// "a nor b nor c".
fn either(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" nor ")
}

/// Rewrites serde's "`typed`, expected one of `a`, `b`" with a suggestion.
fn unknown(noun: &str, rest: &str) -> String {
    // The typed name may contain backticks, so the known names are read from the end.
    let (typed, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, ""));
    let typed = typed.trim_matches('`');
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let choices = choices(typed, "Known here", &known);
    format!("unknown {noun} `{}`{choices}", one_line(typed))
}

// === impl ConfigError ===

impl ConfigError {
    /// One error for all of `mistakes`, without repetitions, in the order of the file. `None` if there are none.
    pub(super) fn all(mut mistakes: Vec<Self>) -> Option<Self> {
        // The first complaint about a line explains the others about it.
        mistakes.sort_by_key(Self::line);
        mistakes.dedup_by(|later, first| later.line().is_some() && later.line() == first.line() && first.is_syntax());
        match mistakes.len() {
            0 | 1 => mistakes.pop(),
            _ => Some(Self::Several(mistakes)),
        }
    }

    /// Every mistake by itself.
    #[must_use]
    pub fn each(&self) -> &[Self] {
        match self {
            Self::Several(mistakes) => mistakes,
            one => std::slice::from_ref(one),
        }
    }

    fn is_syntax(&self) -> bool {
        matches!(self, Self::Syntax { .. })
    }

    /// `None`, which sorts first, if the place has no line.
    fn line(&self) -> Option<usize> {
        match self {
            Self::Syntax { place, .. } | Self::Setting { place, .. } => match place {
                Place::File { line_column, .. } => line_column.map(|(line, _)| line),
                Place::Environment(_) | Place::CommandLine(_) => None,
            },
            Self::Unreadable { .. } | Self::Missing { .. } | Self::Several(_) => None,
        }
    }
}

// === impl Place ===

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line_column: Some((line, column)) } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Self::File { path, line_column: None } => write!(f, "{}", path.display()),
            Self::Environment(name) | Self::CommandLine(name) => f.write_str(name),
        }
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(key: KeyPath, what: impl Into<String>) -> Self {
        Self { key, what: one_line(&what.into()) }
    }

    pub(super) fn at(self, place: Place) -> ConfigError {
        ConfigError::Setting { place, key: self.key, what: self.what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_gets_a_suggestion_and_the_known_ones() {
        assert_eq!(
            in_our_words("unknown field `lisen`, expected one of `listen`, `workers`"),
            "unknown key `lisen`; did you mean `listen`? Known here: listen, workers"
        );
        assert_eq!(
            in_our_words("unknown variant `md5`, expected `xxh3` or `sha256`"),
            "unknown value `md5`. Known here: xxh3, sha256"
        );
    }

    #[test]
    fn types_have_the_operators_names() {
        assert_eq!(
            in_our_words("invalid type: string \"a\", expected i64"),
            "invalid type: string \"a\", expected a whole number"
        );
        assert_eq!(
            in_our_words("invalid type: string \"-99999999999999999999\", expected i64"),
            "-99999999999999999999 is too large: lb takes whole numbers from -9223372036854775808 to 9223372036854775807"
        );
    }

    #[test]
    fn no_content_of_the_file_can_break_the_error_line() {
        assert_eq!(one_line("a\nb\u{1b}[31mc"), "a b[31mc");
        assert_eq!(one_line(&"x".repeat(5000)).chars().count(), 1001);
    }
}
