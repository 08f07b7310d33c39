//! Turns clap's message on a wrong command line into one line, like all other errors of lb.
//!
//! clap prints a paragraph with the usage. Only its first line and its tips are kept.

/// clap's message and tips, without its frame.
pub(super) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("the command line is invalid");
    let mut said = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    for line in lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information")) {
        said.push_str(if said.ends_with(':') { " " } else { "; " });
        said.push_str(line.strip_prefix("tip: ").unwrap_or(line));
    }
    said.push_str(" (see lb --help)");
    said
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Args;
    use super::*;

    #[test]
    fn the_message_and_the_tip_make_one_line() {
        let said = |line: &str| one_line(&Args::try_parse_from(line.split(' ')).unwrap_err());
        assert_eq!(
            said("lb --strateggy x"),
            "unexpected argument '--strateggy' found; a similar argument exists: '--strategy' (see lb --help)"
        );
        assert!(said("lb confg").starts_with("unrecognized subcommand 'confg'; a similar subcommand exists: 'config'"));
        assert!(said("lb --set nothing").contains("it has no `=`"));
        assert!(said("lb --config").starts_with("a value is required for '--config <PATH>'"));
        for line in ["lb --strateggy x", "lb confg", "lb --set x", "lb --config"] {
            assert!(!said(line).contains('\n'));
        }
    }
}
