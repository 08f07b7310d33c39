//! A mistake in the command line, as one line like every other error.
//!
//! clap prints a paragraph with the usage. Only its first line and its tips are kept.

/// clap's message and tips, without its frame.
pub(super) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("the command line is not understood");
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a subcommand is missing, for example: loadgen run http://127.0.0.1:8080/ (see loadgen --help)"
            .to_owned();
    }
    let mut said = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    for line in lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information")) {
        said.push_str(if said.ends_with(':') { " " } else { "; " });
        said.push_str(line.strip_prefix("tip: ").unwrap_or(line));
    }
    said.push_str(" (see loadgen --help)");
    said
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Args;
    use super::*;

    #[test]
    fn a_mistake_is_one_line_with_a_hint() {
        let said = |line: &str| one_line(&Args::try_parse_from(line.split(' ')).unwrap_err());
        assert!(said("loadgen rum").contains("a similar subcommand exists: 'run'"));
        assert!(said("loadgen run --durration 1s http://h/").contains("--duration"));
        assert!(said("loadgen run").contains("<URL>"));
        assert!(said("loadgen run -n ten http://h/").contains("ten"));
        for line in ["loadgen", "loadgen rum", "loadgen run", "loadgen run -q x http://h/"] {
            assert!(!said(line).contains('\n'), "{line}");
        }
    }
}
