//! Mistakes of a user: one clear line, exit code 2, and no folder for a run that did not begin.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::support::{Lab, ended};

fn refused(lab: &Lab, arguments: &[&str], wanted: &str) {
    let ended = ended(lab.command(arguments).spawn().expect("loadgen starts"));
    let lines: Vec<&str> = ended.err.lines().collect();
    assert_eq!((ended.code, lines.len()), (Some(2), 1), "{arguments:?}: {}", ended.err);
    assert!(lines[0].starts_with("loadgen: ") && lines[0].contains(wanted), "{arguments:?}: {}", ended.err);
    assert!(!lab.out().exists(), "{arguments:?}");
    lab.no_process_is_left_here();
}

#[test]
fn mistakes_are_one_line_and_leave_nothing() {
    let lab = Lab::new();
    let closed = "[load]\nloop = \"closed\"";
    let plan = lab.plan(closed);
    let plan = plan.to_str().expect("UTF-8");
    refused(&lab, &["a1", "--plan", plan, "--strategy", "nobodys"], "there is no strategy nobodys; there are: ");
    refused(&lab, &["a1", "--lb", "/no/such/lb"], "--lb /no/such/lb");
    refused(&lab, &["a1", "--plan", "/no/such/plan.toml"], "cannot read /no/such/plan.toml");
    refused(&lab, &["experiment"], "--plan FILE");
    refused(&lab, &["b", "--strategy", "round_robin"], "--arms");
    refused(&lab, &["a1", "--budget", "soon"], "\"soon\" is not a time");
    refused(&lab, &["a1", "--target", "http://127.0.0.1:1"], "--admin");
    // Port 1 is closed.
    let theirs = ["a1", "--target", "http://127.0.0.1:1", "--admin", "http://127.0.0.1:1"];
    refused(&lab, &theirs, "the target http://127.0.0.1:1 cannot be reached");

    std::fs::write(lab.path("bad.toml"), "[load]\nloop = \"open\"\nrate_rps = -3").expect("written");
    refused(&lab, &["experiment", "--plan", "bad.toml"], "bad.toml, line 3: load.rate_rps: must be from");
    std::fs::write(lab.path("bad.toml"), [0xff, 0xfe, 0, 1]).expect("written");
    refused(&lab, &["experiment", "--plan", "bad.toml"], "cannot read bad.toml");
    std::fs::write(lab.path("bad.toml"), "").expect("written");
    refused(
        &lab,
        &["experiment", "--plan", "bad.toml"],
        "bad.toml, line 1: the file is empty: an experiment needs [load]",
    );
}

#[test]
fn an_error_of_lb_is_reported_unchanged() {
    let lab = Lab::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = taken.local_addr().expect("an address");
    let plan = lab.plan("[load]\nloop = \"closed\"");
    let text = std::fs::read_to_string(&plan).expect("text") + &format!("listen = \"{address}\"\n");
    std::fs::write(&plan, format!("{text}[lb.retry]\nattempts = 9")).expect("written");
    refused(&lab, &["experiment", "--plan", "plan.toml"], "retry.attempts");
    std::fs::write(&plan, text).expect("written");
    refused(&lab, &["experiment", "--plan", "plan.toml"], &address.to_string());
}

#[test]
fn an_arm_that_lb_would_refuse_later_is_refused_at_the_start() {
    let lab = Lab::new();
    let arm = |options: &str| format!("[[arms]]\nlabel = \"second\"\nstrategy = \"consistent_hash\"\n{options}");
    let plan = |second: &str| {
        lab.plan(&format!(
            "[load]\nloop = \"closed\"\nrequests = 10\n[[arms]]\nstrategy = \"round_robin\"\n{}",
            arm(second)
        ))
    };
    let path = plan("options = { virtual_nodes = 0 }");
    let path = path.to_str().expect("UTF-8");
    let wanted = "arm second: pool \"default\", strategy.config.consistent_hash: ";
    refused(&lab, &["experiment", "--plan", path], wanted);
    let check = || {
        let check = std::process::Command::new(env!("CARGO_BIN_EXE_loadgen")).args(["check", "--plan", path]).output();
        let check = check.expect("loadgen starts");
        (check.status.code(), String::from_utf8(check.stdout).unwrap() + &String::from_utf8(check.stderr).unwrap())
    };
    let (code, said) = check();
    assert!(code == Some(2) && said.contains(wanted) && said.lines().count() == 1, "{said}");
    assert!(said.contains("virtual_nodes is 0: it may be 1 to 4096"), "{said}");
    plan("options = { virtual_nodes = 9 }");
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("sound"), "{said}");
}

#[test]
fn a_strategy_that_a_running_balancer_lacks_is_refused_with_the_error_of_lb() {
    let lab = Lab::new();
    let theirs = lab.running_balancer("round_robin", 1);
    let plan = "[load]\nloop = \"closed\"\nrequests = 10\n[[arms]]\nstrategy = \"nobodys\"";
    std::fs::write(lab.path("plan.toml"), plan).expect("written");
    let ours = Lab::new();
    let plan = lab.path("plan.toml");
    let arguments = ["a1", "--quiet", "--target", &theirs.target, "--admin", &theirs.admin, "--plan"];
    let arguments: Vec<&str> = arguments.into_iter().chain(plan.to_str()).collect();
    refused(&ours, &arguments, "lb refused the strategy nobodys: ");
    assert_eq!(theirs.status().strategy, "round_robin");
}

#[test]
fn with_strict_a_busy_machine_is_refused_before_anything_starts() {
    let lab = Lab::new();
    let (is_over, cores) = (AtomicBool::new(false), std::thread::available_parallelism().map_or(2, usize::from));
    let spin = || {
        while !is_over.load(Relaxed) {
            std::hint::spin_loop();
        }
    };
    let ended = std::thread::scope(|scope| {
        // Three busy loops on each core: another program gets a quarter of a core.
        (0..3 * cores).for_each(|_| drop(scope.spawn(spin)));
        let ended = ended(lab.command(&["a1", "--strict"]).spawn().expect("loadgen starts"));
        is_over.store(true, Relaxed);
        ended
    });
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(
        ended.err.starts_with("loadgen: not started, because of --strict: in a check of one second before the run, "),
        "{}",
        ended.err
    );
    assert!(!lab.out().exists(), "a run that did not begin leaves no folder");
}
