//! Turns clap's message on a wrong command line into one line, like all other errors of lb.
//!
//! clap prints a paragraph with the usage. Only its first line and its tips are kept.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue};

use super::{Args, commands};

/// clap's message and tips, without its frame.
pub(super) fn one_line(error: &clap::Error) -> String {
    let command = command_of(error);
    if let (Some(ContextValue::String(flag)), Some(command)) = (error.get(ContextKind::InvalidArg), &command)
        && let Some(refusal) = commands::refusal(flag, command)
    {
        return refusal;
    }
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
        && (word.ends_with(".toml") || word.contains('/'))
    {
        return format!("{word:?} is no command; if it is the configuration file: lb --config {word}");
    }
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("the command line is invalid");
    let mut said = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    for line in lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information")) {
        said.push_str(if said.ends_with(':') { " " } else { "; " });
        said.push_str(line.strip_prefix("tip: ").unwrap_or(line));
    }
    let command = command.map(|name| format!(" {name}")).unwrap_or_default();
    said.push_str(&format!(" (see lb{command} --help)"));
    said
}

/// The command that the mistake is in. clap names it only in the usage: `Usage: lb reload [OPTIONS]`.
fn command_of(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return None };
    let usage = usage.to_string();
    let name = usage.split_whitespace().skip_while(|word| *word != "lb").nth(1)?;
    Args::command().find_subcommand(name).map(|command| command.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Args;
    use super::*;

    #[test]
    fn an_option_of_a_start_behind_a_command_is_refused_with_the_reason() {
        let said = |line: &str| one_line(&Args::try_parse_from(line.split(' ')).unwrap_err());
        for line in ["lb reload --workers 2", "lb --json reload --workers=2"] {
            assert!(
                said(line).starts_with("--workers has no effect on a running lb, so `lb reload` refuses it"),
                "{line}"
            );
        }
        assert_eq!(said("lb check --fresh"), "--fresh is for a start only, not for `lb check`");
        assert_eq!(said("lb token --workers 2"), "unexpected argument '--workers' found (see lb token --help)");
        assert!(said("lb status --jsn").ends_with("'--json' (see lb status --help)"), "{}", said("lb status --jsn"));
    }

    #[test]
    fn the_message_and_the_tip_make_one_line() {
        let said = |line: &str| one_line(&Args::try_parse_from(line.split(' ')).unwrap_err());
        assert_eq!(
            said("lb --strateggy x"),
            "unexpected argument '--strateggy' found; a similar argument exists: '--strategy' (see lb --help)"
        );
        assert!(said("lb confg").starts_with("unrecognized subcommand 'confg'; a similar subcommand exists: 'config'"));
        let file = r#""config/assignment.toml" is no command; if it is the configuration file: lb --config config/assignment.toml"#;
        assert_eq!(said("lb config/assignment.toml"), file);
        assert!(said("lb --set nothing").contains("it has no `=`"));
        assert!(said("lb --config").starts_with("a value is required for '--config <PATH>'"));
        for line in ["lb --strateggy x", "lb confg", "lb --set x", "lb --config"] {
            assert!(!said(line).contains('\n'));
        }
    }
}
