//! An lb that finds its files by itself: unpacked as `PREFIX/bin/lb`, `PREFIX/lib/lb/strategies`, `PREFIX/etc/lb`.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use lb_test_support::finish;

/// An unpacked archive with round_robin as its only strategy.
fn unpacked(config: &str) -> TempDir {
    let prefix = tempfile::tempdir().unwrap();
    let path = |name: &str| prefix.path().join(name);
    for folder in ["bin", "lib/lb/strategies", "etc/lb", "work"] {
        std::fs::create_dir_all(path(folder)).unwrap();
    }
    // A hard link is as fast as a link, and lb sees it as its own path. Other file systems need a copy.
    let place = |from: &Path, to: &Path| {
        std::fs::hard_link(from, to).or_else(|_| std::fs::copy(from, to).map(drop)).unwrap();
    };
    place(Path::new(env!("CARGO_BIN_EXE_lb")), &path("bin/lb"));
    let plugin = "libround_robin.so";
    place(&lb_strategy_built::folder().join(plugin), &path("lib/lb/strategies").join(plugin));
    std::fs::write(path("etc/lb/lb.toml"), config).unwrap();
    prefix
}

/// `lb` of the archive, in another folder.
fn command(prefix: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(prefix.path().join("bin/lb"));
    let work = prefix.path().join("work");
    command.env_clear().env("HOME", &work).current_dir(&work).args(arguments);
    command
}

#[test]
fn an_unpacked_archive_finds_its_configuration_and_its_strategies() {
    let prefix = unpacked("[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n");
    let output = finish(command(&prefix, &["check"]));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let strategies = prefix.path().canonicalize().unwrap().join("lib/lb/strategies");
    assert!(told.contains(&strategies.join("libround_robin.so").display().to_string()), "{told}");

    let work = prefix.path().join("work");
    std::fs::create_dir(work.join("config")).unwrap();
    std::fs::write(work.join("config/lb.toml"), "[proxy]\nworkers = -1\n").unwrap();
    let output = finish(command(&prefix, &["check"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("config/lb.toml:2:") && said.contains("proxy.workers"),
        "the working folder is first: {said}"
    );
}

#[test]
fn without_a_configuration_the_error_names_every_place() {
    let prefix = unpacked("");
    std::fs::remove_file(prefix.path().join("etc/lb/lb.toml")).unwrap();
    if Path::new("/etc/lb/lb.toml").exists() {
        println!("not checked here: this machine has an installed lb");
        return;
    }
    let output = finish(command(&prefix, &[]));
    let (work, root) = (prefix.path().join("work"), prefix.path().canonicalize().unwrap());
    let expected = format!(
        "lb: no config file: there is neither {}/config/lb.toml nor {}/etc/lb/lb.toml nor /etc/lb/lb.toml; name one with --config FILE\n",
        work.display(),
        root.display()
    );
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr)), (Some(2), expected.as_str().into()));
}
