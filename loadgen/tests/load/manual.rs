//! Completions, man pages and help of `loadgen`.

use std::process::Command;

fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().expect("loadgen starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn completions_and_man_pages_cover_every_command() {
    let commands = [
        "run",
        "a1",
        "a2",
        "a3",
        "a4",
        "b",
        "experiment",
        "simulate",
        "replay",
        "report",
        "openmetrics",
        "check",
        "completions",
        "man",
    ];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(commands.iter().all(|command| script.contains(command)) && script.contains("threshold"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let paths = printed(&["man", "--out", folder.path().to_str().unwrap()]);
    let pages: Vec<_> = paths.lines().filter_map(|path| path.rsplit('/').next()).collect();
    assert_eq!(pages.len(), commands.len() + 1, "{paths}");
    assert!(commands.iter().all(|command| pages.contains(&&*format!("loadgen-{command}.1"))), "{paths}");
    assert!(printed(&["man"]).contains(".SH \"EXIT STATUS\""));
    assert_eq!(printed(&["help", "check"]), printed(&["check", "--help"]));
}
