//! Mistakes of an operator: lb exits with code 2, prints one line with the place and the fault, and leaves nothing.

use std::net::TcpListener;
use std::process::Output;

use lb_test_support::{Balancer, bare_command, command, finish, folder, run};

const STRATEGY: &str = "[strategy]\nname = \"round_robin\"\n";

/// The one line of the error, after the log.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("lb: ")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert_eq!(said.lines().last(), Some(lines[0]), "{said}");
    lines[0].to_owned()
}

/// A start with `config` fails with a line that contains all `parts`, and `lb check` fails with the same line.
fn is_refused(config: &str, arguments: &[&str], parts: &[&str]) {
    let folder = folder(config);
    std::fs::write(folder.path().join("libtext.so"), "this is a poem\n").unwrap();
    let start = complaint(&finish(command(&folder, arguments)));
    for part in parts {
        assert!(start.contains(part), "{part:?} is not in {start:?}");
    }
    let mut checked = arguments.to_vec();
    checked.insert(0, "check");
    let check = complaint(&finish(command(&folder, &checked)));
    // clap's complaints name the help of the command.
    assert_eq!(check.replace("(see lb check --help)", "(see lb --help)"), start);
}

#[test]
fn an_error_in_the_file_names_its_line() {
    let with = |text: &str| STRATEGY.to_owned() + text;
    let backend = |text: &str| with("[[backends]]\n") + text;
    is_refused(&with("[proxy]\nlisten_on = \"x\"\n"), &[], &["lb.toml:4", "listen_on"]);
    is_refused(&with("[timeouts]\nconnect_ms = \"soon\"\n"), &[], &["lb.toml:4", "connect_ms"]);
    is_refused("[strategy\n", &[], &["lb.toml:1"]);
    is_refused(&backend("id = \"b1\"\naddress = \"127.0.0.1:99999\"\n"), &[], &["lb.toml:5", "127.0.0.1:99999"]);
    is_refused(&backend("id = \"b1\"\naddress = \"127.0.0.1:1\"\nweight = 257\n"), &[], &["lb.toml:6", "257"]);
    let twice = "id = \"b1\"\naddress = \"127.0.0.1:1\"\n";
    is_refused(&(backend(twice) + "[[backends]]\n" + twice), &[], &["lb.toml:7", "b1"]);
}

#[test]
fn all_mistakes_of_a_file_are_reported_in_one_run() {
    let output =
        run("[proxy]\nlisen = \"x\"\n[strategy]\nname = \"round-robin\"\n[backends]\nid = \"a\"\n", &["check"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let starts = ["lb: lb.toml:2:1: proxy.lisen: ", "lb: lb.toml:4:1: strategy.name: ", "lb: lb.toml:5:1: backends: "];
    assert_eq!(lines.len(), starts.len(), "{said}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\nnot {start}");
    }
}

#[test]
fn an_error_on_the_command_line_names_its_flag() {
    is_refused(STRATEGY, &["--set", "proxy.lisen=1"], &["lisen", "listen"]);
    is_refused(STRATEGY, &["--set", "proxy.workers"], &["--set", "KEY=VALUE"]);
    is_refused(STRATEGY, &["--strateggy", "x"], &["--strateggy", "--strategy"]);
    let output = run(STRATEGY, &["--set", "proxy.workers=-1"]);
    assert!(complaint(&output).contains("proxy.workers"));
    let output = run(STRATEGY, &["--listen", "nonsense"]);
    assert!(complaint(&output).contains("nonsense"));
    let empty = tempfile::tempdir().unwrap();
    let output = finish(command(&empty, &[]));
    assert!(complaint(&output).contains("lb.toml cannot be read"));
}

#[test]
fn an_error_of_a_plugin_names_its_pool_and_file() {
    is_refused(STRATEGY, &["--strategy", "not_there"], &["--strategy: pool", "not_there", "strategy.name"]);
    is_refused("[strategy]\nname = \"not_there\"\n", &[], &["lb.toml:2: pool", "not_there"]);
    is_refused("[strategy]\npath = \"libtext.so\"\n", &[], &["lb.toml:2: pool", "libtext.so", "strategy.path"]);
    let bad_option = "[strategy]\nname = \"consistent_hash\"\n[strategy.config.consistent_hash]\nvirtual_nods = 1\n";
    is_refused(
        bad_option,
        &[],
        &["lb.toml:4: pool", "config.consistent_hash.virtual_nods: plugin", "`virtual_nods`, expected"],
    );
}

#[test]
fn a_port_in_use_is_reported_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, flag) in [("proxy.listen", "--listen"), ("admin.listen", "--admin-listen")] {
        let folder = folder(STRATEGY);
        let other = if flag == "--listen" { "--admin-listen" } else { "--listen" };
        let output = finish(bare_command(&folder, &[flag, &address, other, "127.0.0.1:0"]));
        let said = complaint(&output);
        assert!(said.contains(&format!("{key} {address} is in use by another process")), "{said}");
        assert!(said.contains(flag), "{said}");
        let check = finish(bare_command(&folder, &["check", flag, &address, other, "127.0.0.1:0"]));
        assert_eq!(complaint(&check), said);
    }
}

#[test]
fn a_second_lb_on_the_same_state_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let state = format!("state.dir={:?}", home.path().join("state"));
    let _first = Balancer::start_with(STRATEGY, &["--set", &state]);
    let said = complaint(&run(STRATEGY, &["--set", &state]));
    assert!(said.contains(&*home.path().join("state").to_string_lossy()), "{said}");
}

#[test]
fn the_check_covers_commands_and_addresses_of_the_machine() {
    let launcher = |command: &str, host: &str| {
        format!("{STRATEGY}[launcher]\nkind = \"process\"\nreplicas = 1\ncommand = [{command:?}]\nhost = \"{host}\"\n")
    };
    for (config, part) in [
        (launcher("no-such-program", "127.0.0.1"), "no-such-program"),
        (launcher("/no/such/program", "127.0.0.1"), "/no/such/program"),
        (launcher("/bin/sh", "192.0.2.1"), "launcher.host 192.0.2.1"),
    ] {
        let said = complaint(&run(&config, &["check"]));
        assert!(said.contains(part), "{part:?} is not in {said:?}");
        assert!(said.contains("lb.toml:"), "{said:?}");
    }
    is_refused(STRATEGY, &["--set", "state.dir=\"lb.toml/state\""], &["state directory", "lb.toml/state"]);
    let log = format!("{STRATEGY}[access_log]\nenabled = true\npath = \"/no/such/folder/log\"\n");
    is_refused(&log, &[], &["lb.toml:5: access_log.path", "/no/such/folder/log"]);
    let output = run(STRATEGY, &["check", "--listen", "192.0.2.1:0"]);
    assert!(complaint(&output).contains("proxy.listen 192.0.2.1:0"));
    is_refused(STRATEGY, &["--strategy", "roundrobin"], &["did you mean \"round_robin\"?"]);
}

#[test]
fn ports_and_state_of_a_running_lb_are_notes_of_the_check_and_no_errors() {
    let home = tempfile::tempdir().unwrap();
    let state = format!("state.dir={:?}", home.path().join("state"));
    let running = Balancer::start_with(STRATEGY, &["--set", &state]);
    let (proxy, admin) = (running.proxy.to_string(), running.admin.to_string());
    let folder = folder(STRATEGY);
    let output = finish(bare_command(
        &folder,
        &["check", "--listen", &proxy, "--admin-listen", &admin, "--set", &state, "--json"],
    ));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let notes = report["notes"].to_string();
    for part in [
        "is in use by a running lb",
        &format!("proxy.listen {proxy} is in use at the moment"),
        &format!("admin.listen {admin} is in use at the moment"),
    ] {
        assert!(notes.contains(part), "{part:?} is not in {notes}");
    }

    let output = run(STRATEGY, &["check"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("ok: lb can start"));
}

#[test]
#[should_panic(expected = "serves instead of ending")]
fn a_command_that_serves_instead_of_ending_fails_its_test() {
    run(STRATEGY, &[]);
}

#[test]
fn commands_that_only_read_print_and_start_nothing() {
    let check = run(STRATEGY, &["check"]);
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stderr));
    assert!(String::from_utf8(check.stdout).unwrap().contains("round_robin"));

    let json = |arguments: &[&str]| -> serde_json::Value {
        let output = run(STRATEGY, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(json(&["check", "--json"])["strategies"][0]["strategy"], "round_robin");
    let strategies = json(&["strategies", "--json"]);
    let names: Vec<_> =
        strategies["strategies"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    for name in lb_strategy_built::shipped() {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let settings = json(&["config", "--json"]);
    let workers =
        settings["settings"].as_array().unwrap().iter().find(|one| one["key"] == "proxy.workers").unwrap().clone();
    assert_eq!((&workers["value"], &workers["origin"]), (&1.into(), &"command_line".into()));
}
