//! The commands that talk to a running lb: where their requests go.

use std::process::Command;

use lb_test_support::{Balancer, backends, closed_address, finish};

#[test]
fn a_proxy_of_the_environment_is_not_used_for_the_admin_port() {
    let balancer = Balancer::start("[strategy]\nname = \"round_robin\"\n");
    let mut status = Command::new(env!("CARGO_BIN_EXE_lb"));
    status.env_clear().args(["--config", "none.toml", "--admin-listen", &balancer.admin.to_string(), "status"]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        status.env(name, "http://127.0.0.1:1");
    }
    let output = finish(status);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn health_is_0_while_lb_works_and_ready_is_1_without_an_eligible_backend() {
    let balancer = Balancer::start(&("[strategy]\nname = \"round_robin\"\n".to_owned() + &backends(&[])));
    let ask = |address: &str, flags: &[&str]| {
        let mut health = Command::new(env!("CARGO_BIN_EXE_lb"));
        health.env_clear().args(["--config", "none.toml", "--admin-listen", address, "health"]).args(flags);
        let output = finish(health);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let admin = balancer.admin.to_string();
    assert_eq!(ask(&admin, &[]), (Some(0), "ok\n".to_owned(), String::new()));
    assert_eq!(ask(&admin, &["--json"]).1, "{\"ok\":true}\n");
    let (code, _, said) = ask(&admin, &["--ready"]);
    assert!(code == Some(1) && said.contains("no eligible backend in: default"), "{said}");
    // Docker reserves all codes above 1.
    let (code, _, said) = ask(&closed_address().to_string(), &[]);
    assert!(code == Some(1) && said.contains("no lb responds"), "{said}");
}
