//! The commands that talk to a running lb: where their requests go.

use std::process::Command;

use lb_test_support::{Balancer, finish};

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
