//! What a user may get wrong: one clear line, exit code 2, and no folder of a run that never began.

use crate::support::{Lab, ended};

fn refused(lab: &Lab, arguments: &[&str], wanted: &str) {
    let ended = ended(lab.command(arguments).spawn().expect("loadgen starts"));
    let lines: Vec<&str> = ended.err.lines().collect();
    assert_eq!((ended.code, lines.len()), (Some(2), 1), "{arguments:?}: {}", ended.err);
    assert!(lines[0].starts_with("loadgen: ") && lines[0].contains(wanted), "{arguments:?}: {}", ended.err);
    assert!(!lab.out().exists(), "{arguments:?}");
    lab.nobody_is_here();
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
    refused(&lab, &["a1", "--budget", "soon"], "\"soon\" is no time");
    refused(&lab, &["a1", "--target", "http://127.0.0.1:1"], "--admin");
    // nobody listens on port 1
    let theirs = ["a1", "--target", "http://127.0.0.1:1", "--admin", "http://127.0.0.1:1"];
    refused(&lab, &theirs, "the target http://127.0.0.1:1 cannot be reached");

    std::fs::write(lab.path("bad.toml"), "[load]\nloop = \"open\"\nrate_rps = -3").expect("written");
    refused(&lab, &["experiment", "--plan", "bad.toml"], "bad.toml, line 3: load.rate_rps: must be from");
    std::fs::write(lab.path("bad.toml"), [0xff, 0xfe, 0, 1]).expect("written");
    refused(&lab, &["experiment", "--plan", "bad.toml"], "cannot read bad.toml");
    std::fs::write(lab.path("bad.toml"), "").expect("written");
    refused(&lab, &["experiment", "--plan", "bad.toml"], "bad.toml, line 1: missing field `load`");
}

#[test]
fn what_lb_refuses_is_said_in_its_words() {
    let lab = Lab::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = taken.local_addr().expect("an address");
    let text = format!("[load]\nloop = \"closed\"\n[lb.proxy]\nlisten = \"{address}\"\n[lb.limits]\nretries = 9");
    std::fs::write(lab.path("plan.toml"), text).expect("written");
    refused(&lab, &["experiment", "--plan", "plan.toml"], "limits.retries");
    std::fs::write(lab.path("plan.toml"), format!("[load]\nloop = \"closed\"\n[lb.proxy]\nlisten = \"{address}\""))
        .expect("written");
    refused(&lab, &["experiment", "--plan", "plan.toml"], &address.to_string());
}

#[test]
fn a_strategy_that_a_running_balancer_has_not_is_refused_in_its_words() {
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
