//! A start, and `lb check`, with a plugin that would have ended the balancer.

use std::process::{Command, Output};

use crate::harness::{Bench, lb};

/// `lb` with a launcher that leaves a mark when it launches anything.
fn run(bench: &Bench, way: &str, arguments: &[&str]) -> Output {
    let folder = bench.folder.path();
    let config = format!(
        "[strategy]\nname = \"broken\"\n[strategy.config.broken]\nway = {way:?}\n[launcher]\nkind = \"process\"\nreplicas = 1\n\
         command = [\"touch\", {:?}]\n",
        folder.join("launched")
    );
    std::fs::write(folder.join("lb.toml"), config).unwrap();
    let mut command = Command::new(lb());
    command
        .env_clear()
        .env("HOME", folder)
        .env("PATH", "/usr/bin:/bin")
        .current_dir(folder)
        .args(["--config", "lb.toml", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .arg("--set")
        .arg(format!("plugin_dirs=[{folder:?}]"))
        .args(arguments);
    command.output().unwrap()
}

#[test]
fn a_start_with_a_plugin_that_crashes_is_one_line_and_launches_nothing() {
    let bench = Bench::new();
    bench.compile(&[]);
    for (way, key, reason) in [
        ("crash", "strategy.name", "died with signal 11 (SIGSEGV) while making an instance [stage vet, new]"),
        ("exit", "strategy.name", "ended its process with status 0 while making an instance [stage vet, new]"),
        (
            "refuse",
            "strategy.config.broken",
            "strategy broken refuses its options: way: \"refuse\" is none [stage vet, options]",
        ),
    ] {
        let plugin = bench.folder.path().join("libbroken.so");
        let line = format!("lb: pool \"default\", {key}: plugin {}: {reason}", plugin.display());
        for arguments in [&[][..], &["check"]] {
            let output = run(&bench, way, arguments);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), said.lines().last()), (Some(2), Some(&*line)), "{said}");
            assert_eq!(said.lines().filter(|line| line.starts_with("lb: ")).count(), 1, "{said}");
        }
    }
    assert!(!bench.folder.path().join("launched").exists());
}
