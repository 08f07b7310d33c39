//! `lb`, `lb check` and `lb strategies` with a plugin that crashes or that inspects its process.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Bench, lb};

/// The user without rights.
const NOBODY: u32 = 65_534;

/// Runs `lb` with a launcher that creates the file `launched` when it launches a replica.
fn run(bench: &Bench, way: &str, arguments: &[&str]) -> Output {
    run_with(bench, way, "", arguments)
}

/// As `run`, with more options of the plugin.
fn run_with(bench: &Bench, way: &str, more: &str, arguments: &[&str]) -> Output {
    command(bench, &lb(), way, more, arguments).output().unwrap()
}

/// As the user `id`; the plugin looks at its process. The copy of `lb` in the folder runs, if there is one.
fn run_as(bench: &Bench, id: u32, more: &str, arguments: &[&str]) -> Output {
    let copy = bench.folder.path().join("lb");
    let executable = if copy.exists() { copy } else { lb() };
    command(bench, &executable, "look", more, arguments).uid(id).output().unwrap()
}

/// The environment holds an admin token.
fn command(bench: &Bench, executable: &Path, way: &str, more: &str, arguments: &[&str]) -> Command {
    let folder = bench.folder.path();
    let config = format!(
        "[strategy]\nname = \"broken\"\n[strategy.config.broken]\nway = {way:?}\n{more}\n[launcher]\nkind = \"process\"\nreplicas = 1\n\
         command = [\"touch\", {:?}]\n",
        folder.join("launched")
    );
    std::fs::write(folder.join("lb.toml"), config).unwrap();
    let mut command = Command::new(executable);
    command
        .env_clear()
        .env("HOME", folder)
        .env("PATH", "/usr/bin:/bin")
        .env("LB_ADMIN_TOKEN", "b9c1f6b2d34f0a7e5c8890712de4ab63")
        .env("LB__PROXY__WORKERS", "1")
        .current_dir(folder)
        .args(["--config", "lb.toml", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .arg("--set")
        .arg(format!("plugin_dirs=[{folder:?}]"))
        .args(arguments);
    command
}

#[test]
fn a_start_with_a_plugin_that_crashes_prints_one_error_and_launches_nothing() {
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
        // Before it is the line of the file.
        let line = format!(": pool \"default\", {key}: plugin {}: {reason}", plugin.display());
        for arguments in [&[][..], &["check"]] {
            let output = run(&bench, way, arguments);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(
                said.lines().last().is_some_and(|last| last.contains("lb.toml:") && last.ends_with(&line)),
                "{said}"
            );
            assert_eq!(said.lines().filter(|line| line.starts_with("lb: ")).count(), 1, "{said}");
        }
    }
    assert!(!bench.folder.path().join("launched").exists());
}

/// Whether this machine allows the user `id` a network namespace.
fn can_leave_network(id: u32) -> bool {
    let flags = if id == 0 { "-n" } else { "-Un" };
    Command::new("unshare").uid(id).args([flags, "true"]).status().is_ok_and(|status| status.success())
}

/// What the plugin of the trial reports about its process when `lb` runs as the user `id`.
fn assert_sees_little(bench: &Bench, port: u16, id: u32, way: &[&str]) {
    let said = String::from_utf8(run_as(bench, id, &format!("port = \"{port}\""), way).stderr).unwrap();
    let seen = |part: &str| assert!(said.contains(part), "{part} is not in {said}");
    seen("command=[lb] ");
    if id == 0 {
        seen("user=65534 group=65534 ");
    }
    match can_leave_network(id) {
        true => seen("token=0 network=0"),
        false => println!("not checked here: this machine does not allow user {id} a network namespace"),
    }
}

#[test]
fn a_plugin_on_trial_sees_no_token_no_network_no_rights_and_no_sign_of_being_tried() {
    let bench = Bench::new();
    bench.compile(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for way in [&[][..], &["check"]] {
        assert_sees_little(&bench, port, our_user(), way);
    }
}

#[test]
fn a_plugin_on_trial_sees_no_network_if_lb_is_not_root() {
    let (bench, own) = (Bench::new(), our_user());
    bench.compile(&[]);
    let id = if own == 0 { NOBODY } else { own };
    if id != own {
        // The folder of the build may be closed to others.
        std::fs::copy(lb(), bench.folder.path().join("lb")).unwrap();
        chown(bench.folder.path(), Some(id), None).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_sees_little(&bench, listener.local_addr().unwrap().port(), id, &["check"]);
}

/// The user id of this process.
fn our_user() -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap())
}

#[test]
fn the_list_of_strategies_runs_no_code_of_a_library_in_its_own_process() {
    let bench = Bench::new();
    for (way, reason) in
        [("abort", "died with signal 6 (SIGABRT) while being opened"), ("exit", "ended its process with status 0")]
    {
        bench.compile(&[&format!("-DIN_CONSTRUCTOR=\"{way}\"")]);
        let output = run(&bench, "none", &["strategies"]);
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{told}{}", String::from_utf8_lossy(&output.stderr));
        let line = told.lines().find(|line| line.starts_with("broken ")).unwrap_or_else(|| panic!("{told}"));
        assert!(line.contains("refused") && line.contains(reason), "{line}");
    }
    bench.compile(&[]);
    let told = String::from_utf8(run(&bench, "none", &["strategies"]).stdout).unwrap();
    assert!(told.lines().any(|line| line.split_whitespace().take(2).eq(["broken", "1"])), "{told}");
}
