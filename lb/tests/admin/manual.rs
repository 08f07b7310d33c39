//! Help, man pages, completions and the version, as a user asks for them.

use std::path::Path;
use std::process::{Command, Output};

/// The commands of lb.
const COMMANDS: [&str; 16] = [
    "check",
    "config",
    "schema",
    "strategies",
    "reload",
    "rollback",
    "status",
    "backends",
    "health",
    "drain",
    "ready",
    "explain",
    "token",
    "check-strategy",
    "completions",
    "man",
];
/// Children of lb get these; no user types them.
const INTERNAL: [&str; 2] = ["vet-plugin", "score-plugin"];

fn lb(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    // Narrow terminals would wrap words.
    command.env("COLUMNS", "200").args(arguments).output().unwrap()
}

/// stdout of a command that succeeds.
fn printed(arguments: &[&str]) -> String {
    let output = lb(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What bash offers for the last of `words`.
fn offered(script: &Path, words: &[&str]) -> Vec<String> {
    let ask = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _lb lb "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" || true
        printf '%s\n' "${COMPREPLY[@]}""#;
    let output = Command::new("bash").args(["-ec", ask, "bash"]).arg(script).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn help_of_a_command_lists_only_options_that_it_takes() {
    for command in COMMANDS {
        assert_eq!(printed(&["help", command]), printed(&[command, "--help"]), "{command}");
    }
    for command in ["reload", "rollback", "status", "backends", "health", "drain", "ready", "explain"] {
        let help = printed(&["help", command]);
        for option in ["--config", "--admin-listen", "--json"] {
            assert!(help.contains(option), "{option} is not in\n{help}");
        }
        for option in ["--listen", "--workers", "--fresh", "--ready-file"] {
            assert!(!help.contains(&format!(" {option}")), "{option} is in\n{help}");
        }
        assert_eq!(help.contains("--strategy <NAME>"), command == "reload", "{help}");
    }
    for command in ["schema", "token", "completions"] {
        let help = printed(&["help", command]);
        assert_eq!(help.lines().filter(|line| line.contains(" --")).count(), 1, "only --help:\n{help}");
    }
}

#[test]
fn bash_completes_commands_and_their_options() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("lb.bash");
    std::fs::write(&script, printed(&["completions", "bash"])).unwrap();
    assert_eq!(offered(&script, &["lb", "re"]), ["reload", "ready"]);
    assert_eq!(offered(&script, &["lb", "check-"]), ["check-strategy"]);
    assert_eq!(offered(&script, &["lb", "--config", "x", "reload", "--d"]), ["--dry-run"]);
    assert_eq!(offered(&script, &["lb", "status", "--w"]), [""]);
    assert_eq!(offered(&script, &["lb", "completions", "z"]), ["zsh"]);
}

#[test]
fn internal_commands_are_in_no_tip_help_or_completion() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("check-strategy"), "{shell}");
        assert!(!INTERNAL.iter().any(|command| script.contains(command)), "{shell}");
    }
    for command in INTERNAL {
        let output = lb(&[&command[..command.len() - 1]]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && !said.contains(command), "{said}");
        assert!(!printed(&["--help"]).contains(command));
    }
}

#[test]
fn a_folder_gets_a_man_page_for_each_command() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    let paths = printed(&["man", "--out", out.to_str().unwrap()]);
    let mut names: Vec<String> = COMMANDS.iter().map(|command| format!("lb-{command}.1")).collect();
    names.push("lb.1".to_owned());
    let wanted: Vec<_> = names.iter().map(|name| out.join(name)).collect();
    assert_eq!(paths.lines().map(Path::new).collect::<Vec<_>>(), wanted);
    let page = std::fs::read_to_string(out.join("lb.1")).unwrap();
    assert_eq!(page, printed(&["man"]));
    for part in [".SH EXAMPLES", ".SH \"EXIT STATUS\"", "\\fB\\-\\-listen\\fR"] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    let output = lb(&["man", "--out", "/dev/null/man1"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.starts_with("lb: the man pages are not complete: "), "{said}");
}

#[test]
fn the_version_has_the_revision_if_the_build_knew_it() {
    let version = printed(&["--version"]);
    let revision = version.trim().strip_prefix(concat!("lb ", env!("CARGO_PKG_VERSION"))).expect("the version");
    assert!(revision.is_empty() || (revision.starts_with(" (") && revision.ends_with(')')), "{version}");
}
