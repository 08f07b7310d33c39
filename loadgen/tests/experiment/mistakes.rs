//! What a user may get wrong: one clear line, exit code 2, and no folder of a run that never began.

use crate::support::{Lab, ended};

fn refused(lab: &Lab, arguments: &[&str], wanted: &str) {
    let ended = ended(lab.command(arguments).spawn().expect("loadgen starts"));
    let lines: Vec<&str> = ended.err.lines().collect();
    assert_eq!((ended.code, lines.len()), (Some(2), 1), "{arguments:?}: {}", ended.err);
    assert!(lines[0].starts_with("loadgen: ") && lines[0].contains(wanted), "{arguments:?}: {}", ended.err);
    assert!(!lab.out().exists(), "{arguments:?}");
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
