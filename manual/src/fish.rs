//! Closes gaps in the fish script of clap_complete.
//!
//! - After `help` it offers no command. Its condition forbids the word `help` itself, because clap's command `help` has
//!   a command `help` (clap issue 5555).
//! - It has no values of positional arguments, such as SHELL of `completions` (clap issue 6295). After a command
//!   without positional arguments it offers files.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// `script` without the gaps. `program` has been built, as clap_complete does it.
pub(crate) fn without_gaps(script: &str, program: &Command) -> String {
    let name = program.get_name();
    let using = format!("__fish_{}_using_subcommand", name.replace('-', "_"));
    let help = format!("complete -c {name} -n \"{using} help; and not __fish_seen_subcommand_from ");
    let mut text = String::with_capacity(script.len());
    for line in script.lines() {
        match line.starts_with(&help) {
            true => text += &line.replacen(" help\" ", "\" ", 1),
            false => text += line,
        }
        text.push('\n');
    }
    let visible = program.get_subcommands().filter(|command| !command.is_hide_set() && !command.has_subcommands());
    for command in visible {
        let values = command.get_positionals().flat_map(Arg::get_possible_values);
        let shown = values.filter(|value| !value.is_hide_set()).map(|value| value.get_name().to_owned());
        let shown = shown.collect::<Vec<_>>().join(" ");
        let no_files = format!("complete -c {name} -n \"{using} {}\" -f", command.get_name());
        if command.get_positionals().next().is_none() {
            let _ = writeln!(text, "{no_files}");
        } else if !shown.is_empty() {
            let _ = writeln!(text, "{no_files} -a \"{shown}\"");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn fish_offers_commands_after_help_and_values_of_positional_arguments() {
        let shell = Arg::new("shell").value_parser(["bash", "fish"]);
        let mut program =
            Command::new("a-tool").subcommands([Command::new("copy"), Command::new("complete").arg(shell)]);
        let mut script = Vec::new();
        clap_complete::generate(Shell::Fish, &mut program, "a-tool", &mut script);
        let script = String::from_utf8(script).unwrap();
        let condition = "using_subcommand help; and not __fish_seen_subcommand_from copy complete";
        assert!(script.contains(&format!("{condition} help\" -f -a \"copy\"")), "another gap than this: {script}");
        let text = without_gaps(&script, &program);
        for part in [
            &*format!("{condition}\" -f -a \"copy\""),
            "\ncomplete -c a-tool -n \"__fish_a_tool_using_subcommand complete\" -f -a \"bash fish\"\n",
            "\ncomplete -c a-tool -n \"__fish_a_tool_using_subcommand copy\" -f\n",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains(&format!("{condition} help\"")), "{text}");
    }
}
