//! Shell completions and man pages of a program, from its definition in clap.
//!
//! `lb`, `loadgen` and `mock-server` have the same two commands, so these are here once. Both texts are made by the
//! program itself. So they always fit its options. Invariant: hidden commands are in neither.

mod fish;
mod notes;

use std::path::{Path, PathBuf};

use clap::{Args, Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::notes::{PREAMBLE, notes};

/// The arguments of the command `completions`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct CompletionsArgs {
    /// The shell that reads the script: bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    pub shell: Shell,
}

/// The arguments of the command `man`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ManArgs {
    /// Write one page for each command into this folder; it is created if it is missing
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
}

/// Why the pages were not written.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written: {source}", path.display())]
pub struct ManError {
    pub path: PathBuf,
    pub source: std::io::Error,
}

// === impl CompletionsArgs ===

impl CompletionsArgs {
    /// The script that completes the command line of `program`.
    pub fn text(&self, mut program: Command) -> String {
        let name = program.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, name, &mut script);
        let script = String::from_utf8(script).expect("clap_complete writes text");
        match self.shell {
            Shell::Fish => fish::without_gaps(&script, &program),
            _ => script,
        }
    }
}

// === impl ManArgs ===

impl ManArgs {
    /// With a folder: writes all pages of `program` and returns their paths, one a line. Otherwise: the page of
    /// `program` itself.
    pub fn text(&self, program: Command) -> Result<String, ManError> {
        let mut program = program.disable_help_subcommand(true);
        program.build();
        let Some(folder) = &self.out else { return Ok(page(&program, None)) };
        let mut paths = String::new();
        let failed = |path: &Path, source| ManError { path: path.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
        let commands = program.get_subcommands().filter(|command| !command.is_hide_set());
        let pages = commands.map(|command| (command, Some(&program))).chain([(&program, None)]);
        for (command, parent) in pages {
            let path = folder.join(Man::new(command.clone()).get_filename());
            std::fs::write(&path, page(command, parent)).map_err(|source| failed(&path, source))?;
            paths += &format!("{}\n", path.display());
        }
        Ok(paths)
    }
}

/// The page of one command. clap_mangen joins the lines of the text after the help, so [`notes`] sets that text.
fn page(command: &Command, parent: Option<&Command>) -> String {
    let program = parent.unwrap_or(command);
    let version = program.get_version().unwrap_or_default();
    let named = command.clone().subcommand_value_name("command").subcommand_help_heading("COMMANDS");
    let man = Man::new(named).source(format!("{} {version}", program.get_name()));
    let mut text = Vec::new();
    let write = |text: &mut Vec<u8>| {
        man.render_title(text)?;
        man.render_name_section(text)?;
        man.render_synopsis_section(text)?;
        man.render_description_section(text)?;
        man.render_options_section(text)?;
        if command.get_subcommands().any(|command| !command.is_hide_set()) {
            man.render_subcommands_section(text)?;
        }
        let after = command.get_after_long_help().or_else(|| command.get_after_help());
        notes(&after.map(ToString::to_string).unwrap_or_default(), parent.map(Command::get_name)).to_writer(text)
    };
    write(&mut text).expect("memory takes every byte");
    let text = String::from_utf8(text).expect("roff writes text");
    // Each section repeats it; once is enough.
    format!("{PREAMBLE}{}", text.replace(PREAMBLE, ""))
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn program() -> Command {
        let copy =
            Command::new("copy").about("Copy it").after_help("Exit codes: 0 fine.").arg(Arg::new("to").long("to"));
        let secret = Command::new("secret").hide(true);
        let program = Command::new("tool").version("1.2").about("A tool").subcommands([copy, secret]);
        program.after_help("Examples:\n  tool copy \\\n  .x\n\nProse.")
    }

    #[test]
    fn every_shell_gets_a_script_that_names_commands_and_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = CompletionsArgs { shell }.text(program());
            assert!(script.contains("copy") && script.contains("to"), "{shell}: {script}");
        }
    }

    #[test]
    fn a_folder_gets_one_page_for_each_command_that_is_not_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new/man1");
        let paths = ManArgs { out: Some(out.clone()) }.text(program()).unwrap();
        let wanted = ["tool-copy.1", "tool.1"].map(|name| out.join(name));
        assert_eq!(paths.lines().map(Path::new).collect::<Vec<_>>(), wanted);
        let [copy, tool] = wanted.map(|path| std::fs::read_to_string(path).unwrap());
        assert_eq!(tool, ManArgs { out: None }.text(program()).unwrap());
        for (text, part) in [
            (&tool, ".SH COMMANDS\n.TP\ntool\\-copy(1)"),
            (&tool, ".TH tool 1  \"tool 1.2\""),
            (&copy, "\\fBtool\\fR(1)"),
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!tool.contains("secret"), "{tool}");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = ManArgs { out: Some(file.path().to_owned()) }.text(program()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} cannot be written", file.path().display())), "{error}");
    }
}
